"""Registry of networks by name."""

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
from jaxcnn.shapes import check_integer


class Entry(NamedTuple):
    """Registered network.

    Attributes:
      name: the name accepted by `create`.
      network: the network's Linen class, which satisfies `jaxcnn.models.Network`.
      options: attribute values for the class.
      size: (height, width, channels) of the images that the network is designed for.
      classes: number of classes that the network is designed for.

    Example:
      >>> entry = info("vgg11_bn")
      >>> entry.network.__name__, entry.options["norm"], entry.classes
      ('VGG', 'batch', 1000)
    """

    name: str
    network: type[Any]
    options: dict[str, Any]
    size: tuple[int, int, int]
    classes: int = 1000


RESNET_V1: dict[str, Any] = {
    "version": "v1",
    "use_bias": True,
    "norm_momentum": 0.99,
    "norm_epsilon": 1.001e-5,
}
"""Options for Keras's residual networks."""

TENSORFLOW_NORM: dict[str, Any] = {"norm_momentum": 0.99, "norm_epsilon": 1e-3}
"""Batch norm options for TensorFlow's EfficientNets."""

_IMAGENET = (224, 224, 3)


def _vggs() -> Iterator[Entry]:
    for layers, depths in {
        11: (1, 1, 2, 2, 2),
        13: (2, 2, 2, 2, 2),
        16: (2, 2, 3, 3, 3),
        19: (2, 2, 4, 4, 4),
    }.items():
        yield Entry(f"vgg{layers}", VGG, {"depths": depths}, _IMAGENET)
        yield Entry(f"vgg{layers}_bn", VGG, {"depths": depths, "norm": "batch"}, _IMAGENET)


def _resnets() -> Iterator[Entry]:
    for layers, depths in {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}.items():
        yield Entry(f"resnet{layers}", ResNet, {"depths": depths}, _IMAGENET)
    for layers, depths in {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}.items():
        options = {"depths": depths, "bottleneck": True}
        yield Entry(f"resnet{layers}", ResNet, options, _IMAGENET)
        yield Entry(f"resnet{layers}_v1", ResNet, options | RESNET_V1, _IMAGENET)


def _efficientnets() -> Iterator[Entry]:
    # width, depth, image size, dropout
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
        yield Entry(f"efficientnet_b{number}", EfficientNet, options, (side, side, 3))
    for number, (width, depth, side, dropout) in enumerate(
        (
            (1.0, 1.0, 224, 0.2),
            (1.0, 1.1, 240, 0.2),
            (1.1, 1.2, 260, 0.3),
            (1.2, 1.4, 280, 0.3),
            (1.4, 1.8, 300, 0.3),
        )
    ):
        # All published weights come from the authors, so padding and epsilon follow them too.
        options = {"width": width, "depth": depth, "dropout": dropout, "lite": True}
        options |= {"padding": "SAME", **TENSORFLOW_NORM}
        yield Entry(f"efficientnet_lite{number}", EfficientNet, options, (side, side, 3))


_MODELS = {
    entry.name: entry
    for entry in (
        Entry("classic_cnn", ClassicCNN, {}, (28, 28, 1), 10),
        Entry("lenet5", LeNet5, {}, (28, 28, 1), 10),
        Entry("small_vgg", SmallVGG, {}, (28, 28, 1), 10),
        Entry("inception_v3", InceptionV3, {}, (299, 299, 3)),
        *_vggs(),
        *_resnets(),
        *_efficientnets(),
    )
}


def names() -> tuple[str, ...]:
    """Return the names that `create` accepts, sorted.

    Example:
      >>> [name for name in names() if name.startswith("resnet")][:3]
      ['resnet101', 'resnet101_v1', 'resnet152']
    """
    return tuple(sorted(_MODELS))


def create(name: str, num_classes: int, **options: Any) -> nn.Module:
    """Create a network by name.

    Args:
      name: one of `names`.
      num_classes: number of classes; with 0, the network returns the input to its last layer.
      **options: attributes of the network's class, for example ``dropout=0.5`` or
        ``dtype=jax.numpy.bfloat16``.

    Returns:
      A Linen module. After ``variables = model.init(key, images, train=False)``,
      ``model.apply(variables, images, train=False)`` returns float32 logits ``[B, num_classes]``.

    Raises:
      ValueError: if the name or an option is unknown, or ``num_classes`` is negative.

    Example:
      >>> create("classic_cnn", 10, dropout=0.5).dropout
      0.5
    """
    found = info(name)
    num_classes = check_integer(num_classes, "num_classes", minimum=0)
    # `parent` and `name` are fields of every Linen module.
    accepted = {field.name for field in dataclasses.fields(found.network)} - {
        "parent",
        "name",
        "num_classes",
    }
    for option in options:
        if option not in accepted:
            raise ValueError(
                f"model_options for {name} do not include {option!r}. "
                f"{did_you_mean(option, accepted)}"
            )
    return found.network(num_classes=num_classes, **{**found.options, **options})


def info(name: str) -> Entry:
    """Return a network's registry entry: its class, options, image size and number of classes.

    Raises:
      ValueError: if the name is unknown.

    Example:
      >>> info("resnet18").size
      (224, 224, 3)
    """
    if name not in _MODELS:
        raise ValueError(f"model must name a network, got {name!r}. {did_you_mean(name, _MODELS)}")
    return _MODELS[name]
