"""Convolutions that mix channels: in half precision by patches, 3x3 by Winograd's method, or XLA's.

XLA for CPU runs a convolution fast when its dimensions have the order of its kernels, and brings
them into that order in a program's outermost computation alone: in the body of a loop, as gradients
are accumulated in, those of `jax.lax` take a hundred times as long. So they get it here.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops import plain
from jaxcnn.ops.cpu import patches, winograd
from jaxcnn.ops.cpu.parts import sum_parts
from jaxcnn.ops.cpu.positions import Ints, Windows

_PART = 8  # examples
_LARGEST_IN_PARTS = 128 * 128  # channels in times channels out


def conv(images: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    """The convolution."""
    if patches.suits(images):
        return patches.conv(images, kernel, windows)
    if winograd.suits(images.shape, windows, kernel.shape[-1]):
        return winograd.conv(images, kernel, windows)
    return plain.conv(images, kernel, windows)


def input_gradient(
    gradient: jax.Array, kernel: jax.Array, windows: Windows, shape: Ints
) -> jax.Array:
    """Gradient for images of the given shape: a convolution with the kernel turned round."""
    if patches.suits(gradient) and max(windows.strides) > 1:
        return patches.input_gradient(gradient, kernel, windows, shape)
    edges = []
    for axis, n in enumerate(shape[1:-1]):
        extent = (windows.sizes[axis] - 1) * windows.dilation[axis]
        low = extent - windows.pairs[axis][0]
        spread = (gradient.shape[axis + 1] - 1) * windows.strides[axis] + 1
        edges.append((low, n + extent - spread - low))
    strides = windows.strides
    if min(min(pair) for pair in edges) < 0:
        # Cropped here: XLA for CPU in jaxlib 0.10 misreads negative padding of a convolution.
        widths = [(*pair, step - 1) for pair, step in zip(edges, strides, strict=True)]
        zero = jnp.zeros((), gradient.dtype)
        gradient = lax.pad(gradient, zero, [(0, 0, 0), *widths, (0, 0, 0)])
        edges, strides = [(0, 0)] * len(edges), (1,) * len(edges)
    back = Windows(windows.sizes, (1,) * len(edges), tuple(edges), windows.dilation)
    direct = max(strides) > 1 or patches.suits(gradient)
    if not direct and winograd.suits(gradient.shape, back, shape[-1]):
        return winograd.conv(gradient, kernel, back, turned=True)
    turned = lax.rev(jnp.swapaxes(kernel, -1, -2), range(kernel.ndim - 2))
    if max(strides) == 1:
        return conv(gradient, turned, back)
    return plain.conv(gradient, turned, back, spread=strides)


def kernel_gradient(
    images: jax.Array, gradient: jax.Array, windows: Windows, shape: Ints
) -> jax.Array:
    """Gradient for a kernel of the given shape."""
    if patches.suits(images):
        return patches.kernel_gradient(images, gradient, windows, shape)
    if winograd.suits(images.shape, windows, shape[-1]):
        return winograd.kernel_gradient(images, gradient, windows)
    size = math.gcd(len(images), _PART)
    if shape[-2] * shape[-1] > _LARGEST_IN_PARTS or size < 4:
        size = len(images)
    part = functools.partial(_kernel_gradient, windows=windows)
    # What has to be turned round stays in the cache.
    return sum_parts(part, images, gradient, size)


def _kernel_gradient(images: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
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
    output = plain.conv(images, jnp.moveaxis(gradient, 0, -2), turned)
    return jnp.moveaxis(output, 0, -2)
