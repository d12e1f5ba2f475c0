"""Checks of a command's output paths, made before its work."""

from collections.abc import Callable
from pathlib import Path

from jaxcnn.experiment.run_folder import check_writable


def check_output_file(
    path: Path, name: str, *, is_replaceable: Callable[[Path], bool], force: bool
) -> None:
    """Check that a file can be written, and that no file of another kind is replaced.

    Args:
      path: the file.
      name: the argument, for the error message.
      is_replaceable: returns True for a file that the same command wrote, which it may replace.
      force: replace files of any kind.

    Raises:
      ValueError: if the file cannot be written or must not be replaced.
    """
    check_writable(path.parent, f"the folder of {name}")
    if path.is_dir():
        raise ValueError(f"{name} must be a file, got the folder {path}")
    if path.exists() and not force and not is_replaceable(path):
        raise ValueError(
            f"{name} {path} exists and was not written by this command; choose another name, or "
            "replace it with --force"
        )
