"""EfficientNet: mobile inverted bottlenecks with squeeze and excitation, scaled in three ways.

Padding and epsilon are torchvision's and timm's; those of TensorFlow, Keras and timm's ``tf_``
networks are options.
"""

import math
from typing import Any, ClassVar, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn import ops
from jaxcnn.models.layers import (
    BatchNorm,
    Dense,
    DepthwiseConv,
    Dropout,
    call_block,
    check_choice,
    conv_before_norm,
    fan_out_normal,
    output_layer,
    outputs,
)

_ACTIVATIONS = {"silu": nn.silu, "relu6": nn.relu6}

# A depthwise kernel's fan is its window alone, as in the authors' implementation.
_depthwise_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class Stage(NamedTuple):
    """A row of the paper's table 1: ``depth`` blocks, of which the first has the stride."""

    expansion: int
    window: int
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
    """Scale each channel by a factor in (0, 1) that a small network sees in the channels' means.

    Attributes:
      squeezed: channels in the middle.
      dtype: type to compute in.

    Reference:
      Hu et al. 2017, "Squeeze-and-excitation networks".
    """

    squeezed: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """``[B, H, W, C]`` to the same shape."""
        channels = images.shape[-1]
        x = ops.global_avg_pool(images)
        x = nn.silu(Dense(self.squeezed, dtype=self.dtype, kernel_init=fan_out_normal)(x))
        x = nn.sigmoid(Dense(channels, dtype=self.dtype, kernel_init=fan_out_normal)(x))
        return images * x[:, None, None, :]


class InvertedBottleneck(nn.Module):
    """Widen by a 1x1 convolution, convolve each channel, reweigh, and narrow again.

    Attributes:
      stage: the row of the table that the block belongs to.
      strides: step of the depthwise convolution.
      activation: a key of ``_ACTIVATIONS``.
      squeeze_excite: whether to reweigh.
      padding: ``"centred"`` or ``"SAME"``.
      drop_path: rate at which an example skips the block in training.
      norm_momentum: share of the running statistics that batch norm keeps at each step.
      norm_epsilon: added to batch norm's variance.
      dtype: type to compute in.

    Reference:
      Sandler et al. 2018, "MobileNetV2"; Tan et al. 2019, "MnasNet".
    """

    stage: Stage
    strides: int
    activation: str = "silu"
    squeeze_excite: bool = True
    padding: Literal["centred", "SAME"] = "centred"
    drop_path: float = 0.0
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """``[B, H, W, C]`` to ``[B, H / strides, W / strides, channels]``."""

        def norm(x: jax.Array, name: str) -> jax.Array:
            return BatchNorm(self.norm_momentum, self.norm_epsilon, name=name)(x, train=train)

        activate = _ACTIVATIONS[self.activation]
        inputs, window = images.shape[-1], self.stage.window
        x = images
        if self.stage.expansion != 1:
            x = conv_before_norm(inputs * self.stage.expansion, 1, 1, self.dtype, name="expand")(x)
            x = activate(norm(x, "expand_bn"))
        x = DepthwiseConv(
            window,
            strides=self.strides,
            padding=window // 2 if self.padding == "centred" else "SAME",
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
    """EfficientNet, by default B0.

    Attributes:
      num_classes: number of outputs, 0 for what the last layer would see.
      width: factor on B0's channels, rounded to multiples of 8 and never below 90 %.
      depth: factor on B0's blocks per stage, rounded up.
      lite: the Lite variant: ReLU6, nothing reweighed, and the first and last parts not scaled.
      padding: of windows with a stride: ``"centred"``, or ``"SAME"`` as in TensorFlow.
      drop_path: rate at which an example skips the last block; earlier blocks less, linearly.
      dropout: rate of the dropout in front of the classifier.
      norm_momentum: share of the running statistics that batch norm keeps at each step.
      norm_epsilon: added to batch norm's variance; TensorFlow's is 1e-3.
      remat: compute blocks again in the backward pass, for memory.
      dtype: type to compute in.

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
    padding: Literal["centred", "SAME"] = "centred"
    drop_path: float = 0.2
    dropout: float = 0.2
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    remat: bool = False
    dtype: Any = jnp.float32

    @property
    def table(self) -> tuple[Stage, ...]:
        """The paper's table 1 at this width and depth."""

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
        """Name the layers."""
        check_choice("padding", self.padding, ("centred", "SAME"))
        norm = self.norm_momentum, self.norm_epsilon
        self.activate = _ACTIVATIONS["relu6" if self.lite else "silu"]
        self.stem = conv_before_norm(
            32 if self.lite else round_channels(32 * self.width),
            3,
            2,
            self.dtype,
            padding=1 if self.padding == "centred" else "SAME",
        )
        self.stem_bn = BatchNorm(*norm)
        places = [
            (row, number) for row, stage in enumerate(self.table) for number in range(stage.depth)
        ]
        self.blocks = [
            InvertedBottleneck(
                self.table[row],
                strides=1 if number else self.table[row].strides,
                activation="relu6" if self.lite else "silu",
                squeeze_excite=not self.lite,
                padding=self.padding,
                drop_path=self.drop_path * index / len(places),
                norm_momentum=self.norm_momentum,
                norm_epsilon=self.norm_epsilon,
                dtype=self.dtype,
                name=f"stage{row + 1}_{number}",
            )
            for index, (row, number) in enumerate(places)
        ]
        top = 1280 if self.lite else 4 * self.table[-1].channels
        self.top = conv_before_norm(top, 1, 1, self.dtype)
        self.top_bn = BatchNorm(*norm)
        self.drop = Dropout(self.dropout)
        self.classifier = output_layer(
            self.num_classes, kernel_init=_classifier_uniform, dtype=self.dtype
        )

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images ``[B, H, W, C]`` to logits ``[B, num_classes]``."""
        return self.head(self.features(images, train), train)

    def stages(self, images: jax.Array, train: bool) -> list[jax.Array]:
        """The last feature maps of each size, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the sides."""
        x = self.activate(self.stem_bn(self.stem(images), train=train))
        maps: list[jax.Array] = []
        for block in self.blocks:
            if block.strides != 1:
                maps.append(x)
            x = call_block(block, x, train=train, remat=self.remat)
        return [*maps, x]

    def features(self, images: jax.Array, train: bool) -> jax.Array:
        """Images to the last feature maps, ``[B, H / 32, W / 32, 1280 * width]``."""
        x = self.stages(images, train)[-1]
        return self.activate(self.top_bn(self.top(x), train=train))

    def head(self, features: jax.Array, train: bool) -> jax.Array:
        """Feature maps to logits."""
        return outputs(self.classifier, self.drop(ops.global_avg_pool(features), train=train))


def _classifier_uniform(
    key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> jax.Array:
    """Within 1 / sqrt(1000), as the reference for the 1,000 classes that it was made for.

    By its rule, 1 / sqrt(classes), ten classes would begin with a loss of 14.
    """
    bound = 1000**-0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def round_channels(channels: float) -> int:
    """The nearest multiple of 8 that is not below 90 % of ``channels``.

    Example:
      >>> round_channels(32 * 1.1), round_channels(11)
      (32, 16)
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
