"""A convolution of one-channel images that XLA fuses with the max pooling that follows.

XLA does not fuse pooling with a convolution, but it does fuse pooling with a sum of shifted images
times kernel values. The full-size output, four times as large as the pooled one for 2x2 pooling, is
therefore never stored.
"""

import functools

import jax
import jax.numpy as jnp

from jaxcnn.ops.cpu.taps import take
from jaxcnn.ops.cpu.versions import BARRIERS_HOLD
from jaxcnn.ops.windows import Ints, Windows

_MIN_OUTPUTS = 16  # output channels, computed side by side
_MAX_PRODUCTS = 128  # unrolled products per pooled value


def suits(images: jax.Array, windows: Windows, outputs: Ints, tiles: Windows) -> bool:
    """Return whether the fused pass is faster for a convolution output with this shape."""
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
    """Convolve images ``[B, *spatial, 1]`` in a form that XLA fuses with its consumers."""
    weights = kernel.reshape(-1, *(1,) * (images.ndim - 1), kernel.shape[-1])
    values = take(images, windows, filler=0)
    return functools.reduce(
        jnp.add, (value * weight for value, weight in zip(values, weights, strict=True))
    )
