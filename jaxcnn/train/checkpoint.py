"""Snapshots of a run on disk: atomic, verified on reading, with older ones to fall back to.

orbax commits a checkpoint atomically but checks no data; so its SHA-256 is saved in the same
commit, and a snapshot that does not match is passed over for the next older one.
"""

import dataclasses
import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import numpy as np
import orbax.checkpoint as ocp

from jaxcnn.metrics import Counts
from jaxcnn.parameters import fingerprint
from jaxcnn.train.state import TrainState

History = list[dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All that `jaxcnn.train.fit` needs to go on, in the middle of an epoch or between two.

    Attributes:
      state: the train state.
      counts: metric counts of the epoch under way, None between epochs.
      history: one row per finished epoch.
      metadata: JSON values kept beside the weights, such as preprocessing and class names.
      best: the variables of the best epoch so far, where early stopping keeps them.
    """

    state: TrainState
    counts: Counts | None = None
    history: History = dataclasses.field(default_factory=list)
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    best: dict[str, chex.ArrayTree] | None = None


def save(folder: str | Path, snapshot: Snapshot, *, keep: int = 2) -> None:
    """Write a snapshot under its step number and delete all but the newest ``keep``.

    It is complete or absent, whenever the process dies.

    Args:
      folder: where the run's checkpoints live; made if need be.
      snapshot: what to save.
      keep: how many snapshots to keep, >= 1.

    Raises:
      OSError: if the folder cannot be written.
    """
    step = int(snapshot.state.step)
    folder = Path(folder).absolute()
    record: dict[str, Any] = {
        "history": snapshot.history,
        "metadata": snapshot.metadata,
        # float32 and int32 survive the way through JSON exactly.
        "counts": _to_json(snapshot.counts),
    }
    arrays = {"state": snapshot.state, "best": snapshot.best}
    record["has_best"] = snapshot.best is not None
    record["sha256"] = _digest(arrays, record)
    options = ocp.CheckpointManagerOptions(max_to_keep=keep)
    with ocp.CheckpointManager(folder, options=options) as manager:
        # A snapshot of this step is there only if it was damaged or the run went back before it.
        stale = folder / str(step)
        replaced = folder / f"replaced-{step}"
        if stale.exists():
            stale.rename(replaced)
            manager.reload()
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
            ),
        )
        manager.wait_until_finished()
    shutil.rmtree(replaced, ignore_errors=True)


def restore(
    folder: str | Path, like: TrainState | Callable[[dict[str, Any]], TrainState]
) -> Snapshot:
    """Read the newest snapshot that is intact.

    Args:
      folder: where the run's checkpoints live.
      like: a state of the same structure, for example
        ``jax.eval_shape(lambda: create_state(...))``, whose values are not used; or a function
        that makes one from the snapshot's metadata.

    Returns:
      The snapshot, bit for bit as saved. A damaged one is passed over with a warning.

    Raises:
      ValueError: if there is no intact snapshot that fits ``like``.
    """
    folder = Path(folder).absolute()
    steps = sorted((int(p.name) for p in folder.glob("*") if p.name.isdigit()), reverse=True)
    if not steps:
        raise ValueError(f"no checkpoint in {folder}")
    problems = []
    for step in steps:
        try:
            snapshot = _read(folder, step, like)
        except Exception as error:
            # Damage surfaces as whatever the storage layers happen to raise.
            problems.append(f"step {step}: {type(error).__name__}: {error}".splitlines()[0])
            continue
        for problem in problems:
            warnings.warn(f"passed over a damaged checkpoint in {folder}: {problem}", stacklevel=2)
        return snapshot
    raise ValueError(f"no intact checkpoint in {folder} that fits the model: {'; '.join(problems)}")


def _read(folder: Path, step: int, like: Any) -> Snapshot:
    with ocp.CheckpointManager(folder) as manager:
        record = manager.restore(
            step, args=ocp.args.Composite(record=ocp.args.JsonRestore())
        ).record
        template = like(record["metadata"]) if callable(like) else like
        best = template.eval_variables if record["has_best"] else None
        arrays = manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore({"state": template, "best": best})
            ),
        ).state
    record = dict(record)
    if record.pop("sha256", None) != _digest(arrays, record):
        raise ValueError("its SHA-256 does not match its content")
    counts = record["counts"]
    if counts is not None:
        counts = {name: np.asarray(c["value"], c["dtype"]) for name, c in counts.items()}
    return Snapshot(arrays["state"], counts, record["history"], record["metadata"], arrays["best"])


def _digest(arrays: dict[str, Any], record: dict[str, Any]) -> str:
    text = fingerprint(arrays) + json.dumps(record, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _to_json(counts: Counts | None) -> dict[str, Any] | None:
    if counts is None:
        return None
    arrays = {name: np.asarray(value) for name, value in counts.items()}
    return {name: {"dtype": str(a.dtype), "value": a.tolist()} for name, a in arrays.items()}
