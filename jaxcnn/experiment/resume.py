"""Checks that a resumed run continues the same experiment on the same data."""

import dataclasses
from pathlib import Path

import jax

from jaxcnn import train
from jaxcnn.experiment.build import Assembly
from jaxcnn.experiment.config import Experiment
from jaxcnn.experiment.finetune import as_resolved
from jaxcnn.experiment.loop import make_early_stopping
from jaxcnn.experiment.run_folder import AMENDABLE, Record, check_unedited, read_record
from jaxcnn.experiment.splits import difference


def check_resumable(
    experiment: Experiment, workdir: str | Path | None
) -> tuple[Experiment, Record]:
    """Return the experiment to resume and the record of the run, if they agree.

    Args:
      experiment: the experiment asked for.
      workdir: the run folder.

    Raises:
      ValueError: if the run cannot be resumed with this experiment.
    """
    if workdir is None:
        raise ValueError("resume needs the run folder: --workdir RUN --resume")
    record = read_record(Path(workdir))
    if record.started.sha256() != record.sha256:
        raise ValueError(
            f"{Path(workdir) / 'config.json'} was edited after the run was started, so the run "
            "cannot be resumed; restore it, or start a new run"
        )
    stored = record.experiment
    experiment = as_resolved(experiment, stored)
    for field in dataclasses.fields(Experiment):
        given, kept = getattr(experiment, field.name), getattr(stored, field.name)
        if given != kept and field.name not in AMENDABLE:
            raise ValueError(
                f"a resumed run must keep its {field.name}: it is {kept!r} in {workdir}, "
                f"got {given!r}"
            )
    if experiment.epochs != stored.epochs and stored.schedule == "cosine":
        raise ValueError(
            f"a resumed run with a {stored.schedule} schedule must keep its epochs, "
            f"{stored.epochs}, got {experiment.epochs}"
        )
    return experiment, record


def last_snapshot(
    experiment: Experiment, parts: Assembly, folder: Path, started: Experiment
) -> train.Snapshot:
    """Return the run's last intact snapshot, after setting aside damaged ones.

    Args:
      experiment: the experiment to resume.
      parts: its parts.
      folder: the run folder.
      started: the experiment that the run was started with.

    Raises:
      ValueError: if the data has changed, or the run is finished.
    """
    like = jax.eval_shape(lambda: parts.network.initial_state(experiment.seed))
    snapshot = train.restore(folder / "checkpoints", like, set_aside=True)
    check_unedited(folder, started, snapshot.metadata)
    if change := difference(parts.splits, snapshot.metadata):
        raise ValueError(
            f"data {experiment.data} has changed since the run in {folder} was started: {change}"
        )
    taken, last = int(snapshot.state.step), experiment.epochs * len(parts.train)
    finished = (folder / "result.json").is_file()
    stopping = make_early_stopping(experiment, frozen_epochs=experiment.frozen_epochs)
    if finished and stopping is not None and stopping.should_stop(snapshot.history):
        raise ValueError(f"the run in {folder} stopped early after {taken} steps, and is finished")
    if taken > last or (finished and taken == last):
        raise ValueError(
            f"epochs must be larger to train further: the run in {folder} has taken {taken} steps, "
            f"and {experiment.epochs} epochs are {last} steps"
        )
    return snapshot
