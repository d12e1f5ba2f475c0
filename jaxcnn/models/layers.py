"""Linen modules that own parameters and call `jaxcnn.ops`; nothing is computed here.

Kernels start Glorot-uniform, biases zero (Keras's defaults). Parameters are float32; ``dtype`` is
the type that a layer computes in, by default that of its input.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn import ops, shapes
from jaxcnn.shapes import IntOrInts, Padding

Initializer = Callable[..., jax.Array]

fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

_DROPOUTS = {"value": ops.dropout, "channel": ops.spatial_dropout, "example": ops.drop_path}


class Conv(nn.Module):
    """Convolution with a kernel (and bias) of its own; see `jaxcnn.ops.conv`.

    Attributes:
      features: number of output channels.
      kernel_size: extent of the kernel, one integer or one per spatial dimension.
      strides: step between positions.
      padding: ``"SAME"``, ``"VALID"``, an integer, or pairs.
      dilation: distance between the kernel's taps.
      groups: channel groups that do not see each other.
      use_bias: whether to add a bias.
      kernel_init: initialises the kernel.
      dtype: type to compute in, None for that of the input.

    Example:
      >>> layer = Conv(32, 5)
      >>> variables = layer.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
      >>> variables["params"]["kernel"].shape
      (5, 5, 1, 32)
    """

    features: int
    kernel_size: IntOrInts
    strides: IntOrInts = 1
    padding: Padding = "SAME"
    dilation: IntOrInts = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    dtype: Any = None

    def __call__(self, images: jax.Array) -> jax.Array:
        """``[B, *spatial, in]`` to ``[B, *output, features]``."""
        return ops.conv(*self._operands(images), **self._geometry())

    def relu_max_pool(
        self, images: jax.Array, pool: IntOrInts, *, padding: Padding = "VALID"
    ) -> jax.Array:
        """The same with ReLU and max pooling behind it; see `jaxcnn.ops.conv_relu_max_pool`."""
        operands = self._operands(images)
        return ops.conv_relu_max_pool(
            *operands, pool=pool, pool_padding=padding, **self._geometry()
        )

    @nn.compact
    def _operands(self, images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        rank = shapes.spatial_rank(images)
        kernel_size = shapes.ints(self.kernel_size, rank, "kernel_size")
        (groups,) = shapes.ints(self.groups, 1, "groups")
        if images.shape[-1] % groups:
            raise ValueError(
                f"groups must divide the channels of images ({images.shape[-1]}), got {groups}"
            )
        inputs = images.shape[-1] // groups
        kernel, bias = _kernel_and_bias(self, (*kernel_size, inputs, self.features))
        return _to_compute_dtype(self.dtype, images, kernel, bias)

    def _geometry(self) -> dict[str, Any]:
        return {
            "strides": self.strides,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }


class DepthwiseConv(nn.Module):
    """A convolution of each channel by itself; see `jaxcnn.ops.depthwise_conv`.

    Attributes:
      kernel_size: extent of the kernel.
      multiplier: output channels per input channel.
      strides: step between positions.
      padding: as in `Conv`.
      use_bias: whether to add a bias.
      kernel_init: initialises the kernel.
      dtype: type to compute in, None for that of the input.
    """

    kernel_size: IntOrInts
    multiplier: int = 1
    strides: IntOrInts = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """``[B, *spatial, C]`` to ``[B, *output, C * multiplier]``."""
        kernel_size = shapes.ints(self.kernel_size, shapes.spatial_rank(images), "kernel_size")
        (multiplier,) = shapes.ints(self.multiplier, 1, "multiplier")
        features = images.shape[-1] * multiplier
        kernel, bias = _kernel_and_bias(self, (*kernel_size, 1, features))
        images, kernel, bias = _to_compute_dtype(self.dtype, images, kernel, bias)
        return ops.depthwise_conv(images, kernel, bias, strides=self.strides, padding=self.padding)


class ConvTranspose(nn.Module):
    """Upsampling by a transposed convolution; see `jaxcnn.ops.conv_transpose`.

    Attributes:
      features: number of output channels.
      kernel_size: extent of the kernel.
      strides: factor of the upsampling.
      padding: as in `Conv`.
      use_bias: whether to add a bias.
      kernel_init: initialises the kernel.
      dtype: type to compute in, None for that of the input.
    """

    features: int
    kernel_size: IntOrInts
    strides: IntOrInts = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """``[B, *spatial, in]`` to ``[B, *output, features]``."""
        kernel_size = shapes.ints(self.kernel_size, shapes.spatial_rank(images), "kernel_size")
        kernel, bias = _kernel_and_bias(self, (*kernel_size, images.shape[-1], self.features))
        images, kernel, bias = _to_compute_dtype(self.dtype, images, kernel, bias)
        return ops.conv_transpose(images, kernel, bias, strides=self.strides, padding=self.padding)


class Dense(nn.Module):
    """Fully connected layer; see `jaxcnn.ops.dense`.

    Attributes:
      features: number of outputs.
      use_bias: whether to add a bias.
      kernel_init: initialises the kernel.
      dtype: type to compute in, None for that of the input.
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[..., in]`` to ``[..., features]``."""
        kernel, bias = _kernel_and_bias(self, (x.shape[-1], self.features))
        x, kernel, bias = _to_compute_dtype(self.dtype, x, kernel, bias)
        return ops.dense(x, kernel, bias)


class BatchNorm(nn.Module):
    """Batch normalisation; running statistics live in ``batch_stats``. See `jaxcnn.ops.batch_norm`.

    Attributes:
      momentum: share of the running statistics kept at each step.
      epsilon: added to the variance.
      use_scale: whether to scale the normalised values.
      use_bias: whether to shift them.
      frozen: use the running statistics in training too, and leave them as they are.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    use_scale: bool = True
    use_bias: bool = True
    frozen: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalise ``[B, ..., C]`` with the statistics of the batch, or else the running ones."""
        train = train and not self.frozen
        shape = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, shape) if self.use_scale else None
        bias = self.param("bias", nn.initializers.zeros, shape) if self.use_bias else None
        y, running = ops.batch_norm(
            x,
            scale,
            bias,
            mean.value,
            var.value,
            train=train,
            momentum=self.momentum,
            epsilon=self.epsilon,
        )
        if train and not self.is_initializing():
            mean.value, var.value = running
        return y


class GroupNorm(nn.Module):
    """Group normalisation, the same in training and evaluation; see `jaxcnn.ops.group_norm`.

    Attributes:
      groups: how many groups of neighbouring channels, a divisor of their number.
      epsilon: added to the variance.
    """

    groups: int = 8
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """``[B, ..., C]`` to the same shape; ``train`` is there to stand in for `BatchNorm`."""
        del train
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        return ops.group_norm(x, scale, bias, groups=self.groups, epsilon=self.epsilon)


class Dropout(nn.Module):
    """Dropout in training, nothing otherwise; draws from the ``dropout`` stream.

    Attributes:
      rate: probability of zeroing, in [0, 1).
      unit: what is zeroed as one: a ``"value"`` (`jaxcnn.ops.dropout`), a ``"channel"``
        (`jaxcnn.ops.spatial_dropout`) or an ``"example"`` (`jaxcnn.ops.drop_path`).
    """

    rate: float
    unit: Literal["value", "channel", "example"] = "value"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Any shape to the same shape."""
        shapes.check_probability(self.rate, "rate")
        if self.unit not in _DROPOUTS:
            raise ValueError(f"unit must be one of {', '.join(_DROPOUTS)}, got {self.unit!r}")
        if not train or self.rate == 0:
            return x
        return _DROPOUTS[self.unit](self.make_rng("dropout"), x, self.rate)


class GaussianNoise(nn.Module):
    """Additive normal noise in training, nothing otherwise; draws from the ``dropout`` stream.

    Attributes:
      stddev: standard deviation of the noise, >= 0.
    """

    stddev: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Any shape to the same shape."""
        if not 0 <= self.stddev < float("inf"):
            raise ValueError(f"stddev must be finite and >= 0, got {self.stddev!r}")
        if not train or self.stddev == 0:
            return x
        return ops.gaussian_noise(self.make_rng("dropout"), x, self.stddev)


def conv_before_norm(
    features: int,
    window: int,
    strides: int,
    dtype: Any,
    *,
    padding: Padding | None = None,
    use_bias: bool = False,
    name: str | None = None,
) -> Conv:
    """A convolution as residual networks have them: padding centred if None, mostly no bias.

    The normalisation that follows would subtract a bias again. The kernel starts normal with
    variance ``2 / fan_out`` (He et al. 2015, as in torchvision).
    """
    return Conv(
        features,
        window,
        strides=strides,
        padding=window // 2 if padding is None else padding,
        use_bias=use_bias,
        kernel_init=fan_out_normal,
        dtype=dtype,
        name=name,
    )


def call_block(block: nn.Module, x: jax.Array, *, train: bool, remat: bool) -> jax.Array:
    """``block(x, train=train)``, which with ``remat`` is computed again in the backward pass.

    That costs a third more time and saves the memory of all that is between the blocks' inputs.

    Reference:
      Chen et al. 2016, "Training deep nets with sublinear memory cost".
    """

    def call(block: Any, x: jax.Array) -> jax.Array:
        return block(x, train=train)

    return (nn.remat(call) if remat else call)(block, x)


def output_layer(features: int, **options: Any) -> Dense | None:
    """A network's last layer, or None for no classes: the network then gives what it would see."""
    return Dense(features, **options) if features else None


def outputs(layer: Dense | None, x: jax.Array) -> jax.Array:
    """The last layer's outputs, in float32 whatever the network computes in."""
    return float32_logits(x if layer is None else layer(x))


def check_size(images: jax.Array, smallest: int) -> None:
    """Refuse images of which nothing would be left.

    Raises:
      ValueError: if a side of ``images`` ``[B, H, W, C]`` is shorter than ``smallest``.
    """
    if images.ndim != 4 or min(images.shape[1:3]) < smallest:
        raise ValueError(
            f"images must be [B, H, W, C] of at least {smallest} x {smallest} pixels, "
            f"got shape {images.shape}"
        )


def check_choice(name: str, value: str, accepted: Iterable[str]) -> None:
    """Refuse an option that is none of those accepted.

    Raises:
      ValueError: if ``value`` is not in ``accepted``.
    """
    if value not in accepted:
        raise ValueError(f"{name} must be one of {', '.join(accepted)}, got {value!r}")


def float32_logits(x: jax.Array) -> jax.Array:
    """Half-precision outputs as float32, so that losses are computed in full precision."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _kernel_and_bias(layer: Any, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array | None]:
    if min(shape) < 1:
        raise ValueError(f"features must be >= 1 in {type(layer).__name__}, got kernel {shape}")
    kernel = layer.param("kernel", layer.kernel_init, shape)
    bias = layer.param("bias", nn.initializers.zeros, shape[-1:]) if layer.use_bias else None
    return kernel, bias


def _to_compute_dtype(
    dtype: Any, x: jax.Array, kernel: jax.Array, bias: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    target = x.dtype if dtype is None else jnp.dtype(dtype)
    return (
        x.astype(target),
        kernel.astype(target),
        None if bias is None else bias.astype(target),
    )
