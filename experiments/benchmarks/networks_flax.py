"""The workloads' networks in plain `flax.linen`, with jaxcnn's layer names."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from workloads import Workload

SAME_AS_TORCH: dict[int, Any] = {
    1: "VALID",
    3: ((1, 1), (1, 1)),
    5: ((2, 2), (2, 2)),
    7: ((3, 3), (3, 3)),
}
# Rows in EfficientNet's table: expansion, window, stride, channels, blocks.
EFFICIENTNET = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip


class ClassicCNN(nn.Module):
    """The course's network."""

    classes: int
    dtype: Any
    dropout: float = 0.2

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return the logits."""
        x = nn.relu(nn.Conv(32, (5, 5), dtype=self.dtype, name="conv")(x))
        x = nn.max_pool(x, (2, 2), (2, 2), padding="SAME")
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        x = nn.relu(nn.Dense(128, dtype=self.dtype, name="hidden")(x.reshape(len(x), -1)))
        x = nn.Dense(self.classes, dtype=self.dtype, name="output")(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class SmallVGG(nn.Module):
    """Six convolutions and two dense layers."""

    classes: int
    dtype: Any
    dropout: float = 0.3
    norm: str = "none"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return the logits."""
        for number, width in enumerate((32, 32, 64, 64, 128, 128)):
            x = nn.relu(nn.Conv(width, (3, 3), dtype=self.dtype, name=f"convs_{number}")(x))
            if number % 2:
                x = nn.max_pool(x, (2, 2), (2, 2), padding="SAME")
        x = nn.Dropout(self.dropout)(x.reshape(len(x), -1), deterministic=not train)
        x = nn.relu(nn.Dense(128, dtype=self.dtype, name="hidden")(x))
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        x = nn.Dense(self.classes, dtype=self.dtype, name="output")(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class Block(nn.Module):
    """A residual block, basic or bottleneck."""

    width: int
    stride: int
    bottleneck: bool
    dtype: Any

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return feature maps."""
        outputs = self.width * (4 if self.bottleneck else 1)
        if self.bottleneck:
            plan = [(self.width, 1, 1), (self.width, 3, self.stride), (outputs, 1, 1)]
        else:
            plan = [(self.width, 3, self.stride), (outputs, 3, 1)]
        x = images
        for number, (features, window, stride) in enumerate(plan, start=1):
            x = conv(features, window, stride, self.dtype, f"conv{number}")(x)
            x = norm(train, self.dtype, f"bn{number}")(x)
            if number < len(plan):
                x = nn.relu(x)
        if self.stride != 1 or images.shape[-1] != outputs:
            images = conv(outputs, 1, self.stride, self.dtype, "downsample_0")(images)
            images = norm(train, self.dtype, "downsample_1")(images)
        return nn.relu(x + images)


class ResNet(nn.Module):
    """ResNet v1.5."""

    classes: int
    dtype: Any
    depths: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    stem: str = "imagenet"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return the logits."""
        window, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = nn.relu(
            norm(train, self.dtype, "bn1")(conv(64, window, stride, self.dtype, "conv1")(x))
        )
        if self.stem == "imagenet":
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, depth in enumerate(self.depths):
            for number in range(depth):
                stride = 2 if stage and not number else 1
                name = f"layer{stage + 1}_{number}"
                block = Block(64 * 2**stage, stride, self.bottleneck, self.dtype, name=name)
                x = block(x, train=train)
        x = nn.Dense(self.classes, dtype=self.dtype, name="fc")(x.mean((1, 2)))
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class InvertedBottleneck(nn.Module):
    """EfficientNet's block."""

    row: tuple[int, int, int, int, int]
    stride: int
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return feature maps."""
        expansion, window, _, channels, _ = self.row
        inputs = images.shape[-1]
        wide = inputs * expansion
        x = images
        if expansion != 1:
            x = conv(wide, 1, 1, self.dtype, "expand")(x)
            x = nn.silu(norm(train, self.dtype, "expand_bn")(x))
        x = conv(wide, window, self.stride, self.dtype, "depthwise", groups=wide)(x)
        x = nn.silu(norm(train, self.dtype, "depthwise_bn")(x))
        x = Excite(max(1, inputs // 4), self.dtype, name="excite")(x)
        x = norm(train, self.dtype, "project_bn")(conv(channels, 1, 1, self.dtype, "project")(x))
        if self.stride == 1 and inputs == channels:
            drop = nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3))
            x = images + drop(x, deterministic=not train)
        return x


class Excite(nn.Module):
    """Squeeze and excitation."""

    squeezed: int
    dtype: Any

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Return feature maps."""
        x = images.mean((1, 2))
        x = nn.silu(nn.Dense(self.squeezed, dtype=self.dtype)(x))
        x = nn.sigmoid(nn.Dense(images.shape[-1], dtype=self.dtype)(x))
        return images * x[:, None, None, :]


class EfficientNet(nn.Module):
    """EfficientNet-B0."""

    classes: int
    dtype: Any
    dropout: float = 0.2
    drop_path: float = 0.2

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return the logits."""
        x = nn.silu(norm(train, self.dtype, "stem_bn")(conv(32, 3, 2, self.dtype, "stem")(x)))
        total, blocks = sum(row[-1] for row in EFFICIENTNET), 0
        for stage, row in enumerate(EFFICIENTNET, start=1):
            for number in range(row[-1]):
                rate, name = self.drop_path * blocks / total, f"stage{stage}_{number}"
                stride = 1 if number else row[2]
                block = InvertedBottleneck(row, stride, rate, self.dtype, name=name)
                x, blocks = block(x, train=train), blocks + 1
        x = nn.silu(norm(train, self.dtype, "top_bn")(conv(1280, 1, 1, self.dtype, "top")(x)))
        x = nn.Dropout(self.dropout)(x.mean((1, 2)), deterministic=not train)
        x = nn.Dense(self.classes, dtype=self.dtype, name="classifier")(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def conv(
    features: int, window: int, stride: int, dtype: Any, name: str, groups: int = 1
) -> nn.Conv:
    """Return a convolution without bias, padded as in torchvision."""
    return nn.Conv(
        features,
        (window, window),
        strides=(stride, stride),
        padding=SAME_AS_TORCH[window],
        use_bias=False,
        feature_group_count=groups,
        dtype=dtype,
        name=name,
    )


def norm(train: bool, dtype: Any, name: str) -> nn.BatchNorm:
    """Return batch norm as in torchvision."""
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name
    )


_NETWORKS: dict[str, Any] = {
    "classic_cnn": ClassicCNN,
    "small_vgg": SmallVGG,
    "resnet18": ResNet,
    "resnet50": functools.partial(ResNet, depths=(3, 4, 6, 3), bottleneck=True),
    "efficientnet_b0": EfficientNet,
}


def build(workload: Workload, options: dict[str, object], dtype: Any) -> nn.Module:
    """Return the workload's network."""
    return _NETWORKS[workload.model](workload.classes, dtype, **options)
