"""Brightness and color adjustments for images in [0, 1], by one amount or one per image.

The formulas come from dm-pix and are applied to whole batches. Results are in [0, 1].
"""

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import shapes
from jaxcnn.image.dtypes import check_images
from jaxcnn.image.warp import Numbers
from jaxcnn.ops.barriers import materialize


def adjust_brightness(images: jax.Array, deltas: Numbers) -> jax.Array:
    """Add a constant to every value.

    Args:
      images: ``[B, H, W, C]``, floating point in [0, 1].
      deltas: a number or ``[B]``; may be traced.

    Returns:
      Array with the shape and dtype of ``images``, clipped to [0, 1].

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` floating point, or ``deltas`` has the
        wrong shape or is not finite.

    Example:
      >>> adjust_brightness(jnp.full((1, 1, 1, 1), 0.5), 0.25).item()
      0.75

    Reference:
      TensorFlow's ``adjust_brightness``.
    """
    amounts = _amounts(images, deltas, "deltas")
    return _clipped(dm_pix.adjust_brightness(images, amounts))


def adjust_contrast(images: jax.Array, factors: Numbers) -> jax.Array:
    """Scale the distance of every value from the mean of its channel.

    Args:
      images: ``[B, H, W, C]``, floating point in [0, 1].
      factors: a number or ``[B]``; 0 replaces each value with its channel's mean, and 1 has no
        effect; may be traced.

    Returns:
      Array with the shape and dtype of ``images``, clipped to [0, 1].

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` floating point, or ``factors`` has the
        wrong shape or is not finite.

    Example:
      >>> adjust_contrast(jnp.array([0.25, 0.75]).reshape(1, 1, 2, 1), 2.0).ravel().tolist()
      [0.0, 1.0]

    Reference:
      TensorFlow's ``adjust_contrast``.
    """
    amounts = _amounts(images, factors, "factors")
    images = materialize(images)  # used by both the mean and the result
    return _clipped(dm_pix.adjust_contrast(images, amounts))


def adjust_gamma(images: jax.Array, gammas: Numbers) -> jax.Array:
    """Raise every value to a power; powers above 1 darken the midtones.

    Args:
      images: ``[B, H, W, C]``, floating point in [0, 1].
      gammas: a number or ``[B]``, > 0; may be traced. Below 1, the gradient at black is infinite.

    Returns:
      Array with the shape and dtype of ``images``, in [0, 1].

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` floating point, or ``gammas`` has the
        wrong shape or is not finite.

    Example:
      >>> adjust_gamma(jnp.full((1, 1, 1, 1), 0.5), 2.0).item()
      0.25

    Reference:
      TensorFlow's ``adjust_gamma``.
    """
    amounts = _amounts(images, gammas, "gammas")
    return dm_pix.adjust_gamma(images, amounts)


def adjust_hue(images: jax.Array, deltas: Numbers) -> jax.Array:
    """Rotate the hue of every pixel.

    Args:
      images: ``[B, H, W, 3]``, RGB, floating point in [0, 1].
      deltas: fractions of a turn, a number or ``[B]``; 1/3 maps red to green; may be traced.

    Returns:
      Array with the shape and dtype of ``images``, clipped to [0, 1].

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, 3]`` floating point, or ``deltas`` has the
        wrong shape or is not finite.

    Example:
      >>> red = jnp.array([1.0, 0.0, 0.0]).reshape(1, 1, 1, 3)
      >>> (adjust_hue(red, 1 / 3).ravel().round(4) + 0.0).tolist()
      [0.0, 1.0, 0.0]

    Reference:
      TensorFlow's ``adjust_hue``.
    """
    _check_rgb(images)
    amounts = _amounts(images, deltas, "deltas")[..., 0]
    return _clipped(_turn_hue(images, amounts).astype(images.dtype))


def adjust_saturation(images: jax.Array, factors: Numbers) -> jax.Array:
    """Scale the saturation of every pixel.

    Args:
      images: ``[B, H, W, 3]``, RGB, floating point in [0, 1].
      factors: a number or ``[B]``; 0 removes all color, and 1 has no effect; may be traced.

    Returns:
      Array with the shape and dtype of ``images``, clipped to [0, 1].

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, 3]`` floating point, or ``factors`` has the
        wrong shape or is not finite.

    Example:
      >>> pink = jnp.array([1.0, 0.5, 0.5]).reshape(1, 1, 1, 3)
      >>> adjust_saturation(pink, 2.0).ravel().round(4).tolist()
      [1.0, 0.0, 0.0]

    Reference:
      TensorFlow's ``adjust_saturation``.
    """
    _check_rgb(images)
    amounts = _amounts(images, factors, "factors")[..., 0]
    return _clipped(_saturate(images, amounts).astype(images.dtype))


def solarize(images: jax.Array, thresholds: Numbers) -> jax.Array:
    """Invert the values at or above a threshold.

    Args:
      images: ``[B, H, W, C]``, floating point in [0, 1].
      thresholds: a number or ``[B]``; may be traced.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` floating point, or ``thresholds`` has
        the wrong shape or is not finite.

    Example:
      >>> solarize(jnp.array([0.25, 0.75]).reshape(1, 1, 2, 1), 0.5).ravel().tolist()
      [0.25, 0.25]

    Reference:
      Pillow's ``ImageOps.solarize``.
    """
    return dm_pix.solarize(images, _amounts(images, thresholds, "thresholds"))


def posterize(images: jax.Array, bits: Numbers) -> jax.Array:
    """Quantize every value to 8 bits and keep only its highest bits.

    Args:
      images: ``[B, H, W, C]``, floating point in [0, 1].
      bits: number of bits to keep, 0 to 8: a number or ``[B]`` (rounded); may be traced.

    Returns:
      Array with the shape and dtype of ``images``; its gradient is 0.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` floating point, or ``bits`` has the wrong
        shape or is not finite.

    Example:
      >>> (posterize(jnp.array([0.3, 0.7]).reshape(1, 1, 2, 1), 1) * 255).ravel().tolist()
      [0.0, 128.0]

    Reference:
      Pillow's ``ImageOps.posterize``.
    """
    amounts = _amounts(images, bits, "bits")
    step = 2.0 ** (8 - jnp.clip(jnp.round(amounts), 0, 8))
    levels = jnp.round(jnp.clip(images, 0, 1) * 255)
    return (jnp.floor(levels / step) * step / 255).astype(images.dtype)


# Jitted so that an eager call runs one program instead of one per operation.
_turn_hue = jax.jit(dm_pix.adjust_hue, inline=True)
_saturate = jax.jit(dm_pix.adjust_saturation, inline=True)


def _amounts(images: jax.Array, numbers: Numbers, name: str) -> jax.Array:
    """Check the amounts and return them as ``[B or 1, 1, 1, 1]`` in the images' dtype."""
    check_images(images)
    shapes.check_floating(images, "images")
    array = jnp.asarray(numbers, images.dtype)
    if array.shape not in ((), (len(images),)):
        raise ValueError(f"{name} must be a number or [{len(images)}], got shape {array.shape}")
    if not isinstance(numbers, jax.Array) and not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be finite, got {numbers!r}")
    return array.reshape(-1, 1, 1, 1)


def _check_rgb(images: jax.Array) -> None:
    check_images(images)
    if images.shape[-1] != 3:
        raise ValueError(f"images must have 3 channels, got shape {images.shape}")


def _clipped(images: jax.Array) -> jax.Array:
    return jnp.clip(images, 0, 1)
