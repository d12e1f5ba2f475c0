"""Convolutions in half precision, as products of patches with the kernel.

A CPU that multiplies matrices of bfloat16 twice as fast as those of float32 does so in XLA's matrix
product alone; its convolutions take longer in bfloat16 than in float32. So the pixels under the
window are copied side by side, a few examples at a time, for the copies to stay in the cache.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops.cpu.parts import map_parts, part_size, sum_parts
from jaxcnn.ops.cpu.positions import Ints, Windows, put_back, take

_PART_BYTES = 2**22  # of patches


def suits(images: jax.Array) -> bool:
    """Whether products in the type of the images are faster than convolutions."""
    return images.dtype == jnp.bfloat16


def conv(images: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    """The convolution."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    counts = windows.output(images.shape[1:-1])

    def part(images: jax.Array) -> jax.Array:
        output = _product(_patches(images, windows), matrix, 1, 0)
        return output.reshape(len(images), *counts, -1).astype(images.dtype)

    return map_parts(part, images, _part_size(images, windows))


def input_gradient(
    gradient: jax.Array, kernel: jax.Array, windows: Windows, shape: Ints
) -> jax.Array:
    """Gradient for images of the given shape, where the windows have strides."""
    taps, matrix = math.prod(windows.sizes), kernel.reshape(-1, kernel.shape[-1])

    def part(gradient: jax.Array) -> jax.Array:
        patches = _product(gradient.reshape(-1, gradient.shape[-1]), matrix, 1, 1)
        patches = patches.reshape(*gradient.shape[:-1], taps, -1)
        values = [patches[..., tap, :] for tap in range(taps)]
        return put_back(values, windows, shape[1:-1]).astype(gradient.dtype)

    images = jax.ShapeDtypeStruct(shape, gradient.dtype)
    return map_parts(part, gradient, _part_size(images, windows))


def kernel_gradient(
    images: jax.Array, gradient: jax.Array, windows: Windows, shape: Ints
) -> jax.Array:
    """Gradient for a kernel of the given shape."""

    def part(images: jax.Array, gradient: jax.Array) -> jax.Array:
        return _product(_patches(images, windows), gradient.reshape(-1, gradient.shape[-1]), 0, 0)

    size = _part_size(images, windows)
    return sum_parts(part, images, gradient, size).reshape(shape)


def _part_size(images: jax.Array | jax.ShapeDtypeStruct, windows: Windows) -> int:
    each = math.prod(windows.output(images.shape[1:-1])) * math.prod(windows.sizes)
    each *= images.shape[-1] * images.dtype.itemsize
    return part_size(images.shape[0], _PART_BYTES // each)


def _patches(images: jax.Array, windows: Windows) -> jax.Array:
    """``[pixels, taps * in]``."""
    taps = take(images, windows, filler=0)
    return jnp.concatenate(taps, -1).reshape(-1, len(taps) * images.shape[-1])


def _product(one: jax.Array, other: jax.Array, axis: int, other_axis: int) -> jax.Array:
    """Sums of products over an axis of each, in float32."""
    dimensions = (((axis,), (other_axis,)), ((), ()))
    return lax.dot_general(one, other, dimensions, preferred_element_type=jnp.float32)
