"""Convolutions over 1, 2 or 3 spatial dimensions.

Images are ``[B, *spatial, C]``, kernels ``[*spatial, in / groups, out]``. As is standard in deep
learning, "convolution" slides the kernel without flipping it (mathematically: correlation).
"""

import functools
from collections.abc import Callable, Sequence
from types import ModuleType

import jax
from jax import lax

from jaxcnn import shapes
from jaxcnn.ops import xla
from jaxcnn.ops.cpu import conv as cpu
from jaxcnn.ops.cpu import conv_pool as cpu_fused
from jaxcnn.ops.dense import add_bias
from jaxcnn.ops.implementation import Implementation, is_tuned
from jaxcnn.ops.windows import Windows
from jaxcnn.shapes import IntOrInts, Padding


def conv(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    strides: IntOrInts = 1,
    padding: Padding = "SAME",
    dilation: IntOrInts = 1,
    groups: int = 1,
    implementation: Implementation = "auto",
) -> jax.Array:
    """Convolve: at each position, take the dot product of the kernel with the pixels under it.

    ``output[b, y, x, o] = bias[o] + sum_{i, j, c} kernel[i, j, c, o] * images[b, y*s + i*d - low,
    x*s + j*d - low, c]``, with zeros outside the image (in two dimensions, for stride ``s`` and
    dilation ``d``).

    Args:
      images: ``[B, *spatial, in]``, floating point.
      kernel: ``[*spatial, in / groups, out]``, with the dtype of ``images``.
      bias: ``[out]`` or None.
      strides: step between positions, one integer or one per dimension.
      padding: ``"SAME"`` (output ``ceil(size / stride)``), ``"VALID"``, an integer, or one
        ``(low, high)`` pair per dimension.
      dilation: distance between the kernel's taps.
      groups: number of groups that input and output channels are split into; each group is
        convolved separately (Flax's ``feature_group_count``).
      implementation: ``"auto"`` uses faster formulations on CPU; ``"xla"`` is plain ``jax.lax``
        everywhere and supports forward mode (``jvp``).

    Returns:
      An array ``[B, *output, out]`` with the dtype of ``images``. On CPU, 3x3 kernels with at
      least 128 channels use Winograd's method, whose rounding error is about ten times that of the
      direct sum: 1e-5 of the largest output in float32.

    Raises:
      ValueError: if the ranks, channels, dtypes or geometry are incompatible.

    Example:
      Blur with the mean of each 3x3 neighborhood:

      >>> import jax.numpy as jnp
      >>> image = jnp.arange(9.0).reshape(1, 3, 3, 1)
      >>> conv(image, jnp.full((3, 3, 1, 1), 1 / 9), padding="VALID").item()
      4.0

    Reference:
      ``jax.lax.conv_general_dilated``; ``torch.nn.functional.conv2d`` with the axes transposed.
    """
    windows, groups = conv_windows(images, kernel, strides, padding, dilation, groups)
    if is_tuned(implementation):
        output = tuned_conv(images, kernel, windows, groups, False)
    else:
        output = xla.conv(images, kernel, windows, groups=groups)
    return output if bias is None else add_bias(output, bias)


def conv_windows(
    images: jax.Array,
    kernel: jax.Array,
    strides: IntOrInts,
    padding: Padding,
    dilation: IntOrInts,
    groups: int,
) -> tuple[Windows, int]:
    """Check the operands of `conv`; return its geometry and the number of groups."""
    rank, groups = _check_operands(images, kernel, groups)
    strides = shapes.ints(strides, rank, "strides")
    dilation = shapes.ints(dilation, rank, "dilation")
    extents = shapes.dilated(kernel.shape[:-2], dilation)
    pairs = shapes.pairs(padding, images.shape[1:-1], extents, strides)
    return Windows(kernel.shape[:-2], strides, pairs, dilation), groups


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def tuned_conv(
    images: jax.Array, kernel: jax.Array, windows: Windows, groups: int, fuse_pool: bool
) -> jax.Array:
    """Convolve with formulations tuned for the platform, for the forward pass and the gradient.

    Args:
      images: ``[B, *spatial, in]``.
      kernel: ``[*spatial, in / groups, out]``.
      windows: the geometry.
      groups: number of channel groups.
      fuse_pool: on CPU, when differentiated, use a form that XLA fuses with the pooling that
        follows; see `jaxcnn.ops.cpu.conv_pool.suits`.
    """
    if fuse_pool:
        return xla.conv(images, kernel, windows, groups=groups)
    return _conv_of_platform(images, kernel, windows, groups, for_gradient=False)


def _conv_of_platform(
    images: jax.Array, kernel: jax.Array, windows: Windows, groups: int, *, for_gradient: bool
) -> jax.Array:
    on_cpu = functools.partial(cpu.conv, windows=windows, groups=groups, for_gradient=for_gradient)
    default = functools.partial(xla.conv, windows=windows, groups=groups)
    return lax.platform_dependent(images, kernel, cpu=on_cpu, default=default)


def _conv_forward(
    images: jax.Array, kernel: jax.Array, windows: Windows, groups: int, fuse_pool: bool
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    if fuse_pool:
        on_cpu = functools.partial(cpu_fused.conv, windows=windows)
        default = functools.partial(xla.conv, windows=windows)
        output = lax.platform_dependent(images, kernel, cpu=on_cpu, default=default)
    else:
        output = _conv_of_platform(images, kernel, windows, groups, for_gradient=True)
    return output, (images, kernel)


def _conv_backward(
    windows: Windows,
    groups: int,
    fuse_pool: bool,
    residuals: tuple[jax.Array, jax.Array],
    gradient: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    images, kernel = residuals

    def of(module: ModuleType, name: str, shape: tuple[int, ...]) -> Callable[..., jax.Array]:
        function = getattr(module, name)
        return functools.partial(function, windows=windows, groups=groups, shape=shape)

    # Choose separately for each gradient, so that the compiler can drop an unused one.
    of_images = lax.platform_dependent(
        gradient,
        kernel,
        cpu=of(cpu, "input_gradient", images.shape),
        default=of(xla, "input_gradient", images.shape),
    )
    of_kernel = lax.platform_dependent(
        images,
        gradient,
        cpu=of(cpu, "kernel_gradient", kernel.shape),
        default=of(xla, "kernel_gradient", kernel.shape),
    )
    return of_images, of_kernel


tuned_conv.defvjp(_conv_forward, _conv_backward)


def depthwise_conv(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    strides: IntOrInts = 1,
    padding: Padding = "SAME",
    dilation: IntOrInts = 1,
    implementation: Implementation = "auto",
) -> jax.Array:
    """Convolve each channel separately, with its own kernels.

    Args:
      images: ``[B, *spatial, C]``, floating point.
      kernel: ``[*spatial, 1, C * multiplier]``; input channel ``c`` produces output channels
        ``c * multiplier`` to ``(c + 1) * multiplier - 1``.
      bias: ``[C * multiplier]`` or None.
      strides: step between positions, one integer or one per dimension.
      padding: ``"SAME"``, ``"VALID"``, an integer, or one ``(low, high)`` pair per dimension.
      dilation: distance between the kernel's taps.
      implementation: ``"auto"`` uses faster formulations on CPU; ``"xla"`` is plain ``jax.lax``.

    Returns:
      An array ``[B, *output, C * multiplier]`` with the dtype of ``images``.

    Raises:
      ValueError: if the ranks, channels, dtypes or geometry are incompatible.

    Example:
      >>> import jax.numpy as jnp
      >>> image = jnp.array([1.0, 10.0]).reshape(1, 1, 1, 2)
      >>> depthwise_conv(image, jnp.array([2.0, 3.0]).reshape(1, 1, 1, 2)).ravel().tolist()
      [2.0, 30.0]

    Reference:
      Sifre 2014, "Rigid-motion scattering for image classification", ch. 6.
    """
    shapes.spatial_rank(images)
    return conv(
        images,
        kernel,
        bias,
        strides=strides,
        padding=padding,
        dilation=dilation,
        groups=images.shape[-1],
        implementation=implementation,
    )


def conv_transpose(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    strides: IntOrInts = 1,
    padding: Padding = "SAME",
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> jax.Array:
    """Apply a transposed convolution: the adjoint of `conv`, used for upsampling.

    Each input pixel adds a multiple of the kernel to the output; the kernels of neighboring pixels
    are ``strides`` apart. ``strides``, ``padding`` and ``dilation`` describe the `conv` being
    transposed, so an input of size ``n`` produces an output of size ``n * s`` for ``"SAME"``,
    ``(n - 1) * s + max(window, s)`` for ``"VALID"``, and ``(n - 1) * s + window - low - high`` for
    explicit padding.

    Args:
      images: ``[B, *spatial, in]``, floating point.
      kernel: ``[*spatial, in / groups, out]``, with the dtype of ``images``.
      bias: ``[out]`` or None.
      strides: distance in the output between the contributions of neighboring input pixels.
      padding: as in `conv`; explicit padding is cropped from the output.
      dilation: distance between the kernel's taps.
      groups: number of channel groups that are convolved separately.

    Returns:
      An array ``[B, *output, out]`` with the dtype of ``images``.

    Raises:
      ValueError: if the ranks, channels, dtypes or geometry are incompatible.

    Example:
      >>> import jax.numpy as jnp
      >>> signal = jnp.array([1.0, 2.0]).reshape(1, 2, 1)
      >>> ramp = jnp.array([3.0, 4.0]).reshape(2, 1, 1)
      >>> conv_transpose(signal, ramp, strides=2).ravel().tolist()
      [3.0, 4.0, 6.0, 8.0]

    Reference:
      Zeiler et al. 2010, "Deconvolutional networks". Equal to Keras's ``Conv2DTranspose`` with
      the kernel's last two axes swapped, and to ``torch.nn.functional.conv_transpose2d``.
    """
    rank, groups = _check_operands(images, kernel, groups)
    strides = shapes.ints(strides, rank, "strides")
    dilation = shapes.ints(dilation, rank, "dilation")
    window = shapes.dilated(kernel.shape[:-2], dilation)
    pairs = _transposed_padding(padding, images.shape[1:-1], window, strides)
    windows = Windows(
        kernel.shape[:-2],
        (1,) * rank,
        tuple((max(low, 0), max(high, 0)) for low, high in pairs),
        dilation,
    )
    flipped = lax.rev(kernel, tuple(range(rank)))
    output = xla.conv(images, flipped, windows, groups=groups, spread=strides)
    # Crop separately, not by negative padding (NEGATIVE PADDING in `jaxcnn.ops.cpu.versions`).
    sizes = output.shape[1:-1]
    kept = [
        slice(max(-low, 0), size - max(-high, 0))
        for (low, high), size in zip(pairs, sizes, strict=True)
    ]
    output = output[(slice(None), *kept)]
    return output if bias is None else add_bias(output, bias)


def _check_operands(images: jax.Array, kernel: jax.Array, groups: int) -> tuple[int, int]:
    rank = shapes.spatial_rank(images)
    if kernel.ndim != rank + 2 or 0 in kernel.shape:
        raise ValueError(
            f"kernel must be [*spatial, in / groups, out] with {rank} spatial dimensions and no "
            f"empty dimension for images of shape {images.shape}, got shape {kernel.shape}"
        )
    shapes.check_same_dtype(images, kernel, "images", "kernel")
    (groups,) = shapes.ints(groups, 1, "groups")
    channels, features = images.shape[-1], kernel.shape[-1]
    if channels % groups or features % groups:
        raise ValueError(
            f"groups must divide the number of channels of images ({channels}) and the number of "
            f"output channels of kernel ({features}), got {groups}"
        )
    if kernel.shape[-2] != channels // groups:
        raise ValueError(
            f"kernel must have {channels} / {groups} = {channels // groups} input channels, got "
            f"shape {kernel.shape} for images of shape {images.shape}"
        )
    return rank, groups


def _transposed_padding(
    padding: Padding,
    sizes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
) -> list[tuple[int, int]]:
    """Return the stride-dilated input's padding for which a convolution is `conv`'s adjoint."""
    if padding == "SAME":
        # The forward SAME padding for an input of size n * s and an output of size n.
        lows = [max(w - s, 0) // 2 for w, s in zip(window, strides, strict=True)]
        return [(w - 1 - low, s - 1 + low) for w, s, low in zip(window, strides, lows, strict=True)]
    if padding == "VALID":
        # A stride larger than the window skips trailing pixels; the output must include them.
        return [(w - 1, max(w, s) - 1) for w, s in zip(window, strides, strict=True)]
    cropped = shapes.explicit_pairs(padding, len(sizes))
    for n, w, s, (low, high) in zip(sizes, window, strides, cropped, strict=True):
        if (n - 1) * s + w - low - high < 1:
            raise ValueError(
                f"padding must leave a nonempty output for images of size {tuple(sizes)} and a "
                f"window of {tuple(window)}, got {padding!r}"
            )
    return [(w - 1 - low, w - 1 - high) for w, (low, high) in zip(window, cropped, strict=True)]
