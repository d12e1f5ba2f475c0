"""Detection of a weights file's format from its contents, and a check for non-finite values."""

import zipfile
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from jaxcnn.messages import printable

Format = Literal["torch", "keras", "safetensors"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
# First bytes of a pickle with protocol 2 to 5, which torch wrote before it used zip files.
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_OTHERS = {
    b"version https://git-lfs": "a git-lfs pointer, not the file itself; run git lfs pull",
    b"<": "a web page, not weights",
}
_LONGEST_NAME = 100


def weight_format(path: Path) -> Format:
    """Return the format of a weights file, determined only from its contents.

    Raises:
      ValueError: if the format is not supported or the file cannot be opened.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "weights.bin"
      >>> _ = path.write_bytes(_HDF5 + bytes(100))
      >>> weight_format(path)
      'keras'
    """
    try:
        if not path.is_file():  # pipes, which might never end, are rejected too
            reason = "is a folder" if path.is_dir() else "is not a file"
            raise ValueError(f"weights file {path} {reason}")
        with path.open("rb") as file:
            start = file.read(64)
        size = path.stat().st_size
    except OSError as error:
        raise ValueError(f"weights file {path} cannot be opened: {error.strerror}") from error
    if not start:
        raise ValueError(f"weights file {path} is empty")
    # A safetensors file starts with the length of a JSON header in eight bytes, then the header.
    # The eight bytes may look like another format's signature, so this check comes first.
    if start[8:9] == b"{" and 8 + int.from_bytes(start[:8], "little") <= size:
        return "safetensors"
    for sign, meaning in _OTHERS.items():
        if start.lstrip().startswith(sign):
            raise ValueError(f"weights file {path} is {meaning}")
    if start.startswith(_HDF5):
        return "keras"
    if start.startswith(_ZIP):
        return _zip_format(path)
    if start.startswith(_PICKLES):
        return "torch"
    if start[8:9] == b"{":
        raise ValueError(f"weights file {path} is damaged: its header is longer than the file")
    raise ValueError(
        f"weights file {path} must be a torch, safetensors or Keras file, got an unknown format"
    )


def _zip_format(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"weights file {path} is damaged: {error}") from error
    if "model.weights.h5" in names:
        return "keras"
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    raise ValueError(f"weights file {path} is a zip file, but not one written by torch or Keras 3")


def check_numbers(tensors: dict[str, np.ndarray], path: Path) -> None:
    """Check that all floating-point values are finite in float32.

    Raises:
      ValueError: if a tensor contains NaN, an infinity, or a value outside float32's range.

    Example:
      >>> check_numbers({"bias": np.ones(3)}, Path("weights.pth"))
    """
    largest = np.finfo(np.float32).max
    for name, tensor in tensors.items():
        is_floating = jax.dtypes.issubdtype(tensor.dtype, np.inexact)
        # Negated to reject NaN, for which every comparison is false.
        if is_floating and tensor.size and not np.abs(tensor).max() <= largest:
            raise ValueError(
                f"weights file {path}: tensor {short_name(name)} contains NaN or infinite values"
            )


def short_name(name: str) -> str:
    """Return a printable form of a name from a file, of limited length, for use in messages.

    Example:
      >>> short_name("conv1.weight"), len(short_name("x" * 1000))
      ('conv1.weight', 100)
    """
    return printable(name)[:_LONGEST_NAME]
