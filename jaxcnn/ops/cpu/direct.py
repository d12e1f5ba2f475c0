"""XLA's own convolution, in a shape that it computes fast."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops import plain
from jaxcnn.ops.cpu.positions import Windows
from jaxcnn.ops.cpu.versions import CONVOLUTIONS_ARE_SLOW

_MOST_OUTPUTS = 32  # for which an odd number of channels takes three times as long


def conv(images: jax.Array, kernel: jax.Array, windows: Windows) -> jax.Array:
    """The convolution.

    An odd number of channels, as of colour images, gets one of zeros where YNNPACK is slow.
    """
    channels, outputs = kernel.shape[-2:]
    is_slow = CONVOLUTIONS_ARE_SLOW and channels % 2 and channels > 1 and outputs <= _MOST_OUTPUTS
    if is_slow and images.ndim == 4 and images.dtype == jnp.float32:
        zero, same = np.zeros((), images.dtype), (0, 0, 0)
        images = lax.pad(images, zero, [same, same, same, (0, 1, 0)])
        kernel = lax.pad(kernel, zero, [same, same, (0, 1, 0), same])
    return plain.conv(images, kernel, windows)
