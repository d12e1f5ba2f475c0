"""What begins with a file of weights: experiments, and networks that were never run here."""

import dataclasses
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from jaxcnn import models
from jaxcnn.experiment.config import Experiment


def resolve(experiment: Experiment) -> tuple[Experiment, models.Pretrained | None]:
    """Read an experiment's file of weights, and write into its fields what goes with them.

    Returns:
      The experiment with the options of the network, and the size, channels and normalisation of
      images that the weights ask for, where it does not say them itself; so a run needs the file
      no more once it has begun. And the network, or None if the experiment begins without any.

    Raises:
      ValueError: if the file cannot be used.
    """
    if experiment.pretrained is None:
        return experiment, None
    if ":" in experiment.model:
        raise ValueError(
            "pretrained must be left out for a network of your own, whose weights have no known "
            f"names; got model {experiment.model}"
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
    """The experiment with what `resolve` wrote into the ``stored`` one, without the file."""
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
    network: models.Pretrained, experiment: Experiment, classes: tuple[str, ...]
) -> dict[str, Any]:
    """The variables to begin with: all for the same classes, else without the last layer's."""
    if network.classes == classes and experiment.task in ("multi_class", "multi_label"):
        return network.variables
    layers = [tuple(layer.split("/")) for layer in models.info(network.name).network.output_layers]
    return unflatten_dict(
        {
            path: leaf
            for path, leaf in flatten_dict(network.variables).items()
            if not any(path[1 : 1 + len(layer)] == layer for layer in layers)
        }
    )
