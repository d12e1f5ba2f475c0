"""A run: training that writes to its own folder.

The folder contains ``config.json`` (the experiment), ``run.json`` (its hash and amendments),
``metrics.jsonl`` (a row per epoch), ``checkpoints/`` (weights, optimizer state, position),
``bad_examples.jsonl`` (if any were skipped) and, once the run is finished, ``result.json`` and
``figures/``.
"""

import contextlib
import dataclasses
import functools
import importlib.metadata
import platform
import signal
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rich.console

from jaxcnn import data, train
from jaxcnn.batch import Batch
from jaxcnn.data.decode import ignore_pillow_warnings
from jaxcnn.data.files import json_text
from jaxcnn.data.lazy import in_parts
from jaxcnn.experiment import run_folder
from jaxcnn.experiment.build import Assembly, assemble
from jaxcnn.experiment.config import Experiment
from jaxcnn.experiment.execution import Execution
from jaxcnn.experiment.finetune import resolve
from jaxcnn.experiment.lock import only_trainer
from jaxcnn.experiment.loop import few_steps, make_early_stopping
from jaxcnn.experiment.memory import memory_errors
from jaxcnn.experiment.optimizer import make_plateau
from jaxcnn.experiment.process import (
    check_deterministic_operations,
    keep_freed_memory,
    reproducibility,
)
from jaxcnn.experiment.resume import check_resumable, last_snapshot
from jaxcnn.experiment.run_folder import (
    Record,
    check_no_links,
    new_folder,
    run_name,
    write_json,
    write_record,
    write_text,
)
from jaxcnn.experiment.splits import (
    Splits,
    fingerprints,
    read_bad_examples,
    unreadable,
    write_bad_examples,
)
from jaxcnn.messages import printable
from jaxcnn.view.progress import Progress
from jaxcnn.view.tensorboard import EventFiles

_PACKAGES = ("jaxcnn", "jax", "jaxlib", "flax", "optax", "numpy")


class Interrupted(Exception):  # noqa: N818 - not an error: the work is saved
    """The run was asked to stop; its folder contains everything needed to resume it.

    Attributes:
      signal: the signal that asked, for example SIGTERM.
    """

    def __init__(self, message: str, signal: signal.Signals):
        super().__init__(message)
        self.signal = signal


@dataclasses.dataclass(frozen=True)
class _Run:
    """A run whose parts are checked and whose folder exists."""

    experiment: Experiment
    execution: Execution
    parts: Assembly
    folder: Path
    record: Record
    is_new: bool
    console: rich.console.Console | None
    events: EventFiles | None
    should_stop: train.StopRequest = dataclasses.field(default_factory=train.StopRequest)

    @property
    def early_stopping(self) -> train.EarlyStopping | None:
        return make_early_stopping(self.experiment, frozen_epochs=self.experiment.frozen_epochs)

    @property
    def how_to_resume(self) -> str:
        return f"resume with: jaxcnn train --workdir {self.folder} --resume"

    def check_stop(self, where: str) -> None:
        """Raise `Interrupted` if the process was asked to stop."""
        if self.should_stop.received is not None:
            message = f"stopped {where}, all work saved; {self.how_to_resume}"
            raise Interrupted(message, self.should_stop.received)


def run(
    experiment: Experiment,
    workdir: str | Path | None = None,
    *,
    execution: Execution = Execution(),  # noqa: B008 - immutable
    resume: bool = False,
    console: rich.console.Console | None = None,
    should_stop: train.StopRequest | None = None,
) -> dict[str, Any]:
    """Run an experiment in a run folder: train the model, then evaluate it once on the test split.

    Everything is checked before the folder is created or anything is compiled. Call this function
    in the main thread, where SIGINT, SIGTERM and SIGUSR1 stop the run cleanly once it has
    started.

    Args:
      experiment: the configuration.
      workdir: the run folder, which must be new or empty unless ``resume`` is True; None creates
        ``runs/<model>-<data>-seed<seed>``, with a number if that exists.
      execution: settings that do not affect the results.
      resume: resume from the last intact checkpoint in ``workdir``; the results are bit-for-bit
        the same as if the run had never stopped. Only ``epochs``, ``learning_rate``,
        ``on_bad_example`` and ``on_nonfinite`` may differ from the stored configuration. A run
        that has no checkpoint yet starts over.
      console: console to print progress to; None prints nothing.
      should_stop: request from `jaxcnn.train.stop_signals` if the caller handles signals; by
        default, this function does.

    Returns:
      The contents of ``result.json``, and ``workdir``: ``train_``, ``validation_`` and ``test_``
      metrics of the final network, the overfitting ``gap`` (the task's score on the training split
      minus its score on the validation split), ``best_epoch`` with early stopping, ``last_epoch``
      (the last row of the history), ``params_sha256``, ``experiment_sha256``, ``amendments``,
      seed, steps, wall_seconds, versions, device, reproducibility and config.

    Raises:
      ValueError: if the configuration or the folder cannot be used.
      Interrupted: if the run was stopped by a signal; its work is saved.

    Example:
      >>> import tempfile
      >>> result = run(Experiment(model="lenet5", epochs=1, batch_size=500), tempfile.mkdtemp())
      >>> result["steps"]
      18
    """
    began = time.monotonic()
    if execution.deterministic:
        check_deterministic_operations()
    keep_freed_memory()
    ignore_pillow_warnings()
    with contextlib.ExitStack() as stack:
        job, start = _prepare(experiment, workdir, execution, resume, console, stack)
        should_stop = should_stop or stack.enter_context(train.stop_signals())
        job = dataclasses.replace(job, should_stop=should_stop)
        result = _carry_out(job, start, began)
    return result | {"workdir": str(job.folder)}


def _carry_out(job: _Run, start: train.Snapshot, began: float) -> dict[str, Any]:
    """Train, evaluate, and write ``result.json``."""
    try:
        write_record(job.folder, job.record)
        (job.folder / "checkpoints").mkdir(exist_ok=True)
        if start.history:  # the process may have ended before it wrote the last row
            _write_history(job.folder, job.parts.splits, start)
        if job.events:
            job.events.open(job.folder / "tensorboard", start.history)
        with memory_errors(job.experiment, job.parts), contextlib.ExitStack() as stack:
            if job.is_new:
                stack.enter_context(run_folder.removed_if_unstarted(job.folder))
            state, history = _train(job, start)
            result = _finish(job, state, history)
        result |= {"wall_seconds": round(time.monotonic() - began, 2)}
        write_json(job.folder / "result.json", result)
    except BrokenPipeError:
        raise
    except OSError as error:
        hint = f"; {job.how_to_resume}" if (job.folder / "config.json").is_file() else ""
        raise OSError(f"{error}{hint}") from error
    return result


def _prepare(
    experiment: Experiment,
    workdir: str | Path | None,
    execution: Execution,
    resume: bool,
    console: rich.console.Console | None,
    stack: contextlib.ExitStack,
) -> tuple[_Run, train.Snapshot]:
    """Check everything, create the folder, and return the run and the snapshot to start from.

    The folder is locked until ``stack`` is closed.
    """
    experiment = experiment.with_absolute_paths()
    record, weights = None, None
    if not resume:
        run_folder.check_free(workdir)
    folder = Path(workdir or "")
    has_snapshots = False
    if resume:
        experiment, record = check_resumable(experiment, workdir)
        check_no_links(folder)
        read_bad_examples(folder / "bad_examples.jsonl")
        stack.enter_context(only_trainer(folder))  # first: its trainer may be about to save
        has_snapshots = train.has_snapshots(folder / "checkpoints")
    if not has_snapshots:
        experiment, weights = resolve(experiment)
    parts = assemble(experiment, weights)
    if execution.keep_best and not parts.validation:
        raise ValueError("keep_best must be False for data without a validation split, got True")
    events = EventFiles() if execution.tensorboard else None
    if is_new := record is None:
        fold = "" if experiment.fold is None else f"-fold{experiment.fold}"
        folder = new_folder(workdir, f"{run_name(experiment)}-seed{experiment.seed}{fold}")
        stack.enter_context(only_trainer(folder))
        record = Record(experiment, experiment.sha256(), [])
    if has_snapshots:
        start = last_snapshot(experiment, parts, folder, record.started)
    else:
        if resume and console:
            console.print("no checkpoint yet, so the run starts over")
        start = train.Snapshot(
            parts.network.initial_state(experiment.seed),
            metadata=parts.network.metadata()
            | fingerprints(parts.splits)
            | {"experiment": experiment.to_json()},
        )
    record = record.amend(experiment, step=int(start.state.step))
    (folder / "result.json").unlink(missing_ok=True)  # the resumed run writes a new one
    return _Run(experiment, execution, parts, folder, record, is_new, console, events), start


def _train(job: _Run, start: train.Snapshot) -> tuple[train.TrainState, list[dict[str, float]]]:
    experiment, parts, console = job.experiment, job.parts, job.console
    task, validation = parts.network.task, parts.validation
    early_stopping = job.early_stopping

    def validate(state: train.TrainState) -> dict[str, float]:
        return train.evaluate(parts.eval_step, state, validation or (), overall=task.overall)

    plateau = make_plateau(experiment)
    saving = train.Saving(
        job.folder / "checkpoints",
        seconds=job.execution.checkpoint_seconds,
        keep_best=f"validation_{task.score}" if job.execution.keep_best else None,
        after=functools.partial(_write_history, job.folder, parts.splits),
    )
    size = experiment.epochs, len(parts.train)
    if console and (note := few_steps(*size)):
        console.print(note, soft_wrap=True, markup=False)
    progress = Progress(*size, console, score=task.score) if console else None

    def on_epoch(row: dict[str, float]) -> None:
        if progress:
            progress.on_epoch(row)
        if job.events:
            job.events.write(row)

    with (
        contextlib.closing(job.events) if job.events else contextlib.nullcontext(),
        progress or contextlib.nullcontext(),
    ):
        for epochs, step in _phases(job, int(start.state.step)):
            batches: train.EpochBatches = parts.train
            if experiment.steps_per_call > 1:
                step, batches = train.fuse_steps(step, batches, steps=experiment.steps_per_call)
            monitors = (early_stopping if epochs == experiment.epochs else None, plateau)
            state, history = train.fit(
                start,
                step,
                batches,
                epochs=epochs,
                validate=validate if validation else None,
                monitors=[monitor for monitor in monitors if monitor is not None],
                saving=saving,
                on_step=progress.on_step if progress else None,
                on_epoch=on_epoch,
                should_stop=job.should_stop,
            )
            if job.should_stop():
                break
            start = train.Snapshot(state, history=history, metadata=start.metadata)
    stopped_early = early_stopping is not None and early_stopping.should_stop(history)
    if len(history) < experiment.epochs and not stopped_early:
        job.check_stop(f"at step {int(state.step)} of {experiment.epochs * len(parts.train)}")
    if early_stopping and console:
        console.print(f"best validation loss: epoch {early_stopping.best_epoch(history)}")
    return state, history


def _phases(job: _Run, taken: int) -> list[tuple[int, train.TrainStep]]:
    """Return the phases left after ``taken`` steps: the last epoch and training step of each."""
    whole = job.experiment.epochs, job.parts.train_step
    frozen_epochs, head_step = job.experiment.frozen_epochs, job.parts.head_step
    if head_step is not None and taken < frozen_epochs * len(job.parts.train):
        return [(frozen_epochs, head_step), whole]
    return [whole]


def _write_history(folder: Path, splits: Splits, snapshot: train.Snapshot) -> None:
    # The storage library creates missing folders, so saving a removed run would not fail.
    if not (folder / "config.json").is_file():
        raise OSError(f"{folder} or its config.json was removed, so the run cannot be saved")
    # Rewritten from the snapshot, so the history of a resumed run contains each epoch once.
    rows = [json_text(row) + "\n" for row in snapshot.history]
    write_text(folder / "metrics.jsonl", "".join(rows))
    write_bad_examples(folder / "bad_examples.jsonl", splits)


def _finish(job: _Run, state: train.TrainState, history: list[dict[str, float]]) -> dict[str, Any]:
    """Evaluate the final network on every split, draw the figures, and return the result."""
    experiment, parts, task = job.experiment, job.parts, job.parts.network.task
    measured = {}
    for split, source in parts.splits._asdict().items():
        if len(source):
            batches = _until_stopped(job, data.batches(source, experiment.batch_size))
            measured[split] = train.predict(parts.eval_step, state, batches, overall=task.overall)
    bad = write_bad_examples(job.folder / "bad_examples.jsonl", parts.splits)
    if job.console and (line := unreadable(parts.splits)):
        path = printable(job.folder / "bad_examples.jsonl")
        job.console.print(f"{line}: {path}", soft_wrap=True, markup=False)
    result: dict[str, Any] = {
        f"{split}_{name}": value
        for split in ("test", "validation", "train")
        if split in measured
        for name, value in measured[split][0].items()
    }
    _draw(job, state, history, measured["test"][1], result if parts.validation else None)
    if experiment.on_bad_example == "skip":
        result["bad_examples"] = bad
    if experiment.on_nonfinite == "skip":
        result["skipped_steps"] = sum(row.get("skipped_steps", 0) for row in history)
    if parts.validation:
        result["gap"] = result[f"train_{task.score}"] - result[f"validation_{task.score}"]
    if early_stopping := job.early_stopping:
        result["best_epoch"] = early_stopping.best_epoch(history)
    devices = state.lr_scale.devices()  # those used, not all that exist
    device = next(iter(devices))
    return {
        **result,
        "score": task.score,
        "test_examples": len(measured["test"][1]),
        "last_epoch": history[-1],
        "params_sha256": train.fingerprint(state.eval_variables),
        "experiment_sha256": experiment.sha256(),
        "amendments": job.record.amendments,
        "seed": experiment.seed,
        "steps": int(state.step),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": f"{len(devices)} x {device.platform} ({device.device_kind})",
        "reproducibility": reproducibility(),
        "config": experiment.to_json(),
    }


def _until_stopped(job: _Run, batches: Iterable[Batch]) -> Iterator[Batch]:
    for batch in batches:
        job.check_stop("after training")
        yield batch


def _draw(
    job: _Run,
    state: train.TrainState,
    history: list[dict[str, float]],
    outputs: np.ndarray,
    final: dict[str, float] | None,
) -> None:
    """Draw the run's figures; a failure issues a warning and does not end the run."""
    from jaxcnn.view import plots, run_figures  # matplotlib would delay the first step

    network, splits, folder = job.parts.network, job.parts.splits, job.folder / "figures"

    def of_network() -> run_figures.Figures:
        example = next(in_parts(splits.train.images, rows=1))[0]  # the first readable image
        return run_figures.network_figures(
            network.model, state.eval_variables, network.preprocess, example
        )

    for make in (
        lambda: run_figures.history_figures(history, network.task.score, final),
        lambda: run_figures.result_figures(network.task, outputs, splits.test.without_bad()),
        of_network,
    ):
        job.check_stop("after training")
        try:
            for name, figure in make().items():
                plots.save_figure(figure, folder / f"{name}.png")
        except Exception as error:  # any error from a font, the disk or a custom network
            message = f"figures are missing in {folder}: {type(error).__name__}: {error}"
            warnings.warn(message, stacklevel=2)
