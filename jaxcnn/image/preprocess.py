"""Preprocessing: conversion of raw pixels to network input.

Decoding, training, evaluation and prediction all use the same `Preprocess`, which is stored with
the weights, so these steps cannot disagree.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import shapes
from jaxcnn.image.color import to_grayscale
from jaxcnn.image.resize import center_crop, resize


def to_float(images: jax.Array | np.ndarray) -> jax.Array:
    """Convert pixels to float32 in [0, 1].

    Args:
      images: any shape; uint8 is divided by 255, floating point is only cast.

    Returns:
      float32 array with the shape of ``images``.

    Raises:
      ValueError: if ``images`` is neither uint8 nor floating point, because the range of other
        dtypes is unknown.

    Example:
      >>> to_float(jnp.array([0, 51, 255], jnp.uint8)).tolist()
      [0.0, 0.20000000298023224, 1.0]
    """
    images = jnp.asarray(images)
    if images.dtype == jnp.uint8:
        # XLA turns a division by 255 into a multiplication that is off in the last bit for half of
        # the values. x / 256 is exact, and x / 255 = x / 256 + x / 65280 rounds correctly for all.
        values = images.astype(jnp.float32)
        return values * (1 / 256) + values * (1 / 65280)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be uint8 or floating point, got {images.dtype}")
    return images.astype(jnp.float32)


def normalize(images: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """Normalize each channel: ``(images - mean) / std``.

    Args:
      images: ``[..., C]``, floating point.
      mean: ``C`` numbers, in the units of ``images``.
      std: ``C`` numbers > 0.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if the length of ``mean`` or ``std`` is not ``C``, or ``images`` is not
        floating point.

    Example:
      Scale pixels from [0, 1] to [-1, 1]:

      >>> normalize(jnp.array([[0.0], [1.0]]), (0.5,), (0.5,)).tolist()
      [[-1.0], [1.0]]
    """
    shapes.check_floating(images, "images")
    vectors = jnp.asarray(mean, images.dtype), jnp.asarray(std, images.dtype)
    for name, vector in zip(("mean", "std"), vectors, strict=True):
        shapes.check_bias(vector, images.shape[-1], name)
    lead = range(images.ndim - 1)
    return (images - jnp.expand_dims(vectors[0], lead)) / jnp.expand_dims(vectors[1], lead)


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Image size, channels and normalization that a network expects.

    ``preprocess(images)`` is ``preprocess.normalize(preprocess.to_float(images))``. During
    training, images are augmented between the two steps. Images of a different size must first pass
    through ``preprocess.resize``.

    Attributes:
      size: (height, width) in pixels; image files are cropped and resized to this size.
      channels: 1 (grayscale) or 3 (RGB) for image files; any number for arrays.
      mean: one value per channel, subtracted from images in [0, 1].
      std: one value per channel, > 0, to divide by after the subtraction.

    Raises:
      ValueError: if a field is out of range.

    Example:
      >>> preprocess = Preprocess(size=(28, 28), channels=1, mean=(0.5,), std=(0.5,))
      >>> preprocess(jnp.full((1, 28, 28, 1), 255, jnp.uint8)).max().item()
      1.0
    """

    size: tuple[int, int]
    channels: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        channels = shapes.check_integer(self.channels, "channels", minimum=1)
        object.__setattr__(self, "size", shapes.ints(self.size, 2, "size"))
        object.__setattr__(self, "channels", channels)
        for name, default in (("mean", 0.0), ("std", 1.0)):
            value = getattr(self, name)
            try:
                numbers = tuple(float(number) for number in value) or (default,) * channels
            except (TypeError, ValueError):
                raise ValueError(
                    f"{name} must be {channels} finite numbers, got {value!r}"
                ) from None
            object.__setattr__(self, name, numbers)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels or not all(map(math.isfinite, values)):
                raise ValueError(f"{name} must be {channels} finite numbers, got {values!r}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be > 0, got {self.std!r}")

    def __call__(self, images: jax.Array | np.ndarray) -> jax.Array:
        """Convert raw images ``[B, *size, C]`` to the network's float32 input."""
        return self.normalize(self.to_float(images))

    def resize(self, images: jax.Array) -> jax.Array:
        """Crop and resize raw images ``[B, H, W, 1 or 3]`` of any size in the same way as files.

        The largest centered crop with the target's aspect ratio is resized with an antialiased
        bilinear filter and converted to grayscale or RGB. The crop is aligned to whole pixels, and
        pixels outside the crop have no effect, whereas Pillow's filter, used for image files,
        reaches beyond the crop.

        Raises:
          ValueError: if the channels cannot be converted.
        """
        wanted = self.channels
        if images.shape[-1] != wanted and (images.shape[-1], wanted) not in ((1, 3), (3, 1)):
            raise ValueError(
                f"images must have {wanted} channels (only 1 and 3 convert to each other), "
                f"got {images.shape}"
            )
        scale = min(have / want for have, want in zip(images.shape[1:3], self.size, strict=True))
        part = tuple(max(1, round(count * scale)) for count in self.size)
        images = resize(center_crop(images, part), self.size)
        if images.shape[-1] > wanted:
            return to_grayscale(images)
        return jnp.broadcast_to(images, (*images.shape[:3], wanted))

    def to_float(self, images: jax.Array | np.ndarray) -> jax.Array:
        """Check the shape of raw images and convert them to float32 in [0, 1]."""
        expected = (*self.size, self.channels)
        if images.shape[1:] != expected:
            raise ValueError(
                f"images must be [B, {', '.join(map(str, expected))}], got shape {images.shape}"
            )
        return to_float(images)

    def normalize(self, images: jax.Array) -> jax.Array:
        """Subtract ``mean`` from images in [0, 1] and divide by ``std``."""
        return normalize(images, self.mean, self.std)
