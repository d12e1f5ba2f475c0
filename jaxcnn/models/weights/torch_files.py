"""Reader for PyTorch weights files that does not require PyTorch and executes nothing.

A ``.pth`` file contains the tensors' bytes, and a pickle that describes the tensors with function
calls. `jaxcnn.models.weights.torch_pickles` reads the pickle; this module checks and reads the
bytes.
"""

import io
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxcnn.models.weights.torch_pickles import LONGEST, Storage, Tensor, read_pickle

_MAGIC = 0x1950A86A20F9469CFC6C  # start of the files that torch wrote before it used zip files
_PROTOCOL = 1001
_CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
_MOST_AXES = 64

Load = Callable[[Storage], np.ndarray]


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors in a ``state_dict``, saved alone or inside a checkpoint.

    Raises:
      ValueError: if the file is damaged, its pickle uses anything that a ``state_dict`` does not
        need, or its tensors would be far larger than the file.

    Reference:
      ``torch.serialization``, both the zip format and the format used before PyTorch 1.6.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            read = _read_zip if zipfile.is_zipfile(file) else _read_legacy
            file.seek(0)
            content, load = read(file, size)
            return _arrays(_state(content), load, size)
    except ValueError as error:
        raise ValueError(f"weights file {path}: {error}") from error
    # Damaged files cause many exception types.
    except Exception as error:
        raise ValueError(f"weights file {path} is damaged: {type(error).__name__}") from error


def _state(content: Any) -> dict[str, Tensor]:
    """Return the tensors by name; for a checkpoint, read its usual entry."""
    if isinstance(content, dict):
        for key in _CHECKPOINT_KEYS:
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError("it contains no state_dict")
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError("it contains no tensors")
    prefix = "module."  # added by torch.nn.DataParallel
    if all(name.startswith(prefix) for name in tensors):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _arrays(tensors: dict[str, Tensor], load: Load, size: int) -> dict[str, np.ndarray]:
    counts = {name: _count(tensor) for name, tensor in tensors.items()}
    needed = sum(counts[name] * tensor.storage.dtype.itemsize for name, tensor in tensors.items())
    # Layers may share tensors, so allow up to twice the file's size.
    if needed > 2 * size:
        raise ValueError(f"its tensors would take {needed:,} bytes, far more than the file has")
    loaded: dict[Storage, np.ndarray] = {}
    found = {}
    for name, tensor in tensors.items():
        storage, offset, shape, strides = tensor
        if storage not in loaded:
            loaded[storage] = load(storage)
        values = loaded[storage]
        if not counts[name]:
            found[name] = np.zeros(shape, values.dtype)
            continue
        steps = tuple(step * values.itemsize for step in strides)
        view = np.lib.stride_tricks.as_strided(values[offset:], shape, steps, writeable=False)
        found[name] = np.array(view)
    return found


def _count(tensor: Tensor) -> int:
    """Return the number of values in a tensor, after checking that it lies within its storage."""
    storage, offset, size, strides = tensor
    if type(size) is not tuple or type(strides) is not tuple or len(size) != len(strides):
        raise ValueError("a tensor's size and strides must be tuples of the same length")
    numbers = (storage.length, offset, *size[:_MOST_AXES], *strides[:_MOST_AXES])
    is_fine = all(type(number) is int and 0 <= number < 1 << 63 for number in numbers)
    if len(size) > _MOST_AXES or not is_fine:
        raise ValueError("a tensor has a size, stride or offset that is negative or out of range")
    count = 1
    for length in size:
        count *= length
    last = offset + sum((length - 1) * step for length, step in zip(size, strides, strict=True))
    if count > storage.length or (count and last >= storage.length):
        raise ValueError(f"a tensor of size {size} extends beyond its storage")
    return count


def _read_zip(file: BinaryIO, size: int) -> tuple[Any, Load]:
    archive = zipfile.ZipFile(file)
    members = {info.filename: info for info in archive.infolist()}
    if len(members) != len(archive.infolist()):
        raise ValueError("two of its members have the same name")
    # A compressed member may be larger than its declared size.
    if any(
        info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size
        for info in members.values()
    ):
        raise ValueError("its members are compressed, which torch never does")
    if sum(info.file_size for info in members.values()) > size:
        raise ValueError("its members are larger than the file, so torch did not write it")
    pickles = [name for name in members if name.endswith("data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"it contains {len(pickles)} pickles instead of one")
    folder = pickles[0].removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in members and archive.read(order) != b"little":
        raise ValueError("it was written on a big-endian machine")
    content, _ = read_pickle(archive.read(pickles[0]))

    def load(storage: Storage) -> np.ndarray:
        name = f"{folder}data/{storage.key}"
        if name not in members:
            raise ValueError("a storage is missing")
        if members[name].file_size < storage.length * storage.dtype.itemsize:
            raise ValueError("a storage is shorter than its declared length")
        return np.frombuffer(archive.read(name), storage.dtype, storage.length)

    return content, load


def _read_legacy(file: BinaryIO, size: int) -> tuple[Any, Load]:
    if read_pickle(_next_pickle(file))[0] != _MAGIC:
        raise ValueError("it is a pickle, but not one written by torch")
    protocol, _ = read_pickle(_next_pickle(file))
    if type(protocol) is not int or protocol != _PROTOCOL:
        raise ValueError(f"its protocol must be {_PROTOCOL}")
    read_pickle(_next_pickle(file))  # information about the machine that wrote the file
    content, storages = read_pickle(_next_pickle(file))
    _state(content)  # report a missing state_dict before missing storages
    keys, _ = read_pickle(_next_pickle(file))
    places: dict[str, int] = {}
    for key in keys:
        if key not in storages:
            raise ValueError("it contains storages without tensors; save only the state_dict")
        count = int.from_bytes(file.read(8), "little")
        places[key] = file.tell()
        if count < storages[key].length:
            raise ValueError("a storage is shorter than its declared length")
        if count * storages[key].dtype.itemsize > size - places[key]:
            raise ValueError("it is truncated: it ends in the middle of its tensor data")
        file.seek(count * storages[key].dtype.itemsize, io.SEEK_CUR)

    def load(storage: Storage) -> np.ndarray:
        if storage.key not in places:
            raise ValueError("a storage is missing")
        file.seek(places[storage.key])
        data = file.read(storage.length * storage.dtype.itemsize)
        return np.frombuffer(data, storage.dtype)

    return content, load


def _next_pickle(file: BinaryIO) -> bytes:
    start = file.tell()
    for _, _, position in pickletools.genops(file):
        if (position or 0) - start > LONGEST:
            raise ValueError("its pickle is too long for a state_dict")
    length = file.tell() - start
    file.seek(start)
    return file.read(length)
