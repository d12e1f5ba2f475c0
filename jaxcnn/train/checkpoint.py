"""On-disk snapshots of a run: atomic, verified when read, with older ones to fall back on.

orbax commits a checkpoint atomically but does not verify its contents, so a SHA-256 digest is saved
in the same commit. A snapshot that does not match its digest is skipped, and the next older one is
read instead.
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

from jaxcnn.metrics import SUMS, Counts
from jaxcnn.parameters import fingerprint
from jaxcnn.train.state import TrainState

History = list[dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Everything that `jaxcnn.train.fit` needs to resume, within an epoch or between epochs.

    Attributes:
      state: the train state.
      counts: metric counts for the current epoch; None between epochs.
      history: one row per finished epoch.
      metadata: JSON values stored alongside the weights, such as preprocessing and class names.
      best: the variables from the best epoch so far; None if no monitor has chosen one.
    """

    state: TrainState
    counts: Counts | None = None
    history: History = dataclasses.field(default_factory=list)
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    best: dict[str, chex.ArrayTree] | None = None


@dataclasses.dataclass(frozen=True)
class Saving:
    """Policy for saving snapshots in `jaxcnn.train.fit`.

    Attributes:
      folder: folder for the run's checkpoints.
      seconds: maximum age of the last snapshot; once it is older, a new one is saved during the
        epoch. This limits the training time lost in a crash.
      keep: number of snapshots to keep, >= 1.
      after: called as ``after(snapshot)`` after each save.

    Example:
      >>> Saving("runs/one/checkpoints", seconds=60).keep
      2
    """

    folder: str | Path
    seconds: float = 300.0
    keep: int = 2
    after: Callable[[Snapshot], None] | None = None

    def save(self, snapshot: Snapshot) -> None:
        """Save a snapshot and call ``after``."""
        save(self.folder, snapshot, keep=self.keep)
        if self.after is not None:
            self.after(snapshot)


def save(folder: str | Path, snapshot: Snapshot, *, keep: int = 2) -> None:
    """Write a snapshot under its step number and delete all but the newest ``keep``.

    The snapshot is either complete or absent, no matter when the process dies.

    Args:
      folder: folder for the run's checkpoints, created if missing.
      snapshot: the snapshot to write.
      keep: number of snapshots to keep, >= 1.

    Raises:
      OSError: if the folder cannot be written.

    Example:
      >>> import tempfile
      >>> import jax
      >>> import optax
      >>> from jaxcnn import train
      >>> images = jax.numpy.zeros((1, 2))
      >>> model = train.from_functions(lambda key, images: images[0], None)
      >>> state = train.create_state(jax.random.key(0), model, optax.sgd(0.1), images)
      >>> folder = tempfile.mkdtemp()
      >>> save(folder, Snapshot(state))
      >>> [path.name for path in Path(folder).iterdir()]
      ['0']
    """
    step = int(snapshot.state.step)
    folder = Path(folder).absolute()
    record: dict[str, Any] = {
        "history": snapshot.history,
        "metadata": snapshot.metadata,
        # JSON represents float32 and int32 values exactly.
        "counts": _counts_to_json(snapshot.counts),
    }
    arrays = {"state": snapshot.state, "best": snapshot.best}
    record["has_best"] = snapshot.best is not None
    record["sha256"] = _digest(arrays, record)
    options = ocp.CheckpointManagerOptions(max_to_keep=keep)
    with ocp.CheckpointManager(folder, options=options) as manager:
        # A snapshot of this step exists only if it was damaged or the run fell back to an older
        # one.
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
    """Read the newest intact snapshot.

    Args:
      folder: folder with the run's checkpoints.
      like: a state with the same structure, for example
        ``jax.eval_shape(lambda: create_state(...))``; its values are not used. Alternatively, a
        function that returns such a state, given the snapshot's metadata.

    Returns:
      The snapshot, identical bit for bit to what was saved. Damaged snapshots are skipped with a
      warning.

    Raises:
      ValueError: if there is no intact snapshot that matches ``like``.

    Example:
      >>> import tempfile
      >>> import jax
      >>> import optax
      >>> from jaxcnn import train
      >>> images = jax.numpy.zeros((1, 2))
      >>> model = train.from_functions(lambda key, images: images[0], None)
      >>> state = train.create_state(jax.random.key(0), model, optax.sgd(0.1), images)
      >>> folder = tempfile.mkdtemp()
      >>> save(folder, Snapshot(state, metadata={"classes": ["cat", "dog"]}))
      >>> restore(folder, state).metadata
      {'classes': ['cat', 'dog']}
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
            # The storage layers raise many types of exceptions for damaged files.
            problems.append(f"step {step}: {type(error).__name__}: {error}".splitlines()[0])
            continue
        for problem in problems:
            warnings.warn(f"skipped a damaged checkpoint in {folder}: {problem}", stacklevel=2)
        return snapshot
    raise ValueError(
        f"no intact checkpoint in {folder} that matches the model: {'; '.join(problems)}"
    )


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
        raise ValueError("its contents do not match its SHA-256 digest")
    counts = _counts_from_json(record["counts"])
    return Snapshot(arrays["state"], counts, record["history"], record["metadata"], arrays["best"])


def _digest(arrays: dict[str, Any], record: dict[str, Any]) -> str:
    text = fingerprint(arrays) + json.dumps(record, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _counts_to_json(counts: Counts | None) -> dict[str, Any] | None:
    """Convert sums to JSON values: the name of their kind, and an array for each field."""
    if counts is None:
        return None
    return {
        name: {"kind": type(sums).__name__, "fields": [_array_to_json(field) for field in sums]}
        if isinstance(sums, tuple)
        else _array_to_json(sums)
        for name, sums in counts.items()
    }


def _counts_from_json(values: dict[str, Any] | None) -> Counts | None:
    if values is None:
        return None
    return {
        name: SUMS[value["kind"]](*map(_array_from_json, value["fields"]))
        if "kind" in value
        else _array_from_json(value)
        for name, value in values.items()
    }


def _array_to_json(array: Any) -> dict[str, Any] | None:
    if array is None:
        return None
    array = np.asarray(array)
    return {"dtype": str(array.dtype), "value": array.tolist()}


def _array_from_json(value: dict[str, Any] | None) -> np.ndarray | None:
    return None if value is None else np.asarray(value["value"], value["dtype"])
