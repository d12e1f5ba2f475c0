"""Classical networks: a CNN with one convolution and one hidden layer, LeNet-5, and a small VGG.

Each satisfies `jaxcnn.models.Network`. Logits are float32, regardless of the computation dtype.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn import ops
from jaxcnn.models.blocks import check_choice, output_layer, outputs
from jaxcnn.models.layers import (
    BatchNorm,
    Conv,
    ConvReluMaxPool,
    Dense,
    Dropout,
    GaussianNoise,
    GroupNorm,
)

_POOLS: dict[str, Callable[..., jax.Array]] = {
    "max": ops.max_pool,
    "avg": ops.avg_pool,
    "sum": ops.sum_pool,
}


class ClassicCNN(nn.Module):
    """The course's classical CNN: convolution, pooling, dropout, and two dense layers.

    It has 32 5x5 filters, 2x2 pooling and 128 hidden units. Dropout, normalization and noise can be
    enabled to reduce overfitting.

    Attributes:
      num_classes: number of classes; with 0, the network returns its last hidden activations.
      dropout: dropout rate after pooling.
      spatial_dropout: dropout rate for whole feature maps, applied before ``dropout``.
      pool: ``"max"``, ``"avg"``, ``"sum"`` or ``"none"``.
      norm: ``"none"``, ``"batch"`` or ``"group"`` normalization after the convolution.
      norm_momentum: decay of batch norm's running statistics.
      norm_groups: number of channel groups in group norm.
      noise: standard deviation of the Gaussian noise added to the activations during training.
      dtype: dtype of the computation.

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
        """Define the layers."""
        check_choice("pool", self.pool, (*_POOLS, "none"))
        # The normalization would cancel a bias.
        self.conv = Conv(32, 5, use_bias=self.norm == "none", dtype=self.dtype)
        self.conv_norm = _norm_layer(self)
        self.pooled_conv = ConvReluMaxPool(self.conv, 2, padding="SAME")
        self.add_noise = GaussianNoise(self.noise)
        self.drop_maps = Dropout(self.spatial_dropout, unit="channel")
        self.drop = Dropout(self.dropout)
        self.hidden = Dense(128, dtype=self.dtype)
        self.output = output_layer(self.num_classes, dtype=self.dtype)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images ``[B, H, W, C]`` to logits ``[B, num_classes]``."""
        return self.head(self.features(images, train=train), train=train)

    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images to feature maps ``[B, H/2, W/2, 32]``, or ``[B, H, W, 32]`` if not pooled."""
        if self.norm == "none" and self.pool == "max":
            x = self.pooled_conv(images, train=train)
        else:
            x = self.conv(images)
            if self.conv_norm is not None:
                x = self.conv_norm(x, train=train)
            x = nn.relu(x)
            if self.pool != "none":
                x = _POOLS[self.pool](x, 2, padding="SAME")
        x = self.drop_maps(self.add_noise(x, train=train), train=train)
        return self.drop(x, train=train)

    def stages(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Map images to the feature maps of the network's only stage."""
        return [self.features(images, train=train)]

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """Map feature maps to logits."""
        del train
        x = nn.relu(self.hidden(ops.flatten(features)))
        return outputs(self.output, x)


class LeNet5(nn.Module):
    """LeNet-5: two tanh convolutions with average pooling, then 120, 84 and ``num_classes`` units.

    Subsampling is a plain average and the output layer is linear, as in modern implementations;
    the original had trainable subsampling and radial basis outputs.

    Attributes:
      num_classes: number of classes; with 0, the network returns its last hidden activations.
      dtype: dtype of the computation.

    Example:
      >>> model, images = LeNet5(num_classes=10), jnp.zeros((2, 28, 28, 1))
      >>> run = lambda key: model.init_with_output(key, images, train=False, method="features")
      >>> jax.eval_shape(run, jax.random.key(0))[0].shape
      (2, 5, 5, 16)

    Reference:
      LeCun et al. 1998, "Gradient-based learning applied to document recognition", figure 2.
    """

    input_layer: ClassVar[str] = "conv1"
    output_layers: ClassVar[tuple[str, ...]] = ("output",)

    num_classes: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Define the layers."""
        self.conv1 = Conv(6, 5, dtype=self.dtype)
        self.conv2 = Conv(16, 5, padding="VALID", dtype=self.dtype)
        self.hidden1 = Dense(120, dtype=self.dtype)
        self.hidden2 = Dense(84, dtype=self.dtype)
        self.output = output_layer(self.num_classes, dtype=self.dtype)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images ``[B, H, W, C]`` of at least 12 x 12 pixels to logits ``[B, num_classes]``."""
        return self.head(self.features(images, train=train), train=train)

    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images to the last stage's feature maps, ``[B, 5, 5, 16]`` for 28 x 28 pixels."""
        return self.stages(images, train=train)[-1]

    def stages(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Map images to the feature maps after each pooling, with 6 and 16 channels."""
        del train  # training and evaluation do not differ
        first = ops.avg_pool(nn.tanh(self.conv1(images)), 2)
        return [first, ops.avg_pool(nn.tanh(self.conv2(first)), 2)]

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """Map feature maps to logits."""
        del train
        x = nn.tanh(self.hidden1(ops.flatten(features)))
        return outputs(self.output, nn.tanh(self.hidden2(x)))


class SmallVGG(nn.Module):
    """Small VGG: stages of two 3x3 convolutions and max pooling, then two dense layers.

    Attributes:
      num_classes: number of classes; with 0, the network returns its last hidden activations.
      widths: number of channels in each stage.
      norm: ``"batch"``, ``"group"`` or ``"none"``, the normalization after each convolution.
      norm_momentum: decay of batch norm's running statistics.
      norm_groups: number of channel groups in group norm.
      dropout: dropout rate before each dense layer.
      dtype: dtype of the computation.

    Example:
      >>> model, images = SmallVGG(num_classes=10), jnp.zeros((2, 28, 28, 1))
      >>> run = lambda key: model.init_with_output(key, images, train=False, method="stages")
      >>> [maps.shape for maps in jax.eval_shape(run, jax.random.key(0))[0]]
      [(2, 14, 14, 32), (2, 7, 7, 64), (2, 4, 4, 128)]

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
        """Define the layers."""
        widths = [width for width in self.widths for _ in range(2)]
        self.convs = [
            Conv(width, 3, use_bias=self.norm == "none", dtype=self.dtype) for width in widths
        ]
        self.norms = [_norm_layer(self) for _ in widths]
        self.drop = Dropout(self.dropout)
        self.hidden = Dense(128, dtype=self.dtype)
        self.output = output_layer(self.num_classes, dtype=self.dtype)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images ``[B, H, W, C]`` to logits ``[B, num_classes]``."""
        return self.head(self.features(images, train=train), train=train)

    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images to the last stage's feature maps."""
        return self.stages(images, train=train)[-1]

    def stages(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Map images to each stage's feature maps.

        Each stage halves the height and width, rounding up.
        """
        maps, x = [], images
        for index, conv in enumerate(self.convs):
            x = conv(x)
            if self.norms[index] is not None:
                x = self.norms[index](x, train=train)
            x = nn.relu(x)
            if index % 2:
                x = ops.max_pool(x, 2, padding="SAME")
                maps.append(x)
        return maps

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """Map feature maps to logits."""
        x = self.drop(ops.flatten(features), train=train)
        x = self.drop(nn.relu(self.hidden(x)), train=train)
        return outputs(self.output, x)


def _norm_layer(model: ClassicCNN | SmallVGG) -> Any:
    """Return the normalization layer selected by a network's ``norm``, or None."""
    check_choice("norm", model.norm, ("none", "batch", "group"))
    if model.norm == "batch":
        return BatchNorm(momentum=model.norm_momentum)
    return GroupNorm(model.norm_groups) if model.norm == "group" else None
