"""Reader for the pickles in PyTorch files, which describe where the tensors are stored."""

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxcnn.data import pickles
from jaxcnn.data.pickles import Function, PickleError

LONGEST = 1 << 22
"""Maximum size of a pickle in bytes; a ``state_dict`` with 1,000 layers takes about 1/20 of it."""

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


class Storage(NamedTuple):
    """Typed array in the file: its key, type and number of values."""

    key: str
    dtype: np.dtype
    length: int


class Tensor(NamedTuple):
    """View of a storage; the caller checks that the view lies within the storage."""

    storage: Storage
    offset: Any
    size: Any
    strides: Any


class _StorageType(NamedTuple):
    dtype: np.dtype


def read_pickle(data: bytes) -> tuple[Any, dict[str, Storage]]:
    """Return the content of a pickle, and all storages that it references, by key.

    Raises:
      ValueError: if the pickle uses anything that a ``state_dict`` does not need.
      Exception: of any type, if the pickle is damaged.
    """
    if len(data) > LONGEST:
        raise ValueError("its pickle is too long for a state_dict")
    storages: dict[str, Storage] = {}

    def find_storage(identifier: Any) -> Storage:
        kind, storage_type, key, _, count, *view = identifier
        if type(kind) is not str or kind != "storage" or type(storage_type) is not _StorageType:
            raise PickleError("its pickle has a storage of an unknown kind")
        if type(key) is not str or type(count) is not int or any(part is not None for part in view):
            raise PickleError("its pickle has a storage of an unknown kind")
        storages[key] = Storage(key, storage_type.dtype, count)
        return storages[key]

    value = pickles.read_pickle(data, _NAMES, persistent=find_storage, set_state=_ignore_state)
    return value, storages


def _ignore_state(value: Any, state: Any) -> None:
    """Ignore the attributes that torch sets on an OrderedDict."""
    del state
    if type(value) is not dict:
        raise PickleError("its pickle sets attributes of something that is not a dictionary")


def _dictionary(pairs: Any = ()) -> dict[Any, Any]:
    """Build a dictionary from an OrderedDict's argument: nothing, or a list of pairs."""
    if type(pairs) not in (tuple, list):
        raise PickleError("its pickle is damaged")
    made: dict[Any, Any] = {}
    for key, value in pairs:
        pickles.put(made, key, value)
    return made


def _tensor(storage: Any, offset: Any, size: Any, strides: Any, *_: Any) -> Tensor:
    if type(storage) is not Storage:
        raise PickleError("a tensor has no storage")
    return Tensor(storage, offset, size, strides)


_NAMES = {
    "collections OrderedDict": Function(_dictionary),
    "torch._utils _rebuild_tensor": Function(_tensor),
    "torch._utils _rebuild_tensor_v2": Function(_tensor),
    "torch._utils _rebuild_parameter": Function(lambda tensor, *_: tensor),
    "torch Size": Function(lambda size: size),
    **{f"torch {name}": _StorageType(dtype) for name, dtype in _DTYPES.items()},
}
