"""VGG: stages of 3x3 convolutions and max pooling, then three dense layers.

Layers are named as in the authors' Caffe models: ``conv1_1`` to ``conv5_4``, ``fc6`` to ``fc8``.
"""

from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn import ops
from jaxcnn.models.blocks import check_choice, check_size, fan_out_normal, output_layer, outputs
from jaxcnn.models.layers import BatchNorm, Conv, Dense, Dropout

_POOLED = 7  # height and width of the first dense layer's input
_dense_normal = nn.initializers.normal(0.01)


class VGG(nn.Module):
    """VGG; VGG-16 by default.

    Attributes:
      num_classes: number of classes; with 0, the network returns its last hidden activations.
      depths: number of convolutions in each of the five stages.
      width: number of channels in the first stage; the others have 2, 4, 8 and 8 times as many.
      hidden: number of units in each of the two hidden dense layers.
      norm: ``"none"``, or ``"batch"`` normalization after each convolution.
      dropout: dropout rate after each hidden dense layer.
      norm_momentum: decay of batch norm's running statistics.
      norm_epsilon: constant added to batch norm's variance.
      remat: recompute stages in the backward pass to save activation memory.
      dtype: dtype of the computation.

    Example:
      >>> model = VGG(num_classes=1000)
      >>> images = jnp.zeros((1, 224, 224, 3))
      >>> variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
      >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
      138357544

    Reference:
      Simonyan and Zisserman 2014, "Very deep convolutional networks for large-scale image
      recognition". Initialization and adaptive pooling to 7x7 feature maps follow torchvision.
    """

    input_layer: ClassVar[str] = "conv1_1"
    output_layers: ClassVar[tuple[str, ...]] = ("fc8",)

    num_classes: int
    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    width: int = 64
    hidden: int = 4096
    norm: Literal["none", "batch"] = "none"
    dropout: float = 0.5
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Define the layers."""
        check_choice("norm", self.norm, ("none", "batch"))
        places = [
            (stage, index)
            for stage, depth in enumerate(self.depths)
            for index in range(1, depth + 1)
        ]
        self.convs = [
            Conv(
                self.width * min(2**stage, 8),
                3,
                kernel_init=fan_out_normal,
                dtype=self.dtype,
                name=f"conv{stage + 1}_{index}",
            )
            for stage, index in places
        ]
        # The convolutions keep their bias even with batch norm, as in torchvision.
        self.norms = [
            BatchNorm(self.norm_momentum, self.norm_epsilon, name=f"bn{stage + 1}_{index}")
            for stage, index in places
            if self.norm == "batch"
        ]
        self.drop = Dropout(self.dropout)
        self.fc6 = Dense(self.hidden, kernel_init=_dense_normal, dtype=self.dtype)
        self.fc7 = Dense(self.hidden, kernel_init=_dense_normal, dtype=self.dtype)
        self.fc8 = output_layer(self.num_classes, kernel_init=_dense_normal, dtype=self.dtype)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images ``[B, H, W, C]`` of at least 32 x 32 pixels to logits ``[B, num_classes]``."""
        return self.head(self.features(images, train=train), train=train)

    def stages(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Map images to each stage's feature maps, at strides 2, 4, 8, 16 and 32."""
        check_size(images, 2 ** len(self.depths))
        maps, x = [], images
        for stage in range(len(self.depths)):
            x = self._stage(stage, x, train=train)
            maps.append(x)
        return maps

    def _stage(self, stage: int, x: jax.Array, *, train: bool) -> jax.Array:
        """Run the convolutions and pooling of one stage."""
        first = sum(self.depths[:stage])

        def run(model: "VGG", x: jax.Array) -> jax.Array:
            for index in range(first, first + self.depths[stage]):
                x = model.convs[index](x)
                if model.norms:
                    x = model.norms[index](x, train=train)
                x = nn.relu(x)
            return ops.max_pool(x, 2)

        return (nn.remat(run) if self.remat else run)(self, x)

    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images to the last stage's feature maps, ``[B, H / 32, W / 32, 8 * width]``."""
        return self.stages(images, train=train)[-1]

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """Map feature maps to logits."""
        x = ops.flatten(ops.adaptive_avg_pool(features, _POOLED))
        for hidden in (self.fc6, self.fc7):
            x = self.drop(nn.relu(hidden(x)), train=train)
        return outputs(self.fc8, x)
