"""3x3 convolutions with a quarter of the multiplications.

Tiles of 6x6 pixels and the kernel are taken to a basis in which 4x4 outputs need 36 products for
each pair of channels, not 144. A channel's products are then 36 matrix products. The rounding error
is about ten times that of the direct sum: 1e-5 of the largest output in float32.

Reference:
  Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", F(4x4, 3x3).
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops.cpu.parts import map_parts, part_size, sum_parts
from jaxcnn.ops.cpu.positions import Ints, Windows

_OUT, _IN = 4, 6  # pixels of a tile along each side
_OF_IMAGES = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_OF_KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / [
    [24]
]
_OF_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)
_LEAST_CHANNELS = 64  # with fewer the way to the other basis costs what it saves
_LEAST_TILES = 256  # of a part: enough for a fast product, few enough for the cache


def suits(shape: Ints, windows: Windows, outputs: int) -> bool:
    """Whether it pays for a convolution of images of this shape."""
    return (
        windows.sizes == (3, 3)
        and windows.strides == windows.dilation == (1, 1)
        and min(shape[-1], outputs) >= _LEAST_CHANNELS
        and min(windows.output(shape[1:-1])) >= _OUT
    )


def conv(images: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    """The convolution."""
    of_kernel = _square(_OF_KERNEL, kernel.dtype) @ _precise(kernel).reshape(9, -1)
    of_kernel = of_kernel.reshape(_IN * _IN, *kernel.shape[2:])
    height, width = windows.output(images.shape[1:-1])

    def part(images: jax.Array) -> jax.Array:
        tiles, counts = _image_tiles(images, windows)
        # [36, tiles, in] times [36, in, out].
        products = lax.dot_general(tiles, of_kernel, (((2,), (1,)), ((0,), (0,))))
        products = products.reshape(_IN, _IN, *counts, -1)
        rows = _combined(_OF_OUTPUT, list(products))
        pixels = jnp.stack(
            [jnp.stack(_combined(_OF_OUTPUT, list(row)), 3) for row in rows], 2
        )  # [B, tiles down, 4, tiles across, 4, out]
        batch, down, across = counts
        output = pixels.reshape(batch, down * _OUT, across * _OUT, -1)
        return output[:, :height, :width].astype(images.dtype)

    return map_parts(part, images, _part_size(images, windows))


def kernel_gradient(images: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """Gradient for the kernel, ``[3, 3, in, out]``."""

    def part(images: jax.Array, gradient: jax.Array) -> jax.Array:
        tiles, _ = _image_tiles(images, windows)
        # [36, tiles, in] and [36, tiles, out], summed over the tiles.
        return lax.dot_general(tiles, _gradient_tiles(gradient), (((1,), (1,)), ((0,), (0,))))

    total = sum_parts(part, images, gradient, _part_size(images, windows))
    back = _square(_OF_KERNEL, gradient.dtype).T @ _precise(total).reshape(_IN * _IN, -1)
    return back.reshape(3, 3, *total.shape[1:]).astype(gradient.dtype)


def _part_size(images: jax.Array, windows: Windows) -> int:
    down, across = (-(-n // _OUT) for n in windows.output(images.shape[1:-1]))
    return part_size(len(images), -(-_LEAST_TILES // (down * across)))


def _image_tiles(images: jax.Array, windows: Windows) -> tuple[jax.Array, Ints]:
    """``[36, tiles, in]``, and how many tiles there are: (examples, down, across)."""
    counts = [-(-n // _OUT) for n in windows.output(images.shape[1:-1])]
    edges = [
        (low, count * _OUT + 2 - low - n)
        for n, count, (low, _) in zip(images.shape[1:-1], counts, windows.pairs, strict=True)
    ]
    padded = jnp.pad(_precise(images), ((0, 0), *edges, (0, 0)))
    down, across = counts
    rows = [padded[:, i : i + (down - 1) * _OUT + 1 : _OUT] for i in range(_IN)]
    tiles = []
    for row in _combined(_OF_IMAGES, rows):
        columns = [row[:, :, j : j + (across - 1) * _OUT + 1 : _OUT] for j in range(_IN)]
        tiles += _combined(_OF_IMAGES, columns)
    stacked = jnp.stack(tiles).reshape(_IN * _IN, -1, images.shape[-1])
    return stacked, (len(images), down, across)


def _gradient_tiles(gradient: jax.Array) -> jax.Array:
    """``[36, tiles, out]``."""
    batch, height, width, channels = gradient.shape
    down, across = -(-height // _OUT), -(-width // _OUT)
    edges = ((0, 0), (0, down * _OUT - height), (0, across * _OUT - width), (0, 0))
    padded = jnp.pad(_precise(gradient), edges)
    padded = padded.reshape(batch, down, _OUT, across, _OUT, channels)
    back = np.transpose(_OF_OUTPUT).tolist()
    tiles = []
    for row in _combined(back, [padded[:, :, i] for i in range(_OUT)]):
        tiles += _combined(back, [row[:, :, :, j] for j in range(_OUT)])
    return jnp.stack(tiles).reshape(_IN * _IN, -1, channels)


def _combined(matrix: Sequence[Sequence[float]], parts: Sequence[jax.Array]) -> list[jax.Array]:
    """Each row of a matrix as weights of the parts; XLA drops the products with one and zero."""
    return [
        functools.reduce(
            jnp.add,
            (part * weight for weight, part in zip(row, parts, strict=True) if weight),
        )
        for row in matrix
    ]


def _square(matrix: np.ndarray, dtype: jnp.dtype) -> jax.Array:
    """What the matrix does along two dimensions at once."""
    return jnp.asarray(np.kron(matrix, matrix), jnp.promote_types(dtype, jnp.float32))


def _precise(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
