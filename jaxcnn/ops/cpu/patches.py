"""Convolutions as products of patches with the kernel: in half precision, and strided ones.

A CPU that multiplies matrices of bfloat16 twice as fast as those of float32 does so in XLA's matrix
product alone; its convolutions take longer in bfloat16 than in float32. And gradients of strided
convolutions, to XLA, are convolutions with mostly zeros. So the pixels under the window are copied
side by side, a few examples at a time, for the copies to stay in the cache.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops.cpu.chunks import map_parts, part_size, sum_parts
from jaxcnn.ops.cpu.taps import put_back, take
from jaxcnn.ops.cpu.versions import CONVOLUTIONS_ARE_SLOW
from jaxcnn.ops.windows import Ints, Windows

_PART_BYTES = 2**22  # of patches
_FEWEST_CHANNELS = 16  # of an image, for its pixels to be copied in long runs
_MOST_TAPS = 64  # of a window


def suits(images: jax.Array, windows: Windows) -> bool:
    """Whether products in the type of the images are faster than convolutions."""
    if images.dtype == jnp.bfloat16:
        return _are_few(windows)
    return CONVOLUTIONS_ARE_SLOW and suits_kernel_gradient(images, windows)


def suits_input_gradient(windows: Windows) -> bool:
    """Whether it is faster than a convolution with zeros in between, in any type."""
    return max(windows.strides) > 1 and _are_few(windows)


def suits_kernel_gradient(images: jax.Array, windows: Windows) -> bool:
    """Whether it is faster than a convolution with zeros in between, in any type."""
    part = part_size(len(images), 1) * _bytes(images, windows)
    copied_fast = images.shape[-1] >= _FEWEST_CHANNELS and part <= 2 * _PART_BYTES
    return max(windows.strides) > 1 and _are_few(windows) and copied_fast


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
    """Gradient for images of the given shape."""
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
    outputs = gradient.shape[-1]

    def part(images: jax.Array, turned: jax.Array) -> jax.Array:
        turned = turned.swapaxes(0, 1).reshape(outputs, -1)
        return _product(turned, _patches(images, windows), 1, 0)

    # The product is fast in this order alone, and XLA would undo a transpose in the same part.
    turned = gradient.reshape(len(gradient), -1, outputs).swapaxes(1, 2)
    size = min(_part_size(images, windows), part_size(len(images), len(images) // 3))
    # Rounded first: XLA turns a transposed product into one of bfloat16 that it cannot compute.
    return sum_parts(part, images, turned, size).astype(gradient.dtype).T.reshape(shape)


def _are_few(windows: Windows) -> bool:
    return math.prod(windows.sizes) <= _MOST_TAPS


def _part_size(images: jax.Array | jax.ShapeDtypeStruct, windows: Windows) -> int:
    return part_size(images.shape[0], _PART_BYTES // _bytes(images, windows))


def _bytes(images: jax.Array | jax.ShapeDtypeStruct, windows: Windows) -> int:
    """Of the patches of an example."""
    pixels = math.prod(windows.output(images.shape[1:-1])) * math.prod(windows.sizes)
    return pixels * images.shape[-1] * images.dtype.itemsize


def _patches(images: jax.Array, windows: Windows) -> jax.Array:
    """``[pixels, taps * in]``."""
    taps = take(images, windows, filler=0)
    return jnp.concatenate(taps, -1).reshape(-1, len(taps) * images.shape[-1])


def _product(one: jax.Array, other: jax.Array, axis: int, other_axis: int) -> jax.Array:
    """Sums of products over an axis of each, in float32 at least."""
    dimensions = (((axis,), (other_axis,)), ((), ()))
    precise = jnp.promote_types(one.dtype, jnp.float32)
    return lax.dot_general(one, other, dimensions, preferred_element_type=precise)
