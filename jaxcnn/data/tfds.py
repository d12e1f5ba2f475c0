"""Reading TFDS datasets in ArrayRecord format, without TensorFlow."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.data.lazy import Encoded
from jaxcnn.data.official.idx import CLASS_NAMES
from jaxcnn.data.reading import CHANNELS, SIZE, Reading
from jaxcnn.data.sources import ArraySource, from_arrays, label_names

# A split with images of one size and at most this many bytes is decoded immediately.
_IN_MEMORY = 2 << 30
_CHUNK = 1024  # records
# Minimum pixels per image for decoding in several threads. With smaller images, this takes up to
# twice as long as in one thread: the threads spend most of their time waiting for the GIL.
_THREADS_PAY = 96 * 96


def data_root(data_dir: str | Path | None) -> Path:
    """Return the folder of prepared datasets; None means TFDS's own."""
    import tensorflow_datasets as tfds

    return Path(tfds.core.constants.DATA_DIR if data_dir is None else data_dir).expanduser()


def find_prepared(name: str, data_dir: str | Path | None) -> Path | None:
    """Return the folder of a dataset's newest version, or None if it is not prepared.

    Args:
      name: TFDS name: ``cifar10``, ``emnist/balanced``, or with a version, ``cifar10:3.0.2``.
      data_dir: folder of prepared datasets; None means TFDS's own.
    """
    name, _, version = name.partition(":")
    if not name or any(part in ("", ".", "..") for part in name.split("/")):
        return None
    if version and not re.fullmatch(r"[\d.]+", version):
        return None
    folder = data_root(data_dir) / name
    # TFDS writes this file last, into a folder that it renames when complete.
    found = [path.parent for path in folder.glob(f"{version or '*'}/dataset_info.json")]
    numbers = {path: path.name.split(".") for path in found}
    found = [path for path in found if all(part.isdecimal() for part in numbers[path])]
    return max(found, key=lambda path: [int(part) for part in numbers[path]], default=None)


def read_prepared(name: str, folder: Path, reading: Reading) -> dict[str, ArraySource]:
    """Read the splits of a prepared dataset.

    Splits of at most 2 GiB with images of one size are decoded immediately, others when read.

    Args:
      name: name of the dataset, for messages.
      folder: folder of one version, with its ``dataset_info.json``.
      reading: options for reading.

    Raises:
      ValueError: if files are damaged or incomplete, or the examples are not labeled images.
    """
    import tensorflow_datasets as tfds

    _check_format(folder)
    _check_features(folder)
    try:
        builder = tfds.builder_from_directory(folder)
        keys = _keys(builder.info)
        splits: dict[str, ArraySource] = {}
        for split in builder.info.splits:
            if split in ("train", "validation", "test"):
                _check_shards(folder, builder.info.splits[split])
                source = _read_split(builder, split, keys, reading)
                if source is not None:
                    splits[split] = source
    except Exception as error:
        # The readers raise many exception types: RuntimeError, IndexError, OSError.
        raise ValueError(
            f"the prepared dataset {name} in {folder} is damaged ({type(error).__name__}: "
            f"{error}); delete that folder and run: jaxcnn prepare {name}"
        ) from error
    if "train" not in splits:
        raise ValueError(f"the dataset in {folder} must have a train split, got {list(splits)}")
    return reading.with_test_split(splits, f"the prepared dataset {name} in {folder}")


def _check_format(folder: Path) -> None:
    """Reject datasets stored as TFRecord."""
    try:
        written = json.loads((folder / "dataset_info.json").read_text()).get("fileFormat")
    except (OSError, ValueError, AttributeError):
        return  # damaged; `read_prepared` reports it
    if written not in (None, "array_record"):
        raise ValueError(
            f"the dataset in {folder} must be in array_record format, got {written}; prepare it "
            "again with file_format='array_record', or run jaxcnn prepare with a different folder"
        )


def _check_features(folder: Path) -> None:
    """Reject metadata that would make TFDS import modules outside TFDS."""
    try:
        pending = [json.loads((folder / "features.json").read_text())]
    except (OSError, ValueError):
        return  # damaged; `read_prepared` reports it
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending += part
        if not isinstance(part, dict):
            continue
        for name in (part.get("pythonClassName"), part.get("type")):
            if isinstance(name, str) and not name.startswith("tensorflow_datasets."):
                raise ValueError(
                    f"the dataset in {folder} is rejected: its features.json names {name!r}, "
                    "which is not part of TFDS"
                )
        pending += part.values()


def _keys(info: Any) -> tuple[str, str]:
    """Return the names of the image and label features."""
    keys = info.supervised_keys or ("image", "label")
    if len(keys) != 2 or any(key not in info.features for key in keys):
        raise ValueError(f"it must have an image and a label, got {', '.join(info.features)}")
    return keys


def _check_shards(folder: Path, split: Any) -> None:
    """Check that all records exist, so that damage is not discovered in the middle of an epoch."""
    from array_record.python import array_record_module

    for path, count in zip(split.filepaths, split.shard_lengths, strict=True):
        reader = array_record_module.ArrayRecordReader(str(path))
        found = reader.num_records() if reader.ok() else None
        reader.close()
        if found != count:
            raise ValueError(f"{Path(path).name} must contain {count} records, got {found}")


def _read_split(
    builder: Any,
    split: str,
    keys: tuple[str, str],
    reading: Reading,
) -> ArraySource | None:
    """Read one split, or return None if it has no labels, as in ImageNet's test split."""
    import tensorflow_datasets as tfds

    image, label = keys
    # Have TFDS skip checking and converting all features, which would take ten times as long.
    records = builder.as_data_source(
        split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    shape = [-1 if length is None else length for length in builder.info.features[label].shape]
    given = np.array(
        [
            numbers
            for first in range(0, len(records), _CHUNK)
            for numbers in _values(records, range(first, min(first + _CHUNK, len(records))), label)
        ]
    ).reshape(len(records), *shape)
    names = getattr(builder.info.features[label], "names", None)
    if names is None or names == list(map(str, range(len(names)))):
        names = CLASS_NAMES.get(builder.info.full_name.rpartition("/")[0], names)
    if (given == -1).all():
        return None
    labels = from_arrays(np.zeros((len(given), 1, 1), np.uint8), given, classes=names)
    own_height, own_width, own_channels = builder.info.features[image].shape

    def read_many(numbers: Sequence[int]) -> list[bytes]:
        return [content for (content,) in _values(records, numbers, image)]

    encoded = Encoded(
        length=len(records),
        read=lambda number: read_many([number])[0],
        name=lambda number: f"number {number} in the {split} split of {builder.info.name}",
        label=label_names(labels.labels, labels.classes),
        identity=lambda: _identity(builder.info.splits[split]),
        read_many=read_many,
    )
    has_size = bool(own_height and own_width)
    images = reading.images(
        encoded,
        (own_height, own_width) if has_size else SIZE,
        own_channels if own_channels in (1, 3) else CHANNELS,
    )
    if has_size and math.prod(images.shape) <= _IN_MEMORY:
        threads = 1 if own_height * own_width < _THREADS_PAY else None
        pixels, readable = images.read(np.arange(len(images)), threads=threads)
        # If any image is unreadable, keep the lazy images so that batches can mask it.
        if readable.all():
            return ArraySource(pixels, labels.labels, labels.classes)
    return ArraySource(images, labels.labels, labels.classes)


def _values(records: Any, numbers: Sequence[int], feature: str) -> list[Any]:
    """Return a feature's values in stored records, one sequence of numbers or bytes per record."""
    from tensorflow_datasets.proto import tf_example_pb2

    found = []
    for record in records.__getitems__(numbers):
        values = tf_example_pb2.Example.FromString(record).features.feature[feature]
        found.append(getattr(values, values.WhichOneof("kind")).value)
    return found


def _identity(split: Any) -> bytes:
    lines = [f"{Path(path).name} {Path(path).stat().st_size}" for path in split.filepaths]
    return "\n".join(lines).encode()
