"""Geometric transforms of batches of images ``[B, H, W, C]``, any dtype."""

import jax
import jax.numpy as jnp


def flip_left_right(images: jax.Array) -> jax.Array:
    """Mirror each image: its left becomes its right.

    Args:
      images: ``[..., H, W, C]``.

    Example:
      >>> flip_left_right(jnp.arange(3).reshape(1, 1, 3, 1)).ravel().tolist()
      [2, 1, 0]
    """
    return jnp.flip(images, -2)


def translate(images: jax.Array, shifts: jax.Array) -> jax.Array:
    """Move each image by whole pixels; what comes in from outside is 0.

    Args:
      images: ``[B, H, W, C]``.
      shifts: ``[B, 2]`` integers, (down, right), negative for up and left.

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if the shapes or the dtype of ``shifts`` are not as described.

    Example:
      >>> images = jnp.arange(1, 4).reshape(1, 1, 3, 1)
      >>> translate(images, jnp.array([[0, 1]])).ravel().tolist()
      [0, 1, 2]
    """
    shifts = jnp.asarray(shifts)
    if images.ndim != 4:
        raise ValueError(f"images must be [B, H, W, C], got shape {images.shape}")
    if shifts.shape != (len(images), 2) or not jnp.issubdtype(shifts.dtype, jnp.integer):
        raise ValueError(
            f"shifts must be integers of shape ({len(images)}, 2), "
            f"got {shifts.dtype} of shape {shifts.shape}"
        )
    for axis in (1, 2):
        size = images.shape[axis]
        source = jnp.arange(size)[None, :] - shifts[:, axis - 1, None]
        inside = (source >= 0) & (source < size)
        # One axis is a dimension of the index, the others are broadcast over.
        shape = [len(images), 1, 1, 1]
        shape[axis] = size
        taken = jnp.take_along_axis(images, jnp.clip(source, 0, size - 1).reshape(shape), axis)
        images = jnp.where(inside.reshape(shape), taken, jnp.zeros_like(taken))
    return images
