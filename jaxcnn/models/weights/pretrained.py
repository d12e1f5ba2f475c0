"""A network with trained weights, and what is needed to use it."""

from typing import Any, NamedTuple

import flax.linen as nn

from jaxcnn.image import Preprocess


class Pretrained(NamedTuple):
    """A network with weights, what it expects of its images, and what its outputs mean.

    Attributes:
      model: a Linen module.
      variables: ``params`` and ``batch_stats``.
      preprocess: from pixels to the model's input.
      classes: names of the outputs.
      name: the network, one of `jaxcnn.models.names`.
      options: what `jaxcnn.models.create` made it with.
    """

    model: nn.Module
    variables: dict[str, Any]
    preprocess: Preprocess
    classes: tuple[str, ...]
    name: str
    options: dict[str, Any]
