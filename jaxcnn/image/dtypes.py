"""What a batch of images may be, and arithmetic on bytes: in float32, rounded and clipped."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def check_images(images: jax.Array, *, any_dtype: bool = False) -> None:
    """Refuse what is not a batch of images.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` with pixels, or, unless ``any_dtype``,
        neither floating point nor uint8.
    """
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(f"images must be [B, H, W, C] with no empty image, got {images.shape}")
    if any_dtype:
        return
    if images.dtype != jnp.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images must be floating point or uint8, got {images.dtype}")


def in_float(images: jax.Array, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """A function of floating-point images, for images of any dtype that it may be asked for."""
    return back(function(as_float(images)), images.dtype)


def as_float(images: jax.Array) -> jax.Array:
    """Images, checked, in float32 at least; bytes keep their range of 0 to 255."""
    check_images(images)
    return images.astype(jnp.promote_types(images.dtype, jnp.float32))


def back(values: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Floating-point values as images of a dtype: as bytes they are rounded and clipped."""
    if dtype == jnp.uint8:
        values = jnp.clip(jnp.round(values), 0, 255)
    return values.astype(dtype)
