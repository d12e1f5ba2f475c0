"""The run folder: its name, the run's configuration, and the changes made when it was resumed.

``config.json`` is the experiment that the run was started with. ``run.json`` contains its SHA-256
and the ``amendments``: one ``{"field", "from", "to", "step"}`` for each field changed by a resume.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxcnn import data
from jaxcnn.data.files import atomic_write, json_text
from jaxcnn.experiment import lock
from jaxcnn.experiment.config import Experiment

FORMAT = 5
"""Version of the layout of run and sweep folders."""
AMENDABLE = ("epochs", "learning_rate", "on_bad_example", "on_nonfinite")
"""Fields of an experiment that may be changed when a run is resumed."""


class Record(NamedTuple):
    """The configuration of a run.

    Attributes:
      started: the experiment that the run was started with.
      sha256: its SHA-256 at that time.
      amendments: the changes made when the run was resumed, in order.
    """

    started: Experiment
    sha256: str
    amendments: list[dict[str, Any]]

    @property
    def experiment(self) -> Experiment:
        """The experiment with the amendments applied."""
        changes = {change["field"]: change["to"] for change in self.amendments}
        return dataclasses.replace(self.started, **changes)

    def amend(self, experiment: Experiment, *, step: int) -> "Record":
        """Add an amendment at ``step`` for each amendable field that ``experiment`` changes."""
        changes = []
        for name in AMENDABLE:
            before, after = getattr(self.experiment, name), getattr(experiment, name)
            if before != after:
                changes.append({"field": name, "from": before, "to": after, "step": step})
        return self._replace(amendments=[*self.amendments, *changes])


def write_record(folder: Path, record: Record) -> None:
    """Write the configuration of a run."""
    # Written in this order, so a folder with a config.json contains both files.
    values = {"experiment_sha256": record.sha256, "amendments": record.amendments}
    write_json(folder / "run.json", {"format": FORMAT, **values})
    write_json(folder / "config.json", record.started.to_json())


def read_record(folder: Path) -> Record:
    """Read the configuration of a run.

    Raises:
      ValueError: if the folder is not a run folder, or cannot be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a run folder: it does not contain {path.name}")
    values = read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
    check_format(folder, values)
    config = read_json(path)
    try:
        started = Experiment.from_json(config)
        record = Record(started, values["experiment_sha256"], values["amendments"])
        _ = record.experiment
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return record


def read_config(folder: Path) -> Experiment:
    """Read the experiment of a run, with the amendments applied.

    Raises:
      ValueError: if the folder is not a run folder, or cannot be read.
    """
    return read_record(folder).experiment


def check_unedited(folder: Path, experiment: Experiment, metadata: Mapping[str, Any]) -> None:
    """Check that a run's configuration is the one that its checkpoint was trained with.

    Raises:
      ValueError: if a setting that must stay the same has changed.
    """
    trained = metadata.get("experiment", {})
    for name, value in json.loads(json.dumps(experiment.to_json())).items():
        if name not in AMENDABLE and trained.get(name) != value:
            raise ValueError(
                f"{folder / 'config.json'} must match the run's checkpoint, whose {name} is "
                f"{trained.get(name)!r}, got {value!r}"
            )


def check_no_links(folder: Path) -> None:
    """Check that writes to a run folder cannot end up outside of it.

    Raises:
      ValueError: if a subfolder is a link; someone else's run folder may contain one.
    """
    for name in ("checkpoints", "figures", "tensorboard"):
        if (folder / name).is_symlink():
            raise ValueError(f"{folder / name} must be a regular folder, got a link")


def check_format(folder: Path, values: Mapping[str, Any]) -> None:
    """Check that the folder of a run or sweep has the layout that this version reads.

    Raises:
      ValueError: if it was written by another version of the library.
    """
    if values.get("format") != FORMAT:
        raise ValueError(
            f"{folder} was written by another version of jaxcnn, and cannot be read by this one; "
            "train again, or install that version"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read an object from a JSON file.

    Raises:
      ValueError: if the file does not contain an object.
    """
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must contain a JSON object, got {type(values).__name__}")
    return values


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json_text(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def run_name(experiment: Experiment) -> str:
    """Return the name for a run folder, composed of the names of the network and the data.

    Example:
      >>> run_name(Experiment(model="my/net.py:make_model", data="cifar10"))
      'net-cifar10'
    """
    model = Path(experiment.model.rpartition(":")[0] or experiment.model).stem
    return f"{model}-{data_name(experiment.data)}"


def data_name(name_or_path: str) -> str:
    """Return the name of a dataset: the last part of its path, without suffixes.

    Example:
      >>> data_name("cifar10"), data_name("../photos.tar.gz"), data_name("photos/train.csv")
      ('cifar10', 'photos', 'train')
    """
    if not data.is_path(name_or_path):
        return Path(name_or_path).stem
    path = Path(name_or_path).expanduser().resolve()  # for "." and ".."
    return path.name if path.is_dir() else path.stem.removesuffix(".tar")


def check_free(workdir: str | Path | None) -> None:
    """Check that a folder is empty, or can be created; for None, that ``runs`` is writable.

    Raises:
      ValueError: if ``workdir`` is not empty, not a folder, or not on a file system.
    """
    if workdir is None:
        check_writable(Path("runs"), "the folder for new runs (choose another: --workdir)")
        return
    check_writable(Path(workdir), "workdir")
    if not Path(workdir).is_dir():
        return
    if any(path.name != lock.NAME for path in Path(workdir).iterdir()):
        raise ValueError(
            f"workdir {workdir} is not empty; choose another, or resume the run in it: "
            f"--workdir {workdir} --resume"
        )


def check_writable(folder: Path, name: str) -> None:
    """Check that a folder can be created and written to.

    Args:
      folder: the folder.
      name: the argument, for the error message.

    Raises:
      ValueError: if the path is a URL, contains a file in place of a folder, or is not writable.
    """
    if re.match("[A-Za-z][A-Za-z0-9+.-]+:/", str(folder)):
        raise ValueError(
            f"{name} must be a folder on a file system, got the URL {folder}; mount the bucket, or "
            "copy the folder afterwards"
        )
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise ValueError(f"{name} must be a folder, but {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{name} {folder} is not writable: permission denied for {existing}")


def new_folder(workdir: str | Path | None, name: str) -> Path:
    """Create ``workdir``; if it is None, create ``runs/<name>``, with a number if that exists.

    Raises:
      ValueError: if ``workdir`` cannot be used (see `check_free`).
    """
    check_free(workdir)
    if workdir is not None:
        folder = Path(workdir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    number = 1
    while True:
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


@contextlib.contextmanager
def removed_if_unstarted(folder: Path) -> Iterator[None]:
    """Remove a new run's folder if the block diverges or runs out of memory before a checkpoint.

    The same ``workdir`` can then be used again. If the folder contains files that are not the run's
    own, nothing is removed.
    """
    try:
        yield
    except (MemoryError, RuntimeError):  # including errors of JAX, and divergence
        _remove_unstarted(folder)
        raise


def _remove_unstarted(folder: Path) -> None:
    ours = {"config.json", "run.json", "checkpoints", "tensorboard", lock.NAME}
    with contextlib.suppress(OSError):
        checkpoints = folder / "checkpoints"
        if {path.name for path in folder.iterdir()} - ours or any(checkpoints.iterdir()):
            return
        checkpoints.rmdir()
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        for name in ("config.json", "run.json", lock.NAME):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
