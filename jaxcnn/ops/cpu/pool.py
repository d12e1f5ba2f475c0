"""Pooling tap by tap, over all windows at once.

XLA instead loops over the windows one by one, and its max-pooling gradient (select-and-scatter)
takes tens of milliseconds for a batch whose forward pass takes one millisecond.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops.cpu.taps import put_back, take
from jaxcnn.ops.windows import Ints, Windows


def max_pool(images: jax.Array, windows: Windows) -> jax.Array:
    """Return the largest value of each window."""
    return functools.reduce(jnp.maximum, take(images, windows, filler=-np.inf))


def sum_pool(images: jax.Array, windows: Windows) -> jax.Array:
    """Return the sum of each window."""
    return functools.reduce(jnp.add, take(images, windows, filler=0))


def sum_pool_gradient(gradient: jax.Array, windows: Windows, sizes: Ints) -> jax.Array:
    """Add each window's gradient to all of its pixels."""
    if windows.sizes == windows.strides:
        return put_back_tiles(gradient, windows, sizes, None)
    return put_back([gradient] * windows.taps, windows, sizes)


def max_pool_with_positions(images: jax.Array, windows: Windows) -> tuple[jax.Array, jax.Array]:
    """Return each window's largest value and its position (int8), computed in one pass."""
    best, first = _max_and_position(images, windows)
    # Pack both results into one complex array: XLA would repeat the pass for a second output
    # (RECOMPUTED OUTPUTS).
    both = lax.optimization_barrier(lax.complex(best, first.astype(best.dtype)))
    return both.real, both.imag.astype(jnp.int8)


def _max_and_position(images: jax.Array, windows: Windows) -> tuple[jax.Array, jax.Array]:
    """Return each window's largest value and the first position of that value in raster order."""
    best, *others = take(images, windows, filler=-np.inf)
    first = jnp.zeros(best.shape, jnp.int8)
    for number, values in enumerate(others, start=1):
        first = jnp.where(values > best, jnp.int8(number), first)
        best = jnp.maximum(values, best)
    return best, first


def max_pool_gradient(images: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """Add each window's gradient to its first maximum.

    The values are compared with each other, never with the pooled output: inside a larger program,
    XLA may compute the images twice with different rounding, and an equality test would then lose a
    window's gradient.
    """
    _, first = _max_and_position(images, windows)
    sizes = images.shape[1:-1]
    if windows.sizes == windows.strides:
        return put_back_tiles(gradient, windows, sizes, first)
    zero = jnp.zeros((), gradient.dtype)
    shares = [jnp.where(first == number, gradient, zero) for number in range(windows.taps)]
    return put_back(shares, windows, sizes)


def put_back_tiles(
    gradient: jax.Array, windows: Windows, sizes: Ints, first: jax.Array | None
) -> jax.Array:
    """Specialize `put_back` to windows that tile the image, comparing positions with ``first``.

    Args:
      gradient: ``[B, *output, C]``.
      windows: the geometry, with strides equal to sizes.
      sizes: spatial sizes of the images.
      first: int8 position of the pixel that receives each window's gradient; None for every pixel.
    """
    counts, tile = gradient.shape[1:-1], windows.sizes
    axes = [2 * axis + 2 for axis in range(len(tile))]  # [B, H / h, h, W / w, w, C]
    pixels = jnp.expand_dims(gradient, axes)
    wide = [1] * (pixels.ndim)
    for axis, size in zip(axes, tile, strict=True):
        wide[axis] = size
    if first is None:
        pixels = jnp.broadcast_to(pixels, np.broadcast_shapes(pixels.shape, wide))
    else:
        place = jnp.zeros(wide, jnp.int8)
        for axis, size in zip(axes, tile, strict=True):
            place = place * jnp.int8(size) + lax.broadcasted_iota(jnp.int8, wide, axis)
        zero = jnp.zeros((), gradient.dtype)
        pixels = jnp.where(jnp.expand_dims(first, axes) == place, pixels, zero)
    covered = [count * size for count, size in zip(counts, tile, strict=True)]
    pixels = pixels.reshape(gradient.shape[0], *covered, gradient.shape[-1])
    # Drop the padding, and append the remaining pixels, which no window covers.
    edges = [
        (-low, n + low - whole, 0)
        for n, whole, (low, _) in zip(sizes, covered, windows.pairs, strict=True)
    ]
    return lax.pad(pixels, np.asarray(0, pixels.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
