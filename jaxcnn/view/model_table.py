"""What the networks of the registry are and cost: parameters, operations, memory."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn import models
from jaxcnn.view import costs


class Description(NamedTuple):
    """A network by its shapes alone.

    Attributes:
      name: as `jaxcnn.models.create` takes it.
      size: (height, width, channels) of the images that it is meant for.
      classes: number of outputs that it is counted with.
      parameters: values that are trained.
      multiply_adds: of convolutions and dense layers for one image, those with the zeros of padding
        among them, as is usual.
      kept_bytes: of what a training step in float32 keeps of each image from the forward pass for
        the backward one, before a compiler does better.
    """

    name: str
    size: tuple[int, int, int]
    classes: int
    parameters: int
    multiply_adds: int
    kept_bytes: int


def describe(name: str) -> Description:
    """Count what a network is and costs; nothing is computed.

    Args:
      name: one of `jaxcnn.models.names`.

    Raises:
      ValueError: if there is no such network.

    Example:
      >>> found = describe("resnet18")
      >>> found.parameters, found.multiply_adds, found.kept_bytes
      (11689512, 1814073344, 32014336)
    """
    _, _, size, classes = models.info(name)
    model = models.create(name, classes)
    images = jax.ShapeDtypeStruct((1, *size), jnp.float32)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), images)
    apply = functools.partial(model.apply, train=False)
    products = (
        operation.flops // 2
        for operation in costs.operations(apply, variables, images, count_padding=True)
        if operation.name in ("conv_general_dilated", "dot_general")
    )
    # What one more image adds: kernels, which are kept too, are there once whatever the batch.
    kept = [_kept_bytes(model, variables, (batch, *size)) for batch in (1, 2)]
    return Description(
        name=name,
        size=size,
        classes=classes,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        multiply_adds=sum(products),
        kept_bytes=kept[1] - kept[0],
    )


def _kept_bytes(model: nn.Module, variables: dict[str, Any], shape: tuple[int, ...]) -> int:
    """Of all arrays that the backward pass of a batch of this shape needs of the forward one."""

    def residuals(variables: dict[str, Any], images: jax.Array, key: jax.Array) -> list[jax.Array]:
        def logits(params: Any) -> Any:
            return model.apply(
                variables | {"params": params},
                images,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats", "intermediates"],
            )

        return jax.tree.leaves(jax.vjp(logits, variables["params"], has_aux=True)[1])

    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    jaxpr = jax.make_jaxpr(residuals)(variables, images, jax.random.key(0)).jaxpr
    # Several gradients may need the same array.
    arrays = {id(variable): variable.aval for variable in jaxpr.outvars}
    return sum(array.size * array.dtype.itemsize for array in arrays.values())
