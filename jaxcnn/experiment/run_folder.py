"""The folder of a run: its name, its configuration, and files that are written whole."""

import json
from pathlib import Path
from typing import Any

from jaxcnn import data
from jaxcnn.data.files import atomic_write
from jaxcnn.experiment.config import Experiment


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
    write_text(path, json.dumps(value, indent=2) + "\n")


def run_name(experiment: Experiment) -> str:
    """What a run's folder is called after: the network and the data."""
    model = Path(experiment.model.rpartition(":")[0] or experiment.model).stem
    return f"{model}-{data_name(experiment.data)}"


def data_name(name_or_path: str) -> str:
    """What a folder about a data set is called after: the end of its path, without suffixes.

    Example:
      >>> data_name("cifar10"), data_name("../photos.tar.gz"), data_name("photos/train.csv")
      ('cifar10', 'photos', 'train')
    """
    if not data.is_path(name_or_path):
        return Path(name_or_path).stem
    path = Path(name_or_path).expanduser().resolve()  # "." has no name of its own
    return path.name if path.is_dir() else path.stem.removesuffix(".tar")


def check_free(workdir: str | Path | None) -> None:
    """Refuse a folder that holds something.

    Raises:
      ValueError: if ``workdir`` is not empty.
    """
    if workdir is not None and Path(workdir).is_dir() and any(Path(workdir).iterdir()):
        raise ValueError(
            f"workdir {workdir} is not empty; choose another, or go on with the run in it: "
            f"--workdir {workdir} --resume"
        )


def new_folder(workdir: str | Path | None, name: str) -> Path:
    """Make the folder ``workdir``, which must be new or empty; for None ``runs/<name>``, numbered.

    Raises:
      ValueError: if ``workdir`` is not empty.
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


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is, at any moment, the old one or the new one."""
    with atomic_write(path) as temporary:
        temporary.write_text(text)
