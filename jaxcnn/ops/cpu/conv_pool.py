"""A convolution of one channel that XLA fuses with the max pooling after it.

XLA does not fuse pooling into a convolution, but it does fuse it into a sum of shifted images times
the kernel's values, so the full-size output, four times as large as the pooled one, is never
stored.
"""

import functools

import jax
import jax.numpy as jnp

from jaxcnn.ops.cpu.taps import take
from jaxcnn.ops.cpu.versions import BARRIERS_HOLD
from jaxcnn.ops.windows import Ints, Windows

_MIN_OUTPUTS = 16  # channels, computed side by side
_MAX_PRODUCTS = 128  # per pooled value; they are unrolled


def suits(images: jax.Array, windows: Windows, outputs: Ints, tiles: Windows) -> bool:
    """Return whether the fused pass is faster for a convolution output of this shape."""
    sizes = outputs[1:-1]
    return (
        BARRIERS_HOLD
        and images.dtype in (jnp.float32, jnp.float64)
        and images.shape[-1] == 1
        and outputs[-1] >= _MIN_OUTPUTS
        and windows.taps * tiles.taps <= _MAX_PRODUCTS
        and tiles.sizes == tiles.strides
        and tiles.padded(sizes) == sizes
    )


def conv(images: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    """Convolve images ``[B, *spatial, 1]`` in a form that XLA fuses with what uses it."""
    weights = kernel.reshape(-1, *(1,) * (images.ndim - 1), kernel.shape[-1])
    values = take(images, windows, filler=0)
    return functools.reduce(
        jnp.add, (value * weight for value, weight in zip(values, weights, strict=True))
    )
