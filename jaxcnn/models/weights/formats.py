"""Detection of a weight file's format by its content, and a check of its values."""

import zipfile
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from jaxcnn.messages import printable

Format = Literal["torch", "keras", "safetensors"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
# The first bytes of a pickle of protocol 2 to 5, which torch wrote before it wrote zip files.
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_OTHERS = {
    b"version https://git-lfs": "a git-lfs pointer, not the file itself; run git lfs pull",
    b"<": "a web page, not a weight file",
}
_LONGEST_NAME = 100


def weight_format(path: Path) -> Format:
    """Return the format of a weight file, from its content alone.

    Raises:
      ValueError: if it has another format or cannot be opened.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "weights.bin"
      >>> _ = path.write_bytes(_HDF5 + bytes(100))
      >>> weight_format(path)
      'keras'
    """
    try:
        if not path.is_file():  # nor a pipe, which might never end
            reason = "is a folder" if path.is_dir() else "is not a file"
            raise ValueError(f"pretrained file {path} {reason}")
        with path.open("rb") as file:
            start = file.read(64)
        size = path.stat().st_size
    except OSError as error:
        raise ValueError(f"pretrained file {path} cannot be opened: {error.strerror}") from error
    if not start:
        raise ValueError(f"pretrained file {path} is empty")
    # Safetensors start with eight bytes, the length of a JSON header, and the header. The eight
    # bytes may look like another format's signature, so this check comes first.
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
        f"pretrained file {path} must be a file of torch, safetensors or Keras, got another format"
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
    raise ValueError(f"pretrained file {path} is a zip file, but not one of torch or Keras 3")


def check_numbers(tensors: dict[str, np.ndarray], path: Path) -> None:
    """Check that all floating-point values are finite in float32.

    Raises:
      ValueError: if a tensor holds NaN, an infinity, or a value beyond float32's range.

    Example:
      >>> check_numbers({"bias": np.ones(3)}, Path("weights.pth"))
    """
    largest = np.finfo(np.float32).max
    for name, tensor in tensors.items():
        is_floating = jax.dtypes.issubdtype(tensor.dtype, np.inexact)
        # Written so that NaN, which compares false, is rejected.
        if is_floating and tensor.size and not np.abs(tensor).max() <= largest:
            raise ValueError(
                f"pretrained file {path}: tensor {short_name(name)} holds NaN or infinite values"
            )


def short_name(name: str) -> str:
    """Return a name from a file for use in a message: printable and of limited length.

    Example:
      >>> short_name("conv1.weight"), len(short_name("x" * 1000))
      ('conv1.weight', 100)
    """
    return printable(name)[:_LONGEST_NAME]
