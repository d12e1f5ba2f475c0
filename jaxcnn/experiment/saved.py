"""Trained networks, read from a run folder or a weights file, and their features.

A folder never decides which Python file is executed, and nothing in a weights file is executed.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxcnn import data, models, train
from jaxcnn.experiment.build import from_metadata, make_network
from jaxcnn.experiment.config import Experiment
from jaxcnn.experiment.network import Network
from jaxcnn.experiment.run_folder import check_unedited, read_config
from jaxcnn.experiment.task import make_task


class Trained(NamedTuple):
    """A network that can be evaluated, inspected and used for prediction.

    Attributes:
      experiment: the configuration the network was trained with; for a weights file, a
        configuration to train it with.
      network: the model and everything its steps need.
      state: parameters and statistics.
      history: a row of metrics per epoch; empty for a weights file.
      metadata: the metadata that a run stores with its weights; empty for a weights file.
    """

    experiment: Experiment
    network: Network
    state: train.TrainState
    history: list[dict[str, float]]
    metadata: dict[str, Any]


def open_run(
    folder: str | Path, *, model: str | None = None, checkpoint: str | int = "last"
) -> Trained:
    """Read a trained network from a checkpoint of a run.

    Args:
      folder: the run folder.
      model: the run's ``file.py:function``, which must be repeated if the model comes from a Python
        file: a folder never decides which file is executed.
      checkpoint: ``"last"``, the newest intact checkpoint (with early stopping, the variables of
        the best epoch so far); ``"best"``, the one from the epoch with the best validation score,
        among those kept; or a step.

    Raises:
      ValueError: if the folder is not a run folder, its network cannot be read, ``model`` does not
        match the model that the run was trained with, or there is no such checkpoint.

    Example:
      >>> import tempfile
      >>> from jaxcnn.experiment import run
      >>> folder = tempfile.mkdtemp()
      >>> result = run(Experiment(model="lenet5", epochs=1, batch_size=500), folder)
      >>> trained = open_run(folder)
      >>> images = data.load("fashion_mnist_slice", split="test").images[:2]
      >>> trained.network.predict_step()(trained.state, images).shape
      (2, 10)
    """
    folder = Path(folder)
    experiment = read_config(folder)
    if experiment.is_custom and model is None:
        raise ValueError(
            f"this run's network comes from a Python file; if you trust it, add "
            f"--model {experiment.model}"
        )
    if model is not None:
        if (":" in model) != experiment.is_custom:
            raise ValueError(f"this run was trained with model {experiment.model}, got {model!r}")
        experiment = dataclasses.replace(experiment, model=model)
    networks: list[Network] = []

    def like(metadata: dict[str, Any]) -> train.TrainState:
        networks.append(from_metadata(experiment, metadata))
        return jax.eval_shape(lambda: networks[-1].initial_state(experiment.seed))

    step = _step(folder / "checkpoints", experiment, checkpoint)
    snapshot = train.restore(folder / "checkpoints", like, step=step)
    check_unedited(folder, read_config(folder), snapshot.metadata)
    state = snapshot.state
    if snapshot.best is not None and checkpoint == "last":
        state = state.with_eval_variables(snapshot.best)
    return Trained(experiment, networks[-1], state, snapshot.history, snapshot.metadata)


def _step(folder: Path, experiment: Experiment, checkpoint: str | int) -> int | None:
    """Return the step of a checkpoint, or None for the newest one."""
    if checkpoint == "last":
        return None
    if checkpoint == "best":
        return train.best_step(folder, f"validation_{make_task(experiment).score}")
    if not re.fullmatch("[0-9]{1,18}", str(checkpoint)):
        raise ValueError(f"checkpoint must be last, best or a step, got {checkpoint!r}")
    return int(checkpoint)


def open_weights(
    path: str | Path, *, model: str | None = None, source: models.WeightSource | None = None
) -> Trained:
    """Read a weights file as a network for the ``multi_class`` task.

    Args:
      path: the file, as accepted by `jaxcnn.models.load_pretrained`.
      model: the network's name, if it cannot be inferred from the file.
      source: library that wrote the weights, if it cannot be inferred from the file.

    Raises:
      ValueError: if the file cannot be read, or contains no last layer.
    """
    pretrained = models.load_pretrained(model, path, source=source)
    if not pretrained.classes:
        raise ValueError(f"weights file {path} has no last layer, so its network has no classes")
    experiment = Experiment(
        model=pretrained.name, model_options=pretrained.options, pretrained=str(path)
    )
    network, _ = make_network(
        experiment, pretrained.preprocess, pretrained.classes, settings={}, steps_per_epoch=1
    )
    network = network._replace(optimizer=optax.identity(), pretrained=pretrained.variables)
    return Trained(experiment, network, network.initial_state(0), [], {})


def to_pretrained(trained: Trained) -> models.Pretrained:
    """Convert a run's network to the form that `jaxcnn.models.save_pretrained` writes.

    Raises:
      ValueError: if the network is custom, or its task is not ``multi_class``.
    """
    experiment, network = trained.experiment, trained.network
    if experiment.is_custom:
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
    """Compute features, the inputs to the last layer, for each readable example.

    Args:
      trained: a network from `jaxcnn.models`, or a custom network that omits its last layer when
        ``num_classes=0``.
      source: examples with the network's image size and channels.
      batch_size: images per call.

    Returns:
      Features ``[N, F]`` float32, and the labels ``[N, ...]``.

    Raises:
      ValueError: if the network cannot omit its last layer.
    """
    network = trained.network
    model = models.without_output_layer(network.model)
    step = network._replace(model=model, views=()).predict_step()
    parts = []
    for batch in data.batches(source, batch_size):
        outputs = np.asarray(step(trained.state, batch.image))
        parts.append((outputs[batch.mask], batch.label[batch.mask]))
    rows, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    if rows.ndim != 2:
        raise ValueError(
            f"without its last layer, model must return [B, F] features, got {rows.shape}"
        )
    return rows, labels
