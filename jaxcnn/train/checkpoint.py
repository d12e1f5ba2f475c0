"""On-disk snapshots of a run: atomic, read back when written, with older ones to fall back on.

orbax commits a checkpoint atomically but does not verify its contents, so a SHA-256 digest is saved
in the same commit. A snapshot that does not match its digest is skipped, and the next older one is
read instead. orbax's ``CheckpointManager`` is not used: it silently skips a save whose step is not
greater than the highest number in the folder, even if that number is not from this run.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxcnn.messages import error_line
from jaxcnn.metrics import SUMS, Counts
from jaxcnn.parameters import fingerprint
from jaxcnn.train.divergence import DivergedError
from jaxcnn.train.state import TrainState

History = list[dict[str, float]]

_TEMPORARY = ".orbax-checkpoint-tmp"  # suffix of a folder that orbax has not committed
_REPLACED = "replaced-"  # prefix of a snapshot while another one is saved in its place


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

    def on_host(self) -> "Snapshot":
        """Return a copy in host memory, unaffected by later training steps."""
        state, best = jax.tree.map(_to_host, (self.state, self.best))
        return dataclasses.replace(self, state=state, best=best)


def save(
    folder: str | Path, snapshot: Snapshot, *, keep: int = 2, keep_best: str | None = None
) -> None:
    """Write a snapshot under its step number, read it back, and delete older ones.

    The snapshot is either complete or absent, no matter when the process dies. Older snapshots are
    deleted only after the new one has been read back; snapshots of later steps are never deleted.

    Args:
      folder: folder for the run's checkpoints, created if missing.
      snapshot: the snapshot to write.
      keep: number of snapshots to keep, including the new one, >= 1.
      keep_best: metric in the history, such as ``"validation_accuracy"``; the snapshot of the epoch
        with its highest value is kept too (see `best_step`).

    Raises:
      DivergedError: if a variable is not finite; nothing is written.
      OSError: if the snapshot cannot be written, or its files do not contain what was written.

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
    folder = Path(folder).absolute()
    snapshot = snapshot.on_host()
    step = int(snapshot.state.step)
    if problem := _not_finite(snapshot):
        raise DivergedError(
            f"{problem} by step {step}, so the state was not saved; try a smaller learning rate"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        _commit(folder, step, snapshot)
        # Larger numbers are not from this run's past, so they must not displace its snapshots.
        past = [number for number in _steps(folder) if number <= step]
        kept = {*past[:keep], keep_best and _best_step(folder, keep_best)}
        for old in set(past) - kept:
            shutil.rmtree(folder / str(old))
    except Exception as error:  # the storage layers raise many types of exceptions
        past = [number for number in _steps(folder) if number <= step]
        last = f"; the last saved step is {past[0]}" if past else ""
        raise OSError(f"cannot save step {step} in {folder}: {error_line(error)}{last}") from error
    finally:
        _remove_leftovers(folder)


def restore(
    folder: str | Path,
    like: TrainState | Callable[[dict[str, Any]], TrainState],
    *,
    step: int | None = None,
    set_aside: bool = False,
) -> Snapshot:
    """Read the newest intact snapshot, or the one of a given step.

    Args:
      folder: folder with the run's checkpoints.
      like: a state with the same structure, for example
        ``jax.eval_shape(lambda: create_state(...))``; its values are not used. Alternatively, a
        function that returns such a state, given the snapshot's metadata.
      step: the step to read; None reads the newest snapshot.
      set_aside: rename newer snapshots that were skipped, for example to ``damaged-8``. Required
        when resuming, because new snapshots would otherwise be mixed with the skipped ones.

    Returns:
      The snapshot, identical bit for bit to what was saved. Damaged snapshots, and those whose
      folder is not named after their step, are skipped with a warning.

    Raises:
      ValueError: if there is no intact snapshot, or none at ``step``, that matches ``like``.

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
    if step is not None and step not in _steps(folder):
        raise ValueError(f"step must be one of {_steps(folder)} in {folder}, got {step}")
    problems: dict[int, str] = {}
    # A trainer may delete an old snapshot while it is read, so the folder is listed again.
    while untried := [
        found for found in _steps(folder) if found not in problems and step in (None, found)
    ]:
        newest = untried[0]
        try:
            snapshot = _to_snapshot(*_read(folder, newest, like))
        except Exception as error:  # the storage layers raise many types of exceptions
            problems[newest] = error_line(error)
            continue
        for other, problem in problems.items():
            if other > newest and (folder / str(other)).exists():
                moved = _set_aside(folder / str(other)) if set_aside else None
                renamed = f"; it was renamed to {moved}" if moved else ""
                warnings.warn(
                    f"skipped a damaged checkpoint in {folder}: step {other}: {problem}{renamed}",
                    stacklevel=2,
                )
        return snapshot
    if not problems:
        raise ValueError(f"no checkpoint in {folder}")
    reasons = "; ".join(f"step {number}: {problem}" for number, problem in problems.items())
    raise ValueError(f"no intact checkpoint in {folder} that matches the model: {reasons}")


def has_snapshots(folder: str | Path) -> bool:
    """Return whether a folder contains snapshots, intact or not.

    Example:
      >>> has_snapshots("no/such/folder")
      False
    """
    return bool(_steps(Path(folder)))


def best_step(folder: str | Path, metric: str) -> int:
    """Return the step of the snapshot whose epoch has the highest value of a metric.

    Only snapshots taken at the end of an epoch are considered; ties go to the earliest.

    Args:
      folder: folder with the run's checkpoints.
      metric: name of a metric in the history, such as ``"validation_accuracy"``.

    Raises:
      ValueError: if no snapshot has the metric.

    Example:
      >>> import tempfile
      >>> import jax
      >>> import optax
      >>> from jaxcnn import train
      >>> images = jax.numpy.zeros((1, 2))
      >>> model = train.from_functions(lambda key, images: images[0], None)
      >>> state = train.create_state(jax.random.key(0), model, optax.sgd(0.1), images)
      >>> folder = tempfile.mkdtemp()
      >>> save(folder, Snapshot(state, history=[{"step": 0, "validation_accuracy": 0.5}]))
      >>> best_step(folder, "validation_accuracy")
      0
    """
    folder = Path(folder).absolute()
    best = _best_step(folder, metric)
    if best is None:
        raise ValueError(f"{folder} contains no end-of-epoch checkpoint that recorded {metric}")
    return best


def _best_step(folder: Path, metric: str) -> int | None:
    values: dict[int, float] = {}
    for step in reversed(_steps(folder)):
        try:
            history = _read_record(folder / str(step))["history"]
        except Exception:  # damaged, which `restore` reports
            continue
        if history and history[-1]["step"] == step and metric in history[-1]:
            values[step] = history[-1][metric]
    return max(values, key=values.__getitem__, default=None)


def _steps(folder: Path) -> list[int]:
    """Return the steps in a folder, newest first; links and other names are ignored."""
    names = [path.name for path in folder.glob("*") if path.is_dir() and not path.is_symlink()]
    return sorted((int(n) for n in names if re.fullmatch("0|[1-9][0-9]{0,17}", n)), reverse=True)


def _set_aside(path: Path) -> str:
    """Rename a snapshot so that it is never read again, and return its new name."""
    names = (f"damaged-{path.name}{suffix}" for suffix in ("", *map("-{}".format, range(2, 1000))))
    name = next(name for name in names if not os.path.lexists(path.with_name(name)))
    path.rename(path.with_name(name))
    return name


def _commit(folder: Path, step: int, snapshot: Snapshot) -> None:
    """Write a snapshot and read it back; if this fails, leave the folder as it was."""
    destination, replaced = folder / str(step), folder / f"{_REPLACED}{step}"
    if os.path.lexists(destination):  # damaged, or newer than where the run was resumed
        destination.rename(replaced)
    try:
        digest = _write(destination, snapshot)
        if _read(folder, step, snapshot.state)[0]["sha256"] != digest:
            raise OSError("its files do not contain what was written")
    except BaseException:  # also when interrupted
        shutil.rmtree(destination, ignore_errors=True)
        if os.path.lexists(replaced):
            replaced.rename(destination)
        raise


def _remove_leftovers(folder: Path) -> None:
    """Delete what an interrupted save left behind, and snapshots that have been replaced."""
    for path in [*folder.glob(f"*{_TEMPORARY}"), *folder.glob(f"{_REPLACED}*")]:
        shutil.rmtree(path, ignore_errors=True)


def _write(destination: Path, snapshot: Snapshot) -> str:
    """Write a snapshot and return its digest."""
    arrays = {"state": snapshot.state, "best": snapshot.best}
    record: dict[str, Any] = {
        "step": int(snapshot.state.step),
        "history": snapshot.history,
        "metadata": snapshot.metadata,
        # JSON represents float32 and int32 values exactly.
        "counts": _counts_to_json(snapshot.counts),
        "has_best": snapshot.best is not None,
    }
    record["sha256"] = _digest(arrays, record)
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(
            destination,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
            ),
        )
    return record["sha256"]


def _read_record(source: Path) -> dict[str, Any]:
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        arguments = ocp.args.Composite(record=ocp.args.JsonRestore())
        return dict(checkpointer.restore(source, args=arguments).record)


def _read(folder: Path, step: int, like: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the record and the arrays of a snapshot, on the host if they were saved from the host.

    Raises:
      ValueError: if they do not match their digest, or the folder is named after a different step.
    """
    source = folder / str(step)
    record = _read_record(source)
    if record["step"] != step:
        raise ValueError(f"it contains step {record['step']}")
    template = like(record["metadata"]) if callable(like) else like
    best = template.eval_variables if record["has_best"] else None
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        arrays = checkpointer.restore(
            source,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore({"state": template, "best": best})
            ),
        ).state
    digested = {name: value for name, value in record.items() if name != "sha256"}
    if record["sha256"] != _digest(arrays, digested):
        raise ValueError("its contents do not match its SHA-256 digest")
    return record, arrays


def _to_snapshot(record: dict[str, Any], arrays: dict[str, Any]) -> Snapshot:
    """Return a snapshot on the device.

    Raises:
      ValueError: if a variable is not finite.
    """
    arrays = jax.tree.map(jnp.asarray, arrays)
    counts = _counts_from_json(record["counts"])
    snapshot = Snapshot(
        arrays["state"], counts, record["history"], record["metadata"], arrays["best"]
    )
    if problem := _not_finite(snapshot):
        raise ValueError(f"{problem} in it")
    return snapshot


def _not_finite(snapshot: Snapshot) -> str:
    """Describe the first variable that is not finite, or return an empty string."""
    state = snapshot.state
    variables = {"params": state.params, "batch_stats": state.batch_stats, "ema": state.ema}
    for path, leaf in jax.tree.leaves_with_path(variables | {"best": snapshot.best}):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(np.asarray(leaf)).all():
            return f"{jax.tree_util.keystr(path, simple=True, separator='/')} is not finite"
    return ""


def _digest(arrays: dict[str, Any], record: dict[str, Any]) -> str:
    text = fingerprint(arrays) + json.dumps(record, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _to_host(leaf: Any) -> Any:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jnp.copy(leaf) if is_key else leaf if isinstance(leaf, np.ndarray) else np.array(leaf)


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
