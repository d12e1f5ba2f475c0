"""The classical networks: one convolution and one hidden layer, LeNet-5, and a small VGG.

Each is called as ``model.apply(variables, images, train=...)`` and is
``head(features(images, train), train)``; both parts are callable with ``method=``. Logits are
float32 whatever the network computes in.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn import ops
from jaxcnn.models.layers import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GaussianNoise,
    GroupNorm,
    check_choice,
    output_layer,
    outputs,
)

_POOLS: dict[str, Callable[..., jax.Array]] = {
    "max": ops.max_pool,
    "avg": ops.avg_pool,
    "sum": ops.sum_pool,
}


class ClassicCNN(nn.Module):
    """The course's classical CNN: convolution, pooling, dropout, two dense layers.

    32 5x5 filters, 2x2 max pooling, dropout, and 128 hidden neurons. The remedies against
    over-fitting that are part of a network are options.

    Attributes:
      num_classes: number of outputs, 0 for what the last layer would see.
      dropout: rate of the dropout after pooling.
      spatial_dropout: rate of the dropout of whole feature maps, before the one of values.
      pool: ``"max"``, ``"avg"``, ``"sum"`` or ``"none"``.
      norm: ``"none"``, ``"batch"`` or ``"group"`` normalisation after the convolution.
      norm_momentum: share of the running statistics that batch norm keeps at each step.
      norm_groups: how many groups of channels group norm has.
      noise: standard deviation of the normal noise added to the activations in training.
      dtype: type to compute in.

    Example:
      >>> model = ClassicCNN(num_classes=10)
      >>> images = jnp.zeros((2, 28, 28, 1))
      >>> variables = model.init(jax.random.key(0), images, train=False)
      >>> model.apply(variables, images, train=False).shape
      (2, 10)

    Reference:
      The course's slide "A classical CNN architecture".
    """

    input_layer: ClassVar[str] = "conv"
    output_layers: ClassVar[tuple[str, ...]] = ("output",)

    num_classes: int
    dropout: float = 0.2
    spatial_dropout: float = 0.0
    pool: Literal["max", "avg", "sum", "none"] = "max"
    norm: Literal["none", "batch", "group"] = "none"
    norm_momentum: float = 0.9
    norm_groups: int = 8
    noise: float = 0.0
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Name the layers."""
        check_choice("pool", self.pool, (*_POOLS, "none"))
        # A bias in front of a normalisation would be subtracted again.
        self.conv = Conv(32, 5, use_bias=self.norm == "none", dtype=self.dtype)
        self.conv_norm = _norm_layer(self)
        self.add_noise = GaussianNoise(self.noise)
        self.drop_maps = Dropout(self.spatial_dropout, unit="channel")
        self.drop = Dropout(self.dropout)
        self.hidden = Dense(128, dtype=self.dtype)
        self.output = output_layer(self.num_classes, dtype=self.dtype)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images ``[B, H, W, C]`` to logits ``[B, num_classes]``."""
        return self.head(self.features(images, train), train)

    def features(self, images: jax.Array, train: bool) -> jax.Array:
        """Images to feature maps ``[B, H/2, W/2, 32]`` (``[B, H, W, 32]`` without pooling)."""
        if train and self.norm == "none" and self.pool == "max":
            # The same in less time; in evaluation the convolution's output can be looked at.
            x = self.conv.relu_max_pool(images, 2, padding="SAME")
        else:
            x = self.conv(images)
            if self.conv_norm is not None:
                x = self.conv_norm(x, train=train)
            x = nn.relu(x)
            if self.pool != "none":
                x = _POOLS[self.pool](x, 2, padding="SAME")
        x = self.drop_maps(self.add_noise(x, train=train), train=train)
        return self.drop(x, train=train)

    def head(self, features: jax.Array, train: bool) -> jax.Array:
        """Feature maps to logits."""
        x = nn.relu(self.hidden(ops.flatten(features)))
        return outputs(self.output, x)


class LeNet5(nn.Module):
    """LeNet-5: two tanh convolutions with average pooling, then 120, 84 and ``num_classes``.

    Subsampling is a plain average and the output layer is linear, as in every modern retelling;
    the original had trainable subsampling and radial basis outputs.

    Attributes:
      num_classes: number of outputs, 0 for what the last layer would see.
      dtype: type to compute in.

    Reference:
      LeCun et al. 1998, "Gradient-based learning applied to document recognition", figure 2.
    """

    input_layer: ClassVar[str] = "conv1"
    output_layers: ClassVar[tuple[str, ...]] = ("output",)

    num_classes: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Name the layers."""
        self.conv1 = Conv(6, 5, dtype=self.dtype)
        self.conv2 = Conv(16, 5, padding="VALID", dtype=self.dtype)
        self.hidden1 = Dense(120, dtype=self.dtype)
        self.hidden2 = Dense(84, dtype=self.dtype)
        self.output = output_layer(self.num_classes, dtype=self.dtype)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images ``[B, H, W, C]``, at least 12 x 12, to logits ``[B, num_classes]``."""
        return self.head(self.features(images, train), train)

    def features(self, images: jax.Array, train: bool) -> jax.Array:
        """Images to feature maps ``[B, 5, 5, 16]`` (for 28 x 28)."""
        del train  # nothing here differs in training
        x = ops.avg_pool(nn.tanh(self.conv1(images)), 2)
        return ops.avg_pool(nn.tanh(self.conv2(x)), 2)

    def head(self, features: jax.Array, train: bool) -> jax.Array:
        """Feature maps to logits."""
        del train
        x = nn.tanh(self.hidden1(ops.flatten(features)))
        return outputs(self.output, nn.tanh(self.hidden2(x)))


class SmallVGG(nn.Module):
    """A small VGG: stages of 3x3 convolutions, each halved by max pooling, and two dense layers.

    Attributes:
      num_classes: number of outputs, 0 for what the last layer would see.
      widths: channels of each stage of two convolutions.
      norm: ``"batch"``, ``"group"`` or ``"none"``: normalisation after each convolution.
      norm_momentum: share of the running statistics that batch norm keeps at each step.
      norm_groups: how many groups of channels group norm has.
      dropout: rate of the dropout in front of each dense layer.
      dtype: type to compute in.

    Reference:
      After Simonyan and Zisserman 2014, "Very deep convolutional networks", scaled down.
    """

    input_layer: ClassVar[str] = "convs_0"
    output_layers: ClassVar[tuple[str, ...]] = ("output",)

    num_classes: int
    widths: tuple[int, ...] = (32, 64, 128)
    norm: Literal["none", "batch", "group"] = "batch"
    norm_momentum: float = 0.9
    norm_groups: int = 8
    dropout: float = 0.3
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Name the layers."""
        widths = [width for width in self.widths for _ in range(2)]
        self.convs = [
            Conv(width, 3, use_bias=self.norm == "none", dtype=self.dtype) for width in widths
        ]
        self.norms = [_norm_layer(self) for _ in widths]
        self.drop = Dropout(self.dropout)
        self.hidden = Dense(128, dtype=self.dtype)
        self.output = output_layer(self.num_classes, dtype=self.dtype)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images ``[B, H, W, C]`` to logits ``[B, num_classes]``."""
        return self.head(self.features(images, train), train)

    def features(self, images: jax.Array, train: bool) -> jax.Array:
        """Images to feature maps, each side halved (rounding up) once per stage."""
        x = images
        for number, conv in enumerate(self.convs):
            x = conv(x)
            if self.norms[number] is not None:
                x = self.norms[number](x, train=train)
            x = nn.relu(x)
            if number % 2:
                x = ops.max_pool(x, 2, padding="SAME")
        return x

    def head(self, features: jax.Array, train: bool) -> jax.Array:
        """Feature maps to logits."""
        x = self.drop(ops.flatten(features), train=train)
        x = self.drop(nn.relu(self.hidden(x)), train=train)
        return outputs(self.output, x)


def _norm_layer(model: ClassicCNN | SmallVGG) -> Any:
    """The normalisation that a network asks for, or None."""
    check_choice("norm", model.norm, ("none", "batch", "group"))
    if model.norm == "batch":
        return BatchNorm(momentum=model.norm_momentum)
    return GroupNorm(model.norm_groups) if model.norm == "group" else None
