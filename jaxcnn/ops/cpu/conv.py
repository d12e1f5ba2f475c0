"""Convolution and its two gradients, each in the formulation best suited to its shape.

Depthwise and 1x1 convolutions have separate formulations. Other convolutions use patches,
Winograd's method, or XLA's code with operands in the order that its CPU kernels require
(LOOP LAYOUTS in `jaxcnn.ops.cpu.versions`).
"""

import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops import xla
from jaxcnn.ops.cpu import depthwise, direct, patches, winograd
from jaxcnn.ops.cpu.chunks import sum_chunks
from jaxcnn.ops.cpu.taps import put_back, take
from jaxcnn.ops.windows import Ints, Windows

_MAX_GROUPS = 64  # largest number of groups computed as separate convolutions
_CHUNK = 8  # examples per chunk
_MAX_CHUNKED_CHANNELS = 128 * 128  # inputs times outputs


def conv(
    images: jax.Array,
    kernel: jax.Array,
    windows: Windows,
    groups: int,
    *,
    for_gradient: bool = False,
) -> jax.Array:
    """Return the convolution; set ``for_gradient`` if its output is kept for a gradient."""
    if _is_depthwise(images.shape, windows, groups):
        return depthwise.conv(images, kernel, windows)
    if _is_pointwise(windows, groups):
        (values,) = take(images, windows, filler=0)
        return _product(values, kernel.reshape(kernel.shape[-2:]))
    if groups == 1:
        return _full_conv(images, kernel, windows, for_gradient=for_gradient)
    if groups <= _MAX_GROUPS:
        parts = _split(groups, images, kernel)
        outputs = [conv(x, k, windows, 1, for_gradient=for_gradient) for x, k in parts]
        return jnp.concatenate(outputs, -1)
    return xla.conv(images, kernel, windows, groups=groups)


def input_gradient(
    gradient: jax.Array, kernel: jax.Array, windows: Windows, groups: int, shape: Ints
) -> jax.Array:
    """Return the gradient with respect to images of the given shape."""
    if _is_depthwise(shape, windows, groups):
        return depthwise.input_gradient(gradient, kernel, windows, shape)
    if _is_pointwise(windows, groups):
        values = _product(gradient, kernel.reshape(kernel.shape[-2:]).T)
        return put_back([values], windows, shape[1:-1])
    if groups == 1:
        return _full_input_gradient(gradient, kernel, windows, shape)
    if groups <= _MAX_GROUPS:
        shape = (*shape[:-1], shape[-1] // groups)
        parts = _split(groups, gradient, kernel)
        return jnp.concatenate([input_gradient(g, k, windows, 1, shape) for g, k in parts], -1)
    return xla.input_gradient(gradient, kernel, windows, groups, shape)


def kernel_gradient(
    images: jax.Array, gradient: jax.Array, windows: Windows, groups: int, shape: Ints
) -> jax.Array:
    """Return the gradient with respect to a kernel of the given shape."""
    if _is_depthwise(images.shape, windows, groups):
        return depthwise.kernel_gradient(images, gradient, windows, shape)
    if _is_pointwise(windows, groups):
        (values,) = take(images, windows, filler=0)
        return _summed_product(values, gradient).reshape(shape)
    if groups == 1:
        return _full_kernel_gradient(images, gradient, windows, shape)
    if groups <= _MAX_GROUPS:
        shape = (*shape[:-1], shape[-1] // groups)
        parts = _split(groups, images, gradient)
        return jnp.concatenate([kernel_gradient(x, g, windows, 1, shape) for x, g in parts], -1)
    return xla.kernel_gradient(images, gradient, windows, groups, shape)


def _full_conv(
    images: jax.Array, kernel: jax.Array, windows: Windows, *, for_gradient: bool
) -> jax.Array:
    """Return a convolution that mixes all channels."""
    if winograd.suits(images.shape, windows, kernel.shape[-1]):
        return winograd.conv(images, kernel, windows)
    if patches.suits(images, windows):
        return patches.conv(images, kernel, windows)
    return direct.conv(images, kernel, windows, for_gradient=for_gradient)


def _full_input_gradient(
    gradient: jax.Array, kernel: jax.Array, windows: Windows, shape: Ints
) -> jax.Array:
    """Return the gradient with respect to images: a convolution with the flipped kernel."""
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
        # Crop here, not in the convolution (NEGATIVE PADDING).
        zero = jnp.zeros((), gradient.dtype)
        widths = [(*pair, 0) for pair in edges]
        gradient = lax.pad(gradient, zero, [(0, 0, 0), *widths, (0, 0, 0)])
        back = windows._replace(pairs=((0, 0),) * len(edges))
    if winograd.suits(gradient.shape, back, shape[-1]):
        return winograd.conv(gradient, kernel, back, flipped=True)
    flipped = lax.rev(jnp.swapaxes(kernel, -1, -2), range(kernel.ndim - 2))
    return _full_conv(gradient, flipped, back, for_gradient=True)


def _full_kernel_gradient(
    images: jax.Array, gradient: jax.Array, windows: Windows, shape: Ints
) -> jax.Array:
    """Return the gradient with respect to a kernel of the given shape."""
    if winograd.suits_kernel_gradient(images, windows, shape[-1]):
        return winograd.kernel_gradient(images, gradient, windows)
    if patches.suits(images, windows) or patches.suits_kernel_gradient(images, windows):
        return patches.kernel_gradient(images, gradient, windows, shape)
    size = math.gcd(len(images), _CHUNK)
    if shape[-2] * shape[-1] > _MAX_CHUNKED_CHANNELS or size < 4:
        size = len(images)
    convolve = functools.partial(_swapped_kernel_gradient, windows=windows)
    # Working in chunks keeps the transposed operands in cache.
    return sum_chunks(convolve, images, gradient, size).astype(gradient.dtype)


def _swapped_kernel_gradient(images: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """Convolve the images with the gradient, with the batch and channel dimensions swapped."""
    sizes, pairs, kept = gradient.shape[1:-1], [], []
    for axis, n in enumerate(images.shape[1:-1]):
        low, _ = windows.pairs[axis]
        seen = (windows.sizes[axis] - 1) * windows.dilation[axis] + 1
        seen += (sizes[axis] - 1) * windows.strides[axis]
        pairs.append((low, max(seen - n - low, 0)))
        kept.append(slice(min(seen - low, n)))  # strides may skip the last pixels
    swapped = Windows(sizes, windows.dilation, tuple(pairs), windows.strides)
    images = jnp.swapaxes(images[(slice(None), *kept)], 0, -1)
    output = xla.conv(images, jnp.moveaxis(gradient, 0, -2), swapped)
    return jnp.moveaxis(output, 0, -2)


def _split(groups: int, one: jax.Array, other: jax.Array) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Split the channels into groups: XLA takes up to three times as long without the split."""
    return zip(jnp.split(one, groups, -1), jnp.split(other, groups, -1), strict=True)


def _is_depthwise(shape: Ints, windows: Windows, groups: int) -> bool:
    return groups == shape[-1] > 1 and windows.can_unroll


def _is_pointwise(windows: Windows, groups: int) -> bool:
    return groups == 1 and max(windows.sizes) == 1


def _product(values: jax.Array, matrix: jax.Array) -> jax.Array:
    """Multiply ``[..., in]`` by ``[in, out]``."""
    flat = jnp.dot(values.reshape(-1, values.shape[-1]), matrix)
    return flat.reshape(*values.shape[:-1], matrix.shape[-1])


def _summed_product(values: jax.Array, gradient: jax.Array) -> jax.Array:
    """Contract ``[N, ..., in]`` and ``[N, ..., out]`` to ``[in, out]``.

    The operands are flattened first: XLA transposes operands summed over several dimensions.
    """
    values = values.reshape(-1, values.shape[-1])
    gradient = gradient.reshape(-1, gradient.shape[-1])
    return lax.dot_general(values, gradient, (((0,), (0,)), ((), ())))
