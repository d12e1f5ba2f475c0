"""Convolution and its two gradients in the forms that suit their shapes.

Depthwise and 1x1 convolutions have forms of their own; those that mix channels go by patches, by
Winograd's method, or by XLA's own code. XLA for CPU runs a convolution fast when its dimensions are
in the order of its kernels, and reorders them in a program's outermost computation only: in the
body of a loop, where gradients are accumulated, the gradients of `jax.lax` take a hundred times as
long. So the operands are reordered here.
"""

import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops import xla
from jaxcnn.ops.cpu import depthwise, direct, patches, winograd
from jaxcnn.ops.cpu.chunks import sum_parts
from jaxcnn.ops.cpu.taps import put_back, take
from jaxcnn.ops.windows import Ints, Windows

_MOST_TAPS = 64  # of a window that is unrolled
_MOST_GROUPS = 64  # that become a convolution each
_PART = 8  # examples
_LARGEST_IN_PARTS = 128 * 128  # channels in times channels out


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
        return _full_conv(images, kernel, windows, for_gradient=for_gradient)
    if groups <= _MOST_GROUPS:
        parts = _split(groups, images, kernel)
        outputs = [conv(x, k, windows, 1, for_gradient=for_gradient) for x, k in parts]
        return jnp.concatenate(outputs, -1)
    return xla.conv(images, kernel, windows, groups=groups)


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
        return _full_input_gradient(gradient, kernel, windows, shape)
    if groups <= _MOST_GROUPS:
        shape = (*shape[:-1], shape[-1] // groups)
        parts = _split(groups, gradient, kernel)
        return jnp.concatenate([input_gradient(g, k, windows, 1, shape) for g, k in parts], -1)
    return xla.input_gradient(gradient, kernel, windows, groups, shape)


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
        return _full_kernel_gradient(images, gradient, windows, shape)
    if groups <= _MOST_GROUPS:
        shape = (*shape[:-1], shape[-1] // groups)
        parts = _split(groups, images, gradient)
        return jnp.concatenate([kernel_gradient(x, g, windows, 1, shape) for x, g in parts], -1)
    return xla.kernel_gradient(images, gradient, windows, groups, shape)


def _full_conv(
    images: jax.Array, kernel: jax.Array, windows: Windows, *, for_gradient: bool
) -> jax.Array:
    """Convolution that mixes all channels."""
    if winograd.suits(images.shape, windows, kernel.shape[-1]):
        return winograd.conv(images, kernel, windows)
    if patches.suits(images, windows):
        return patches.conv(images, kernel, windows)
    return direct.conv(images, kernel, windows, for_gradient=for_gradient)


def _full_input_gradient(
    gradient: jax.Array, kernel: jax.Array, windows: Windows, shape: Ints
) -> jax.Array:
    """Gradient for images of the given shape: a convolution with the kernel turned round."""
    if patches.suits_input_gradient(windows):
        return patches.input_gradient(gradient, kernel, windows, shape)
    if max(windows.strides) > 1:
        return xla.input_gradient(gradient, kernel, windows, 1, shape)
    edges = []
    for (low, _), size, step, n, outputs in zip(
        windows.pairs, windows.sizes, windows.dilation, shape[1:], gradient.shape[1:], strict=False
    ):
        extent = (size - 1) * step
        edges.append((extent - low, n + low - outputs))
    back = windows._replace(pairs=tuple(edges))
    if min(min(pair) for pair in edges) < 0:
        # Cropped here: XLA for CPU in jaxlib 0.10 misreads negative padding of a convolution.
        zero = jnp.zeros((), gradient.dtype)
        widths = [(*pair, 0) for pair in edges]
        gradient = lax.pad(gradient, zero, [(0, 0, 0), *widths, (0, 0, 0)])
        back = windows._replace(pairs=((0, 0),) * len(edges))
    if winograd.suits(gradient.shape, back, shape[-1]):
        return winograd.conv(gradient, kernel, back, turned=True)
    turned = lax.rev(jnp.swapaxes(kernel, -1, -2), range(kernel.ndim - 2))
    return _full_conv(gradient, turned, back, for_gradient=True)


def _full_kernel_gradient(
    images: jax.Array, gradient: jax.Array, windows: Windows, shape: Ints
) -> jax.Array:
    """Gradient for a kernel of the given shape."""
    if winograd.suits_kernel_gradient(images, windows, shape[-1]):
        return winograd.kernel_gradient(images, gradient, windows)
    if patches.suits(images, windows) or patches.suits_kernel_gradient(images, windows):
        return patches.kernel_gradient(images, gradient, windows, shape)
    size = math.gcd(len(images), _PART)
    if shape[-2] * shape[-1] > _LARGEST_IN_PARTS or size < 4:
        size = len(images)
    part = functools.partial(_swapped_kernel_gradient, windows=windows)
    # What has to be turned round stays in the cache.
    return sum_parts(part, images, gradient, size).astype(gradient.dtype)


def _swapped_kernel_gradient(images: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """A convolution of the images with the gradient, with channels for examples and back."""
    sizes, pairs, kept = gradient.shape[1:-1], [], []
    for axis, n in enumerate(images.shape[1:-1]):
        low, _ = windows.pairs[axis]
        seen = (windows.sizes[axis] - 1) * windows.dilation[axis] + 1
        seen += (sizes[axis] - 1) * windows.strides[axis]
        pairs.append((low, max(seen - n - low, 0)))
        kept.append(slice(min(seen - low, n)))  # strides may leave pixels that no window sees
    turned = Windows(sizes, windows.dilation, tuple(pairs), windows.strides)
    images = jnp.swapaxes(images[(slice(None), *kept)], 0, -1)
    output = xla.conv(images, jnp.moveaxis(gradient, 0, -2), turned)
    return jnp.moveaxis(output, 0, -2)


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
