"""XLA's convolution in the forms that XLA computes fast (SLOW CONVOLUTIONS in `versions`)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops import xla
from jaxcnn.ops.cpu.versions import CONVOLUTIONS_ARE_SLOW
from jaxcnn.ops.windows import Windows

# Minimum numbers of channels and rows for which an extra row is worth its cost.
_MIN_SIZES_FOR_GRADIENT = 8, 1
_MIN_SIZES = 64, 32
_YNNPACK_CHANNELS = 128  # convolutions with fewer channels go to YNNPACK
_MAX_OUTPUTS = 32  # up to this many, an odd number of channels takes three times as long


def conv(
    images: jax.Array, kernel: jax.Array, windows: Windows, *, for_gradient: bool
) -> jax.Array:
    """Convolve; on jaxlib 0.10, avoid YNNPACK and odd numbers of channels.

    YNNPACK rejects an output with more rows than the images have, so one extra row is computed
    where possible, then dropped. Otherwise, an odd number of channels (as in color images) is
    padded with zeros.

    Args:
      images: ``[B, *spatial, in]``.
      kernel: ``[*window, in, out]``.
      windows: the geometry.
      for_gradient: True if the output is kept for a gradient or is itself a gradient. Otherwise,
        YNNPACK may fuse the pooling that follows, which is fast for small images.
    """
    channels, outputs = kernel.shape[-2:]
    if not CONVOLUTIONS_ARE_SLOW or images.dtype != jnp.float32 or images.ndim != 4:
        return xla.conv(images, kernel, windows)
    rows = windows.output(images.shape[1:-1])[0]
    min_channels, min_rows = _MIN_SIZES_FOR_GRADIENT if for_gradient else _MIN_SIZES
    is_worth_it = min_channels <= channels < _YNNPACK_CHANNELS and rows >= min_rows
    if is_worth_it and windows.strides[0] == 1 and rows >= images.shape[1]:
        (low, high), columns = windows.pairs
        more = windows._replace(pairs=((low, high + 1), columns))
        return xla.conv(images, kernel, more)[:, :rows]
    if channels % 2 and channels > 1 and outputs <= _MAX_OUTPUTS:
        zero, same = np.zeros((), images.dtype), (0, 0, 0)
        images = lax.pad(images, zero, [same, same, same, (0, 1, 0)])
        kernel = lax.pad(kernel, zero, [same, same, (0, 1, 0), same])
    return xla.conv(images, kernel, windows)
