"""Inception version 3: blocks of parallel branches with factorised convolutions.

Blocks and layers bear torchvision's names (``Mixed_5b``, ``branch3x3dbl_2``), each layer with a
``conv`` and a ``bn``.
"""

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn import ops, shapes
from jaxcnn.models.layers import (
    BatchNorm,
    Conv,
    Dropout,
    call_block,
    check_size,
    output_layer,
    outputs,
)

_SMALLEST = 75  # the last reduction sees maps of 3x3
_AUX_MAPS = 17  # sides of the auxiliary head's maps for images of 299
_normal = nn.initializers.normal(0.1)


class Layer(NamedTuple):
    """A convolution in a branch; one with a stride has no padding."""

    name: str
    features: int
    window: shapes.IntOrInts = 1
    strides: int = 1


Branch = tuple[Layer | tuple[Layer, Layer], ...]
"""Layers one after the other; the last place may hold two side by side."""


def _parts(name: str, features: tuple[int, ...], windows: tuple[Any, ...]) -> Branch:
    """A branch whose layers are numbered."""
    return tuple(
        Layer(f"{name}_{number}", count, window)
        for number, (count, window) in enumerate(zip(features, windows, strict=True), start=1)
    )


def _pair(name: str) -> tuple[Layer, Layer]:
    return Layer(f"{name}a", 384, (1, 3)), Layer(f"{name}b", 384, (3, 1))


class Block(NamedTuple):
    """Branches side by side, and one that begins with a pooling.

    Attributes:
      branches: without the pooling.
      pooled: features of the 1x1 convolution after average pooling of stride 1; 0 for max pooling
        of stride 2 alone.
    """

    branches: tuple[Branch, ...]
    pooled: int = 0


def _block_a(pooled: int) -> Block:
    branches = (
        (Layer("branch1x1", 64),),
        _parts("branch5x5", (48, 64), (1, 5)),
        _parts("branch3x3dbl", (64, 96, 96), (1, 3, 3)),
    )
    return Block(branches, pooled)


def _block_c(width: int) -> Block:
    row, column = (1, 7), (7, 1)
    branches = (
        (Layer("branch1x1", 192),),
        _parts("branch7x7", (width, width, 192), (1, row, column)),
        _parts("branch7x7dbl", (width, width, width, width, 192), (1, column, row, column, row)),
    )
    return Block(branches, 192)


_BLOCK_B = Block(
    (
        (Layer("branch3x3", 384, 3, 2),),
        (*_parts("branch3x3dbl", (64, 96), (1, 3)), Layer("branch3x3dbl_3", 96, 3, 2)),
    )
)
_BLOCK_D = Block(
    (
        (Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, 3, 2)),
        (
            *_parts("branch7x7x3", (192, 192, 192), (1, (1, 7), (7, 1))),
            Layer("branch7x7x3_4", 192, 3, 2),
        ),
    )
)
_BLOCK_E = Block(
    (
        (Layer("branch1x1", 320),),
        (Layer("branch3x3_1", 384), _pair("branch3x3_2")),
        (*_parts("branch3x3dbl", (448, 384), (1, 3)), _pair("branch3x3dbl_3")),
    ),
    192,
)
BLOCKS: dict[str, Block] = {
    "Mixed_5b": _block_a(32),
    "Mixed_5c": _block_a(64),
    "Mixed_5d": _block_a(64),
    "Mixed_6a": _BLOCK_B,
    "Mixed_6b": _block_c(128),
    "Mixed_6c": _block_c(160),
    "Mixed_6d": _block_c(160),
    "Mixed_6e": _block_c(192),
    "Mixed_7a": _BLOCK_D,
    "Mixed_7b": _BLOCK_E,
    "Mixed_7c": _BLOCK_E,
}
"""The network's blocks in order, by torchvision's names."""
# The last block of each size of maps.
_STAGE_ENDS = ("Mixed_5d", "Mixed_6e", "Mixed_7c")
STEM = (
    Layer("Conv2d_1a_3x3", 32, 3, 2),
    Layer("Conv2d_2a_3x3", 32, 3),
    Layer("Conv2d_2b_3x3", 64, 3),
    Layer("Conv2d_3b_1x1", 80),
    Layer("Conv2d_4a_3x3", 192, 3),
)
"""The convolutions in front of them; there is a max pooling behind the third and the fifth."""


class ConvUnit(nn.Module):
    """Convolution, batch norm and ReLU.

    Attributes:
      layer: features, window and strides of the convolution.
      padding: of the convolution.
      norm_momentum: share of the running statistics that batch norm keeps at each step.
      norm_scale: whether batch norm scales the normalised values.
      kernel_init: initialises the kernel.
      dtype: type to compute in.
    """

    layer: Layer
    padding: shapes.Padding
    norm_momentum: float
    norm_scale: bool
    kernel_init: Any = _normal
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """``[B, H, W, C]`` to feature maps."""
        x = Conv(
            self.layer.features,
            self.layer.window,
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
    """Branches side by side, whose maps are joined.

    Attributes:
      block: the branches.
      count_include_pad: whether average pooling counts padding, as torchvision's does.
      norm_momentum: share of the running statistics that batch norm keeps at each step.
      norm_scale: whether batch norm scales the normalised values.
      dtype: type to compute in.

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
        """``[B, H, W, C]`` to ``[B, H, W, D]``, or to half the sides where there are strides."""

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
    """A small classifier on maps from the middle, to bring gradients there.

    Attributes:
      num_classes: number of outputs.
      norm_momentum: share of the running statistics that batch norm keeps at each step.
      norm_scale: whether batch norm scales the normalised values.
      dtype: type to compute in.

    Reference:
      Szegedy et al. 2015, figure 8. Maps smaller than those of images of 299 pixels, for which the
      windows are too large, are averaged to the size that they would have after the pooling.
    """

    num_classes: int
    norm_momentum: float
    norm_scale: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: jax.Array, *, train: bool) -> jax.Array:
        """``[B, h, w, C]`` to logits ``[B, num_classes]``."""
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

    In training it sows ``aux_logits`` of an auxiliary head, which
    `jaxcnn.train.make_train_step` adds to the objective with its ``aux_weight``.

    Attributes:
      num_classes: number of outputs, 0 for what the last layer would see.
      aux_head: whether there is the auxiliary head.
      count_include_pad: whether average pooling counts padding: torchvision's and timm's does,
        Keras's does not.
      norm_scale: whether batch norm scales the normalised values; Keras's does not.
      dropout: rate of the dropout in front of the classifier.
      norm_momentum: share of the running statistics that batch norm keeps at each step.
      remat: compute blocks again in the backward pass, for memory.
      dtype: type to compute in.

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
        """Name the layers."""
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
        """Images ``[B, H, W, C]``, at least 75 x 75, to logits ``[B, num_classes]``."""
        return self.head(self.features(images, train), train)

    def stages(self, images: jax.Array, train: bool) -> list[jax.Array]:
        """The last maps of each size, at about 1/2, 1/4, 1/8, 1/16 and 1/32 of the images' sides.

        Exactly, 299 pixels become 147, 71, 35, 17 and 8.
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
            # The head's parameters are made where it does not run.
            if block.name == "Mixed_6e" and self.AuxLogits and (train or self.is_initializing()):
                self.sow("intermediates", "aux_logits", self.AuxLogits(x, train=train))
        return maps

    def features(self, images: jax.Array, train: bool) -> jax.Array:
        """Images to the last feature maps, ``[B, 8, 8, 2048]`` for 299 x 299."""
        return self.stages(images, train)[-1]

    def head(self, features: jax.Array, train: bool) -> jax.Array:
        """Feature maps to logits."""
        return outputs(self.fc, self.drop(ops.global_avg_pool(features), train=train))
