"""Checks for image batches, and uint8 arithmetic: computed in float32, rounded and clipped."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxcnn import shapes


def check_images(images: jax.Array, *, any_dtype: bool = False) -> None:
    """Check that ``images`` is a batch of images.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` with at least one pixel per image, or,
        unless ``any_dtype`` is set, is neither floating point nor uint8.
    """
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(f"images must be [B, H, W, C] with no empty images, got {images.shape}")
    if any_dtype:
        return
    if images.dtype != jnp.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be floating point or uint8, got {images.dtype}")


def check_floating_images(images: jax.Array) -> None:
    """Check that ``images`` is a batch of floating-point images."""
    check_images(images)
    shapes.check_floating(images, "images")


def in_float(images: jax.Array, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Apply ``function`` in at least float32 (uint8 as 0 to 255) and restore the input dtype."""
    check_images(images)
    return back(function(shapes.at_least_float32(images)), images.dtype)


def back(values: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Cast floating-point values to ``dtype``; for uint8, round and clip them first."""
    if dtype == jnp.uint8:
        values = jnp.clip(jnp.round(values), 0, 255)
    return values.astype(dtype)
