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
    if not path.is_file():  # which a pipe is not
        reason = "is a folder" if path.is_dir() else "is no file"
        raise ValueError(f"pretrained file {path} {reason}")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise ValueError(f"pretrained file {path} cannot be opened: {error.strerror}") from error
    if not start:
        raise ValueError(f"pretrained file {path} is empty")
    for sign, meaning in _OTHERS.items():
        if start.lstrip().startswith(sign):
            raise ValueError(f"pretrained file {path} is {meaning}")
    if start.startswith(_HDF5):
        return "keras"
    if start.startswith(_ZIP):
        return _zip_format(path)
    if start.startswith(_PICKLES):
        return "torch"
    # Eight bytes for the length of a JSON header, which then begins.
    if len(start) > 8 and start[8:9] == b"{":
        return "safetensors"
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


def check_finite(tensors: dict[str, np.ndarray], path: Path) -> None:
    """Refuse weights that are no numbers.

    Raises:
      ValueError: if a tensor holds NaN or an infinite value.
    """
    for name, tensor in tensors.items():
        if jax.dtypes.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all():
            raise ValueError(f"pretrained file {path}: tensor {name} holds NaN or infinite values")
