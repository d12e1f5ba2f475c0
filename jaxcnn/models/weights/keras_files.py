"""Weights in Keras's files: ``.weights.h5`` and ``.keras`` of Keras 3, and the older ``.h5``."""

import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.models.weights import hdf5_index

_LONGEST_WAIT = 600  # seconds, where no limit on the processor's time works
_LONGEST_ANSWER = 1 << 26


def read_keras(path: Path) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer that has some, by the layer's name.

    Raises:
      ValueError: if the file is damaged, does not name its layers, leads to other files, or holds
        arrays of more bytes than it has.

    Reference:
      ``keras.src.saving.saving_lib`` and ``keras.src.legacy.saving.legacy_h5_format``.
    """
    try:
        content, member = _content(path)
        layers = _index(path, member)
        arrays = [place for places in layers.values() for place in places]
        needed = sum(math.prod(shape) * np.dtype(dtype).itemsize for _, shape, dtype in arrays)
        if needed > len(content):
            raise ValueError(f"its arrays would take {needed:,} bytes, more than it has")
        if not arrays:
            raise ValueError("it holds no layers with weights")
        return {
            name: [_array(content, *place) for place in places] for name, places in layers.items()
        }
    except ValueError as error:
        raise ValueError(f"pretrained file {path}: {error}") from error
    # zipfile's for a damaged archive; the last but one for a kind of compression unknown to it.
    except (OSError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise ValueError(f"pretrained file {path} is damaged: {error}") from error


def _content(path: Path) -> tuple[np.ndarray, str]:
    """The bytes of the HDF5 file, and its name in the zip file that a ``.keras`` file is."""
    if not zipfile.is_zipfile(path):
        return np.memmap(path, np.uint8, mode="r"), ""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(hdf5_index.MEMBER)
        # A compressed member may say that it is small and be large.
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ValueError(f"its {hdf5_index.MEMBER} is compressed, which Keras's is not")
        if member.file_size > path.stat().st_size:
            raise ValueError(f"its {hdf5_index.MEMBER} is larger than the file")
        return np.frombuffer(archive.read(member), np.uint8), hdf5_index.MEMBER


def _index(path: Path, member: str) -> dict[str, list[Any]]:
    """Where each layer's arrays lie, asked of a process of its own."""
    # -P: its modules are those of this process, and not the script's neighbours.
    command = [sys.executable, "-P", hdf5_index.__file__, str(path.absolute()), member]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_LONGEST_WAIT, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise ValueError("it is damaged: looking for its arrays takes forever") from None
    if len(done.stdout) > _LONGEST_ANSWER:
        raise ValueError("it is damaged: it holds too many arrays")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise ValueError(
            "it is damaged: looking for its arrays takes too long or too much memory "
            f"(exit code {done.returncode})"
        ) from None
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["layers"]


def _array(content: np.ndarray, offset: int, shape: list[int], dtype: str) -> np.ndarray:
    count = math.prod(shape) * np.dtype(dtype).itemsize
    if offset + count > len(content):
        raise ValueError("an array is larger than what the file holds of it")
    return np.array(content[offset : offset + count]).view(dtype).reshape(shape)
