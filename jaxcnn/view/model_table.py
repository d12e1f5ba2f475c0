"""Size and cost of the registered networks: parameters, multiply-adds, activation memory."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxcnn import models
from jaxcnn.view import costs


class Description(NamedTuple):
    """Size and cost of a network.

    Attributes:
      name: the name that `jaxcnn.models.create` accepts.
      size: (height, width, channels) of the images that the network is designed for.
      classes: number of outputs.
      parameters: number of trainable values.
      multiply_adds: multiply-adds in convolutions and dense layers for one image, including those
        on padding, as is customary.
      kept_bytes: activation memory in bytes that a float32 training step needs per image, before
        compiler optimizations.

    Example:
      >>> describe("lenet5").parameters
      61706
    """

    name: str
    size: tuple[int, int, int]
    classes: int
    parameters: int
    multiply_adds: int
    kept_bytes: int


def describe(name: str) -> Description:
    """Count a network's parameters, multiply-adds and activation memory from shapes alone.

    Args:
      name: one of `jaxcnn.models.names`.

    Raises:
      ValueError: if the name is unknown.

    Example:
      >>> found = describe("resnet18")
      >>> found.parameters, found.multiply_adds, found.kept_bytes
      (11689512, 1814073344, 32014336)
    """
    entry = models.info(name)
    model = models.create(name, entry.classes)
    images = jax.ShapeDtypeStruct((1, *entry.size), jnp.float32)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), images)
    apply = functools.partial(model.apply, train=False)
    products = (
        operation.flops // 2
        for operation in costs.operations(apply, variables, images, count_padding=True)
        if operation.name in ("conv_general_dilated", "dot_general")
    )
    return Description(
        name=name,
        size=entry.size,
        classes=entry.classes,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        multiply_adds=sum(products),
        kept_bytes=costs.activation_bytes(model, variables, entry.size),
    )
