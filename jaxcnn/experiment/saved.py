"""Trained networks: read back from a run's folder or a file of weights, and what is made of them.

A folder never decides which Python file is executed, and of a file nothing is executed at all.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxcnn import data, models, train
from jaxcnn.experiment.build import Network, from_metadata, make_network
from jaxcnn.experiment.config import Experiment
from jaxcnn.experiment.run_folder import read_config


class Trained(NamedTuple):
    """A network that can be evaluated, asked and looked into.

    Attributes:
      experiment: what it was trained by; for a file of weights, what it would be trained on with.
      network: the model and what goes with it.
      state: parameters and statistics.
      history: rows of metrics by epoch, none for a file of weights.
      metadata: what a run keeps beside its weights, nothing for a file of weights.
    """

    experiment: Experiment
    network: Network
    state: train.TrainState
    history: list[dict[str, float]]
    metadata: dict[str, Any]


def open_run(folder: str | Path, *, model: str | None = None) -> Trained:
    """Read a run's newest intact network.

    Args:
      folder: the run's folder.
      model: must repeat ``file.py:function`` if the run's model is one: a folder never decides
        which Python file is executed.

    Raises:
      ValueError: if the folder holds no run, its network cannot be read, or ``model`` is not what
        the run was trained with.
    """
    folder = Path(folder)
    experiment = read_config(folder)
    if ":" in experiment.model and model is None:
        raise ValueError(
            f"this run's network comes from a Python file; if you trust it, add "
            f"--model {experiment.model}"
        )
    if model is not None:
        if (":" in model) != (":" in experiment.model):
            raise ValueError(f"this run was trained with model {experiment.model}, got {model!r}")
        experiment = dataclasses.replace(experiment, model=model)
    networks: list[Network] = []

    def like(metadata: dict[str, Any]) -> train.TrainState:
        networks.append(from_metadata(experiment, metadata))
        return jax.eval_shape(lambda: networks[-1].initial_state(experiment.seed))

    snapshot = train.restore(folder / "checkpoints", like)
    state = snapshot.state
    if snapshot.best is not None:
        state = state.with_eval_variables(snapshot.best)
    return Trained(experiment, networks[-1], state, snapshot.history, snapshot.metadata)


def open_weights(
    path: str | Path, *, model: str | None = None, source: models.WeightSource | None = None
) -> Trained:
    """Read a file of weights as a network that tells one of several classes.

    Args:
      path: as `jaxcnn.models.load_pretrained` takes it.
      model: the network's name, which files of `jaxcnn.models.save_pretrained` say themselves.
      source: whose weights they are, if the file does not tell.

    Raises:
      ValueError: if the file cannot be read, or has no outputs.
    """
    pretrained = models.load_pretrained(model, path, source=source)
    if not pretrained.classes:
        raise ValueError(f"pretrained file {path} has no last layer, so its network has no classes")
    experiment = Experiment(
        model=pretrained.name, model_options=pretrained.options, pretrained=str(path)
    )
    network, _ = make_network(
        experiment,
        pretrained.preprocess,
        train.multi_class(),
        pretrained.classes,
        1,
        settings={},
    )
    network = network._replace(optimizer=optax.identity(), pretrained=pretrained.variables)
    return Trained(experiment, network, network.initial_state(0), [], {})


def to_pretrained(trained: Trained) -> models.Pretrained:
    """A run's network in the form that `jaxcnn.models.save_pretrained` writes.

    Raises:
      ValueError: if it is a network of the user's own, or does not tell one of several classes.
    """
    experiment, network = trained.experiment, trained.network
    if ":" in experiment.model:
        raise ValueError(
            f"model must be one of {', '.join(models.names())} to be exported, "
            f"got {experiment.model}"
        )
    if network.task.name != "multi_class":
        raise ValueError(f"task must be multi_class to be exported, got {network.task.name}")
    return models.Pretrained(
        model=network.model,
        variables=trained.state.eval_variables,
        preprocess=network.preprocess,
        classes=network.classes,
        name=experiment.model,
        options=dict(experiment.model_options),
    )


def features(
    trained: Trained, source: data.ArraySource, *, batch_size: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """What the last layer sees of each example, and the labels; unreadable images are left out.

    Args:
      trained: a network of `jaxcnn.models`, or one of the user's own whose ``num_classes=0`` leaves
        out the last layer.
      source: examples of the network's size and channels.
      batch_size: images at a time.

    Returns:
      Features ``[N, F]`` float32, and the source's labels ``[N, ...]``.

    Raises:
      ValueError: if the network cannot go without its last layer.
    """
    network = trained.network
    try:
        model = network.model.clone(num_classes=0)
    except (AttributeError, TypeError) as error:
        raise ValueError(
            "model must have an option num_classes, of which 0 leaves out the last layer; "
            f"{trained.experiment.model} has none"
        ) from error
    step = train.make_predict_step(model, preprocess=network.preprocess)
    parts = []
    for batch in data.batches(source, batch_size):
        outputs = np.asarray(step(trained.state, batch.image))
        parts.append((outputs[batch.mask], batch.label[batch.mask]))
    rows, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    if rows.ndim != 2:
        raise ValueError(f"model must give features [B, F] without classes, got {rows.shape}")
    return rows, labels
