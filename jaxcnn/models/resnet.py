"""Residual networks with 18 to 152 layers.

Layers use torchvision's names, with ``_`` instead of ``.`` between a stage and the block index.
"""

from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn import ops
from jaxcnn.models.blocks import (
    call_block,
    check_choice,
    conv_before_norm,
    output_layer,
    outputs,
)
from jaxcnn.models.layers import BatchNorm, Dropout


class ResidualBlock(nn.Module):
    """Residual block: two 3x3 convolutions, or a 1x1, a 3x3 and a 1x1, added to the block's input.

    Attributes:
      width: number of channels of the 3x3 convolutions.
      strides: stride of the block.
      bottleneck: use three convolutions, the last one with four times as many channels.
      version: which convolution of a bottleneck is strided: the 3x3 (``"v1.5"``) or the first 1x1
        (``"v1"``).
      use_bias: whether convolutions have a bias.
      drop_path: probability that an example skips the convolutions during training.
      norm_momentum: decay of batch norm's running statistics.
      norm_epsilon: constant added to batch norm's variance.
      dtype: dtype of the computation.

    Example:
      >>> block, images = ResidualBlock(width=8, strides=2), jnp.zeros((1, 16, 16, 4))
      >>> run = lambda key: block.init_with_output(key, images, train=False)
      >>> jax.eval_shape(run, jax.random.key(0))[0].shape
      (1, 8, 8, 8)

    Reference:
      He et al. 2015, "Deep residual learning for image recognition", figure 5.
    """

    width: int
    strides: int = 1
    bottleneck: bool = False
    version: Literal["v1.5", "v1"] = "v1.5"
    use_bias: bool = False
    drop_path: float = 0.0
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map ``[B, H, W, C]`` to ``[B, H / strides, W / strides, D]``.

        ``D`` is ``width``, or ``4 * width`` for a bottleneck.
        """

        def conv_norm(
            x: jax.Array, features: int, kernel_size: int, strides: int, names: tuple[str, str]
        ) -> jax.Array:
            x = conv_before_norm(
                features, kernel_size, strides, self.dtype, use_bias=self.use_bias, name=names[0]
            )(x)
            norm = BatchNorm(self.norm_momentum, self.norm_epsilon, name=names[1])
            return norm(x, train=train)

        outputs = self.width * (4 if self.bottleneck else 1)
        if self.bottleneck:
            first, second = (1, self.strides) if self.version == "v1.5" else (self.strides, 1)
            plan = [(self.width, 1, first), (self.width, 3, second), (outputs, 1, 1)]
        else:
            plan = [(self.width, 3, self.strides), (outputs, 3, 1)]
        x = images
        for number, (features, kernel_size, strides) in enumerate(plan, start=1):
            x = conv_norm(x, features, kernel_size, strides, (f"conv{number}", f"bn{number}"))
            if number < len(plan):
                x = nn.relu(x)
        if self.strides != 1 or images.shape[-1] != outputs:
            names = ("downsample_0", "downsample_1")
            images = conv_norm(images, outputs, 1, self.strides, names)
        return nn.relu(images + Dropout(self.drop_path, unit="example")(x, train=train))


class ResNet(nn.Module):
    """Residual network; ResNet-18 by default.

    Attributes:
      num_classes: number of classes; with 0, the network returns the pooled features.
      depths: number of blocks in each stage; every stage but the first halves the height and width.
      bottleneck: use blocks of three convolutions, the last one with four times as many channels.
      width: number of channels of the first stage's 3x3 convolutions; each later stage doubles it.
      stem: ``"imagenet"`` (7x7 convolution with stride 2, then 3x3 max pooling with stride 2) or
        ``"cifar"`` (3x3 convolution).
      version: which convolution of a bottleneck is strided: the 3x3 (``"v1.5"``: torchvision, timm)
        or the first 1x1 (``"v1"``: the paper, Keras).
      use_bias: whether convolutions have a bias, as in Keras.
      drop_path: probability that an example skips the last block during training; it increases
        linearly from 0 at the first block.
      dropout: dropout rate before the classifier.
      norm_momentum: decay of batch norm's running statistics.
      norm_epsilon: constant added to batch norm's variance.
      remat: recompute blocks in the backward pass to save activation memory.
      dtype: dtype of the computation.

    Example:
      >>> model = ResNet(num_classes=10, stem="cifar")
      >>> images = jnp.zeros((2, 32, 32, 3))
      >>> variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
      >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
      11173962

    Reference:
      He et al. 2015, "Deep residual learning for image recognition"; the CIFAR stem follows
      Kuang Liu's pytorch-cifar. Padding, epsilon and the initialization of convolutions follow
      torchvision.
    """

    input_layer: ClassVar[str] = "conv1"
    output_layers: ClassVar[tuple[str, ...]] = ("fc",)

    num_classes: int
    depths: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    width: int = 64
    stem: Literal["imagenet", "cifar"] = "imagenet"
    version: Literal["v1.5", "v1"] = "v1.5"
    use_bias: bool = False
    drop_path: float = 0.0
    dropout: float = 0.0
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Define the layers."""
        check_choice("stem", self.stem, ("imagenet", "cifar"))
        check_choice("version", self.version, ("v1.5", "v1"))
        kernel_size, strides = (7, 2) if self.stem == "imagenet" else (3, 1)
        self.conv1 = conv_before_norm(
            self.width, kernel_size, strides, self.dtype, use_bias=self.use_bias
        )
        self.bn1 = BatchNorm(self.norm_momentum, self.norm_epsilon)
        total = sum(self.depths)
        places = [
            (stage, block) for stage, depth in enumerate(self.depths) for block in range(depth)
        ]
        self.blocks = [
            ResidualBlock(
                width=self.width * 2**stage,
                strides=2 if stage and not block else 1,
                bottleneck=self.bottleneck,
                version=self.version,
                use_bias=self.use_bias,
                drop_path=self.drop_path * index / max(total - 1, 1),
                norm_momentum=self.norm_momentum,
                norm_epsilon=self.norm_epsilon,
                dtype=self.dtype,
                name=f"layer{stage + 1}_{block}",
            )
            for index, (stage, block) in enumerate(places)
        ]
        self.drop = Dropout(self.dropout)
        self.fc = output_layer(self.num_classes, dtype=self.dtype)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images ``[B, H, W, C]`` to logits ``[B, num_classes]``."""
        return self.head(self.features(images, train=train), train=train)

    def stages(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Map images to the feature maps of the stem and of each stage.

        The strides are 2, 4, 8, 16 and 32, or 1, 1, 2, 4 and 8 with the CIFAR stem.
        """
        x = nn.relu(self.bn1(self.conv1(images), train=train))
        maps = [x]
        if self.stem == "imagenet":
            x = ops.max_pool(x, 3, strides=2, padding=1)
        blocks = iter(self.blocks)
        for depth in self.depths:
            for _ in range(depth):
                x = call_block(next(blocks), x, train=train, remat=self.remat)
            maps.append(x)
        return maps

    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images to the last feature maps.

        Their shape is ``[B, H / 32, W / 32, C]``, or ``[B, H / 8, W / 8, C]`` with the CIFAR stem.
        """
        return self.stages(images, train=train)[-1]

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """Map feature maps to logits."""
        return outputs(self.fc, self.drop(ops.global_avg_pool(features), train=train))
