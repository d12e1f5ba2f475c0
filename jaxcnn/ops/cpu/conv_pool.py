"""A convolution of one channel and the max pooling behind it, in one pass over the images.

XLA fuses nothing into a convolution. A sum of shifted images times the kernel's values it does fuse
with the pooling, so what the convolution gives, four times as large as what is left of it, never
has to be stored.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops.cpu.pool import largest_and_first
from jaxcnn.ops.cpu.taps import take
from jaxcnn.ops.cpu.versions import BARRIERS_HOLD
from jaxcnn.ops.windows import Ints, Windows

_FEWEST_OUTPUTS = 16  # which are computed side by side
_MOST_PRODUCTS = 128  # of a window of the pooling; they are unrolled


def suits(images: jax.Array, windows: Windows, outputs: Ints, tiles: Windows) -> bool:
    """Whether it is faster than the one after the other; of outputs of a shape."""
    sizes = outputs[1:-1]
    return (
        BARRIERS_HOLD
        and images.dtype in (jnp.float32, jnp.float64)
        and images.shape[-1] == 1
        and outputs[-1] >= _FEWEST_OUTPUTS
        and math.prod(windows.sizes) * math.prod(tiles.sizes) <= _MOST_PRODUCTS
        and tiles.sizes == tiles.strides
        and tiles.padded(sizes) == sizes
    )


def conv(images: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    """The convolution of images ``[B, *spatial, 1]``, as it can be fused with what uses it."""
    weights = kernel.reshape(-1, *(1,) * (images.ndim - 1), kernel.shape[-1])
    values = take(images, windows, filler=0)
    return functools.reduce(
        jnp.add, (value * weight for value, weight in zip(values, weights, strict=True))
    )


def max_pool(images: jax.Array, windows: Windows) -> tuple[jax.Array, jax.Array]:
    """`largest_and_first` in one pass."""
    best, place = largest_and_first(images, windows)
    # As one number, because XLA goes through all of it again for a second result.
    both = lax.optimization_barrier(lax.complex(best, place.astype(best.dtype)))
    return both.real, both.imag.astype(jnp.int8)
