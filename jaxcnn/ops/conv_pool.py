"""A convolution with ReLU and max pooling behind it, as many a network begins."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops import xla
from jaxcnn.ops.conv import conv, conv_backward, geometry
from jaxcnn.ops.cpu import conv_pool as cpu
from jaxcnn.ops.cpu.pool import put_back_tiles
from jaxcnn.ops.dense import add_bias
from jaxcnn.ops.implementation import Implementation, is_own
from jaxcnn.ops.pool import geometry as pool_geometry
from jaxcnn.ops.pool import max_pool, max_pool_xla
from jaxcnn.ops.windows import Windows
from jaxcnn.shapes import IntOrInts, Padding


def conv_relu_max_pool(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    pool: IntOrInts,
    pool_padding: Padding = "VALID",
    strides: IntOrInts = 1,
    padding: Padding = "SAME",
    dilation: IntOrInts = 1,
    groups: int = 1,
    implementation: Implementation = "auto",
) -> jax.Array:
    """``max_pool(relu(conv(images, kernel, bias)), pool)``, in training often in less time.

    On a CPU, with jaxlib 0.12, the convolution of grey images is computed in one pass with the
    pooling.

    Args:
      images: ``[B, *spatial, in]``, floating point.
      kernel: as in `conv`.
      bias: as in `conv`.
      pool: window of the pooling, whose windows tile the convolution's output.
      pool_padding: as ``padding`` in `max_pool`.
      strides: of the convolution, as in `conv`.
      padding: of the convolution, as in `conv`.
      dilation: as in `conv`.
      groups: as in `conv`.
      implementation: as in `conv`.

    Returns:
      ``[B, *output, out]`` in the dtype of ``images``.

    Raises:
      ValueError: as `conv` and `max_pool`.

    Example:
      >>> images, kernel = jnp.ones((2, 28, 28, 1)), jnp.ones((5, 5, 1, 32))
      >>> conv_relu_max_pool(images, kernel, pool=2).shape
      (2, 14, 14, 32)

    Reference:
      `conv` and `max_pool`. ReLU and maximum change places without a change of value or gradient.
    """
    windows, groups = geometry(images, kernel, strides, padding, dilation, groups)
    outputs = jax.ShapeDtypeStruct(
        (len(images), *windows.output(images.shape[1:-1]), kernel.shape[-1]), images.dtype
    )
    tiles = pool_geometry(outputs, pool, None, pool_padding)
    if is_own(implementation) and groups == 1 and cpu.suits(images, windows, outputs.shape, tiles):
        output = _conv(images, kernel, windows)
        return jax.nn.relu(_max_pool(output if bias is None else add_bias(output, bias), tiles))
    output = conv(
        images,
        kernel,
        bias,
        strides=strides,
        padding=padding,
        dilation=dilation,
        groups=groups,
        implementation=implementation,
    )
    return max_pool(jax.nn.relu(output), pool, padding=pool_padding, implementation=implementation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(images: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    return xla.conv(images, kernel, windows)


def _conv_forward(
    images: jax.Array, kernel: jax.Array, windows: Windows
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    own = functools.partial(cpu.conv, windows=windows)
    default = functools.partial(xla.conv, windows=windows)
    output = lax.platform_dependent(images, kernel, cpu=own, default=default)
    return output, (images, kernel)


def _conv_backward(
    windows: Windows, residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return conv_backward(windows, 1, residuals, gradient)


_conv.defvjp(_conv_forward, _conv_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(images: jax.Array, windows: Windows) -> jax.Array:
    return max_pool_xla(images, windows)


def _max_pool_forward(
    images: jax.Array, windows: Windows
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    def plain(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        output = max_pool_xla(images, windows)
        return output, jnp.zeros(output.shape, jnp.int8)  # nobody asks where they were

    own = functools.partial(cpu.max_pool, windows=windows)
    output, place = lax.platform_dependent(images, cpu=own, default=plain)
    # Each platform uses one of the two, so the compiler drops the other.
    return output, (images, place)


def _max_pool_backward(
    windows: Windows, residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array]:
    def plain(images: jax.Array, place: jax.Array, gradient: jax.Array) -> jax.Array:
        return jax.vjp(lambda images: max_pool_xla(images, windows), images)[1](gradient)[0]

    def own(images: jax.Array, place: jax.Array, gradient: jax.Array) -> jax.Array:
        return put_back_tiles(gradient, windows, images.shape[1:-1], place)

    return (lax.platform_dependent(*residuals, gradient, cpu=own, default=plain),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)
