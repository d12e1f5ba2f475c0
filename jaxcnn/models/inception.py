"""Inception version 3: blocks of parallel branches with factorized convolutions.

Blocks and layers use torchvision's names (``Mixed_5b``, ``branch3x3dbl_2``); each layer consists of
a ``conv`` and a ``bn``.
"""

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn import ops, shapes
from jaxcnn.models.blocks import call_block, check_size, output_layer, outputs
from jaxcnn.models.layers import BatchNorm, Conv, Dropout


class Layer(NamedTuple):
    """Convolution in the stem or a branch; strided convolutions have no padding."""

    name: str
    features: int
    kernel_size: shapes.IntOrInts = 1
    strides: int = 1


STEM = (
    Layer("Conv2d_1a_3x3", 32, 3, 2),
    Layer("Conv2d_2a_3x3", 32, 3),
    Layer("Conv2d_2b_3x3", 64, 3),
    Layer("Conv2d_3b_1x1", 80),
    Layer("Conv2d_4a_3x3", 192, 3),
)
"""Convolutions before the blocks; max pooling follows the third and the fifth."""

# One row per block: torchvision's name, then the `kind` and `channels` arguments of `_block`.
_TABLE = (
    ("Mixed_5b", "A", 32),
    ("Mixed_5c", "A", 64),
    ("Mixed_5d", "A", 64),
    ("Mixed_6a", "B", 0),
    ("Mixed_6b", "C", 128),
    ("Mixed_6c", "C", 160),
    ("Mixed_6d", "C", 160),
    ("Mixed_6e", "C", 192),
    ("Mixed_7a", "D", 0),
    ("Mixed_7b", "E", 0),
    ("Mixed_7c", "E", 0),
)
_STAGE_ENDS = ("Mixed_5d", "Mixed_6e", "Mixed_7c")  # the last block at each feature map size
_SMALLEST = 75  # the last reduction needs 3x3 feature maps
_AUX_MAPS = 17  # size of the auxiliary head's input for 299x299 images

_normal = nn.initializers.normal(0.1)

Branch = tuple[Layer | tuple[Layer, Layer], ...]
"""Consecutive layers; the last element may be a pair of parallel layers."""


class Block(NamedTuple):
    """Parallel branches of convolutions, plus one branch that starts with pooling.

    Attributes:
      branches: the branches without pooling.
      pooled: number of features of the 1x1 convolution after stride-1 average pooling; 0 means
        stride-2 max pooling without a convolution.
    """

    branches: tuple[Branch, ...]
    pooled: int = 0


class ConvUnit(nn.Module):
    """Convolution, batch norm and ReLU.

    Attributes:
      layer: features, kernel size and strides of the convolution.
      padding: padding of the convolution, as in `Conv`.
      norm_momentum: decay of batch norm's running statistics.
      norm_scale: whether batch norm has a learned scale.
      kernel_init: initializer for the kernel.
      dtype: dtype of the computation.

    Example:
      >>> unit, images = ConvUnit(Layer("conv", 8, 3), "SAME", 0.9, True), jnp.zeros((1, 9, 9, 4))
      >>> unit.init_with_output(jax.random.key(0), images, train=False)[0].shape
      (1, 9, 9, 8)
    """

    layer: Layer
    padding: shapes.Padding
    norm_momentum: float
    norm_scale: bool
    kernel_init: Any = _normal
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map ``[B, H, W, C]`` to feature maps."""
        x = Conv(
            self.layer.features,
            self.layer.kernel_size,
            strides=self.layer.strides,
            padding=self.padding,
            use_bias=False,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="conv",
        )(images)
        norm = BatchNorm(self.norm_momentum, 1e-3, use_scale=self.norm_scale, name="bn")
        return nn.relu(norm(x, train=train))


class InceptionBlock(nn.Module):
    """Parallel branches with their feature maps concatenated along the channel axis.

    Attributes:
      block: the branches.
      count_include_pad: whether average pooling includes padding, as in torchvision.
      norm_momentum: decay of batch norm's running statistics.
      norm_scale: whether batch norm has a learned scale.
      dtype: dtype of the computation.

    Example:
      >>> block = InceptionBlock(BLOCKS["Mixed_5b"], True, 0.9, True)
      >>> init = lambda key: block.init_with_output(key, jnp.zeros((1, 9, 9, 192)), train=False)
      >>> jax.eval_shape(init, jax.random.key(0))[0].shape
      (1, 9, 9, 256)

    Reference:
      Szegedy et al. 2015, "Rethinking the Inception architecture for computer vision",
      figures 5, 6, 7 and 10.
    """

    block: Block
    count_include_pad: bool
    norm_momentum: float
    norm_scale: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map ``[B, H, W, C]`` to ``[B, H, W, D]``; strided blocks halve the height and width."""

        def unit(layer: Layer, x: jax.Array) -> jax.Array:
            padding: shapes.Padding = "SAME" if layer.strides == 1 else "VALID"
            norm = self.norm_momentum, self.norm_scale
            module = ConvUnit(layer, padding, *norm, dtype=self.dtype, name=layer.name)
            return module(x, train=train)

        joined = []
        for branch in self.block.branches:
            x = images
            for step in branch:
                if isinstance(step, Layer):
                    x = unit(step, x)
                else:
                    x = jnp.concatenate([unit(layer, x) for layer in step], axis=-1)
            joined.append(x)
        if self.block.pooled:
            options: dict[str, Any] = {"strides": 1, "padding": "SAME"}
            x = ops.avg_pool(images, 3, count_include_pad=self.count_include_pad, **options)
            joined.append(unit(Layer("branch_pool", self.block.pooled), x))
        else:
            joined.append(ops.max_pool(images, 3, strides=2))
        return jnp.concatenate(joined, axis=-1)


class AuxiliaryHead(nn.Module):
    """Small classifier on intermediate feature maps that gives earlier layers a direct gradient.

    Feature maps that are too small for its pooling, from images smaller than 299x299, are reduced
    to 5x5 by adaptive average pooling instead.

    Attributes:
      num_classes: number of classes.
      norm_momentum: decay of batch norm's running statistics.
      norm_scale: whether batch norm has a learned scale.
      dtype: dtype of the computation.

    Example:
      >>> head = AuxiliaryHead(10, 0.9, True)
      >>> init = lambda key: head.init_with_output(key, jnp.zeros((1, 17, 17, 768)), train=False)
      >>> jax.eval_shape(init, jax.random.key(0))[0].shape
      (1, 10)

    Reference:
      Szegedy et al. 2015, "Rethinking the Inception architecture for computer vision", figure 8.
    """

    num_classes: int
    norm_momentum: float
    norm_scale: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: jax.Array, *, train: bool) -> jax.Array:
        """Map ``[B, h, w, C]`` to logits ``[B, num_classes]``."""
        norm = self.norm_momentum, self.norm_scale
        first, last = Layer("conv0", 128), Layer("conv1", 768, 5)
        if min(maps.shape[1:3]) < _AUX_MAPS:
            x = ops.adaptive_avg_pool(maps, 5)
        else:
            x = ops.avg_pool(maps, 5, strides=3)
        x = ConvUnit(first, "VALID", *norm, dtype=self.dtype, name="conv0")(x, train=train)
        x = ConvUnit(last, "VALID", *norm, nn.initializers.normal(0.01), self.dtype, name="conv1")(
            x, train=train
        )
        x = ops.global_avg_pool(x)
        kernel_init = nn.initializers.normal(0.001)
        return outputs(
            output_layer(self.num_classes, kernel_init=kernel_init, dtype=self.dtype, name="fc"), x
        )


class InceptionV3(nn.Module):
    """Inception version 3.

    During training it sows the auxiliary head's ``aux_logits``; `jaxcnn.train.make_train_step` adds
    their loss to the objective, weighted by ``aux_weight``.

    Attributes:
      num_classes: number of classes; with 0, the network returns the pooled features.
      aux_head: whether to include the auxiliary head.
      count_include_pad: whether average pooling includes padding; true in torchvision and timm,
        false in Keras.
      norm_scale: whether batch norm has a learned scale; false in Keras.
      dropout: dropout rate before the classifier.
      norm_momentum: decay of batch norm's running statistics.
      remat: recompute blocks in the backward pass to save activation memory.
      dtype: dtype of the computation.

    Example:
      >>> model = InceptionV3(num_classes=1000, aux_head=False)
      >>> images = jnp.zeros((1, 299, 299, 3))
      >>> variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
      >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
      23834568

    Reference:
      Szegedy et al. 2015, "Rethinking the Inception architecture for computer vision".
    """

    input_layer: ClassVar[str] = "Conv2d_1a_3x3/conv"
    output_layers: ClassVar[tuple[str, ...]] = ("fc", "AuxLogits/fc")

    num_classes: int
    aux_head: bool = True
    count_include_pad: bool = True
    norm_scale: bool = True
    dropout: float = 0.5
    norm_momentum: float = 0.9
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Define the layers."""
        norm = self.norm_momentum, self.norm_scale
        self.stem = [
            ConvUnit(
                layer,
                "SAME" if layer.name == "Conv2d_2b_3x3" else "VALID",
                *norm,
                dtype=self.dtype,
                name=layer.name,
            )
            for layer in STEM
        ]
        self.blocks = [
            InceptionBlock(block, self.count_include_pad, *norm, dtype=self.dtype, name=name)
            for name, block in BLOCKS.items()
        ]
        has_aux = self.aux_head and self.num_classes
        self.AuxLogits = (
            AuxiliaryHead(self.num_classes, *norm, dtype=self.dtype) if has_aux else None
        )
        self.drop = Dropout(self.dropout)
        self.fc = output_layer(self.num_classes, kernel_init=_normal, dtype=self.dtype)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images ``[B, H, W, C]`` of at least 75 x 75 pixels to logits ``[B, num_classes]``."""
        return self.head(self.features(images, train=train), train=train)

    def stages(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Map images to the last feature maps of each size, at strides of about 2, 4, 8, 16 and 32.

        For 299x299 images, the feature maps have sizes 147, 71, 35, 17 and 8.
        """
        check_size(images, _SMALLEST)
        maps, x = [], images
        for unit in self.stem:
            x = unit(x, train=train)
            if unit.name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                maps.append(x)
                x = ops.max_pool(x, 3, strides=2)
        for block in self.blocks:
            x = call_block(block, x, train=train, remat=self.remat)
            if block.name in _STAGE_ENDS:
                maps.append(x)
            # Initialization creates the head's parameters even in evaluation mode.
            if block.name == "Mixed_6e" and self.AuxLogits and (train or self.is_initializing()):
                self.sow("intermediates", "aux_logits", self.AuxLogits(x, train=train))
        return maps

    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images to the last feature maps, ``[B, 8, 8, 2048]`` for 299x299 images."""
        return self.stages(images, train=train)[-1]

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """Map feature maps to logits."""
        return outputs(self.fc, self.drop(ops.global_avg_pool(features), train=train))


def _block(kind: str, channels: int) -> Block:
    """Build a block of a given kind; only A (pooled) and C (bottleneck) use ``channels``."""
    row, column = (1, 7), (7, 1)
    if kind == "A":
        return Block(
            (
                (Layer("branch1x1", 64),),
                _numbered("branch5x5", (48, 64), (1, 5)),
                _numbered("branch3x3dbl", (64, 96, 96), (1, 3, 3)),
            ),
            channels,
        )
    if kind == "B":
        double = _numbered("branch3x3dbl", (64, 96), (1, 3))
        return Block(
            (
                (Layer("branch3x3", 384, 3, 2),),
                (*double, Layer("branch3x3dbl_3", 96, 3, 2)),
            )
        )
    if kind == "C":
        features = (channels, channels, channels, channels, 192)
        return Block(
            (
                (Layer("branch1x1", 192),),
                _numbered("branch7x7", (channels, channels, 192), (1, row, column)),
                _numbered("branch7x7dbl", features, (1, column, row, column, row)),
            ),
            192,
        )
    if kind == "D":
        factorized = _numbered("branch7x7x3", (192, 192, 192), (1, row, column))
        return Block(
            (
                (Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, 3, 2)),
                (*factorized, Layer("branch7x7x3_4", 192, 3, 2)),
            )
        )
    double = _numbered("branch3x3dbl", (448, 384), (1, 3))
    return Block(
        (
            (Layer("branch1x1", 320),),
            (Layer("branch3x3_1", 384), _pair("branch3x3_2")),
            (*double, _pair("branch3x3dbl_3")),
        ),
        192,
    )


def _numbered(name: str, features: tuple[int, ...], kernel_sizes: tuple[Any, ...]) -> Branch:
    """Build a branch whose layers are named ``name_1``, ``name_2`` and so on."""
    return tuple(
        Layer(f"{name}_{number}", count, kernel_size)
        for number, (count, kernel_size) in enumerate(
            zip(features, kernel_sizes, strict=True), start=1
        )
    )


def _pair(name: str) -> tuple[Layer, Layer]:
    """Build two parallel layers, 1x3 and 3x1."""
    return Layer(f"{name}a", 384, (1, 3)), Layer(f"{name}b", 384, (3, 1))


BLOCKS = {name: _block(kind, channels) for name, kind, channels in _TABLE}
"""The network's blocks in order, keyed by torchvision's names."""
