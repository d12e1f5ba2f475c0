"""Gaussian, speckle, and salt-and-pepper noise for images in [0, 1].

``key`` is either a single JAX random key, used as ``fold_in(key, i)`` for row i, or ``[B]`` keys,
one per row. Results are not clipped.
"""

import jax
import jax.numpy as jnp

from jaxcnn import ops
from jaxcnn.image.dtypes import check_floating_images
from jaxcnn.image.randomness import row_keys
from jaxcnn.ops.random_bits import random_words


def add_gaussian_noise(key: jax.Array, images: jax.Array, stddev: float | jax.Array) -> jax.Array:
    """Add independent Gaussian noise to every value, like sensor noise.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, floating point.
      stddev: standard deviation in the units of ``images``, >= 0; may be traced.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` floating point, or ``stddev`` is negative or
        not finite.

    Example:
      >>> noisy = add_gaussian_noise(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), 0.1)
      >>> round(noisy.std().item(), 2)
      0.1

    Reference:
      scikit-image's ``random_noise`` with ``mode="gaussian"``.
    """
    check_floating_images(images)
    add = jax.vmap(lambda key, image: ops.gaussian_noise(key, image, stddev))
    return add(row_keys(key, len(images)), images)


def add_speckle_noise(key: jax.Array, images: jax.Array, stddev: float | jax.Array) -> jax.Array:
    """Add Gaussian noise proportional to every value, like radar and ultrasound speckle.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, floating point.
      stddev: standard deviation as a fraction of the value, >= 0; may be traced.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` floating point, or ``stddev`` is negative or
        not finite.

    Example:
      >>> noisy = add_speckle_noise(jax.random.key(0), jnp.full((1, 64, 64, 3), 0.5), 0.1)
      >>> round(noisy.std().item(), 2)
      0.05

    Reference:
      scikit-image's ``random_noise`` with ``mode="speckle"``.
    """
    return images * add_gaussian_noise(key, jnp.ones_like(images), stddev)


def add_salt_pepper(
    key: jax.Array, images: jax.Array, amount: float | jax.Array, *, salt: float | jax.Array = 0.5
) -> jax.Array:
    """Turn random pixels white or black in all channels, like faulty pixels in a sensor.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, floating point.
      amount: probability that a pixel is replaced, in [0, 1]; may be traced.
      salt: probability that a replaced pixel is white (1) rather than black (0), in [0, 1]; may be
        traced.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` floating point, or ``amount`` or ``salt`` is
        outside [0, 1].

    Example:
      >>> noisy = add_salt_pepper(jax.random.key(0), jnp.full((1, 64, 64, 3), 0.5), 0.1)
      >>> sorted(set(noisy.ravel().tolist()))
      [0.0, 0.5, 1.0]

    Reference:
      scikit-image's ``random_noise`` with ``mode="s&p"``, which replaces each channel separately.
    """
    check_floating_images(images)
    for name, value in (("amount", amount), ("salt", salt)):
        if not isinstance(value, jax.Array) and not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value!r}")
    shape = (*images.shape[1:3], 1)
    words = jax.vmap(lambda k: random_words(k, shape))(row_keys(key, len(images)))
    # Midpoints of 2**24 equal intervals in (0, 1).
    drawn = (words >> 8).astype(jnp.float32) * 2**-24 + 2**-25
    spot = jnp.where(drawn < amount * salt, 1, 0).astype(images.dtype)
    return jnp.where(drawn < amount, spot, images)
