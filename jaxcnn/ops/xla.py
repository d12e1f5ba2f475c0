"""Convolution and its two gradients in plain `jax.lax`, for checked operands in canonical form."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.ops.barriers import materialize
from jaxcnn.ops.windows import Ints, Windows

_LAYOUTS = {1: ("NHC", "HIO"), 2: ("NHWC", "HWIO"), 3: ("NDHWC", "DHWIO")}


def conv(
    images: jax.Array,
    kernel: jax.Array,
    windows: Windows,
    *,
    groups: int = 1,
    spread: Ints | None = None,
) -> jax.Array:
    """Convolve ``[B, *spatial, in]`` with ``[*window, in / groups, out]``.

    Args:
      images: the images.
      kernel: the kernel.
      windows: the geometry.
      groups: number of channel groups that are convolved separately.
      spread: dilation of the images, which inserts zeros between their pixels; None means 1.
    """
    rank = images.ndim - 2
    pairs = windows.pairs
    extents = [(k - 1) * d + 1 for k, d in zip(windows.sizes, windows.dilation, strict=True)]
    if any(low >= extent for (low, _), extent in zip(pairs, extents, strict=True)):
        # The gradient would have negative padding, so pad in a separate step (NEGATIVE PADDING).
        edges = [(low, high, 0) for low, high in pairs]
        images = lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
        pairs = ((0, 0),) * rank
    layout = _LAYOUTS[rank]
    output = lax.conv_general_dilated(
        images,
        kernel,
        window_strides=windows.strides,
        padding=pairs,
        lhs_dilation=spread,
        rhs_dilation=windows.dilation,
        dimension_numbers=(*layout, layout[0]),
        feature_group_count=groups,
    )
    # Keep consecutive half-precision convolutions apart (FUSED HALF CONVOLUTIONS).
    return materialize(output) if output.dtype.itemsize == 2 else output


def input_gradient(
    gradient: jax.Array, kernel: jax.Array, windows: Windows, groups: int, shape: Ints
) -> jax.Array:
    """Return the gradient of `conv` with respect to images of the given shape."""
    images = jax.ShapeDtypeStruct(shape, gradient.dtype)
    return jax.linear_transpose(
        lambda images: conv(images, kernel, windows, groups=groups), images
    )(gradient)[0]


def kernel_gradient(
    images: jax.Array, gradient: jax.Array, windows: Windows, groups: int, shape: Ints
) -> jax.Array:
    """Return the gradient of `conv` with respect to a kernel of the given shape."""
    kernel = jax.ShapeDtypeStruct(shape, gradient.dtype)
    return jax.linear_transpose(
        lambda kernel: conv(images, kernel, windows, groups=groups), kernel
    )(gradient)[0]
