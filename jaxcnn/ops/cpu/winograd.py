"""3x3 convolutions with a quarter of the multiplications.

Tiles of 6x6 pixels and the kernel are taken to a basis in which 4x4 outputs need 36 products for
each pair of channels, not 144. A channel's products are then 36 matrix products. The rounding error
is about ten times that of the direct sum: 1e-5 of the largest output in float32.

Reference:
  Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", F(4x4, 3x3).
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops.cpu.chunks import map_parts, map_slices, part_size, sum_parts
from jaxcnn.ops.cpu.versions import CONVOLUTIONS_ARE_SLOW
from jaxcnn.ops.windows import Ints, Windows

_OUT, _IN = 4, 6  # pixels of a tile along each side
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
_LEAST_CHANNELS = 128  # with fewer it saves less than its rounding is worth
_FEWEST_TILES = 64  # of a batch, for the four times larger kernel to be worth making
_PART_TILES = 256  # enough for a fast product, few enough for the cache
_PART_CHANNELS = 64  # of the outputs, where the kernel is in parts


def suits(
    shape: Ints, windows: Windows, outputs: int, least_channels: int = _LEAST_CHANNELS
) -> bool:
    """Whether it pays for a convolution of images of this shape."""
    return (
        windows.sizes == (3, 3)
        and windows.strides == windows.dilation == (1, 1)
        and min(shape[-1], outputs) >= least_channels
        and min(windows.output(shape[1:-1])) >= _OUT
        and shape[0] * math.prod(_tile_counts(shape, windows)) >= _FEWEST_TILES
    )


def suits_kernel_gradient(images: jax.Array, windows: Windows, outputs: int) -> bool:
    """Whether it pays for the gradient of a convolution's kernel."""
    if CONVOLUTIONS_ARE_SLOW:
        least_channels = 64
    elif images.dtype == jnp.bfloat16:
        least_channels = 256  # products of bfloat16 are fast
    else:
        least_channels = _LEAST_CHANNELS
    return suits(images.shape, windows, outputs, least_channels)


def conv(
    images: jax.Array, kernel: jax.Array, windows: Windows, *, turned: bool = False
) -> jax.Array:
    """The convolution.

    Args:
      images: ``[B, H, W, in]``.
      kernel: ``[3, 3, in, out]``.
      windows: the geometry.
      turned: turn the kernel round, which is ``[3, 3, out, in]`` then, as for the gradient of
        another convolution's images.
    """
    images, kernel = lax.optimization_barrier((images, kernel))
    basis = _OF_KERNEL[:, ::-1] if turned else _OF_KERNEL
    height, width = windows.output(images.shape[1:-1])

    def transformed(kernel: jax.Array) -> jax.Array:
        return _applied(basis, kernel).reshape(_IN * _IN, *kernel.shape[2:])

    def output(tiles: jax.Array, counts: Ints, of_kernel: jax.Array) -> jax.Array:
        # [36, tiles, in] times [36, in, out], or [36, out, in].
        channels = 2 if turned else 1
        products = lax.dot_general(tiles, of_kernel, (((2,), (channels,)), ((0,), (0,))))
        pixels = _applied(_OF_OUTPUT, products).reshape(_OUT, _OUT, *counts, -1)
        batch, down, across = counts
        pixels = pixels.transpose(2, 3, 0, 4, 1, 5).reshape(batch, down * _OUT, across * _OUT, -1)
        return pixels[:, :height, :width].astype(images.dtype)

    size = _part_size(images, windows)
    if turned and size == len(images):
        # Few tiles, so many channels: the large thing then is the kernel, four times as large as
        # before, and without barriers (jaxlib 0.10) XLA makes those of all layers at the start.
        # In slices a gradient takes as long, but a forward pass a tenth longer.
        tiles, counts = _image_tiles(images, windows)
        return map_slices(
            lambda part: output(tiles, counts, transformed(part)), kernel, _PART_CHANNELS
        )
    of_kernel = transformed(kernel)
    return map_parts(lambda part: output(*_image_tiles(part, windows), of_kernel), images, size)


def kernel_gradient(images: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """Gradient for the kernel, ``[3, 3, in, out]``."""

    def part(images: jax.Array, gradient: jax.Array) -> jax.Array:
        tiles, _ = _image_tiles(images, windows)
        # [36, tiles, in] and [36, tiles, out], summed over the tiles.
        return lax.dot_general(tiles, _gradient_tiles(gradient), (((1,), (1,)), ((0,), (0,))))

    total = sum_parts(part, images, gradient, _part_size(images, windows))
    back = _applied(_OF_KERNEL.T, total).reshape(3, 3, *total.shape[1:])
    return back.astype(gradient.dtype)


def _part_size(images: jax.Array, windows: Windows) -> int:
    each = math.prod(_tile_counts(images.shape, windows))
    return part_size(len(images), -(-_PART_TILES // each))


def _tile_counts(shape: Ints, windows: Windows) -> Ints:
    return tuple(-(-n // _OUT) for n in windows.output(shape[1:-1]))


def _image_tiles(images: jax.Array, windows: Windows) -> tuple[jax.Array, Ints]:
    """``[36, tiles, in]``, and how many tiles there are: (examples, down, across)."""
    counts = _tile_counts(images.shape, windows)
    edges = [
        (low, count * _OUT + 2 - low - n)
        for n, count, (low, _) in zip(images.shape[1:-1], counts, windows.pairs, strict=True)
    ]
    padded = jnp.pad(_precise(images), ((0, 0), *edges, (0, 0)))
    down, across = counts
    taps = [
        padded[:, i : i + (down - 1) * _OUT + 1 : _OUT, j : j + (across - 1) * _OUT + 1 : _OUT]
        for i, j in itertools.product(range(_IN), repeat=2)
    ]
    tiles = _applied(_OF_IMAGES, jnp.stack(taps))
    return tiles.reshape(_IN * _IN, -1, images.shape[-1]), (len(images), down, across)


def _gradient_tiles(gradient: jax.Array) -> jax.Array:
    """``[36, tiles, out]``."""
    batch, height, width, channels = gradient.shape
    down, across = -(-height // _OUT), -(-width // _OUT)
    edges = ((0, 0), (0, down * _OUT - height), (0, across * _OUT - width), (0, 0))
    padded = jnp.pad(_precise(gradient), edges)
    pixels = padded.reshape(batch, down, _OUT, across, _OUT, channels).transpose(2, 4, 0, 1, 3, 5)
    return _applied(_OF_OUTPUT.T, pixels).reshape(_IN * _IN, -1, channels)


def _applied(matrix: np.ndarray, x: jax.Array) -> jax.Array:
    """A matrix along both dimensions of the squares that come first in ``x``: ``[squares, rest]``.

    As one product, because sums of the parts compile into a large program.
    """
    both = np.kron(matrix, matrix)
    x = _precise(x)
    return jnp.asarray(both, x.dtype) @ x.reshape(both.shape[1], -1)


def _precise(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
