"""Fine-tuning: fill in an experiment's settings from a weights file; select variables."""

import dataclasses
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from jaxcnn import models
from jaxcnn.experiment.config import Experiment
from jaxcnn.experiment.task import TaskConfig


def resolve(experiment: Experiment) -> tuple[Experiment, models.Pretrained | None]:
    """Read the weights file and fill in the fields that depend on it.

    Returns:
      The experiment, with the network's options, image size and channels filled in where unset and
      its normalization replaced by the weights' own, so a resumed run does not need the file; and
      the pretrained network, or None without pretrained weights.

    Raises:
      ValueError: if the file cannot be used.

    Example:
      >>> resolve(Experiment()) == (Experiment(), None)
      True
    """
    if experiment.pretrained is None:
        return experiment, None
    if experiment.is_custom:
        raise ValueError(
            "pretrained must be omitted for a custom network, whose parameter names are unknown; "
            f"got model {experiment.model}"
        )
    options: dict[str, Any] = dict(experiment.model_options)
    network = models.load_pretrained(
        experiment.model,
        experiment.pretrained,
        source=None if experiment.pretrained_source == "auto" else experiment.pretrained_source,
        channels=experiment.channels,
        **options,
    )
    preprocess = network.preprocess
    return dataclasses.replace(
        experiment,
        model_options=network.options,
        image_size=experiment.image_size or preprocess.size,
        channels=preprocess.channels,
        normalization=(*preprocess.mean, *preprocess.std),
    ), network


def as_resolved(experiment: Experiment, stored: Experiment) -> Experiment:
    """Set the fields that `resolve` sets, from the ``stored`` experiment instead of the file."""
    if experiment.pretrained is None or experiment.pretrained != stored.pretrained:
        return experiment
    return dataclasses.replace(
        experiment,
        model_options={**stored.model_options, **experiment.model_options},
        image_size=experiment.image_size or stored.image_size,
        channels=experiment.channels or stored.channels,
        normalization=stored.normalization,
    )


def kept_variables(
    network: models.Pretrained, config: TaskConfig, classes: tuple[str, ...]
) -> dict[str, Any]:
    """Return the variables to start from, without the last layer if the classes differ."""
    if network.classes == classes and config.task in ("multi_class", "multi_label"):
        return network.variables
    layers = [tuple(layer.split("/")) for layer in models.info(network.name).network.output_layers]
    return unflatten_dict(
        {
            path: leaf
            for path, leaf in flatten_dict(network.variables).items()
            if not any(path[1 : 1 + len(layer)] == layer for layer in layers)
        }
    )
