"""Network with trained weights and everything needed to use it."""

from typing import Any, NamedTuple

import flax.linen as nn

from jaxcnn.image import Preprocess


class Pretrained(NamedTuple):
    """Network with weights, image preprocessing, and the names of the outputs.

    Attributes:
      model: a Linen module.
      variables: ``params`` and ``batch_stats``.
      preprocess: conversion of pixels to the model's input.
      classes: names of the outputs.
      name: the network, one of `jaxcnn.models.names`.
      options: the options passed to `jaxcnn.models.create`.

    Example:
      >>> from jaxcnn import models
      >>> model, preprocess = models.create("lenet5", 2), Preprocess((28, 28), 1)
      >>> network = Pretrained(model, {}, preprocess, ("cat", "dog"), "lenet5", {})
      >>> network.classes[1]
      'dog'
    """

    model: nn.Module
    variables: dict[str, Any]
    preprocess: Preprocess
    classes: tuple[str, ...]
    name: str
    options: dict[str, Any]
