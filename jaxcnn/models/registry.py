"""Networks by name."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn

from jaxcnn.messages import did_you_mean
from jaxcnn.models.classic import ClassicCNN, LeNet5, SmallVGG
from jaxcnn.models.efficientnet import EfficientNet
from jaxcnn.models.inception import InceptionV3
from jaxcnn.models.resnet import ResNet
from jaxcnn.models.vgg import VGG


class Entry(NamedTuple):
    """What a name stands for.

    Attributes:
      network: the Linen class; its ``input_layer`` names the convolution that sees the image, and
        its ``output_layers`` those that give the outputs.
      options: attributes of it.
      size: (height, width, channels) of the images that it is meant for.
      classes: number of classes that it is meant for.
    """

    network: type[Any]
    options: dict[str, Any]
    size: tuple[int, int, int]
    classes: int = 1000


def _vgg_family() -> Iterator[tuple[str, Entry]]:
    for layers, depths in {
        11: (1, 1, 2, 2, 2),
        13: (2, 2, 2, 2, 2),
        16: (2, 2, 3, 3, 3),
        19: (2, 2, 4, 4, 4),
    }.items():
        yield f"vgg{layers}", Entry(VGG, {"depths": depths}, (224, 224, 3))
        yield f"vgg{layers}_bn", Entry(VGG, {"depths": depths, "norm": "batch"}, (224, 224, 3))


def _resnet_family() -> Iterator[tuple[str, Entry]]:
    for layers, depths in {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}.items():
        yield f"resnet{layers}", Entry(ResNet, {"depths": depths}, (224, 224, 3))
    for layers, depths in {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}.items():
        options = {"depths": depths, "bottleneck": True}
        yield f"resnet{layers}", Entry(ResNet, options, (224, 224, 3))
        yield f"resnet{layers}_v1", Entry(ResNet, options | RESNET_V1, (224, 224, 3))


def _efficientnet_family() -> Iterator[tuple[str, Entry]]:
    # width, depth, side of the images, dropout
    for number, (width, depth, side, dropout) in enumerate(
        (
            (1.0, 1.0, 224, 0.2),
            (1.0, 1.1, 240, 0.2),
            (1.1, 1.2, 260, 0.3),
            (1.2, 1.4, 300, 0.3),
            (1.4, 1.8, 380, 0.4),
            (1.6, 2.2, 456, 0.4),
            (1.8, 2.6, 528, 0.5),
            (2.0, 3.1, 600, 0.5),
        )
    ):
        options: dict[str, Any] = {"width": width, "depth": depth, "dropout": dropout}
        if number >= 5:
            options |= TENSORFLOW_NORM
        yield f"efficientnet_b{number}", Entry(EfficientNet, options, (side, side, 3))
    for number, (width, depth, side, dropout) in enumerate(
        (
            (1.0, 1.0, 224, 0.2),
            (1.0, 1.1, 240, 0.2),
            (1.1, 1.2, 260, 0.3),
            (1.2, 1.4, 280, 0.3),
            (1.4, 1.8, 300, 0.3),
        )
    ):
        # The weights that exist are the authors', so padding and epsilon are too.
        options = {"width": width, "depth": depth, "dropout": dropout, "lite": True}
        options |= {"padding": "SAME", **TENSORFLOW_NORM}
        yield f"efficientnet_lite{number}", Entry(EfficientNet, options, (side, side, 3))


RESNET_V1: dict[str, Any] = {
    "version": "v1",
    "use_bias": True,
    "norm_momentum": 0.99,
    "norm_epsilon": 1.001e-5,
}
"""The residual networks of Keras."""

TENSORFLOW_NORM: dict[str, Any] = {"norm_momentum": 0.99, "norm_epsilon": 1e-3}
"""Batch norm as in the EfficientNets of TensorFlow."""

_MODELS: dict[str, Entry] = {
    "classic_cnn": Entry(ClassicCNN, {}, (28, 28, 1), 10),
    "lenet5": Entry(LeNet5, {}, (28, 28, 1), 10),
    "small_vgg": Entry(SmallVGG, {}, (28, 28, 1), 10),
    "inception_v3": Entry(InceptionV3, {}, (299, 299, 3)),
    **dict(_vgg_family()),
    **dict(_resnet_family()),
    **dict(_efficientnet_family()),
}


def names() -> tuple[str, ...]:
    """The names that `create` knows.

    Example:
      >>> [name for name in names() if name.startswith("resnet")][:3]
      ['resnet101', 'resnet101_v1', 'resnet152']
    """
    return tuple(sorted(_MODELS))


def create(name: str, num_classes: int, **options: Any) -> nn.Module:
    """Make a network by name.

    Args:
      name: one of `names`.
      num_classes: number of outputs; 0 leaves the last layer out, for what it would see.
      **options: attributes of the network's class, for example ``dropout=0.5`` or
        ``dtype=jax.numpy.bfloat16``.

    Returns:
      A Linen module: ``variables = model.init(key, images, train=False)``, then
      ``model.apply(variables, images, train=False)`` gives float32 logits ``[B, num_classes]``.

    Raises:
      ValueError: if the name or an option is unknown, or ``num_classes`` is negative.

    Example:
      >>> create("classic_cnn", 10, dropout=0.5).dropout
      0.5
    """
    found = info(name)
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 0:
        raise ValueError(f"num_classes must be an integer >= 0, got {num_classes!r}")
    # `parent` and `name` are Linen's own fields.
    accepted = {field.name for field in dataclasses.fields(found.network)} - {
        "parent",
        "name",
        "num_classes",
    }
    for option in options:
        if option not in accepted:
            raise ValueError(
                f"model_options of {name} do not include {option!r}. "
                f"{did_you_mean(option, accepted)}"
            )
    return found.network(num_classes=num_classes, **{**found.options, **options})


def info(name: str) -> Entry:
    """What a name stands for: the network's class, its options, and the size of its images.

    Raises:
      ValueError: if there is no such network.

    Example:
      >>> info("resnet18").size
      (224, 224, 3)
    """
    if name not in _MODELS:
        raise ValueError(f"model must name a network, got {name!r}. {did_you_mean(name, _MODELS)}")
    return _MODELS[name]
