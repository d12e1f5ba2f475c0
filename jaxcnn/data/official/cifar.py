"""CIFAR-10 and CIFAR-100 from their binary files or their pickles.

Reference:
  https://www.cs.toronto.edu/~kriz/cifar.html
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.data import pickles
from jaxcnn.data.files import Files, open_files
from jaxcnn.data.official.download import OfficialFile
from jaxcnn.data.official.idx import Read, png
from jaxcnn.messages import printable

URL = "https://www.cs.toronto.edu/~kriz/"


def _archives(name: str, binary: str, pickled: str) -> tuple[tuple[OfficialFile, ...], ...]:
    """Return the alternatives: binary archive (TFDS's checksum) or pickles (the web page's)."""
    file = f"{name}-binary.tar.gz"
    return (
        (OfficialFile(file, URL + file, f"sha256:{binary}"),),
        (OfficialFile(f"{name}-python.tar.gz", None, f"md5:{pickled}"),),
    )


CIFAR10_FILES = _archives(
    "cifar-10",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "c58f30108f718f92721af3b95e74349a",
)
CIFAR100_FILES = _archives(
    "cifar-100",
    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    "eb9058c3a382ffc7106e4002c42a8d85",
)
_PIXELS = 3 * 32 * 32
# For each label: the file with its class names in the binary archive, and its key in the pickles.
_LABELS: dict[str, dict[str, tuple[str, str]]] = {
    "cifar10": {"label": ("batches.meta.txt", "labels")},
    "cifar100": {
        "coarse_label": ("coarse_label_names.txt", "coarse_labels"),
        "label": ("fine_label_names.txt", "fine_labels"),
    },
}
_META = {
    "labels": "label_names",
    "coarse_labels": "coarse_label_names",
    "fine_labels": "fine_label_names",
}
_TRAIN = {"cifar10": tuple(f"data_batch_{i}" for i in range(1, 6)), "cifar100": ("train",)}
_TEST = {"cifar10": "test_batch", "cifar100": "test"}

_Batch = Callable[[str], tuple[dict[str, np.ndarray], np.ndarray]]


def examples(name: str) -> Read:
    """Return a function that reads one dataset: examples by split, and class names by label."""

    def read(paths: Mapping[str, Path]) -> Any:
        (path,) = paths.values()
        files = open_files(path)
        folder = next(iter(files.sizes), "").split("/")[0]
        is_binary = path.name.endswith("-binary.tar.gz")
        if is_binary:
            names = {
                label: [line for line in _text(files, f"{folder}/{file}") if line]
                for label, (file, _) in _LABELS[name].items()
            }
        else:
            meta = "batches.meta" if name == "cifar10" else "meta"
            values = _unpickled(files.read(f"{folder}/{meta}"))
            names = {
                label: [word.decode() for word in values[_META[key].encode()]]
                for label, (_, key) in _LABELS[name].items()
            }

        def read_batch(batch: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
            if is_binary:
                return _binary(files.read(f"{folder}/{batch}.bin"), name, batch)
            return _pickle(files.read(f"{folder}/{batch}"), name, batch)

        splits = {
            "train": _examples("train_", _TRAIN[name], read_batch),
            "test": _examples("test_", (_TEST[name],), read_batch),
        }
        return splits, names

    return read


def _examples(
    prefix: str, batches: tuple[str, ...], read: _Batch
) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    for batch in batches:
        labels, images = read(batch)
        for row, image in enumerate(images):
            example: dict[str, Any] = {key: int(values[row]) for key, values in labels.items()}
            yield number, example | {"id": f"{prefix}{number:05d}", "image": png(image)}
            number += 1


def _binary(content: bytes, name: str, batch: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    keys = list(_LABELS[name])
    width = len(keys) + _PIXELS
    if not content or len(content) % width:
        raise ValueError(
            f"{batch}.bin must consist of records of {width} bytes, got {len(content)} bytes"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, width)
    labels = {key: rows[:, place] for place, key in enumerate(keys)}
    return labels, _images(rows[:, len(keys) :])


def _pickle(content: bytes, name: str, batch: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    values = _unpickled(content)
    labels = {key: np.array(values[word.encode()]) for key, (_, word) in _LABELS[name].items()}
    data = np.asarray(values[b"data"])
    if data.dtype != np.uint8 or data.shape != (len(next(iter(labels.values()))), _PIXELS):
        raise ValueError(
            f"{batch} must contain [N, {_PIXELS}] uint8 data, got {data.dtype} of shape "
            f"{data.shape}"
        )
    return labels, _images(data)


def _images(rows: np.ndarray) -> np.ndarray:
    """Convert rows of color planes to images ``[N, 32, 32, 3]``."""
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _text(files: Files, name: str) -> list[str]:
    return files.read(name).decode().splitlines()


class _Array:
    """NumPy array or dtype that a pickle first creates and then fills in."""

    def __init__(self, dtype: np.dtype | None = None):
        self.dtype = dtype
        self.value: np.ndarray | None = None


def _numpy_dtype(code: Any, *_: Any) -> _Array:
    if type(code) not in (str, bytes) or code not in _DTYPES:
        raise pickles.PickleError("its pickle has an array of an unknown dtype")
    return _Array(np.dtype(_DTYPES[code]))


def _encoded(text: Any, encoding: Any) -> bytes:
    """Return the bytes that Python 3 pickles as Latin-1 text in protocol 2."""
    if type(text) is not str or encoding not in ("latin1", b"latin1"):
        raise pickles.PickleError("its pickle is damaged")
    return text.encode("latin-1")


def _set_state(target: Any, state: Any) -> None:
    if type(target) is not _Array or target.value is not None:
        raise pickles.PickleError("its pickle sets the state of something that is not an array")
    if target.dtype is not None:  # the state of a dtype: byte order and structure
        if state[1] not in ("<", "|", b"<", b"|"):
            raise pickles.PickleError("its pickle has an array of an unknown dtype")
        return
    _, shape, dtype, is_fortran, content = state
    if type(dtype) is not _Array or dtype.dtype is None or type(content) is not bytes:
        raise pickles.PickleError("its pickle has an array of an unknown dtype")
    values = np.frombuffer(content, dtype.dtype)
    target.value = values.reshape(shape, order="F" if is_fortran else "C")


_DTYPES = {code: text for text in ("u1", "i4", "i8") for code in (text, text.encode())}
_NAMES = {
    "numpy ndarray": None,
    "numpy dtype": pickles.Function(_numpy_dtype),
    "numpy.core.multiarray _reconstruct": pickles.Function(lambda *_: _Array()),
    "numpy._core.multiarray _reconstruct": pickles.Function(lambda *_: _Array()),
    "_codecs encode": pickles.Function(_encoded),
}


def _unpickled(content: bytes) -> dict[bytes, Any]:
    """Read a pickled dictionary of lists and arrays; nothing in it is executed."""
    try:
        values = pickles.read_pickle(content, _NAMES, set_state=_set_state, python2_bytes=True)
    except pickles.PickleError:
        raise
    except Exception as error:  # a damaged pickle may raise any type
        raise ValueError(f"its pickle is damaged: {printable(error)}") from error
    if not isinstance(values, dict):
        raise ValueError(f"its pickle must contain a dictionary, got {type(values).__name__}")
    return {
        key: value.value if isinstance(value, _Array) else value for key, value in values.items()
    }
