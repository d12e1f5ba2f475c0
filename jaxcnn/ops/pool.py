"""Pooling over 1, 2 or 3 spatial dimensions: maximum, average, sum.

Images are ``[B, *spatial, C]``. ``strides`` defaults to the window, so windows tile the image.
Padding never contributes a value: it is minus infinity to a maximum and nothing to a sum.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn import shapes
from jaxcnn.ops.cpu import pool as cpu
from jaxcnn.ops.implementation import Implementation, is_own
from jaxcnn.ops.windows import Windows
from jaxcnn.shapes import IntOrInts, Padding

# The CPU's formulations unroll the window, which is too much of a program for a large one.
_LARGEST = 64


def max_pool(
    images: jax.Array,
    window: IntOrInts,
    *,
    strides: IntOrInts | None = None,
    padding: Padding = "VALID",
    implementation: Implementation = "auto",
) -> jax.Array:
    """Largest value in each window. Among equal values the first one gets the gradient.

    Args:
      images: ``[B, *spatial, C]``, floating point.
      window: extent of the window, one integer or one per spatial dimension.
      strides: step between windows; None means the window.
      padding: ``"SAME"``, ``"VALID"``, an integer, or one ``(low, high)`` pair per dimension,
        each smaller than the window.
      implementation: ``"auto"`` has formulations of its own on the CPU, whose gradient is many
        times faster; ``"xla"`` is plain ``jax.lax`` everywhere and supports forward mode (``jvp``).

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
    images = jnp.asarray(images)
    windows = geometry(images, window, strides, padding)
    if is_own(implementation) and math.prod(windows.sizes) <= _LARGEST:
        return _max_pool(images, windows)
    return max_pool_xla(images, windows)


def sum_pool(
    images: jax.Array,
    window: IntOrInts,
    *,
    strides: IntOrInts | None = None,
    padding: Padding = "VALID",
    implementation: Implementation = "auto",
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
    windows = geometry(images, window, strides, padding)
    return _window_sums(images, windows, implementation).astype(images.dtype)


def avg_pool(
    images: jax.Array,
    window: IntOrInts,
    *,
    strides: IntOrInts | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = False,
    implementation: Implementation = "auto",
) -> jax.Array:
    """Mean of the values in each window.

    Args:
      images: as in `max_pool`.
      window: as in `max_pool`.
      strides: as in `max_pool`.
      padding: as in `max_pool`.
      count_include_pad: divide by the whole window (torch's default) instead of by the pixels of
        the image under it (Keras's rule, and the default).
      implementation: as in `max_pool`.

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
    windows = geometry(images, window, strides, padding)
    total = _window_sums(images, windows, implementation)
    if count_include_pad:
        return (total / math.prod(windows.sizes)).astype(images.dtype)
    counts = shapes.window_sizes(images.shape[1:-1], windows.sizes, windows.strides, windows.pairs)
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


def adaptive_avg_pool(images: jax.Array, size: IntOrInts) -> jax.Array:
    """Means of windows that cover the images evenly, so that any size becomes ``size``.

    Position ``i`` of ``n`` is the mean of the pixels from ``floor(i * length / n)`` up to
    ``ceil((i + 1) * length / n)``: neighbours may overlap, and images smaller than ``size`` have
    their pixels repeated.

    Args:
      images: ``[B, *spatial, C]``, floating point.
      size: positions of the output, one integer or one per spatial dimension.

    Returns:
      ``[B, *size, C]``.

    Raises:
      ValueError: if ``size`` is not positive.

    Example:
      >>> adaptive_avg_pool(jnp.arange(5.0).reshape(1, 5, 1), 2).ravel().tolist()
      [1.0, 3.0]

    Reference:
      ``torch.nn.AdaptiveAvgPool2d``.
    """
    rank = shapes.spatial_rank(images)
    shapes.check_floating(images, "images")
    pooled = images
    for axis, count in enumerate(shapes.ints(size, rank, "size"), start=1):
        length = images.shape[axis]
        if count != length:
            edges = np.arange(count + 1) * length
            starts, ends = edges[:-1] // count, -(-edges[1:] // count)
            position = np.arange(length)
            inside = (position >= starts[:, None]) & (position < ends[:, None])
            weights = jnp.asarray(inside / (ends - starts)[:, None], images.dtype)
            pooled = jnp.moveaxis(
                jnp.tensordot(weights, pooled, axes=(1, axis), precision=lax.Precision.HIGHEST),
                0,
                axis,
            )
    return pooled


def geometry(
    images: jax.Array | jax.ShapeDtypeStruct,
    window: IntOrInts,
    strides: IntOrInts | None,
    padding: Padding,
) -> Windows:
    """How the windows of a pooling slide over the images, all checked."""
    rank = shapes.spatial_rank(images)
    sizes = shapes.ints(window, rank, "window")
    steps = sizes if strides is None else shapes.ints(strides, rank, "strides")
    pairs = shapes.pairs(padding, images.shape[1:-1], sizes, steps)
    if any(max(pair) >= size for pair, size in zip(pairs, sizes, strict=True)):
        raise ValueError(
            f"padding must be smaller than the window {sizes}, or a window would see no pixel; "
            f"got {padding!r}"
        )
    return Windows(sizes, steps, tuple(pairs), (1,) * rank)


def _window_sums(images: jax.Array, windows: Windows, implementation: Implementation) -> jax.Array:
    """Sums in float32 at least: bfloat16 cannot count beyond 256."""
    precise = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    if is_own(implementation) and math.prod(windows.sizes) <= _LARGEST:
        return _sum_pool(precise, windows)
    return _sum_pool_xla(precise, windows)


def max_pool_xla(images: jax.Array, windows: Windows) -> jax.Array:
    """Largest value of each window, by `jax.lax`."""
    return _reduce_window(images, -jnp.inf, lax.max, windows)


def _sum_pool_xla(images: jax.Array, windows: Windows) -> jax.Array:
    return _reduce_window(images, 0, lax.add, windows)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(images: jax.Array, windows: Windows) -> jax.Array:
    # Without a gradient XLA may fuse it into the convolution before it.
    return max_pool_xla(images, windows)


def _max_pool_forward(images: jax.Array, windows: Windows) -> tuple[jax.Array, jax.Array]:
    output = lax.platform_dependent(
        images,
        cpu=functools.partial(cpu.max_pool, windows=windows),
        default=functools.partial(max_pool_xla, windows=windows),
    )
    return output, images


def _max_pool_backward(
    windows: Windows, images: jax.Array, gradient: jax.Array
) -> tuple[jax.Array]:
    def plain(images: jax.Array, gradient: jax.Array) -> jax.Array:
        return jax.vjp(lambda images: max_pool_xla(images, windows), images)[1](gradient)[0]

    own = functools.partial(cpu.max_pool_gradient, windows=windows)
    return (lax.platform_dependent(images, gradient, cpu=own, default=plain),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _sum_pool(images: jax.Array, windows: Windows) -> jax.Array:
    return _sum_pool_xla(images, windows)


def _sum_pool_forward(images: jax.Array, windows: Windows) -> tuple[jax.Array, jax.Array]:
    # Of the residual only the shape counts, so the compiler drops it.
    output = lax.platform_dependent(
        images,
        cpu=functools.partial(cpu.sum_pool, windows=windows),
        default=functools.partial(_sum_pool_xla, windows=windows),
    )
    return output, images


def _sum_pool_backward(
    windows: Windows, images: jax.Array, gradient: jax.Array
) -> tuple[jax.Array]:
    def plain(images: jax.Array, gradient: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda images: _sum_pool_xla(images, windows), images)(
            gradient
        )[0]

    def own(images: jax.Array, gradient: jax.Array) -> jax.Array:
        return cpu.sum_pool_gradient(gradient, windows, images.shape[1:-1])

    return (lax.platform_dependent(images, gradient, cpu=own, default=plain),)


_sum_pool.defvjp(_sum_pool_forward, _sum_pool_backward)


def _reduce_window(
    images: jax.Array, initial: float, combine: Callable[..., jax.Array], windows: Windows
) -> jax.Array:
    return lax.reduce_window(
        images,
        # A NumPy scalar: lax recognises the monoid, and so its gradient, by a concrete value.
        np.asarray(initial, images.dtype),
        combine,
        window_dimensions=(1, *windows.sizes, 1),
        window_strides=(1, *windows.strides, 1),
        padding=((0, 0), *windows.pairs, (0, 0)),
    )
