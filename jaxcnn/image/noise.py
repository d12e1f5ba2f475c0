"""Noise of the kinds that cameras and their cables make, for images in [0, 1].

``key`` is one JAX random key, which becomes ``fold_in(key, i)`` for row i, or one key per row
``[B]``. Nothing is clipped.
"""

import jax
import jax.numpy as jnp

from jaxcnn import shapes
from jaxcnn.image.augment import row_keys
from jaxcnn.ops.random_bits import random_normal, random_words


def add_gaussian_noise(key: jax.Array, images: jax.Array, stddev: float | jax.Array) -> jax.Array:
    """Add independent normal noise to every value: that of a sensor.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, floating point.
      stddev: standard deviation in the units of ``images``, >= 0; may be traced.

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> noisy = add_gaussian_noise(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), 0.1)
      >>> round(noisy.std().item(), 2)
      0.1

    Reference:
      scikit-image's ``random_noise`` with ``mode="gaussian"``.
    """
    _check_images(images)
    _check_stddev(stddev)
    return images + jnp.asarray(stddev, images.dtype) * _normal(key, images)


def add_speckle_noise(key: jax.Array, images: jax.Array, stddev: float | jax.Array) -> jax.Array:
    """Add normal noise in proportion to every value: that of radar and ultrasound.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, floating point.
      stddev: standard deviation as a share of the value, >= 0; may be traced.

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> noisy = add_speckle_noise(jax.random.key(0), jnp.full((1, 64, 64, 3), 0.5), 0.1)
      >>> round(noisy.std().item(), 2)
      0.05

    Reference:
      scikit-image's ``random_noise`` with ``mode="speckle"``.
    """
    _check_images(images)
    _check_stddev(stddev)
    return images * (1 + jnp.asarray(stddev, images.dtype) * _normal(key, images))


def add_salt_pepper(
    key: jax.Array, images: jax.Array, amount: float | jax.Array, *, salt: float | jax.Array = 0.5
) -> jax.Array:
    """Make single pixels white or black, in all channels: faults of a line or a sensor.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, floating point.
      amount: probability that a pixel is hit, in [0, 1]; may be traced.
      salt: probability that it is white (1) then, not black (0), in [0, 1]; may be traced.

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> noisy = add_salt_pepper(jax.random.key(0), jnp.full((1, 64, 64, 3), 0.5), 0.1)
      >>> sorted(set(noisy.ravel().tolist()))
      [0.0, 0.5, 1.0]

    Reference:
      scikit-image's ``random_noise`` with ``mode="s&p"``, which hits each channel by itself.
    """
    _check_images(images)
    for name, value in (("amount", amount), ("salt", salt)):
        if not isinstance(value, jax.Array) and not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value!r}")
    shape = (*images.shape[1:3], 1)
    words = jax.vmap(lambda k: random_words(k, shape))(row_keys(key, len(images)))
    # Middles of 2**24 intervals of (0, 1).
    drawn = (words >> 8).astype(jnp.float32) * 2**-24 + 2**-25
    spot = jnp.where(drawn < amount * salt, 1, 0).astype(images.dtype)
    return jnp.where(drawn < amount, spot, images)


def _normal(key: jax.Array, images: jax.Array) -> jax.Array:
    draw = jax.vmap(lambda k: random_normal(k, images.shape[1:]))
    return draw(row_keys(key, len(images))).astype(images.dtype)


def _check_images(images: jax.Array) -> None:
    if images.ndim != 4:
        raise ValueError(f"images must be [B, H, W, C], got shape {images.shape}")
    shapes.check_floating(images, "images")


def _check_stddev(stddev: float | jax.Array) -> None:
    if not isinstance(stddev, jax.Array) and not 0 <= stddev < float("inf"):
        raise ValueError(f"stddev must be finite and >= 0, got {stddev!r}")
