"""Building blocks shared by the networks: convolutions, output layers, and option checks."""

from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax

from jaxcnn import shapes
from jaxcnn.models.layers import Conv, Dense
from jaxcnn.shapes import Padding

fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv_before_norm(
    features: int,
    kernel_size: int,
    strides: int,
    dtype: Any,
    *,
    padding: Padding | None = None,
    use_bias: bool = False,
    name: str | None = None,
) -> Conv:
    """Return a convolution for use before normalization: He-normal, without a bias by default.

    The normalization would cancel a bias. The kernel's variance is ``2 / fan_out``.

    Args:
      features: number of output channels.
      kernel_size: size of the kernel, odd if ``padding`` is None.
      strides: step between output positions.
      dtype: dtype of the computation.
      padding: as in `Conv`; None means ``kernel_size // 2`` on each side.
      use_bias: whether to add a bias.
      name: module name.

    Example:
      >>> import jax.numpy as jnp
      >>> layer, images = conv_before_norm(8, 3, 2, jnp.float32), jnp.zeros((1, 9, 9, 4))
      >>> y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), images)
      >>> y.shape, list(variables["params"])
      ((1, 5, 5, 8), ['kernel'])

    Reference:
      He et al. 2015, "Delving deep into rectifiers"; torchvision's ``ResNet``.
    """
    return Conv(
        features,
        kernel_size,
        strides=strides,
        padding=kernel_size // 2 if padding is None else padding,
        use_bias=use_bias,
        kernel_init=fan_out_normal,
        dtype=dtype,
        name=name,
    )


def call_block(block: nn.Module, x: jax.Array, *, train: bool, remat: bool) -> jax.Array:
    """Return ``block(x, train=train)``, recomputed in the backward pass if ``remat`` is true.

    Rematerialization takes about a third more time, but keeps only the blocks' inputs in activation
    memory.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxcnn.models.layers import Dropout
      >>> call_block(Dropout(0.0).bind({}), jnp.ones(2), train=True, remat=True).tolist()
      [1.0, 1.0]

    Reference:
      Chen et al. 2016, "Training deep nets with sublinear memory cost".
    """

    def call(block: Any, x: jax.Array) -> jax.Array:
        return block(x, train=train)

    return (nn.remat(call) if remat else call)(block, x)


def output_layer(features: int, **options: Any) -> Dense | None:
    """Return the last dense layer of a network, or None for 0 classes.

    Args:
      features: number of classes; with 0, the network returns the input to its last layer.
      **options: attributes of `Dense`.

    Example:
      >>> output_layer(10).features, output_layer(0)
      (10, None)
    """
    return Dense(features, **options) if features else None


def outputs(layer: Dense | None, x: jax.Array) -> jax.Array:
    """Return the last layer's outputs in float32, regardless of the network's computation dtype.

    Args:
      layer: the result of `output_layer`; with None, the output is ``x`` itself.
      x: input to the last layer, ``[B, C]``.

    Example:
      >>> import jax.numpy as jnp
      >>> outputs(None, jnp.ones((2, 3), jnp.bfloat16)).dtype
      dtype('float32')
    """
    return shapes.at_least_float32(x if layer is None else layer(x))


def check_size(images: jax.Array, smallest: int) -> None:
    """Check that images are large enough for a network.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]``, or its height or width is less than
        ``smallest``.

    Example:
      >>> import jax.numpy as jnp
      >>> check_size(jnp.zeros((1, 32, 32, 3)), 32)
    """
    if images.ndim != 4 or min(images.shape[1:3]) < smallest:
        raise ValueError(
            f"images must be [B, H, W, C] with at least {smallest} x {smallest} pixels, "
            f"got shape {images.shape}"
        )


def check_choice(name: str, value: str, accepted: Iterable[str]) -> None:
    """Check that an option has one of the accepted values.

    Args:
      name: the option's name, for the message.
      value: the option's value.
      accepted: the accepted values.

    Raises:
      ValueError: if ``value`` is not in ``accepted``.

    Example:
      >>> check_choice("pool", "max", ("max", "avg"))
    """
    if value not in accepted:
        raise ValueError(f"{name} must be one of {', '.join(accepted)}, got {value!r}")
