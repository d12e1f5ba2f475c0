"""Fashion-MNIST as a TFDS data set, prepared and read without TensorFlow.

`prepare` writes ``fashion_mnist/3.0.1`` as ArrayRecord files of PNG images, example by example
what TFDS itself prepares with TensorFlow, so plain ``tfds.data_source`` reads it too.
"""

import gzip
import hashlib
import http.client
import io
import struct
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

NAME = "fashion_mnist"
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"

# The SHA-256 sums that TFDS registers for the official files, and the time stamp inside each.
# Some distributions (Debian) strip the gzip header's name and time; putting them back restores
# the official bytes, so the same sums verify those copies.
_OFFICIAL = {
    "train-images-idx3-ubyte": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        1504176606,
    ),
    "train-labels-idx1-ubyte": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        1504176606,
    ),
    "t10k-images-idx3-ubyte": (
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        1504176627,
    ),
    "t10k-labels-idx1-ubyte": (
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        1504176627,
    ),
}
_FILES = ", ".join(f"{name}.gz" for name in _OFFICIAL)
_PREFIXES = {"train": "train", "test": "t10k"}


def prepare(source: Path | None, data_dir: str | Path | None) -> Path:
    """Write the prepared data set and return its folder; a finished one is left as it is.

    Args:
      source: folder with the four official ``.gz`` files, or None to download them.
      data_dir: where prepared data sets live, None for TFDS's own folder.

    Raises:
      ValueError: if a file is missing, cannot be downloaded, or differs from the official one.
    """
    import tensorflow_datasets as tfds

    if _is_prepared(_folder(data_dir)):
        return _folder(data_dir)
    raw = {
        split: tuple(
            _official_bytes(f"{prefix}-{kind}-ubyte", source)
            for kind in ("images-idx3", "labels-idx1")
        )
        for split, prefix in _PREFIXES.items()
    }
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    builder = _builder(raw, data_dir)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return Path(builder.data_dir)


def read(split: str, data_dir: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Decode one prepared split into memory: images ``[N, 28, 28, 1]`` uint8, labels ``[N]``.

    Raises:
      ValueError: if the data set is not prepared there, or its files are damaged.
    """
    import tensorflow_datasets as tfds

    folder = _folder(data_dir)
    if not _is_prepared(folder):
        raise ValueError(
            f"{NAME} is not prepared in {folder.parent.parent}; run: jaxcnn prepare {NAME}"
        )
    try:
        examples = tfds.builder_from_directory(folder).as_data_source(
            split, decoders={"image": tfds.decode.SkipDecoding()}
        )
        records = examples.__getitems__(range(len(examples)))
        pixels = [np.asarray(PIL.Image.open(io.BytesIO(record["image"]))) for record in records]
    except Exception as error:
        # The readers below raise whatever their format does: RuntimeError, IndexError, OSError.
        raise ValueError(
            f"the prepared {NAME} in {folder} is damaged ({type(error).__name__}: {error}); "
            f"delete that folder and run: jaxcnn prepare {NAME}"
        ) from error
    labels = np.array([record["label"] for record in records], np.int32)
    return np.stack(pixels)[..., None], labels


def _folder(data_dir: str | Path | None) -> Path:
    import tensorflow_datasets as tfds

    root = tfds.core.constants.DATA_DIR if data_dir is None else data_dir
    return Path(root).expanduser() / NAME / "3.0.1"


def _is_prepared(folder: Path) -> bool:
    # TFDS writes this file last, into a folder that it renames when it is complete.
    return (folder / "dataset_info.json").is_file()


def _official_bytes(name: str, source: Path | None) -> bytes:
    checksum, timestamp = _OFFICIAL[name]
    content = _download(f"{name}.gz") if source is None else _from_folder(f"{name}.gz", source)
    restored = (
        content[:3]
        + b"\x08"
        + struct.pack("<I", timestamp)
        + content[8:10]
        + name.encode()
        + b"\0"
        + content[10:]
    )
    for candidate in (content, restored):
        if hashlib.sha256(candidate).hexdigest() == checksum:
            return gzip.decompress(candidate)
    raise ValueError(
        f"{name}.gz in {source or URL} is not the official file: its SHA-256 must be {checksum}, "
        f"got {hashlib.sha256(content).hexdigest()}"
    )


def _from_folder(name: str, source: Path) -> bytes:
    path = source / name
    if not path.is_file():
        raise ValueError(f"--from must be a folder with {_FILES}; {path} does not exist")
    return path.read_bytes()


def _download(name: str) -> bytes:
    try:
        with urllib.request.urlopen(URL + name, timeout=30) as response:
            return response.read()
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        raise ValueError(
            f"cannot download {URL}{name} ({error}); fetch {_FILES} "
            f"from there by other means and run: jaxcnn prepare {NAME} --from FOLDER"
        ) from error


def _builder(raw: dict[str, tuple[bytes, ...]], data_dir: str | Path | None) -> Any:
    """TFDS's own builder (same name, version and features), fed with PNG bytes.

    Upstream yields arrays, which TFDS can only encode with TensorFlow.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.image_classification import mnist

    # TFDS ships no types, so the keyword of its `__init_subclass__` is unknown to the checker.
    class FashionMNIST(mnist.FashionMNIST, skip_registration=True):  # type: ignore[call-arg]
        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
            return {split: self._examples(*files) for split, files in raw.items()}

        def _examples(self, images: bytes, labels: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
            # IDX files: a header of 16 and 8 bytes, then the values row by row.
            pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
            for index, label in enumerate(np.frombuffer(labels, np.uint8, offset=8)):
                file = io.BytesIO()
                PIL.Image.fromarray(pixels[index]).save(file, "PNG")
                yield index, {"image": file.getvalue(), "label": int(label)}

    root = None if data_dir is None else Path(data_dir).expanduser()
    return FashionMNIST(data_dir=root, file_format=tfds.core.FileFormat.ARRAY_RECORD)
