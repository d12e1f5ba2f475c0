"""XLA's own convolution, in a shape that it computes fast."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops import xla
from jaxcnn.ops.cpu.versions import CONVOLUTIONS_ARE_SLOW
from jaxcnn.ops.windows import Windows

# Channels of the images, and rows, from which on one more row is worth its cost.
_FEWEST_FOR_GRADIENT = 8, 1
_FEWEST = 64, 32
_TOO_MANY = 128  # channels: YNNPACK does not get them
_MOST_OUTPUTS = 32  # for which an odd number of channels takes three times as long


def conv(
    images: jax.Array, kernel: jax.Array, windows: Windows, *, for_gradient: bool
) -> jax.Array:
    """The convolution.

    YNNPACK, where it is slow, refuses an output with more rows than the images have: so there is
    one row more than is asked for where that can be. Elsewhere an odd number of channels, as of
    colour images, gets one of zeros.

    Args:
      images: ``[B, *spatial, in]``.
      kernel: ``[*window, in, out]``.
      windows: the geometry.
      for_gradient: whether the output is kept for a gradient, or is one. Else YNNPACK may fuse the
        pooling behind it, and so computes small images fast.
    """
    channels, outputs = kernel.shape[-2:]
    if not CONVOLUTIONS_ARE_SLOW or images.dtype != jnp.float32 or images.ndim != 4:
        return xla.conv(images, kernel, windows)
    rows = windows.output(images.shape[1:-1])[0]
    fewest_channels, fewest_rows = _FEWEST_FOR_GRADIENT if for_gradient else _FEWEST
    is_worth_it = fewest_channels <= channels < _TOO_MANY and rows >= fewest_rows
    if is_worth_it and windows.strides[0] == 1 and rows >= images.shape[1]:
        (low, high), columns = windows.pairs
        more = windows._replace(pairs=((low, high + 1), columns))
        return xla.conv(images, kernel, more)[:, :rows]
    if channels % 2 and channels > 1 and outputs <= _MOST_OUTPUTS:
        zero, same = np.zeros((), images.dtype), (0, 0, 0)
        images = lax.pad(images, zero, [same, same, same, (0, 1, 0)])
        kernel = lax.pad(kernel, zero, [same, same, (0, 1, 0), same])
    return xla.conv(images, kernel, windows)
