"""3x3 convolutions by Winograd's method, with a quarter of the multiplications.

Tiles of 6x6 pixels and the kernel are transformed to a basis in which 4x4 outputs need 36 products
per pair of channels instead of 144, computed as 36 matrix multiplications over the channels. The
rounding error is about ten times that of the direct sum: 1e-5 of the largest output in float32.

Reference:
  Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", F(4x4, 3x3).
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops.cpu.chunks import chunk_size, map_chunks, map_slices, sum_chunks
from jaxcnn.ops.cpu.versions import CONVOLUTIONS_ARE_SLOW
from jaxcnn.ops.windows import Ints, Windows
from jaxcnn.shapes import at_least_float32

_OUT, _IN = 4, 6  # height and width of an output tile and of an input tile
_OF_IMAGES = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_OF_KERNEL = (
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
)
_OF_OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)
_MIN_CHANNELS = 128  # with fewer, the speedup is not worth the rounding error
_MIN_TILES = 64  # per batch; with fewer, transforming the kernel costs too much
_CHUNK_TILES = 256  # enough for a fast multiplication, few enough to fit in cache
_CHUNK_CHANNELS = 64  # output channels, when the kernel is processed in chunks


def suits(shape: Ints, windows: Windows, outputs: int, min_channels: int = _MIN_CHANNELS) -> bool:
    """Return whether Winograd's method is faster for a convolution of images with this shape."""
    return (
        windows.sizes == (3, 3)
        and windows.strides == windows.dilation == (1, 1)
        and min(shape[-1], outputs) >= min_channels
        and min(windows.output(shape[1:-1])) >= _OUT
        and shape[0] * math.prod(_tile_counts(shape, windows)) >= _MIN_TILES
    )


def suits_kernel_gradient(images: jax.Array, windows: Windows, outputs: int) -> bool:
    """Return whether Winograd's method is faster for the gradient with respect to the kernel."""
    if CONVOLUTIONS_ARE_SLOW:
        min_channels = 64
    elif images.dtype == jnp.bfloat16:
        min_channels = 256  # direct bfloat16 multiplication is fast
    else:
        min_channels = _MIN_CHANNELS
    return suits(images.shape, windows, outputs, min_channels)


def conv(
    images: jax.Array, kernel: jax.Array, windows: Windows, *, flipped: bool = False
) -> jax.Array:
    """Convolve images with a 3x3 kernel.

    Args:
      images: ``[B, H, W, in]``.
      kernel: ``[3, 3, in, out]``.
      windows: the geometry.
      flipped: True to flip a ``[3, 3, out, in]`` kernel, as required for the gradient of another
        convolution with respect to its images.
    """
    images, kernel = lax.optimization_barrier((images, kernel))
    basis = _OF_KERNEL[:, ::-1] if flipped else _OF_KERNEL
    height, width = windows.output(images.shape[1:-1])

    def transform(kernel: jax.Array) -> jax.Array:
        return _apply(basis, kernel).reshape(_IN * _IN, *kernel.shape[2:])

    def output(tiles: jax.Array, counts: Ints, of_kernel: jax.Array) -> jax.Array:
        # [36, tiles, in] times [36, in, out], or [36, out, in].
        channels = 2 if flipped else 1
        products = lax.dot_general(tiles, of_kernel, (((2,), (channels,)), ((0,), (0,))))
        pixels = _apply(_OF_OUTPUT, products).reshape(_OUT, _OUT, *counts, -1)
        batch, down, across = counts
        pixels = pixels.transpose(2, 3, 0, 4, 1, 5).reshape(batch, down * _OUT, across * _OUT, -1)
        return pixels[:, :height, :width].astype(images.dtype)

    size = _chunk_size(images, windows)
    if flipped and size == len(images):
        # With few tiles and many channels, the transformed kernel is the largest array, and XLA
        # transforms the kernels of all layers at the start (DROPPED BARRIERS). Slices take the same
        # time in a gradient, but 10% longer in a forward pass.
        tiles, counts = _image_tiles(images, windows)
        return map_slices(
            lambda chunk: output(tiles, counts, transform(chunk)), kernel, _CHUNK_CHANNELS
        )
    of_kernel = transform(kernel)
    return map_chunks(lambda chunk: output(*_image_tiles(chunk, windows), of_kernel), images, size)


def kernel_gradient(images: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """Return the gradient with respect to the kernel, ``[3, 3, in, out]``."""

    def multiply(images: jax.Array, gradient: jax.Array) -> jax.Array:
        tiles, _ = _image_tiles(images, windows)
        # [36, tiles, in] and [36, tiles, out], summed over the tiles.
        return lax.dot_general(tiles, _gradient_tiles(gradient), (((1,), (1,)), ((0,), (0,))))

    total = sum_chunks(multiply, images, gradient, _chunk_size(images, windows))
    back = _apply(_OF_KERNEL.T, total).reshape(3, 3, *total.shape[1:])
    return back.astype(gradient.dtype)


def _chunk_size(images: jax.Array, windows: Windows) -> int:
    each = math.prod(_tile_counts(images.shape, windows))
    return chunk_size(len(images), -(-_CHUNK_TILES // each))


def _tile_counts(shape: Ints, windows: Windows) -> Ints:
    return tuple(-(-n // _OUT) for n in windows.output(shape[1:-1]))


def _image_tiles(images: jax.Array, windows: Windows) -> tuple[jax.Array, Ints]:
    """Return transformed tiles ``[36, tiles, in]`` and their counts (examples, down, across)."""
    counts = _tile_counts(images.shape, windows)
    edges = [
        (low, count * _OUT + 2 - low - n)
        for n, count, (low, _) in zip(images.shape[1:-1], counts, windows.pairs, strict=True)
    ]
    padded = jnp.pad(at_least_float32(images), ((0, 0), *edges, (0, 0)))
    down, across = counts
    taps = [
        padded[:, i : i + (down - 1) * _OUT + 1 : _OUT, j : j + (across - 1) * _OUT + 1 : _OUT]
        for i, j in itertools.product(range(_IN), repeat=2)
    ]
    tiles = _apply(_OF_IMAGES, jnp.stack(taps))
    return tiles.reshape(_IN * _IN, -1, images.shape[-1]), (len(images), down, across)


def _gradient_tiles(gradient: jax.Array) -> jax.Array:
    """Return the transformed tiles of the output gradient, ``[36, tiles, out]``."""
    batch, height, width, channels = gradient.shape
    down, across = -(-height // _OUT), -(-width // _OUT)
    edges = ((0, 0), (0, down * _OUT - height), (0, across * _OUT - width), (0, 0))
    padded = jnp.pad(at_least_float32(gradient), edges)
    pixels = padded.reshape(batch, down, _OUT, across, _OUT, channels).transpose(2, 4, 0, 1, 3, 5)
    return _apply(_OF_OUTPUT.T, pixels).reshape(_IN * _IN, -1, channels)


def _apply(matrix: np.ndarray, x: jax.Array) -> jax.Array:
    """Apply a matrix to both leading dimensions of ``x``, flat or not; return ``[n * n, rest]``.

    A single matrix multiplication is used, because separate sums compile to a large program.
    """
    both = np.kron(matrix, matrix)
    x = at_least_float32(x)
    return jnp.asarray(both, x.dtype) @ x.reshape(both.shape[1], -1)
