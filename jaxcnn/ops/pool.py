"""Pooling over 1, 2 or 3 spatial dimensions: maximum, average, sum.

Images are ``[B, *spatial, C]``. ``strides`` defaults to the window, so windows tile the image.
Padding never contributes a value: it is minus infinity to a maximum and nothing to a sum.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn import shapes
from jaxcnn.shapes import IntOrInts, Padding, Pairs


def max_pool(
    images: jax.Array,
    window: IntOrInts,
    *,
    strides: IntOrInts | None = None,
    padding: Padding = "VALID",
    implementation: Literal["auto", "xla"] = "auto",
) -> jax.Array:
    """Largest value in each window. Among equal values the first one gets the gradient.

    Args:
      images: ``[B, *spatial, C]``, floating point.
      window: extent of the window, one integer or one per spatial dimension.
      strides: step between windows; None means the window.
      padding: ``"SAME"``, ``"VALID"``, an integer, or one ``(low, high)`` pair per dimension,
        each smaller than the window.
      implementation: ``"auto"`` has a gradient of its own on the CPU, many times faster than
        XLA's; ``"xla"`` is plain ``jax.lax`` everywhere and supports forward mode (``jvp``).

    Returns:
      ``[B, *output, C]`` in the dtype of ``images``.

    Raises:
      ValueError: if rank, dtype or geometry do not fit together.

    Example:
      >>> image = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
      >>> max_pool(image, 2).item()
      4.0

    Reference:
      ``torch.nn.functional.max_pool2d``, Keras's ``MaxPooling2D``.
    """
    if implementation not in ("auto", "xla"):
        raise ValueError(f"implementation must be 'auto' or 'xla', got {implementation!r}")
    images = jnp.asarray(images)
    sizes, steps, pairs = _geometry(images, window, strides, padding)
    # The fast gradient unrolls the window, which is too much of a program for a large one.
    if implementation == "xla" or math.prod(sizes) > 64:
        return _max_pool_xla(images, sizes, steps, pairs)
    return _max_pool(images, sizes, steps, pairs)


def sum_pool(
    images: jax.Array,
    window: IntOrInts,
    *,
    strides: IntOrInts | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Sum of the values in each window; arguments and errors as in `max_pool`.

    Returns:
      ``[B, *output, C]`` in the dtype of ``images``.

    Example:
      >>> image = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
      >>> sum_pool(image, 2).item()
      10.0
    """
    images = jnp.asarray(images)
    sizes, steps, pairs = _geometry(images, window, strides, padding)
    return _window_sums(images, sizes, steps, pairs).astype(images.dtype)


def avg_pool(
    images: jax.Array,
    window: IntOrInts,
    *,
    strides: IntOrInts | None = None,
    padding: Padding = "VALID",
    count_padding: bool = False,
) -> jax.Array:
    """Mean of the values in each window.

    Args:
      images: as in `max_pool`.
      window: as in `max_pool`.
      strides: as in `max_pool`.
      padding: as in `max_pool`.
      count_padding: divide by the whole window (torch's default) instead of by the pixels of
        the image under it (Keras's rule, and the default).

    Returns:
      ``[B, *output, C]`` in the dtype of ``images``.

    Raises:
      ValueError: if rank, dtype or geometry do not fit together.

    Example:
      >>> image = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
      >>> avg_pool(image, 2).item()
      2.5
      >>> avg_pool(image, 2, strides=1, padding="SAME").ravel().tolist()
      [2.5, 3.0, 3.5, 4.0]
    """
    images = jnp.asarray(images)
    sizes, steps, pairs = _geometry(images, window, strides, padding)
    total = _window_sums(images, sizes, steps, pairs)
    if count_padding:
        return (total / math.prod(sizes)).astype(images.dtype)
    counts = shapes.window_sizes(images.shape[1:-1], sizes, steps, pairs)
    return (total / jnp.asarray(counts[None, ..., None], total.dtype)).astype(images.dtype)


def global_max_pool(images: jax.Array) -> jax.Array:
    """Largest value of each channel: ``[B, *spatial, C]`` to ``[B, C]``.

    Example:
      >>> global_max_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)).tolist()
      [[6.0, 7.0]]
    """
    rank = shapes.spatial_rank(images)
    return jnp.max(images, axis=tuple(range(1, rank + 1)))


def global_avg_pool(images: jax.Array) -> jax.Array:
    """Mean of each channel: ``[B, *spatial, C]`` to ``[B, C]``.

    Example:
      >>> global_avg_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)).tolist()
      [[3.0, 4.0]]

    Reference:
      Lin et al. 2013, "Network in network", section 3.2.
    """
    rank = shapes.spatial_rank(images)
    return jnp.mean(images, axis=tuple(range(1, rank + 1)))


def _geometry(
    images: jax.Array, window: IntOrInts, strides: IntOrInts | None, padding: Padding
) -> tuple[tuple[int, ...], tuple[int, ...], Pairs]:
    rank = shapes.spatial_rank(images)
    sizes = shapes.ints(window, rank, "window")
    steps = sizes if strides is None else shapes.ints(strides, rank, "strides")
    pairs = shapes.pairs(padding, images.shape[1:-1], sizes, steps)
    if any(max(pair) >= size for pair, size in zip(pairs, sizes, strict=True)):
        raise ValueError(
            f"padding must be smaller than the window {sizes}, or a window would see no pixel; "
            f"got {padding!r}"
        )
    return sizes, steps, pairs


def _window_sums(
    images: jax.Array, sizes: tuple[int, ...], steps: tuple[int, ...], pairs: Pairs
) -> jax.Array:
    """Sums in float32 at least: bfloat16 cannot count beyond 256."""
    precise = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    return _reduce_window(precise, 0, lax.add, sizes, steps, pairs)


def _max_pool_xla(
    images: jax.Array, sizes: tuple[int, ...], steps: tuple[int, ...], pairs: Pairs
) -> jax.Array:
    return _reduce_window(images, -jnp.inf, lax.max, sizes, steps, pairs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(
    images: jax.Array, sizes: tuple[int, ...], steps: tuple[int, ...], pairs: Pairs
) -> jax.Array:
    return _max_pool_xla(images, sizes, steps, pairs)


def _max_pool_forward(
    images: jax.Array, sizes: tuple[int, ...], steps: tuple[int, ...], pairs: Pairs
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    output = _max_pool_xla(images, sizes, steps, pairs)
    first = lax.platform_dependent(
        images,
        cpu=functools.partial(_first_maximum, sizes=sizes, steps=steps, pairs=pairs),
        default=lambda images: jnp.zeros(output.shape, jnp.int8),
    )
    # Each platform uses one of the two, and the compiler drops the other.
    return output, (images, first)


def _max_pool_backward(
    sizes: tuple[int, ...],
    steps: tuple[int, ...],
    pairs: Pairs,
    residuals: tuple[jax.Array, jax.Array],
    gradient: jax.Array,
) -> tuple[jax.Array]:
    images, first = residuals

    def scatter(images: jax.Array, first: jax.Array, gradient: jax.Array) -> jax.Array:
        return _scatter_to_first(first, gradient, images.shape, sizes, steps, pairs)

    def xla(images: jax.Array, first: jax.Array, gradient: jax.Array) -> jax.Array:
        del first
        pool = functools.partial(_max_pool_xla, sizes=sizes, steps=steps, pairs=pairs)
        return jax.vjp(pool, images)[1](gradient)[0]

    return (lax.platform_dependent(images, first, gradient, cpu=scatter, default=xla),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _first_maximum(
    images: jax.Array, *, sizes: tuple[int, ...], steps: tuple[int, ...], pairs: Pairs
) -> jax.Array:
    """Which position of its window, in raster order, holds each maximum first.

    The positions are compared with each other, never with the pooled output: inside a larger
    program XLA may compute the images twice with different rounding, and a test for equality
    would then lose the gradient of a window.
    """
    edges = [(low, high, 0) for low, high in pairs]
    padded = lax.pad(images, _scalar(-jnp.inf, images), [(0, 0, 0), *edges, (0, 0, 0)])
    spatial = padded.shape[1:-1]

    def values_at(offset: tuple[int, ...]) -> jax.Array:
        ends = [n - size + start + 1 for n, size, start in zip(spatial, sizes, offset, strict=True)]
        limits = (padded.shape[0], *ends, padded.shape[-1])
        return lax.slice(padded, (0, *offset, 0), limits, (1, *steps, 1))

    offsets = list(itertools.product(*map(range, sizes)))
    best = values_at(offsets[0])
    first = jnp.zeros(best.shape, jnp.int8)
    for number, offset in enumerate(offsets[1:], start=1):
        values = values_at(offset)
        first = jnp.where(values > best, jnp.int8(number), first)
        best = jnp.maximum(values, best)
    return first


def _scatter_to_first(
    first: jax.Array,
    gradient: jax.Array,
    shape: tuple[int, ...],
    sizes: tuple[int, ...],
    steps: tuple[int, ...],
    pairs: Pairs,
) -> jax.Array:
    """Send each window's gradient to its first maximum, position by position of the window.

    XLA's select-and-scatter walks the windows one by one on a CPU; here each position is one
    fused pass over all windows.
    """
    padded = [n + low + high for n, (low, high) in zip(shape[1:-1], pairs, strict=True)]
    total = jnp.zeros((shape[0], *padded, shape[-1]), gradient.dtype)
    for number, offset in enumerate(itertools.product(*map(range, sizes))):
        share = jnp.where(first == number, gradient, _scalar(0, gradient))
        spread = [
            (start, n - start - (count - 1) * step - 1, step - 1)
            for start, n, count, step in zip(offset, padded, first.shape[1:-1], steps, strict=True)
        ]
        total += lax.pad(share, _scalar(0, share), [(0, 0, 0), *spread, (0, 0, 0)])
    lows = [low for low, _ in pairs]
    ends = [low + n for low, n in zip(lows, shape[1:-1], strict=True)]
    return lax.slice(total, (0, *lows, 0), (shape[0], *ends, shape[-1]))


def _scalar(value: float, like: jax.Array) -> np.ndarray:
    return np.asarray(value, like.dtype)


def _reduce_window(
    images: jax.Array,
    initial: float,
    combine: Callable[..., jax.Array],
    sizes: tuple[int, ...],
    steps: tuple[int, ...],
    pairs: Pairs,
) -> jax.Array:
    return lax.reduce_window(
        images,
        # A NumPy scalar: lax recognises the monoid, and so its gradient, by a concrete value.
        _scalar(initial, images),
        combine,
        window_dimensions=(1, *sizes, 1),
        window_strides=(1, *steps, 1),
        padding=((0, 0), *pairs, (0, 0)),
    )
