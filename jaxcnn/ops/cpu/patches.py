"""Half-precision and strided convolutions, computed as products of patches and the kernel.

A CPU may multiply bfloat16 matrices twice as fast as float32 ones, but only XLA's matrix
multiplication benefits: its convolutions are slower in bfloat16 than in float32. XLA also computes
gradients of strided convolutions as convolutions over mostly-zero (dilated) inputs. This module
therefore lays out the pixels under each window side by side (im2col), a few examples at a time so
that the patches stay in cache.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops.cpu.chunks import chunk_size, map_chunks, sum_chunks
from jaxcnn.ops.cpu.taps import put_back, take
from jaxcnn.ops.cpu.versions import CONVOLUTIONS_ARE_SLOW
from jaxcnn.ops.windows import Ints, Windows

_CHUNK_BYTES = 2**22  # size of the patches in a chunk
_MIN_CHANNELS = 16  # so that pixels are copied in long runs


def suits(images: jax.Array, windows: Windows) -> bool:
    """Return whether patches are faster than a direct convolution in the images' dtype."""
    if images.dtype == jnp.bfloat16:
        return windows.can_unroll
    return CONVOLUTIONS_ARE_SLOW and suits_kernel_gradient(images, windows)


def suits_input_gradient(windows: Windows) -> bool:
    """Return whether `input_gradient` is faster than a dilated convolution, in any dtype."""
    return max(windows.strides) > 1 and windows.can_unroll


def suits_kernel_gradient(images: jax.Array, windows: Windows) -> bool:
    """Return whether `kernel_gradient` is faster than a dilated convolution, in any dtype."""
    chunk = chunk_size(len(images), 1) * _patch_bytes(images, windows)
    copied_fast = images.shape[-1] >= _MIN_CHANNELS and chunk <= 2 * _CHUNK_BYTES
    return max(windows.strides) > 1 and windows.can_unroll and copied_fast


def conv(images: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    """Return the convolution."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    counts = windows.output(images.shape[1:-1])

    def convolve(images: jax.Array) -> jax.Array:
        output = _product(_patches(images, windows), matrix, 1, 0)
        return output.reshape(len(images), *counts, -1).astype(images.dtype)

    return map_chunks(convolve, images, _chunk_size(images, windows))


def input_gradient(
    gradient: jax.Array, kernel: jax.Array, windows: Windows, shape: Ints
) -> jax.Array:
    """Return the gradient with respect to images of the given shape."""
    taps, matrix = windows.taps, kernel.reshape(-1, kernel.shape[-1])

    def transpose(gradient: jax.Array) -> jax.Array:
        patches = _product(gradient.reshape(-1, gradient.shape[-1]), matrix, 1, 1)
        patches = patches.reshape(*gradient.shape[:-1], taps, -1)
        values = [patches[..., tap, :] for tap in range(taps)]
        return put_back(values, windows, shape[1:-1]).astype(gradient.dtype)

    images = jax.ShapeDtypeStruct(shape, gradient.dtype)
    return map_chunks(transpose, gradient, _chunk_size(images, windows))


def kernel_gradient(
    images: jax.Array, gradient: jax.Array, windows: Windows, shape: Ints
) -> jax.Array:
    """Return the gradient with respect to a kernel of the given shape."""
    outputs = gradient.shape[-1]

    def multiply(images: jax.Array, transposed: jax.Array) -> jax.Array:
        transposed = transposed.swapaxes(0, 1).reshape(outputs, -1)
        return _product(transposed, _patches(images, windows), 1, 0)

    # The product is fast only in this order, and XLA would undo a transpose in the same loop body.
    transposed = gradient.reshape(len(gradient), -1, outputs).swapaxes(1, 2)
    size = min(_chunk_size(images, windows), chunk_size(len(images), len(images) // 3))
    # Round before the transpose (TRANSPOSED HALF PRODUCTS).
    return sum_chunks(multiply, images, transposed, size).astype(gradient.dtype).T.reshape(shape)


def _chunk_size(images: jax.Array | jax.ShapeDtypeStruct, windows: Windows) -> int:
    return chunk_size(images.shape[0], _CHUNK_BYTES // _patch_bytes(images, windows))


def _patch_bytes(images: jax.Array | jax.ShapeDtypeStruct, windows: Windows) -> int:
    """Return the size of one example's patches."""
    pixels = math.prod(windows.output(images.shape[1:-1])) * windows.taps
    return pixels * images.shape[-1] * images.dtype.itemsize


def _patches(images: jax.Array, windows: Windows) -> jax.Array:
    """Return the pixels under each window side by side, ``[windows, taps * in]``."""
    taps = take(images, windows, filler=0)
    return jnp.concatenate(taps, -1).reshape(-1, len(taps) * images.shape[-1])


def _product(one: jax.Array, other: jax.Array, axis: int, other_axis: int) -> jax.Array:
    """Contract one axis of each matrix, accumulating in at least float32."""
    dimensions = (((axis,), (other_axis,)), ((), ()))
    precise = jnp.promote_types(one.dtype, jnp.float32)
    return lax.dot_general(one, other, dimensions, preferred_element_type=precise)
