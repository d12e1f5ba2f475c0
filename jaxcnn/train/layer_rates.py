"""Layer-wise learning rates: smaller ones for what is closer to the image."""

import functools
from collections.abc import Sequence
from typing import Any

import chex
import flax.linen as nn
import jax

from jaxcnn.parameters import map_with_name, matches_any


def layer_rates(
    model: nn.Module, images: Any, decay: float, *, output_layers: Sequence[str] = ()
) -> chex.ArrayTree:
    """A factor on the learning rate for every parameter: 1 for the last layer, less before it.

    The groups are the model's own modules in the order in which they are called; one without a
    kernel, such as a normalisation, goes with the one before it.

    Args:
      model: a Linen module called as ``model(images, train=...)``.
      images: preprocessed images, ``[B, *spatial, C]``; only their shape and dtype count, so a
        ``jax.ShapeDtypeStruct`` will do.
      decay: factor from each group to the one before it, in (0, 1].
      output_layers: patterns of modules whose factor is 1 wherever they are, such as auxiliary
        heads.

    Returns:
      The structure of the parameters, a float for each.

    Raises:
      ValueError: if ``decay`` is out of range, or the model is no Linen module.

    Example:
      >>> from jaxcnn import models
      >>> images = jax.ShapeDtypeStruct((1, 28, 28, 1), jax.numpy.float32)
      >>> rates = layer_rates(models.create("classic_cnn", 10), images, 0.5)
      >>> rates["output"]["kernel"], rates["hidden"]["kernel"], rates["conv"]["kernel"]
      (1.0, 0.5, 0.25)

    Reference:
      Howard and Ruder 2018, "Universal language model fine-tuning for text classification";
      the ``layer_decay`` of Bao et al. 2021 ("BEiT") and timm.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be in (0, 1], got {decay!r}")
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a Linen module for layer-wise rates, got {model!r}")
    called: list[str] = []

    def record(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        path = context.module.path
        if path and path[0] not in called:
            called.append(path[0])
        return call(*arguments, **options)

    with nn.intercept_methods(record):
        init = functools.partial(model.init, train=False)
        params = jax.eval_shape(init, jax.random.key(0), images)["params"]
    groups: dict[str, int] = {}
    number = -1
    for name in called:
        if name in params:
            has_kernel = any(leaf.ndim > 1 for leaf in jax.tree.leaves(params[name]))
            number += has_kernel or number < 0
            groups[name] = number

    def rate(name: str, _: Any) -> float:
        if matches_any(name, output_layers):
            return 1.0
        return decay ** (number - groups[name.split("/")[0]])

    return map_with_name(rate, params)
