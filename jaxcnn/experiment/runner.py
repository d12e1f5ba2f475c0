"""A run: training in a folder of its own.

``config.json`` (the experiment), ``metrics.jsonl`` (a row per epoch), ``checkpoints/`` (weights,
optimizer, position), ``bad_examples.jsonl`` (if some were skipped), ``result.json`` and
``pictures/`` (once it is finished).
"""

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import rich.console

from jaxcnn import data, train
from jaxcnn.experiment.build import Assembly, assemble
from jaxcnn.experiment.config import Experiment
from jaxcnn.experiment.finetune import as_resolved, resolve
from jaxcnn.experiment.run_folder import new_folder, read_config, run_name, write_json, write_text
from jaxcnn.experiment.splits import (
    Splits,
    difference,
    fingerprints,
    unreadable,
    with_absolute_paths,
    write_bad_examples,
)
from jaxcnn.messages import printable
from jaxcnn.view import plots, run_figures
from jaxcnn.view.progress import Progress
from jaxcnn.view.tensorboard import EventFiles

_PACKAGES = ("jaxcnn", "jax", "jaxlib", "flax", "optax", "numpy")
# Of a run that goes on: a bad image may turn up as late as among the test images.
_CHANGEABLE = ("epochs", "on_bad_example")


class Interrupted(Exception):  # noqa: N818 - not an error: the work is saved
    """The run was asked to stop; its folder holds all that is needed to go on."""


def run(
    experiment: Experiment,
    workdir: str | Path | None = None,
    *,
    resume: bool = False,
    console: rich.console.Console | None = None,
    tensorboard: bool = False,
) -> dict[str, Any]:
    """Train an experiment in a folder and measure it on the test split, once, at the end.

    Everything is checked before the folder is made or anything compiled. Call it in the main
    thread: SIGINT and SIGTERM stop it cleanly.

    Args:
      experiment: what to do.
      workdir: the run's folder, which must be new or empty; None makes
        ``runs/<model>-<data>-seed<seed>``, numbered if that exists.
      resume: go on from the last intact checkpoint in ``workdir`` instead, bit for bit as if the
        run had never stopped. Only ``epochs`` and ``on_bad_example`` may differ from the stored
        configuration.
      console: where to show progress; None is silent.
      tensorboard: write the history as TensorBoard event files too (extra ``tensorboard``).

    Returns:
      The content of ``result.json``, with ``workdir``: ``train_``, ``validation_`` and ``test_``
      metrics of the final network, the over-fitting ``gap`` (of the task's score, training less
      validation), ``best_epoch`` under early stopping, ``last_epoch`` (its row of the history),
      ``params_sha256``, seed, steps, wall_seconds, versions, device and config.

    Raises:
      ValueError: if the configuration or the folder will not do.
      Interrupted: if it was stopped by a signal, after saving.

    Example:
      >>> import tempfile
      >>> result = run(Experiment(model="lenet5", epochs=1, batch_size=500), tempfile.mkdtemp())
      >>> result["steps"]
      18
    """
    began = time.monotonic()
    train.keep_freed_memory()
    experiment = with_absolute_paths(experiment)
    weights = None
    if resume:
        experiment = _check_resumable(experiment, workdir)
    else:
        experiment, weights = resolve(experiment)
    parts = assemble(experiment, weights)
    events = EventFiles() if tensorboard else None
    if resume and workdir is not None:
        folder = Path(workdir)
        start = _last_snapshot(experiment, parts, folder)
        (folder / "result.json").unlink(missing_ok=True)  # it is not that of the run to come
    else:
        fold = "" if experiment.fold is None else f"-fold{experiment.fold}"
        folder = new_folder(workdir, f"{run_name(experiment)}-seed{experiment.seed}{fold}")
        start = train.Snapshot(
            parts.network.initial_state(experiment.seed),
            metadata=parts.network.metadata() | fingerprints(parts.splits),
        )
    write_json(folder / "config.json", experiment.to_json())
    if events:
        events.open(folder / "tensorboard", start.history)
    state, history = _train(experiment, parts, start, folder, console, events)
    try:
        result = _finish(experiment, parts, state, history, folder)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped after training, all work saved; {_go_on(folder)}") from None
    result |= {"wall_seconds": round(time.monotonic() - began, 2)}
    write_json(folder / "result.json", result)
    if console and (line := unreadable(parts.splits)):
        path = printable(folder / "bad_examples.jsonl")
        console.print(f"{line}: {path}", soft_wrap=True, markup=False)
    return result | {"workdir": str(folder)}


def _check_resumable(experiment: Experiment, workdir: str | Path | None) -> Experiment:
    if workdir is None:
        raise ValueError("resume needs the folder of the run: --workdir RUN --resume")
    stored = read_config(Path(workdir))
    experiment = as_resolved(experiment, stored)
    for field in dataclasses.fields(Experiment):
        given, kept = getattr(experiment, field.name), getattr(stored, field.name)
        if given != kept and field.name not in _CHANGEABLE:
            raise ValueError(
                f"a resumed run keeps its {field.name}: it is {kept!r} in {workdir}, got {given!r}"
            )
    if experiment.epochs != stored.epochs and stored.schedule == "cosine":
        raise ValueError(
            f"a resumed run with a {stored.schedule} schedule keeps its epochs "
            f"({stored.epochs}), got {experiment.epochs}"
        )
    return experiment


def _last_snapshot(experiment: Experiment, parts: Assembly, folder: Path) -> train.Snapshot:
    like = jax.eval_shape(lambda: parts.network.initial_state(experiment.seed))
    snapshot = train.restore(folder / "checkpoints", like)
    if change := difference(parts.splits, snapshot.metadata):
        raise ValueError(
            f"data {experiment.data} is no longer what the run in {folder} trains on: {change}"
        )
    taken, last = int(snapshot.state.step), experiment.epochs * len(parts.train)
    finished = (folder / "result.json").is_file()
    stopping = _early_stopping(experiment)
    if finished and stopping is not None and stopping.should_stop(snapshot.history):
        raise ValueError(
            f"the run in {folder} has stopped early, after {taken} steps; it is finished"
        )
    if taken > last or (finished and taken == last):
        raise ValueError(
            f"epochs must be larger to train on: the run in {folder} has taken {taken} steps, and "
            f"{experiment.epochs} epochs are {last}"
        )
    return snapshot


def _train(
    experiment: Experiment,
    parts: Assembly,
    start: train.Snapshot,
    folder: Path,
    console: rich.console.Console | None,
    events: EventFiles | None,
) -> tuple[train.TrainState, list[dict[str, float]]]:
    task, validation = parts.network.task, parts.validation
    early_stopping = _early_stopping(experiment)

    def validate(state: train.TrainState) -> dict[str, float]:
        return train.evaluate(parts.eval_step, state, validation or (), overall=task.overall)

    size = experiment.epochs, len(parts.train)
    progress = Progress(*size, console, score=task.score) if console else None

    def on_epoch(row: dict[str, float]) -> None:
        if progress:
            progress.on_epoch(row)
        if events:
            events.write(row)

    with (
        train.stop_signals() as should_stop,
        contextlib.closing(events) if events else contextlib.nullcontext(),
        progress or contextlib.nullcontext(),
    ):
        for epochs, train_step in _phases(experiment, parts, int(start.state.step)):
            state, history = train.fit(
                start,
                train_step,
                parts.train,
                epochs=epochs,
                validate=validate if validation else None,
                early_stopping=early_stopping if epochs == experiment.epochs else None,
                plateau=_plateau(experiment),
                checkpoint=functools.partial(_keep, folder, parts.splits),
                steps_per_call=experiment.steps_per_call,
                on_step=progress.on_step if progress else None,
                on_epoch=on_epoch,
                should_stop=should_stop,
            )
            if should_stop():
                break
            start = train.Snapshot(state, history=history, metadata=start.metadata)
    stopped_early = early_stopping is not None and early_stopping.should_stop(history)
    if len(history) < experiment.epochs and not stopped_early:
        raise Interrupted(
            f"stopped at step {int(state.step)} of {experiment.epochs * len(parts.train)}, "
            f"all work saved; {_go_on(folder)}"
        )
    if early_stopping and console:
        console.print(f"best validation loss: epoch {early_stopping.best_epoch(history)}")
    return state, history


def _keep(folder: Path, splits: Splits, snapshot: train.Snapshot) -> None:
    train.save(folder / "checkpoints", snapshot)
    # Written whole from the snapshot, so a resumed run has each epoch once.
    rows = [json.dumps(row) + "\n" for row in snapshot.history]
    write_text(folder / "metrics.jsonl", "".join(rows))
    write_bad_examples(folder / "bad_examples.jsonl", splits)


def _phases(
    experiment: Experiment, parts: Assembly, taken: int
) -> list[tuple[int, train.TrainStep]]:
    """Steps to train with, each up to an epoch, after ``taken`` steps."""
    whole = experiment.epochs, parts.train_step
    if taken < experiment.frozen_epochs * len(parts.train):
        return [(experiment.frozen_epochs, parts.head_step), whole]
    return [whole]


def _early_stopping(experiment: Experiment) -> train.EarlyStopping | None:
    if experiment.early_stopping is None:
        return None
    return train.EarlyStopping(
        experiment.early_stopping,
        min_delta=experiment.min_delta,
        # The frozen epochs are there to be surpassed.
        start_epoch=max(experiment.start_epoch, experiment.frozen_epochs + 1),
    )


def _plateau(experiment: Experiment) -> train.ReduceOnPlateau | None:
    if experiment.schedule != "plateau":
        return None
    return train.ReduceOnPlateau(experiment.plateau_patience, factor=experiment.schedule_factor)


def _finish(
    experiment: Experiment,
    parts: Assembly,
    state: train.TrainState,
    history: list[dict[str, float]],
    folder: Path,
) -> dict[str, Any]:
    task = parts.network.task
    measured = {}
    for split, source in parts.splits._asdict().items():
        if len(source):
            batches = data.batches(source, experiment.batch_size)
            measured[split] = train.predict(parts.eval_step, state, batches, overall=task.overall)
    bad = write_bad_examples(folder / "bad_examples.jsonl", parts.splits)
    _draw(parts, state, history, measured["test"][1], folder / "pictures")
    result: dict[str, Any] = {
        f"{split}_{name}": value
        for split in ("test", "validation", "train")
        if split in measured
        for name, value in measured[split][0].items()
    }
    if experiment.on_bad_example == "skip":
        result["bad_examples"] = bad
    if parts.validation:
        result["gap"] = result[f"train_{task.score}"] - result[f"validation_{task.score}"]
    if early_stopping := _early_stopping(experiment):
        result["best_epoch"] = early_stopping.best_epoch(history)
    device = jax.devices()[0]
    return {
        **result,
        "score": task.score,
        "test_examples": len(measured["test"][1]),
        "last_epoch": history[-1],
        "params_sha256": train.fingerprint(state.eval_variables),
        "seed": experiment.seed,
        "steps": int(state.step),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": f"{len(jax.devices())} x {device.platform} ({device.device_kind})",
        "config": experiment.to_json(),
    }


def _draw(
    parts: Assembly,
    state: train.TrainState,
    history: list[dict[str, float]],
    outputs: np.ndarray,
    folder: Path,
) -> None:
    """The run's pictures; one that cannot be drawn is a warning, and no reason to lose the run."""
    network, splits = parts.network, parts.splits

    def of_network() -> run_figures.Figures:
        picture = splits.train.without_bad().images[0]
        return run_figures.network_figures(
            network.model, state.eval_variables, network.preprocess, picture
        )

    for make in (
        lambda: run_figures.history_figures(history, network.task.score),
        lambda: run_figures.result_figures(network.task, outputs, splits.test.without_bad()),
        of_network,
    ):
        try:
            for name, figure in make().items():
                plots.save_figure(figure, folder / f"{name}.png")
        except Exception as error:  # whatever a font, a disk or a network of the user's own raises
            message = f"pictures are missing in {folder}: {type(error).__name__}: {error}"
            warnings.warn(message, stacklevel=2)


def _go_on(folder: Path) -> str:
    return f"go on with: jaxcnn train --workdir {folder} --resume"
