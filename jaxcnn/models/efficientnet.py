"""EfficientNet: inverted bottlenecks with squeeze-and-excitation, scaled in three ways.

Padding and epsilon default to torchvision's and timm's values; options select the values used by
TensorFlow, Keras and timm's ``tf_`` networks.
"""

import math
from typing import Any, ClassVar, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn import ops
from jaxcnn.models.blocks import (
    call_block,
    check_choice,
    conv_before_norm,
    fan_out_normal,
    output_layer,
    outputs,
)
from jaxcnn.models.layers import BatchNorm, Dense, DepthwiseConv, Dropout

_ACTIVATIONS = {"silu": nn.silu, "relu6": nn.relu6}

# For a depthwise kernel, the fan is the spatial size alone, as in the authors' implementation.
_depthwise_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class Stage(NamedTuple):
    """Row of the paper's table 1: ``depth`` blocks; ``strides`` applies only to the first."""

    expansion: int
    kernel_size: int
    strides: int
    channels: int
    depth: int


_B0 = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)


class SqueezeExcite(nn.Module):
    """Scale each channel by a factor in (0, 1), computed from the means of all channels.

    Attributes:
      squeezed: number of units in the hidden layer.
      dtype: dtype of the computation.

    Example:
      >>> layer, images = SqueezeExcite(squeezed=2), jnp.ones((1, 4, 4, 8))
      >>> layer.init_with_output(jax.random.key(0), images)[0].shape
      (1, 4, 4, 8)

    Reference:
      Hu et al. 2017, "Squeeze-and-excitation networks".
    """

    squeezed: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map ``[B, H, W, C]`` to the same shape."""
        channels = images.shape[-1]
        x = ops.global_avg_pool(images)
        x = nn.silu(Dense(self.squeezed, dtype=self.dtype, kernel_init=fan_out_normal)(x))
        x = nn.sigmoid(Dense(channels, dtype=self.dtype, kernel_init=fan_out_normal)(x))
        return images * x[:, None, None, :]


class InvertedBottleneck(nn.Module):
    """Expand with a 1x1 convolution, convolve each channel, scale the channels, and project back.

    Attributes:
      stage: table row that the block belongs to.
      strides: stride of the depthwise convolution.
      activation: ``"silu"`` or ``"relu6"``.
      squeeze_excite: whether to scale channels with squeeze-and-excitation.
      padding: padding of the depthwise convolution, ``"centered"`` or ``"SAME"``.
      drop_path: probability that an example skips the block during training.
      norm_momentum: decay of batch norm's running statistics.
      norm_epsilon: constant added to batch norm's variance.
      dtype: dtype of the computation.

    Example:
      >>> block = InvertedBottleneck(Stage(6, 3, 2, 16, 1), strides=2)
      >>> images = jnp.zeros((1, 8, 8, 4))
      >>> run = lambda key: block.init_with_output(key, images, train=False)
      >>> jax.eval_shape(run, jax.random.key(0))[0].shape
      (1, 4, 4, 16)

    Reference:
      Sandler et al. 2018, "MobileNetV2"; Tan et al. 2019, "MnasNet".
    """

    stage: Stage
    strides: int
    activation: str = "silu"
    squeeze_excite: bool = True
    padding: Literal["centered", "SAME"] = "centered"
    drop_path: float = 0.0
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map ``[B, H, W, C]`` to ``[B, H / strides, W / strides, channels]``."""

        def norm(x: jax.Array, name: str) -> jax.Array:
            return BatchNorm(self.norm_momentum, self.norm_epsilon, name=name)(x, train=train)

        activate = _ACTIVATIONS[self.activation]
        inputs, kernel_size = images.shape[-1], self.stage.kernel_size
        x = images
        if self.stage.expansion != 1:
            x = conv_before_norm(inputs * self.stage.expansion, 1, 1, self.dtype, name="expand")(x)
            x = activate(norm(x, "expand_bn"))
        x = DepthwiseConv(
            kernel_size,
            strides=self.strides,
            padding=kernel_size // 2 if self.padding == "centered" else "SAME",
            use_bias=False,
            kernel_init=_depthwise_normal,
            dtype=self.dtype,
            name="depthwise",
        )(x)
        x = activate(norm(x, "depthwise_bn"))
        if self.squeeze_excite:
            x = SqueezeExcite(max(1, inputs // 4), dtype=self.dtype, name="excite")(x)
        x = norm(
            conv_before_norm(self.stage.channels, 1, 1, self.dtype, name="project")(x), "project_bn"
        )
        if self.strides == 1 and inputs == self.stage.channels:
            x = images + Dropout(self.drop_path, unit="example")(x, train=train)
        return x


class EfficientNet(nn.Module):
    """EfficientNet; B0 by default.

    Attributes:
      num_classes: number of classes; with 0, the network returns the pooled features.
      width: multiplier for B0's channel counts; the results are rounded by `round_channels`.
      depth: multiplier for B0's block counts per stage; the results are rounded up.
      lite: use the Lite variant: ReLU6, no squeeze-and-excitation, and no scaling of the stem's
        and the top's channels or of the first and last stages' depth.
      padding: padding of strided convolutions: ``"centered"``, or ``"SAME"`` as in TensorFlow.
      drop_path: an example skips block ``i`` of ``n``, counted from 0, with probability
        ``drop_path * i / n`` during training.
      dropout: dropout rate before the classifier.
      norm_momentum: decay of batch norm's running statistics.
      norm_epsilon: constant added to batch norm's variance; TensorFlow's is 1e-3.
      remat: recompute blocks in the backward pass to save activation memory.
      dtype: dtype of the computation.

    Example:
      >>> model = EfficientNet(num_classes=1000)
      >>> images = jnp.zeros((1, 224, 224, 3))
      >>> variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
      >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
      5288548

    Reference:
      Tan and Le 2019, "EfficientNet: rethinking model scaling for convolutional neural networks";
      Lite: Liu 2020, in the authors' repository.
    """

    input_layer: ClassVar[str] = "stem"
    output_layers: ClassVar[tuple[str, ...]] = ("classifier",)

    num_classes: int
    width: float = 1.0
    depth: float = 1.0
    lite: bool = False
    padding: Literal["centered", "SAME"] = "centered"
    drop_path: float = 0.2
    dropout: float = 0.2
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    remat: bool = False
    dtype: Any = jnp.float32

    @property
    def table(self) -> tuple[Stage, ...]:
        """The paper's table 1, scaled to this width and depth."""

        def depth(row: int, stage: Stage) -> int:
            if self.lite and row in (0, len(_B0) - 1):
                return stage.depth
            return math.ceil(stage.depth * self.depth)

        return tuple(
            stage._replace(
                channels=round_channels(stage.channels * self.width), depth=depth(row, stage)
            )
            for row, stage in enumerate(_B0)
        )

    def setup(self) -> None:
        """Define the layers."""
        check_choice("padding", self.padding, ("centered", "SAME"))
        norm = self.norm_momentum, self.norm_epsilon
        self.activate = _ACTIVATIONS["relu6" if self.lite else "silu"]
        self.stem = conv_before_norm(
            32 if self.lite else round_channels(32 * self.width),
            3,
            2,
            self.dtype,
            padding=1 if self.padding == "centered" else "SAME",
        )
        self.stem_bn = BatchNorm(*norm)
        places = [
            (row, block) for row, stage in enumerate(self.table) for block in range(stage.depth)
        ]
        self.blocks = [
            InvertedBottleneck(
                self.table[row],
                strides=1 if block else self.table[row].strides,
                activation="relu6" if self.lite else "silu",
                squeeze_excite=not self.lite,
                padding=self.padding,
                drop_path=self.drop_path * index / len(places),
                norm_momentum=self.norm_momentum,
                norm_epsilon=self.norm_epsilon,
                dtype=self.dtype,
                name=f"stage{row + 1}_{block}",
            )
            for index, (row, block) in enumerate(places)
        ]
        top = 1280 if self.lite else 4 * self.table[-1].channels
        self.top = conv_before_norm(top, 1, 1, self.dtype)
        self.top_bn = BatchNorm(*norm)
        self.drop = Dropout(self.dropout)
        self.classifier = output_layer(
            self.num_classes, kernel_init=_classifier_uniform, dtype=self.dtype
        )

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images ``[B, H, W, C]`` to logits ``[B, num_classes]``."""
        return self.head(self.features(images, train=train), train=train)

    def stages(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Map images to the last feature maps at each of the strides 2, 4, 8, 16 and 32."""
        x = self.activate(self.stem_bn(self.stem(images), train=train))
        maps: list[jax.Array] = []
        for block in self.blocks:
            if block.strides != 1:
                maps.append(x)
            x = call_block(block, x, train=train, remat=self.remat)
        return [*maps, x]

    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images to the last feature maps, ``[B, H / 32, W / 32, C]``; ``C`` is 1280 for B0."""
        x = self.stages(images, train=train)[-1]
        return self.activate(self.top_bn(self.top(x), train=train))

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """Map feature maps to logits."""
        return outputs(self.classifier, self.drop(ops.global_avg_pool(features), train=train))


def _classifier_uniform(
    key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> jax.Array:
    """Sample uniformly between -b and b = 1 / sqrt(1000), the reference's bound for 1,000 classes.

    The reference's rule, 1 / sqrt(classes), would give an initial loss of 14 with ten classes.
    """
    bound = 1000**-0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def round_channels(channels: float) -> int:
    """Round to the nearest positive multiple of 8, or up if that is below 90% of ``channels``.

    Example:
      >>> round_channels(32 * 1.1), round_channels(11)
      (32, 16)
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
