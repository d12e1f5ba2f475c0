"""Weights in PyTorch's files, without PyTorch, and without executing anything of them.

A ``.pth`` file is a pickle that says how to call functions which build tensors, and the tensors'
bytes. Here a pickle may only name the few functions of a plain ``state_dict``, and each name stands
for something of our own that remembers what a tensor is; the bytes are looked at afterwards.
"""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

_LONGEST_PICKLE = 1 << 26
_MAGIC = 0x1950A86A20F9469CFC6C  # in front of torch's files before they were zip files
_PROTOCOL = 1001
_CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
# What makes objects of classes, or looks names up in tables of the process.
_FORBIDDEN = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER"}


class _Storage(NamedTuple):
    """Numbers in the file: which, of what type, and how many."""

    key: str
    dtype: np.dtype
    length: int


class _Tensor(NamedTuple):
    """A view of a storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    strides: tuple[int, ...]


class _Dictionary(dict):
    """What an OrderedDict becomes; the attributes that torch gives it are of no use here."""

    def __setstate__(self, state: Any) -> None:
        """Forget them."""


class _Global:
    """What a name in a pickle stands for. Nothing can be set on it, and it makes no classes."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]):
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"it sets {name} on a function")


class _StorageType(NamedTuple):
    dtype: np.dtype


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a ``state_dict``, also inside of a checkpoint.

    Raises:
      ValueError: if the file is damaged, or asks for anything but tensors.

    Reference:
      ``torch.serialization``, both the zip format and the one before 1.6.
    """
    try:
        with path.open("rb") as file:
            read = _read_zip if zipfile.is_zipfile(file) else _read_legacy
            file.seek(0)
            content, load = read(file, path.stat().st_size)
            tensors = {name: _view(tensor, load) for name, tensor in _state(content).items()}
    except ValueError as error:
        raise ValueError(f"pretrained file {path}: {error}") from error
    # A damaged pickle may raise anything.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"pretrained file {path} is damaged or refused: {reason}") from error
    return tensors


def _state(content: Any) -> dict[str, _Tensor]:
    """The tensors by name, wherever a checkpoint keeps them."""
    if isinstance(content, dict):
        for key in _CHECKPOINT_KEYS:
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError("it holds no state_dict")
    tensors = {name: value for name, value in content.items() if isinstance(value, _Tensor)}
    if not tensors:
        raise ValueError("it holds no tensors")
    prefix = "module."  # of torch.nn.DataParallel
    if all(name.startswith(prefix) for name in tensors):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _view(tensor: _Tensor, load: Callable[[_Storage], np.ndarray]) -> np.ndarray:
    storage, offset, size, strides = tensor
    numbers = (storage.length, offset, *size, *strides)
    if len(size) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"a tensor has size {size}, strides {strides} and offset {offset}")
    count = 1
    for length in size:
        count *= length
    last = offset + sum((length - 1) * step for length, step in zip(size, strides, strict=True))
    if count > storage.length or (count and last >= storage.length):
        raise ValueError(f"a tensor of size {size} reaches beyond its storage")
    values = load(storage)[offset:]
    if not count:
        return np.zeros(size, values.dtype)
    steps = tuple(step * values.itemsize for step in strides)
    return np.array(np.lib.stride_tricks.as_strided(values, size, steps, writeable=False))


def _read_zip(file: BinaryIO, size: int) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    archive = zipfile.ZipFile(file)
    members = {info.filename: info for info in archive.infolist()}
    if len(members) != len(archive.infolist()):
        raise ValueError("two of its members have one name")
    if sum(info.file_size for info in members.values()) > size:
        raise ValueError("its members are larger than the file: that is no file of torch")
    pickles = [name for name in members if name.endswith("data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"it holds {len(pickles)} pickles, and not one")
    folder = pickles[0].removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in members and archive.read(order) != b"little":
        raise ValueError("it was written on a big-endian machine")
    content = _unpickled(archive.read(pickles[0]))

    def load(storage: _Storage) -> np.ndarray:
        found = archive.read(f"{folder}data/{storage.key}")
        if len(found) < storage.length * storage.dtype.itemsize:
            raise ValueError(f"storage {storage.key} is shorter than it says")
        return np.frombuffer(found, storage.dtype, storage.length)

    return content, load


def _read_legacy(file: BinaryIO, size: int) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    del size
    if _unpickled(_next_pickle(file)) != _MAGIC:
        raise ValueError("it is a pickle, but none of torch")
    protocol, _, content, keys = (_unpickled(_next_pickle(file)) for _ in range(4))
    if protocol != _PROTOCOL:
        raise ValueError(f"its protocol is {protocol}, and not {_PROTOCOL}")
    places: dict[str, int] = {}
    found = {tensor.storage.key: tensor.storage for tensor in _state(content).values()}
    counts = {}
    for key in keys:
        counts[key] = int.from_bytes(file.read(8), "little")
        places[key] = file.tell()
        if key not in found:
            raise ValueError("it holds more than its tensors; save the state_dict alone")
        file.seek(counts[key] * found[key].dtype.itemsize, io.SEEK_CUR)

    def load(storage: _Storage) -> np.ndarray:
        if counts.get(storage.key, -1) < storage.length:
            raise ValueError(f"storage {storage.key} is shorter than it says")
        file.seek(places[storage.key])
        data = file.read(storage.length * storage.dtype.itemsize)
        if len(data) < storage.length * storage.dtype.itemsize:
            raise ValueError("it ends within its tensors")
        return np.frombuffer(data, storage.dtype)

    return content, load


def _next_pickle(file: BinaryIO) -> bytes:
    start = file.tell()
    for _, _, position in pickletools.genops(file):
        if (position or 0) - start > _LONGEST_PICKLE:
            raise ValueError("its pickle is too long for a state_dict")
    length = file.tell() - start
    file.seek(start)
    return file.read(length)


def _unpickled(data: bytes) -> Any:
    if len(data) > _LONGEST_PICKLE:
        raise ValueError("its pickle is too long for a state_dict")
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in _FORBIDDEN:
            raise ValueError(f"its pickle makes objects ({operation.name}); save a state_dict")
        # The unpickler would make a table of that size.
        if operation.name.endswith("PUT") and int(argument or 0) > len(data):
            raise ValueError("its pickle is damaged")
    return _Unpickler(io.BytesIO(data), encoding="utf-8").load()


class _Unpickler(pickle.Unpickler):
    """Knows what a ``state_dict`` needs, by names of its own."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name of the list stands for; any other is refused before it is looked for."""
        if module == "torch" and name in _DTYPES:
            return _StorageType(_DTYPES[name])
        if (module, name) in _GLOBALS:
            return _GLOBALS[module, name]
        raise ValueError(
            f"its pickle asks for {module}.{name}, which no state_dict needs; nothing was executed"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that a tensor is a view of."""
        kind, storage_type, key, _, count, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType) or any(view):
            raise ValueError(f"its pickle has a storage of an unknown kind, {kind!r}")
        return _Storage(str(key), storage_type.dtype, count)


def _rebuild_tensor(storage: Any, offset: Any, size: Any, strides: Any, *options: Any) -> _Tensor:
    del options  # whether it takes gradients, hooks, metadata
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor has no storage")
    return _Tensor(storage, offset, tuple(size), tuple(strides))


def _rebuild_parameter(tensor: Any, *options: Any) -> Any:
    del options
    return tensor


def _make_dictionary(*pairs: Any) -> _Dictionary:
    return _Dictionary(*pairs)


_GLOBALS = {
    ("collections", "OrderedDict"): _Global(_make_dictionary),
    ("torch._utils", "_rebuild_tensor"): _Global(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Global(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Global(_rebuild_parameter),
    ("torch", "Size"): _Global(tuple),
}
