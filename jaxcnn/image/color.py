"""Grayscale conversion and channel order."""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxcnn.image.dtypes import check_images, in_float
from jaxcnn.messages import did_you_mean

_LUMA = {"rec601": (0.299, 0.587, 0.114), "rec709": (0.2126, 0.7152, 0.0722)}


def to_grayscale(
    images: jax.Array,
    *,
    weights: Literal["rec601", "rec709"] = "rec601",
    channels: Literal[1, 3] = 1,
) -> jax.Array:
    """Convert RGB images to grayscale.

    Args:
      images: ``[B, H, W, 3]``, RGB, floating point or uint8.
      weights: weights for red, green and blue: ``"rec601"`` (0.299, 0.587, 0.114) or ``"rec709"``
        (0.2126, 0.7152, 0.0722).
      channels: number of output channels: 1, or 3 for three equal channels.

    Returns:
      ``[B, H, W, channels]`` with the dtype of ``images``.

    Raises:
      ValueError: if ``images`` does not have 3 channels, or ``weights`` or ``channels`` is unknown.

    Example:
      >>> to_grayscale(jnp.array([255, 0, 0], jnp.uint8).reshape(1, 1, 1, 3)).item()
      76

    Reference:
      OpenCV's ``COLOR_RGB2GRAY`` and Pillow's mode L (rec601); scikit-image's ``rgb2gray``
      (rec709).
    """
    check_images(images)
    if images.shape[-1] != 3:
        raise ValueError(f"images must have 3 channels, got shape {images.shape}")
    if weights not in _LUMA:
        hint = did_you_mean(str(weights), _LUMA)
        raise ValueError(f"weights must be a valid name, got {weights!r}. {hint}")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels!r}")

    def function(x: jax.Array) -> jax.Array:
        red, green, blue = (factor * x[..., i, None] for i, factor in enumerate(_LUMA[weights]))
        return red + green + blue

    gray = in_float(images, function)
    return gray if channels == 1 else jnp.broadcast_to(gray, images.shape)


def reverse_channels(images: jax.Array) -> jax.Array:
    """Reverse the channel order, as between RGB and BGR (OpenCV's order).

    Args:
      images: ``[..., C]``, any dtype.

    Example:
      >>> reverse_channels(jnp.array([1, 2, 3])).tolist()
      [3, 2, 1]
    """
    return jnp.flip(images, -1)
