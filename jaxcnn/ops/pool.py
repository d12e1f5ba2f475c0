"""Pooling over 1, 2 or 3 spatial dimensions: maximum, average, sum.

Images are ``[B, *spatial, C]``. ``strides`` defaults to the window size, so windows tile the image.
Padding never contributes a value: a maximum treats it as minus infinity, and a sum as zero.
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
from jaxcnn.ops.implementation import Implementation, is_tuned
from jaxcnn.ops.windows import Windows
from jaxcnn.shapes import IntOrInts, Padding


def max_pool(
    images: jax.Array,
    window: IntOrInts,
    *,
    strides: IntOrInts | None = None,
    padding: Padding = "VALID",
    implementation: Implementation = "auto",
) -> jax.Array:
    """Return the largest value in each window; among ties, the first one receives the gradient.

    Args:
      images: ``[B, *spatial, C]``, floating point.
      window: extent of the window, one integer or one per spatial dimension.
      strides: step between windows; None means the window size.
      padding: ``"SAME"``, ``"VALID"``, an integer, or one ``(low, high)`` pair per dimension,
        each smaller than the window.
      implementation: ``"auto"`` uses formulations whose gradients are many times faster on CPU;
        ``"xla"`` is plain ``jax.lax`` everywhere and supports forward mode (``jvp``).

    Returns:
      An array ``[B, *output, C]`` with the dtype of ``images``.

    Raises:
      ValueError: if the rank, dtype, window, strides or padding is invalid.

    Example:
      >>> image = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
      >>> max_pool(image, 2).item()
      4.0

    Reference:
      ``torch.nn.functional.max_pool2d``, Keras's ``MaxPooling2D``.
    """
    images = jnp.asarray(images)
    windows = pool_windows(images, window, strides, padding)
    if is_tuned(implementation) and windows.can_unroll:
        return tuned_max_pool(images, windows, False)
    return _max_pool_xla(images, windows)


def sum_pool(
    images: jax.Array,
    window: IntOrInts,
    *,
    strides: IntOrInts | None = None,
    padding: Padding = "VALID",
    implementation: Implementation = "auto",
) -> jax.Array:
    """Return the sum of the values in each window, accumulated in at least float32.

    Args:
      images: ``[B, *spatial, C]``, floating point.
      window: extent of the window, one integer or one per spatial dimension.
      strides: step between windows; None means the window size.
      padding: ``"SAME"``, ``"VALID"``, an integer, or one ``(low, high)`` pair per dimension,
        each smaller than the window.
      implementation: ``"auto"`` or ``"xla"``, as in `max_pool`.

    Returns:
      An array ``[B, *output, C]`` with the dtype of ``images``.

    Raises:
      ValueError: if the rank, dtype, window, strides or padding is invalid.

    Example:
      >>> image = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
      >>> sum_pool(image, 2).item()
      10.0
    """
    images = jnp.asarray(images)
    windows = pool_windows(images, window, strides, padding)
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
    """Return the mean of the values in each window.

    Args:
      images: ``[B, *spatial, C]``, floating point.
      window: extent of the window, one integer or one per spatial dimension.
      strides: step between windows; None means the window size.
      padding: ``"SAME"``, ``"VALID"``, an integer, or one ``(low, high)`` pair per dimension,
        each smaller than the window.
      count_include_pad: divide by the window size (torch's default) instead of by the number of
        image pixels in the window (the default here and the rule in Keras).
      implementation: ``"auto"`` or ``"xla"``, as in `max_pool`.

    Returns:
      An array ``[B, *output, C]`` with the dtype of ``images``.

    Raises:
      ValueError: if the rank, dtype, window, strides or padding is invalid.

    Example:
      >>> image = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
      >>> avg_pool(image, 2).item()
      2.5
      >>> avg_pool(image, 2, strides=1, padding="SAME").ravel().tolist()
      [2.5, 3.0, 3.5, 4.0]
    """
    images = jnp.asarray(images)
    windows = pool_windows(images, window, strides, padding)
    total = _window_sums(images, windows, implementation)
    if count_include_pad:
        return (total / math.prod(windows.sizes)).astype(images.dtype)
    counts = shapes.window_sizes(images.shape[1:-1], windows.sizes, windows.strides, windows.pairs)
    return (total / jnp.asarray(counts[None, ..., None], total.dtype)).astype(images.dtype)


def global_max_pool(images: jax.Array) -> jax.Array:
    """Return the largest value of each channel: ``[B, *spatial, C]`` to ``[B, C]``.

    Example:
      >>> global_max_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)).tolist()
      [[6.0, 7.0]]
    """
    rank = shapes.spatial_rank(images)
    return jnp.max(images, axis=tuple(range(1, rank + 1)))


def global_avg_pool(images: jax.Array) -> jax.Array:
    """Return the mean of each channel: ``[B, *spatial, C]`` to ``[B, C]``.

    Example:
      >>> global_avg_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)).tolist()
      [[3.0, 4.0]]

    Reference:
      Lin et al. 2013, "Network in network", section 3.2.
    """
    rank = shapes.spatial_rank(images)
    return jnp.mean(images, axis=tuple(range(1, rank + 1)))


def adaptive_avg_pool(images: jax.Array, size: IntOrInts) -> jax.Array:
    """Average over windows that evenly cover the images, for an output of a given size.

    Output position ``i`` of ``n`` is the mean of the pixels from ``floor(i * length / n)`` up to,
    but not including, ``ceil((i + 1) * length / n)``. Windows may overlap; if an image is smaller
    than ``size``, its pixels are repeated.

    Args:
      images: ``[B, *spatial, C]``, floating point.
      size: spatial size of the output, one integer or one per spatial dimension.

    Returns:
      An array ``[B, *size, C]`` with the dtype of ``images``.

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


def pool_windows(
    images: jax.Array | jax.ShapeDtypeStruct,
    window: IntOrInts,
    strides: IntOrInts | None,
    padding: Padding,
) -> Windows:
    """Check the arguments of a pooling operation and return its geometry."""
    rank = shapes.spatial_rank(images)
    sizes = shapes.ints(window, rank, "window")
    steps = sizes if strides is None else shapes.ints(strides, rank, "strides")
    pairs = shapes.pairs(padding, images.shape[1:-1], sizes, steps)
    if any(max(pair) >= size for pair, size in zip(pairs, sizes, strict=True)):
        raise ValueError(
            f"padding must be smaller than the window {sizes}, so that no window covers only "
            f"padding, got {padding!r}"
        )
    return Windows(sizes, steps, pairs, (1,) * rank)


def _window_sums(images: jax.Array, windows: Windows, implementation: Implementation) -> jax.Array:
    """Return each window's sum in at least float32: bfloat16 cannot count beyond 256."""
    images = shapes.at_least_float32(images)
    if is_tuned(implementation) and windows.can_unroll:
        return _tuned_sum_pool(images, windows)
    return _sum_pool_xla(images, windows)


def _max_pool_xla(images: jax.Array, windows: Windows) -> jax.Array:
    return _reduce_window(images, -jnp.inf, lax.max, windows)


def _sum_pool_xla(images: jax.Array, windows: Windows) -> jax.Array:
    return _reduce_window(images, 0, lax.add, windows)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def tuned_max_pool(images: jax.Array, windows: Windows, keep_positions: bool) -> jax.Array:
    """Return each window's largest value, with a gradient tuned for the platform.

    Args:
      images: ``[B, *spatial, C]``.
      windows: the geometry; with ``keep_positions``, windows that tile the image without padding.
      keep_positions: on CPU, store the positions of the maxima for the gradient instead of the
        images.
    """
    # Without a gradient, XLA may fuse the pooling into the preceding convolution.
    return _max_pool_xla(images, windows)


def _max_pool_forward(
    images: jax.Array, windows: Windows, keep_positions: bool
) -> tuple[jax.Array, tuple[jax.Array, jax.Array | None]]:
    def on_cpu(images: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        if keep_positions:
            return cpu.max_pool_with_positions(images, windows)
        return cpu.max_pool(images, windows), None

    def default(images: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        output = _max_pool_xla(images, windows)
        # Unused: only the CPU gradient needs positions.
        return output, jnp.zeros(output.shape, jnp.int8) if keep_positions else None

    output, positions = lax.platform_dependent(images, cpu=on_cpu, default=default)
    # Each platform uses only one of the two residuals, so the compiler drops the other.
    return output, (images, positions)


def _max_pool_backward(
    windows: Windows,
    keep_positions: bool,
    residuals: tuple[jax.Array, jax.Array | None],
    gradient: jax.Array,
) -> tuple[jax.Array]:
    def on_cpu(images: jax.Array, positions: jax.Array | None, gradient: jax.Array) -> jax.Array:
        if keep_positions:
            return cpu.put_back_tiles(gradient, windows, images.shape[1:-1], positions)
        return cpu.max_pool_gradient(images, gradient, windows)

    def default(images: jax.Array, positions: jax.Array | None, gradient: jax.Array) -> jax.Array:
        return jax.vjp(lambda images: _max_pool_xla(images, windows), images)[1](gradient)[0]

    return (lax.platform_dependent(*residuals, gradient, cpu=on_cpu, default=default),)


tuned_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _tuned_sum_pool(images: jax.Array, windows: Windows) -> jax.Array:
    return _sum_pool_xla(images, windows)


def _sum_pool_forward(images: jax.Array, windows: Windows) -> tuple[jax.Array, jax.Array]:
    # The gradient needs only the shape of the residual, so the compiler drops its values.
    output = lax.platform_dependent(
        images,
        cpu=functools.partial(cpu.sum_pool, windows=windows),
        default=functools.partial(_sum_pool_xla, windows=windows),
    )
    return output, images


def _sum_pool_backward(
    windows: Windows, images: jax.Array, gradient: jax.Array
) -> tuple[jax.Array]:
    def default(images: jax.Array, gradient: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda images: _sum_pool_xla(images, windows), images)(
            gradient
        )[0]

    def on_cpu(images: jax.Array, gradient: jax.Array) -> jax.Array:
        return cpu.sum_pool_gradient(gradient, windows, images.shape[1:-1])

    return (lax.platform_dependent(images, gradient, cpu=on_cpu, default=default),)


_tuned_sum_pool.defvjp(_sum_pool_forward, _sum_pool_backward)


def _reduce_window(
    images: jax.Array, initial: float, combine: Callable[..., jax.Array], windows: Windows
) -> jax.Array:
    return lax.reduce_window(
        images,
        # A NumPy scalar: only with a concrete value does lax recognize the monoid and its gradient.
        np.asarray(initial, images.dtype),
        combine,
        window_dimensions=(1, *windows.sizes, 1),
        window_strides=(1, *windows.strides, 1),
        padding=((0, 0), *windows.pairs, (0, 0)),
    )
