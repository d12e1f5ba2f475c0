"""Depthwise convolution as sums of shifted products.

XLA runs it as a general convolution, without its fast matrix multiplication. Sums are accumulated
in at least float32. Images are ``[B, *spatial, C]``, kernels ``[*window, 1, C * multiplier]``.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops.cpu.taps import put_back, take
from jaxcnn.ops.windows import Ints, Windows
from jaxcnn.shapes import at_least_float32


def conv(images: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    """Return the convolution, ``[B, *output, C * multiplier]``."""
    values = take(_repeat_channels(images, kernel.shape[-1]), windows, filler=0)
    products = [
        at_least_float32(value) * at_least_float32(tap)
        for value, tap in zip(values, _taps(kernel), strict=True)
    ]
    return functools.reduce(jnp.add, products).astype(images.dtype)


def input_gradient(
    gradient: jax.Array, kernel: jax.Array, windows: Windows, shape: Ints
) -> jax.Array:
    """Return the gradient with respect to images of the given shape."""
    products = [at_least_float32(gradient) * at_least_float32(tap) for tap in _taps(kernel)]
    total = put_back(products, windows, shape[1:-1])
    multiplier = kernel.shape[-1] // shape[-1]
    if multiplier > 1:
        total = jnp.sum(total.reshape(*shape, multiplier), -1)
    return total.astype(gradient.dtype)


def kernel_gradient(
    images: jax.Array, gradient: jax.Array, windows: Windows, shape: Ints
) -> jax.Array:
    """Return the gradient with respect to a kernel: all taps in one pass over the images."""
    wide = at_least_float32(gradient)
    values = take(_repeat_channels(images, shape[-1]), windows, filler=0)
    products = [at_least_float32(value) * wide for value in values]
    zeros = [jnp.zeros((), wide.dtype)] * len(products)
    # Sum within each example first, so that XLA spreads the examples across cores.
    sums = lax.reduce(products, zeros, _add_each, range(1, gradient.ndim - 1))
    return jnp.stack([jnp.sum(part, 0) for part in sums]).reshape(shape).astype(gradient.dtype)


def _add_each(total: list[jax.Array], values: list[jax.Array]) -> list[jax.Array]:
    return [old + new for old, new in zip(total, values, strict=True)]


def _taps(kernel: jax.Array) -> list[jax.Array]:
    count = math.prod(kernel.shape[:-2])
    # Each tap has the rank of the images: [1, ..., 1, C].
    return list(kernel.reshape(count, *(1,) * (kernel.ndim - 1), kernel.shape[-1]))


def _repeat_channels(images: jax.Array, channels: int) -> jax.Array:
    """Repeat each channel once per kernel applied to it."""
    multiplier = channels // images.shape[-1]
    return images if multiplier == 1 else jnp.repeat(images, multiplier, -1)
