"""Convolutions that mix channels, by patches, by Winograd's method, or XLA's own.

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
from jaxcnn.ops.cpu import direct, patches, winograd
from jaxcnn.ops.cpu.parts import sum_parts
from jaxcnn.ops.cpu.positions import Ints, Windows

_PART = 8  # examples
_LARGEST_IN_PARTS = 128 * 128  # channels in times channels out


def conv(
    images: jax.Array, kernel: jax.Array, windows: Windows, *, for_gradient: bool
) -> jax.Array:
    """The convolution."""
    if winograd.suits(images.shape, windows, kernel.shape[-1]):
        return winograd.conv(images, kernel, windows)
    if patches.suits(images, windows):
        return patches.conv(images, kernel, windows)
    return direct.conv(images, kernel, windows, for_gradient=for_gradient)


def input_gradient(
    gradient: jax.Array, kernel: jax.Array, windows: Windows, shape: Ints
) -> jax.Array:
    """Gradient for images of the given shape: a convolution with the kernel turned round."""
    if patches.suits_input_gradient(windows):
        return patches.input_gradient(gradient, kernel, windows, shape)
    if max(windows.strides) > 1:
        return plain.input_gradient(gradient, kernel, windows, 1, shape)
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
    return conv(gradient, turned, back, for_gradient=True)


def kernel_gradient(
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
    part = functools.partial(_kernel_gradient, windows=windows)
    # What has to be turned round stays in the cache.
    return sum_parts(part, images, gradient, size).astype(gradient.dtype)


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
