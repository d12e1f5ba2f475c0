"""MNIST and related datasets, which are stored as arrays in the IDX format.

Reference:
  http://yann.lecun.com/exdb/mnist/ (the format); the TFDS catalog (names and versions).
"""

import gzip
import io
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from jaxcnn.data.official.download import OfficialFile

Read = Callable[[Mapping[str, Path]], tuple[dict[str, Iterator[Any]], dict[str, list[str]]]]
"""Function that reads official files: the examples of each split, and names for unnamed labels."""

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_EMNIST_CLASSES = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")
# Class names for datasets whose classes have no names in TFDS.
CLASS_NAMES: Mapping[str, tuple[str, ...]] = {
    "fashion_mnist": FASHION_CLASSES,
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "emnist/balanced": _EMNIST_CLASSES,
    "emnist/bymerge": _EMNIST_CLASSES,
    "emnist/byclass": (*_EMNIST_CLASSES[:36], *"abcdefghijklmnopqrstuvwxyz"),
}
_PREFIXES = {"train": "train", "test": "t10k"}
_KINDS = ("images-idx3", "labels-idx1")


def _four_files(
    url: str, checksums: Sequence[str], stamps: Sequence[int | None] = (None, None)
) -> tuple[tuple[OfficialFile, ...]]:
    """Return the files of the training images and labels, then of the test images and labels."""
    names = [f"{prefix}-{kind}-ubyte.gz" for prefix in _PREFIXES.values() for kind in _KINDS]
    return (
        tuple(
            OfficialFile(name, url + name, f"sha256:{checksum}", stamps[place // 2])
            for place, (name, checksum) in enumerate(zip(names, checksums, strict=True))
        ),
    )


# The checksums are the ones registered in TFDS.
MNIST_FILES = _four_files(
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)
FASHION_FILES = _four_files(
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    (1504176606, 1504176627),
)
KMNIST_FILES = _four_files(
    "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    (
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
)
EMNIST_FILES = (
    (
        OfficialFile(
            "gzip.zip",
            "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
            "sha256:fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
        ),
    ),
)


def examples(paths: Mapping[str, Path]) -> Any:
    """Read the examples from the four files."""

    def content(split: str, kind: str) -> bytes:
        path = paths[f"{_PREFIXES[split]}-{kind}-ubyte.gz"]
        return _unzipped(path.read_bytes(), path.name)

    return _splits(content)


def emnist_examples(config: str) -> Read:
    """Return a function that reads one part of EMNIST from the zip that contains all parts."""

    def read(paths: Mapping[str, Path]) -> Any:
        with zipfile.ZipFile(paths["gzip.zip"]) as archive:
            files = {
                (split, kind): archive.read(f"gzip/emnist-{config}-{split}-{kind}-ubyte.gz")
                for split in ("train", "test")
                for kind in _KINDS
            }
        return _splits(lambda split, kind: _unzipped(files[split, kind], f"{split}-{kind}"))

    return read


def png(pixels: np.ndarray) -> bytes:
    """Encode ``[H, W]`` or ``[H, W, 3]`` pixels losslessly as a PNG file."""
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _splits(content: Callable[[str, str], bytes]) -> Any:
    arrays = {
        split: [_array(content(split, kind), f"{split}-{kind}") for kind in _KINDS]
        for split in _PREFIXES
    }
    return {split: _examples(*parts) for split, parts in arrays.items()}, {}


def _examples(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
    if len(images) != len(labels):
        raise ValueError(
            f"images and labels must have the same length, got {len(images)} and {len(labels)}"
        )
    for index, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        yield index, {"image": png(pixels), "label": int(label)}


def _unzipped(content: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise ValueError(f"{name} is not a gzip file: {error}") from error


def _array(content: bytes, name: str) -> np.ndarray:
    """Parse an IDX file of unsigned bytes (uint8): type, rank, sizes, then row-major values."""
    zero, kind, rank = struct.unpack(">HBB", content[:4].ljust(4))
    sizes = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank].ljust(4 * rank))
    values = np.frombuffer(content, np.uint8, offset=min(4 + 4 * rank, len(content)))
    if zero or kind != 8 or values.size != np.prod(sizes, dtype=np.float64):
        raise ValueError(f"{name} is not an IDX file of unsigned bytes")
    return values.reshape(sizes)
