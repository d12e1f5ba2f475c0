"""Checks on a command's output paths, performed before it does any work."""

from collections.abc import Callable
from pathlib import Path

from jaxcnn.experiment.run_folder import check_writable


def check_output_file(
    path: Path, name: str, *, is_replaceable: Callable[[Path], bool], force: bool
) -> None:
    """Check that a file can be written without replacing a file that the command did not write.

    Args:
      path: the file.
      name: the argument, for the error message.
      is_replaceable: returns True for files written by the same command.
      force: allow replacing any file.

    Raises:
      ValueError: if the file cannot be written or must not be replaced.
    """
    check_writable(path.parent, f"the folder of {name}")
    if path.exists() and not path.is_file():
        raise ValueError(f"{name} must be a regular file, got {path}")
    if path.exists() and not force and not is_replaceable(path):
        raise ValueError(
            f"{name} {path} exists and was not written by this command; choose another name, or "
            "replace it with --force"
        )
