"""Linen layers: modules that own parameters and use `jaxcnn.ops` for all computation.

Kernels use Glorot uniform initialization and biases start at zero, as in Keras. Parameters are
float32; ``dtype`` is the dtype of the computation and defaults to the input's dtype.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn import ops, shapes
from jaxcnn.shapes import IntOrInts, Padding

Initializer = Callable[..., jax.Array]

_DROPOUTS = {"value": ops.dropout, "channel": ops.spatial_dropout, "example": ops.drop_path}


class Conv(nn.Module):
    """Convolution that owns its kernel and bias; see `jaxcnn.ops.conv`.

    Attributes:
      features: number of output channels.
      kernel_size: size of the kernel, one integer or one per spatial dimension.
      strides: step between output positions.
      padding: ``"SAME"``, ``"VALID"``, an integer, or one (low, high) pair per dimension.
      dilation: distance between the kernel's taps.
      groups: number of channel groups that are convolved separately.
      use_bias: whether to add a bias.
      kernel_init: initializer for the kernel.
      dtype: dtype of the computation; None means the input's dtype.

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
        """Map ``[B, *spatial, in]`` to ``[B, *output, features]``."""
        return ops.conv(*self.operands(images), **self.geometry())

    @nn.compact
    def operands(self, images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Return the images, kernel and bias, cast to the computation dtype."""
        rank = shapes.spatial_rank(images)
        kernel_size = shapes.ints(self.kernel_size, rank, "kernel_size")
        (groups,) = shapes.ints(self.groups, 1, "groups")
        if images.shape[-1] % groups:
            raise ValueError(
                f"groups must divide the number of channels of images ({images.shape[-1]}), "
                f"got {groups}"
            )
        inputs = images.shape[-1] // groups
        kernel, bias = _kernel_and_bias(self, (*kernel_size, inputs, self.features))
        return _to_compute_dtype(self.dtype, images, kernel, bias)

    def geometry(self) -> dict[str, Any]:
        """Return the options passed to `jaxcnn.ops.conv`."""
        return {
            "strides": self.strides,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }


class ConvReluMaxPool(nn.Module):
    """Convolution, ReLU and max pooling, computed in one pass where that is faster.

    During training it calls `jaxcnn.ops.conv_relu_max_pool`. During evaluation the steps are
    separate, so the convolution's output can be inspected.

    Attributes:
      conv: the convolution, which owns its parameters.
      window: size of the pooling window, also used as the stride.
      padding: padding for the pooling: ``"SAME"``, ``"VALID"``, an integer, or (low, high) pairs.

    Example:
      >>> layer = ConvReluMaxPool(Conv(32, 5), 2)
      >>> images = jnp.zeros((1, 28, 28, 1))
      >>> variables = layer.init(jax.random.key(0), images, train=False)
      >>> layer.apply(variables, images, train=True).shape
      (1, 14, 14, 32)
    """

    conv: Conv
    window: IntOrInts
    padding: Padding = "VALID"

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map ``[B, *spatial, in]`` to ``[B, *pooled, features]``."""
        if not train:
            return ops.max_pool(nn.relu(self.conv(images)), self.window, padding=self.padding)
        operands = self.conv.operands(images)
        return ops.conv_relu_max_pool(
            *operands, pool=self.window, pool_padding=self.padding, **self.conv.geometry()
        )


class DepthwiseConv(nn.Module):
    """Separate convolution of each channel; see `jaxcnn.ops.depthwise_conv`.

    Attributes:
      kernel_size: size of the kernel, one integer or one per spatial dimension.
      multiplier: number of output channels per input channel.
      strides: step between output positions.
      padding: ``"SAME"``, ``"VALID"``, an integer, or one (low, high) pair per dimension.
      use_bias: whether to add a bias.
      kernel_init: initializer for the kernel.
      dtype: dtype of the computation; None means the input's dtype.

    Example:
      >>> layer = DepthwiseConv(3, multiplier=2)
      >>> variables = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((1, 8, 8, 4)))
      >>> variables["params"]["kernel"].shape
      (3, 3, 1, 8)
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
        """Map ``[B, *spatial, C]`` to ``[B, *output, C * multiplier]``."""
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
      kernel_size: size of the kernel, one integer or one per spatial dimension.
      strides: upsampling factor.
      padding: ``"SAME"``, ``"VALID"``, an integer, or one (low, high) pair per dimension.
      use_bias: whether to add a bias.
      kernel_init: initializer for the kernel.
      dtype: dtype of the computation; None means the input's dtype.

    Example:
      >>> layer, images = ConvTranspose(6, 3, strides=2), jnp.zeros((1, 8, 8, 4))
      >>> layer.init_with_output(jax.random.key(0), images)[0].shape
      (1, 16, 16, 6)
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
        """Map ``[B, *spatial, in]`` to ``[B, *output, features]``."""
        kernel_size = shapes.ints(self.kernel_size, shapes.spatial_rank(images), "kernel_size")
        kernel, bias = _kernel_and_bias(self, (*kernel_size, images.shape[-1], self.features))
        images, kernel, bias = _to_compute_dtype(self.dtype, images, kernel, bias)
        return ops.conv_transpose(images, kernel, bias, strides=self.strides, padding=self.padding)


class Dense(nn.Module):
    """Fully connected layer; see `jaxcnn.ops.dense`.

    Attributes:
      features: number of outputs.
      use_bias: whether to add a bias.
      kernel_init: initializer for the kernel.
      dtype: dtype of the computation; None means the input's dtype.

    Example:
      >>> variables = Dense(10).init(jax.random.key(0), jnp.zeros((1, 128)))
      >>> variables["params"]["kernel"].shape
      (128, 10)
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``[..., in]`` to ``[..., features]``."""
        kernel, bias = _kernel_and_bias(self, (x.shape[-1], self.features))
        x, kernel, bias = _to_compute_dtype(self.dtype, x, kernel, bias)
        return ops.dense(x, kernel, bias)


class BatchNorm(nn.Module):
    """Batch normalization; running statistics are in ``batch_stats``. See `jaxcnn.ops.batch_norm`.

    Attributes:
      momentum: decay of the running statistics.
      epsilon: constant added to the variance.
      use_scale: whether to multiply the normalized values by a learned scale.
      use_bias: whether to add a learned bias to the normalized values.
      frozen: use the running statistics even during training, and do not update them.

    Example:
      >>> x = jnp.array([[1.0], [3.0]])
      >>> layer = BatchNorm(momentum=0.5)
      >>> variables = layer.init(jax.random.key(0), x, train=False)
      >>> y, updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])
      >>> y.round().tolist(), updated["batch_stats"]["mean"].tolist()
      ([[-1.0], [1.0]], [1.0])
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    use_scale: bool = True
    use_bias: bool = True
    frozen: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalize ``[B, ..., C]`` with batch statistics in training, else running statistics."""
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
    """Group normalization, identical in training and evaluation; see `jaxcnn.ops.group_norm`.

    Attributes:
      groups: number of groups of adjacent channels; must divide the number of channels.
      epsilon: constant added to the variance.

    Example:
      >>> x = jnp.array([[1.0, 3.0, 10.0, 30.0]])
      >>> GroupNorm(groups=2).init_with_output(jax.random.key(0), x)[0].round().tolist()
      [[-1.0, 1.0, -1.0, 1.0]]
    """

    groups: int = 8
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Normalize ``[B, ..., C]``; ``train`` is ignored, for compatibility with `BatchNorm`."""
        del train
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        return ops.group_norm(x, scale, bias, groups=self.groups, epsilon=self.epsilon)


class Dropout(nn.Module):
    """Dropout in training and the identity in evaluation; uses the ``dropout`` RNG stream.

    Attributes:
      rate: probability of zeroing a unit, in [0, 1).
      unit: what to zero: single values (``"value"``, `jaxcnn.ops.dropout`), whole channels
        (``"channel"``, `jaxcnn.ops.spatial_dropout`) or whole examples (``"example"``,
        `jaxcnn.ops.drop_path`).

    Example:
      >>> layer, x = Dropout(0.5), jnp.ones((2, 3))
      >>> layer.apply({}, x, train=False).tolist()
      [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
      >>> y = layer.apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
      >>> set(y.ravel().tolist()) <= {0.0, 2.0}
      True
    """

    rate: float
    unit: Literal["value", "channel", "example"] = "value"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Apply dropout to ``x`` of any shape in training; return ``x`` otherwise."""
        shapes.check_probability(self.rate, "rate")
        if self.unit not in _DROPOUTS:
            raise ValueError(f"unit must be one of {', '.join(_DROPOUTS)}, got {self.unit!r}")
        if not train or self.rate == 0:
            return x
        return _DROPOUTS[self.unit](self.make_rng("dropout"), x, self.rate)


class GaussianNoise(nn.Module):
    """Gaussian noise in training and the identity in evaluation; uses the ``dropout`` RNG stream.

    Attributes:
      stddev: standard deviation of the noise, >= 0.

    Example:
      >>> layer, x = GaussianNoise(0.1), jnp.zeros(1000)
      >>> y = layer.apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
      >>> bool(jnp.abs(y.std() - 0.1) < 0.01), bool((layer.apply({}, x, train=False) == x).all())
      (True, True)
    """

    stddev: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return ``x``, of any shape; in training, noise is added."""
        if not 0 <= self.stddev < float("inf"):
            raise ValueError(f"stddev must be finite and >= 0, got {self.stddev!r}")
        if not train or self.stddev == 0:
            return x
        return ops.gaussian_noise(self.make_rng("dropout"), x, self.stddev)


def _kernel_and_bias(layer: Any, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array | None]:
    if min(shape) < 1:
        raise ValueError(
            f"features must be >= 1 in {type(layer).__name__}, got kernel shape {shape}"
        )
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
