"""A run: training in a folder of its own, and everything read back from that folder.

``config.json`` (the experiment), ``metrics.jsonl`` (a row per epoch), ``checkpoints/`` (weights,
optimizer, position), ``result.json`` and ``pictures/`` (once it is finished).
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import rich.console

from jaxcnn import data, image, inspection, metrics, plots, train
from jaxcnn.experiment import Assembly, Experiment, Network, assemble, make_network
from jaxcnn.progress import Progress

_PACKAGES = ("jaxcnn", "jax", "jaxlib", "flax", "optax", "numpy")


class Interrupted(Exception):  # noqa: N818 - not an error: the work is saved
    """The run was asked to stop; its folder holds all that is needed to go on."""


class Trained(NamedTuple):
    """A network read back from a run's folder."""

    experiment: Experiment
    network: Network
    state: train.TrainState
    history: list[dict[str, float]]


def run(
    experiment: Experiment,
    workdir: str | Path | None = None,
    *,
    resume: bool = False,
    console: rich.console.Console | None = None,
) -> dict[str, Any]:
    """Train an experiment in a folder and measure it on the test split, read once, at the end.

    Everything is checked before the folder is made or anything compiled. Call it in the main
    thread: SIGINT and SIGTERM stop it cleanly.

    Args:
      experiment: what to do.
      workdir: the run's folder, which must be new or empty; None makes
        ``runs/<model>-<data>-seed<seed>``, numbered if that exists.
      resume: go on from the last intact checkpoint in ``workdir`` instead, bit for bit as if the
        run had never stopped. Only ``epochs`` may differ from the stored configuration.
      console: where to show progress; None is silent.

    Returns:
      The content of ``result.json``: test metrics, the last epoch's metrics, ``params_sha256``,
      seed, steps, wall_seconds, versions, device and config, with ``workdir``.

    Raises:
      ValueError: if the configuration or the folder will not do.
      Interrupted: if it was stopped by a signal, after saving.

    Example:
      >>> import tempfile
      >>> experiment = Experiment(model="lenet5", epochs=1, batch_size=500)
      >>> result = run(experiment, tempfile.mkdtemp())
      >>> result["steps"]
      18
    """
    began = time.monotonic()
    if resume:
        _check_resumable(experiment, workdir)
    parts = assemble(experiment)
    if resume and workdir is not None:
        folder = Path(workdir)
        start = _last_snapshot(experiment, parts, folder)
    else:
        folder = _new_folder(experiment, workdir)
        start = train.Snapshot(
            parts.network.initial_state(experiment.seed), metadata=parts.network.metadata()
        )
    write_json(folder / "config.json", dataclasses.asdict(experiment))
    state, history = _train(experiment, parts, start, folder, console)
    try:
        result = _finish(experiment, parts, state, history, folder)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped after training, all work saved; {_go_on(folder)}") from None
    result |= {"wall_seconds": round(time.monotonic() - began, 2)}
    write_json(folder / "result.json", result)
    return result | {"workdir": str(folder)}


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
        preprocess = image.Preprocess(**metadata["preprocess"])
        # The number of steps shapes the schedule, not the structure of the state.
        network = make_network(experiment, preprocess, tuple(metadata["classes"]), 1)
        networks.append(network)
        return jax.eval_shape(lambda: network.initial_state(experiment.seed))

    snapshot = train.restore(folder / "checkpoints", like)
    return Trained(experiment, networks[-1], snapshot.state, snapshot.history)


def load_split(experiment: Experiment, split: str) -> data.ArraySource:
    """The examples of one split of a run: ``train`` and ``validation`` as it divided them."""
    source = data.load(
        experiment.data,
        split="test" if split == "test" else "train",
        data_dir=experiment.data_dir,
    )
    if split == "test":
        return source
    training, validation = data.hold_out(source, experiment.validation_fraction)
    if split == "validation" and not len(validation):
        raise ValueError("this run held out no validation slice (validation_fraction is 0)")
    return validation if split == "validation" else training


def read_config(folder: Path) -> Experiment:
    """The experiment of a run's folder.

    Raises:
      ValueError: if there is none, or it cannot be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not the folder of a run: there is no {path}")
    try:
        values = json.loads(path.read_text())
        return Experiment.from_json(values)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file so that it is, at any moment, the old one or the new one."""
    _write_text(path, json.dumps(value, indent=2) + "\n")


def draw_network(
    network: Network, state: train.TrainState, picture: np.ndarray, folder: Path
) -> None:
    """Draw the first layer's kernels, and what each layer makes of one raw image."""
    kernel = inspection.first_kernel(state.params, network.preprocess.channels)
    if kernel is not None:
        plots.save_figure(plots.kernels(kernel), folder / "kernels.png")
    maps = inspection.feature_maps(
        network.model, state.variables, network.preprocess(picture[None])
    )
    # The layer after the first is where one sees what was made of the detected features.
    for name, layer in list(maps.items())[:1] + list(maps.items())[-1:]:
        figure = plots.feature_maps(
            picture, np.asarray(layer[0], np.float32), f"What layer {name!r} gives"
        )
        plots.save_figure(figure, folder / f"feature_maps_{name.replace('/', '_')}.png")


def _check_resumable(experiment: Experiment, workdir: str | Path | None) -> None:
    if workdir is None:
        raise ValueError("resume needs the folder of the run: --workdir RUN --resume")
    stored = read_config(Path(workdir))
    for field in dataclasses.fields(Experiment):
        given, kept = getattr(experiment, field.name), getattr(stored, field.name)
        if given != kept and field.name != "epochs":
            raise ValueError(
                f"a resumed run keeps its {field.name}: it is {kept!r} in {workdir}, got {given!r}"
            )
    if experiment.epochs != stored.epochs and stored.schedule != "constant":
        raise ValueError(
            f"a resumed run with a {stored.schedule} schedule keeps its epochs "
            f"({stored.epochs}), got {experiment.epochs}"
        )


def _last_snapshot(experiment: Experiment, parts: Assembly, folder: Path) -> train.Snapshot:
    like = jax.eval_shape(lambda: parts.network.initial_state(experiment.seed))
    snapshot = train.restore(folder / "checkpoints", like)
    taken, last = int(snapshot.state.step), experiment.epochs * len(parts.train)
    finished = (folder / "result.json").is_file()
    if taken > last or (finished and taken == last):
        raise ValueError(
            f"epochs must be larger to train on: the run in {folder} has taken {taken} steps, and "
            f"{experiment.epochs} epochs are {last}"
        )
    return snapshot


def _new_folder(experiment: Experiment, workdir: str | Path | None) -> Path:
    if workdir is not None:
        folder = Path(workdir)
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(
                f"workdir {folder} is not empty; choose another, or go on with the run in it: "
                f"--workdir {folder} --resume"
            )
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    model = Path(experiment.model.rpartition(":")[0] or experiment.model).stem
    name = f"{model}-{Path(experiment.data).stem}-seed{experiment.seed}"
    number = 1
    while True:
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def _train(
    experiment: Experiment,
    parts: Assembly,
    start: train.Snapshot,
    folder: Path,
    console: rich.console.Console | None,
) -> tuple[train.TrainState, list[dict[str, float]]]:
    validation = parts.validation

    def checkpoint(snapshot: train.Snapshot) -> None:
        train.save(folder / "checkpoints", snapshot)
        # Written whole from the snapshot, so a resumed run has each epoch once.
        rows = [json.dumps(row) + "\n" for row in snapshot.history]
        _write_text(folder / "metrics.jsonl", "".join(rows))

    def validate(state: train.TrainState) -> dict[str, float]:
        return train.evaluate(parts.eval_step, state, validation or ())

    progress = Progress(experiment.epochs, len(parts.train), console) if console else None
    with train.stop_signals() as should_stop, progress or contextlib.nullcontext():
        state, history = train.fit(
            start,
            parts.train_step,
            parts.train,
            epochs=experiment.epochs,
            validate=validate if validation else None,
            checkpoint=checkpoint,
            on_step=progress.on_step if progress else None,
            on_epoch=progress.on_epoch if progress else None,
            should_stop=should_stop,
        )
    if len(history) < experiment.epochs:
        raise Interrupted(
            f"stopped at step {int(state.step)} of {experiment.epochs * len(parts.train)}, "
            f"all work saved; {_go_on(folder)}"
        )
    return state, history


def _finish(
    experiment: Experiment,
    parts: Assembly,
    state: train.TrainState,
    history: list[dict[str, float]],
    folder: Path,
) -> dict[str, Any]:
    network = parts.network
    source = load_split(experiment, "test")
    test, logits = train.predict(
        parts.eval_step, state, data.batches(source, experiment.batch_size)
    )
    matrix = metrics.confusion_matrix(source.labels, logits.argmax(-1), len(source.classes))
    wrong = inspection.confident_mistakes(logits, source.labels, 18)
    figures = {
        "learning_curves": plots.learning_curves(history),
        "confusion_matrix": plots.confusion_matrix(matrix, source.classes),
        "mistakes": plots.mistakes(
            source.images[wrong], source.labels[wrong], logits[wrong], source.classes
        ),
    }
    for name, figure in figures.items():
        plots.save_figure(figure, folder / "pictures" / f"{name}.png")
    draw_network(network, state, parts.train.source.images[0], folder / "pictures")
    device = jax.devices()[0]
    return {
        **{f"test_{name}": value for name, value in test.items()},
        "test_examples": len(source),
        **{name: value for name, value in history[-1].items() if "_" in name},
        "params_sha256": train.fingerprint(state.variables),
        "seed": experiment.seed,
        "steps": int(state.step),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": f"{len(jax.devices())} x {device.platform} ({device.device_kind})",
        "config": dataclasses.asdict(experiment),
    }


def _go_on(folder: Path) -> str:
    return f"go on with: jaxcnn train --workdir {folder} --resume"


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
