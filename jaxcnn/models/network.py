"""Network interface: the methods and attributes that the rest of jaxcnn may rely on.

Every network in `jaxcnn.models` satisfies `Network`. A custom model only needs ``__call__``; the
functions below report what else a model provides.
"""

import inspect
from typing import Any, ClassVar, Protocol, runtime_checkable

import flax.linen as nn
import jax


@runtime_checkable
class Network(Protocol):
    """Linen module in two halves: ``head(features(images, train=train), train=train)``.

    Every method can be called through ``method=``; ``train`` is keyword-only.

    Attributes:
      input_layer: path of the layer that is applied to the images, such as ``"conv1"``.
      output_layers: paths of the layers that produce the outputs, main output first.

    Example:
      >>> from jaxcnn import models
      >>> import jax.numpy as jnp
      >>> model, images = models.create("lenet5", 10), jnp.zeros((1, 28, 28, 1))
      >>> isinstance(model, Network), model.input_layer, model.output_layers
      (True, 'conv1', ('output',))
      >>> run = lambda key: model.init_with_output(key, images, train=False, method="stages")
      >>> [maps.shape for maps in jax.eval_shape(run, jax.random.key(0))[0]]
      [(1, 14, 14, 6), (1, 5, 5, 16)]
    """

    input_layer: ClassVar[str]
    output_layers: ClassVar[tuple[str, ...]]

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images ``[B, H, W, C]`` to float32 logits ``[B, num_classes]``."""

    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Map images to the last feature maps ``[B, h, w, C]``."""

    def stages(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Map images to the feature maps of each stage, from largest to smallest."""

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """Map the last feature maps to float32 logits ``[B, num_classes]``."""


def offers_features(model: Any) -> bool:
    """Return whether a model is a Linen module with the methods ``features`` and ``head``.

    Example:
      >>> from jaxcnn import models
      >>> offers_features(models.create("lenet5", 10)), offers_features(nn.Dense(10))
      (True, False)
    """
    methods = (getattr(type(model), name, None) for name in ("features", "head"))
    return isinstance(model, nn.Module) and all(
        callable(method) and "train" in inspect.signature(method).parameters for method in methods
    )


def input_layer(model: Any) -> str | None:
    """Return the path of the layer applied to the images, or None if it is not specified.

    Example:
      >>> from jaxcnn import models
      >>> input_layer(models.create("vgg11", 10)), input_layer(nn.Dense(10))
      ('conv1_1', None)
    """
    return getattr(model, "input_layer", None)


def output_layers(model: Any) -> tuple[str, ...]:
    """Return the paths of the output layers, or an empty tuple if they are not specified.

    Example:
      >>> from jaxcnn import models
      >>> output_layers(models.create("inception_v3", 10)), output_layers(nn.Dense(10))
      (('fc', 'AuxLogits/fc'), ())
    """
    return getattr(model, "output_layers", ())


def without_output_layer(model: Any) -> Any:
    """Return a copy of a Linen module with ``num_classes=0``, which has no output layer.

    Raises:
      ValueError: if the model has no ``num_classes`` attribute.

    Example:
      >>> from jaxcnn import models
      >>> without_output_layer(models.create("lenet5", 10)).num_classes
      0
    """
    if not (isinstance(model, nn.Module) and "num_classes" in model.__dataclass_fields__):
        raise ValueError(
            "model must have a num_classes attribute, where 0 omits the last layer, "
            f"got {type(model).__name__}"
        )
    return model.clone(num_classes=0)
