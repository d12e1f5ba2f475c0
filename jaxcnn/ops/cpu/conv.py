"""Convolution and its two gradients in the forms that suit their shapes.

Depthwise and 1x1 convolutions have forms of their own; `dense` has the others.
"""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops import plain
from jaxcnn.ops.cpu import dense, depthwise
from jaxcnn.ops.cpu.positions import Ints, Windows, put_back, take

_MOST_TAPS = 64  # of a window that is unrolled
_MOST_GROUPS = 64  # that become a convolution each


def conv(
    images: jax.Array,
    kernel: jax.Array,
    windows: Windows,
    groups: int,
    *,
    for_gradient: bool = False,
) -> jax.Array:
    """The convolution; with ``for_gradient`` its output is kept for one."""
    if _is_depthwise(images.shape, windows, groups):
        return depthwise.conv(images, kernel, windows)
    if _is_pointwise(windows, groups):
        (values,) = take(images, windows, filler=0)
        return _product(values, kernel.reshape(kernel.shape[-2:]))
    if groups == 1:
        return dense.conv(images, kernel, windows, for_gradient=for_gradient)
    if groups <= _MOST_GROUPS:
        parts = _split(groups, images, kernel)
        outputs = [conv(x, k, windows, 1, for_gradient=for_gradient) for x, k in parts]
        return jnp.concatenate(outputs, -1)
    return plain.conv(images, kernel, windows, groups=groups)


def input_gradient(
    gradient: jax.Array, kernel: jax.Array, windows: Windows, groups: int, shape: Ints
) -> jax.Array:
    """Gradient for images of the given shape."""
    if _is_depthwise(shape, windows, groups):
        return depthwise.input_gradient(gradient, kernel, windows, shape)
    if _is_pointwise(windows, groups):
        values = _product(gradient, kernel.reshape(kernel.shape[-2:]).T)
        return put_back([values], windows, shape[1:-1])
    if groups == 1:
        return dense.input_gradient(gradient, kernel, windows, shape)
    if groups <= _MOST_GROUPS:
        shape = (*shape[:-1], shape[-1] // groups)
        parts = _split(groups, gradient, kernel)
        return jnp.concatenate([input_gradient(g, k, windows, 1, shape) for g, k in parts], -1)
    return plain.input_gradient(gradient, kernel, windows, groups, shape)


def kernel_gradient(
    images: jax.Array, gradient: jax.Array, windows: Windows, groups: int, shape: Ints
) -> jax.Array:
    """Gradient for a kernel of the given shape."""
    if _is_depthwise(images.shape, windows, groups):
        return depthwise.kernel_gradient(images, gradient, windows, shape)
    if _is_pointwise(windows, groups):
        (values,) = take(images, windows, filler=0)
        return _summed_product(values, gradient).reshape(shape)
    if groups == 1:
        return dense.kernel_gradient(images, gradient, windows, shape)
    if groups <= _MOST_GROUPS:
        shape = (*shape[:-1], shape[-1] // groups)
        parts = _split(groups, images, gradient)
        return jnp.concatenate([kernel_gradient(x, g, windows, 1, shape) for x, g in parts], -1)
    return plain.kernel_gradient(images, gradient, windows, groups, shape)


def _split(groups: int, one: jax.Array, other: jax.Array) -> Iterator[tuple[jax.Array, jax.Array]]:
    """The channels of each group: XLA takes up to three times as long for all in one."""
    return zip(jnp.split(one, groups, -1), jnp.split(other, groups, -1), strict=True)


def _is_small(windows: Windows) -> bool:
    return math.prod(windows.sizes) <= _MOST_TAPS


def _is_depthwise(shape: Ints, windows: Windows, groups: int) -> bool:
    return groups == shape[-1] > 1 and _is_small(windows)


def _is_pointwise(windows: Windows, groups: int) -> bool:
    return groups == 1 and max(windows.sizes) == 1


def _product(values: jax.Array, matrix: jax.Array) -> jax.Array:
    """``[..., in]`` times ``[in, out]``."""
    flat = jnp.dot(values.reshape(-1, values.shape[-1]), matrix)
    return flat.reshape(*values.shape[:-1], matrix.shape[-1])


def _summed_product(values: jax.Array, gradient: jax.Array) -> jax.Array:
    """``[N, ..., in]`` and ``[N, ..., out]`` to ``[in, out]``.

    As matrices, because XLA transposes operands whose sum runs over several dimensions.
    """
    values = values.reshape(-1, values.shape[-1])
    gradient = gradient.reshape(-1, gradient.shape[-1])
    return lax.dot_general(values, gradient, (((0,), (0,)), ((), ())))
