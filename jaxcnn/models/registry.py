"""Networks by name."""

import dataclasses
from typing import Any

import flax.linen as nn

from jaxcnn import shapes
from jaxcnn.models.classic import ClassicCNN, LeNet5, SmallVGG
from jaxcnn.models.efficientnet import EfficientNet
from jaxcnn.models.resnet import ResNet

# The class of each network, and which of its options the name stands for.
_MODELS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "classic_cnn": (ClassicCNN, {}),
    "efficientnet_b0": (EfficientNet, {}),
    "lenet5": (LeNet5, {}),
    "resnet18": (ResNet, {}),
    "resnet50": (ResNet, {"depths": (3, 4, 6, 3), "bottleneck": True}),
    "small_vgg": (SmallVGG, {}),
}


def names() -> tuple[str, ...]:
    """The names that `create` knows.

    Example:
      >>> names()
      ('classic_cnn', 'efficientnet_b0', 'lenet5', 'resnet18', 'resnet50', 'small_vgg')
    """
    return tuple(sorted(_MODELS))


def create(name: str, num_classes: int, **options: Any) -> nn.Module:
    """Make a network by name.

    Args:
      name: one of `names`.
      num_classes: number of outputs, >= 1.
      **options: attributes of the network's class, for example ``dropout=0.5`` or
        ``dtype=jax.numpy.bfloat16``.

    Returns:
      A Linen module: ``variables = model.init(key, images, train=False)``, then
      ``model.apply(variables, images, train=False)`` gives float32 logits ``[B, num_classes]``.

    Raises:
      ValueError: if the name or an option is unknown, or ``num_classes`` is not positive.

    Example:
      >>> create("classic_cnn", 10, dropout=0.5).dropout
      0.5
    """
    if name not in _MODELS:
        raise ValueError(
            f"model must name a network, got {name!r}. {shapes.did_you_mean(name, _MODELS)}"
        )
    (num_classes,) = shapes.ints(num_classes, 1, "num_classes")
    model, meaning = _MODELS[name]
    # `parent` and `name` are Linen's own fields.
    accepted = {field.name for field in dataclasses.fields(model)} - {
        "parent",
        "name",
        "num_classes",
    }
    for option in options:
        if option not in accepted:
            raise ValueError(
                f"model_options of {name} do not include {option!r}. "
                f"{shapes.did_you_mean(option, accepted)}"
            )
    return model(num_classes=num_classes, **{**meaning, **options})
