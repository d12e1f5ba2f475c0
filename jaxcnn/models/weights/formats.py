"""What kind of weight file a file is, told by its content; and whether its numbers are numbers."""

import zipfile
from pathlib import Path
from typing import Literal

import jax
import numpy as np

Format = Literal["torch", "keras", "safetensors"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
# The first bytes of a pickle of protocol 2 to 5, as torch wrote them before it wrote zip files.
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_OTHERS = {
    b"version https://git-lfs": "a pointer of git-lfs, and not the file itself: git lfs pull",
    b"<": "a web page, and not a file of weights",
}


def weight_format(path: Path) -> Format:
    """The kind of a weight file, whatever its name.

    Raises:
      ValueError: if it is none, or cannot be opened.
    """
    try:
        if not path.is_file():  # which a pipe is not
            reason = "is a folder" if path.is_dir() else "is no file"
            raise ValueError(f"pretrained file {path} {reason}")
        with path.open("rb") as file:
            start = file.read(64)
        size = path.stat().st_size
    except OSError as error:
        raise ValueError(f"pretrained file {path} cannot be opened: {error.strerror}") from error
    if not start:
        raise ValueError(f"pretrained file {path} is empty")
    # Eight bytes for the length of a JSON header, which then begins. They may look like anything
    # else, but of nothing else do they give a length that the file has.
    if start[8:9] == b"{" and 8 + int.from_bytes(start[:8], "little") <= size:
        return "safetensors"
    for sign, meaning in _OTHERS.items():
        if start.lstrip().startswith(sign):
            raise ValueError(f"pretrained file {path} is {meaning}")
    if start.startswith(_HDF5):
        return "keras"
    if start.startswith(_ZIP):
        return _zip_format(path)
    if start.startswith(_PICKLES):
        return "torch"
    if start[8:9] == b"{":
        raise ValueError(f"pretrained file {path} is damaged: its header is longer than the file")
    raise ValueError(
        f"pretrained file {path} is of no known kind: not of torch, safetensors or Keras 3"
    )


def _zip_format(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"pretrained file {path} is damaged: {error}") from error
    if "model.weights.h5" in names:
        return "keras"
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    raise ValueError(f"pretrained file {path} is a zip file, but of neither torch nor Keras 3")


def check_numbers(tensors: dict[str, np.ndarray], path: Path) -> None:
    """Refuse weights that are no numbers, or none of float32.

    Raises:
      ValueError: if a floating-point tensor holds NaN or a value that float32 has not.
    """
    largest = np.finfo(np.float32).max
    for name, tensor in tensors.items():
        is_floating = jax.dtypes.issubdtype(tensor.dtype, np.inexact)
        # Of NaN no comparison holds.
        if is_floating and tensor.size and not np.abs(tensor).max() <= largest:
            raise ValueError(
                f"pretrained file {path}: tensor {shown(name)} holds NaN or infinite values"
            )


def shown(name: str) -> str:
    """A name out of a file, as a message may hold it: on one line, and not too long."""
    return name if name.isprintable() and len(name) <= 100 else repr(name)[:100]
