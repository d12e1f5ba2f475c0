"""Reader for Keras weights files: Keras 3's ``.weights.h5`` and ``.keras``, and older ``.h5``."""

import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.models.weights import hdf5_index

_TIMEOUT = 600  # seconds, for platforms where the limit on CPU time does not work
_LONGEST_INDEX = 1 << 26  # bytes
# Layers that Keras names with a counter.
_COUNTED = ("conv2d", "batch_normalization", "normalization")


def read_keras(path: Path) -> dict[str, list[np.ndarray]]:
    """Read each layer's arrays by layer name; layers without weights are omitted.

    Raises:
      ValueError: if the file is damaged, does not name its layers, links to other files, or has
        arrays larger than the file.

    Reference:
      ``keras.src.saving.saving_lib`` and ``keras.src.legacy.saving.legacy_h5_format``.
    """
    try:
        content, member = _content(path)
        layers = _index(path, member)
        arrays = [place for places in layers.values() for place in places]
        needed = sum(math.prod(shape) * np.dtype(dtype).itemsize for _, shape, dtype in arrays)
        if needed > len(content):
            raise ValueError(f"its arrays would take {needed:,} bytes, more than the file has")
        if not arrays:
            raise ValueError("it contains no layers with weights")
        return {
            name: [_array(content, *place) for place in places] for name, places in layers.items()
        }
    except ValueError as error:
        raise ValueError(f"weights file {path}: {error}") from error
    # zipfile raises these for damaged archives and unknown compression methods.
    except (OSError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise ValueError(f"weights file {path} is damaged: {error}") from error


def _content(path: Path) -> tuple[np.ndarray, str]:
    """Return the bytes of the HDF5 file, and its name if it is in a zip file (``.keras``)."""
    if not zipfile.is_zipfile(path):
        return np.memmap(path, np.uint8, mode="r"), ""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(hdf5_index.MEMBER)
        # A compressed member may be larger than its declared size.
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ValueError(f"its {hdf5_index.MEMBER} is compressed, which Keras never does")
        if member.file_size > path.stat().st_size:
            raise ValueError(f"its {hdf5_index.MEMBER} is larger than the file")
        return np.frombuffer(archive.read(member), np.uint8), hdf5_index.MEMBER


def _index(path: Path, member: str) -> dict[str, list[Any]]:
    """Find each layer's arrays in the file, in a separate process."""
    # -P keeps the script's folder out of the module search path.
    command = [sys.executable, "-P", hdf5_index.__file__, str(path.absolute()), member]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_TIMEOUT, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise ValueError("it is damaged: finding its arrays takes too long") from None
    if len(done.stdout) > _LONGEST_INDEX:
        raise ValueError("it is damaged: it has too many arrays")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise ValueError(
            "it is damaged: finding its arrays takes too long or too much memory "
            f"(exit code {done.returncode})"
        ) from None
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["layers"]


def _array(content: np.ndarray, offset: int, shape: list[int], dtype: str) -> np.ndarray:
    count = math.prod(shape) * np.dtype(dtype).itemsize
    if offset + count > len(content):
        raise ValueError("an array extends beyond the end of the file")
    return np.array(content[offset : offset + count]).view(dtype).reshape(shape)


def number_from_zero(layers: dict[str, Any]) -> dict[str, Any]:
    """Renumber layers that Keras counts per process, such as ``conv2d_7``, to start at 0.

    Example:
      >>> number_from_zero({"conv2d_7": "first", "conv2d_9": "second", "fc": "third"})
      {'conv2d': 'first', 'conv2d_1': 'second', 'fc': 'third'}
    """
    counted: dict[str, list[tuple[int, str]]] = {}
    for layer in layers:
        kind, _, number = layer.rpartition("_")
        if layer in _COUNTED:
            kind, number = layer, "0"
        if kind in _COUNTED and number.isdecimal():
            counted.setdefault(kind, []).append((int(number), layer))
    new = {
        layer: f"{kind}_{index}" if index else kind
        for kind, numbers in counted.items()
        for index, (_, layer) in enumerate(sorted(numbers))
    }
    return {new.get(layer, layer): arrays for layer, arrays in layers.items()}
