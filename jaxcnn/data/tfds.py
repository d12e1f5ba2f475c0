"""Data sets on disk in TFDS's ArrayRecord format, read without TensorFlow."""

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.data.lazy import DecodedImages, Encoded, OnBad, workers
from jaxcnn.data.official.idx import CLASS_NAMES
from jaxcnn.data.sources import ArraySource, from_arrays, label_names
from jaxcnn.data.splits import with_test_split

_IN_MEMORY = 2 << 30  # bytes of a split whose images, all of one size, are decoded when it is read
_PART = 1024  # records
# Pixels of an image. Decoding smaller ones in several threads takes up to twice as long as in one:
# they do little else than wait for the interpreter.
_THREADS_PAY = 96 * 96


def data_root(data_dir: str | Path | None) -> Path:
    """Where prepared data sets live; None means TFDS's own folder."""
    import tensorflow_datasets as tfds

    return Path(tfds.core.constants.DATA_DIR if data_dir is None else data_dir).expanduser()


def find_prepared(name: str, data_dir: str | Path | None) -> Path | None:
    """The folder of the newest version of a data set, or None if there is none.

    Args:
      name: as TFDS has it: ``cifar10``, ``emnist/balanced``, or of one version, ``cifar10:3.0.2``.
      data_dir: where to look; None means TFDS's own folder.
    """
    name, _, version = name.partition(":")
    if not name or any(part in ("", ".", "..") for part in name.split("/")):
        return None
    if version and not re.fullmatch(r"[\d.]+", version):
        return None
    folder = data_root(data_dir) / name
    # TFDS writes this file last, into a folder that it renames when it is complete.
    found = [path.parent for path in folder.glob(f"{version or '*'}/dataset_info.json")]
    numbers = {path: path.name.split(".") for path in found}
    found = [path for path in found if all(part.isdecimal() for part in numbers[path])]
    return max(found, key=lambda path: [int(part) for part in numbers[path]], default=None)


def read_prepared(
    name: str,
    folder: Path,
    *,
    size: tuple[int, int] | None,
    channels: int | None,
    test_fraction: float | None,
    on_bad: OnBad,
) -> dict[str, ArraySource]:
    """The splits of a prepared data set.

    Small images of one size are decoded here, others when they are taken.

    Args:
      name: what the data set is called.
      folder: of one version, with its ``dataset_info.json``.
      size: (height, width) to bring images to; None for their own, or 64 x 64 if they have none.
      channels: 1 or 3; None for their own.
      test_fraction: share of each class that becomes the test split, if there is none; None leaves
        the splits as they are.
      on_bad: as for `from_source`.

    Raises:
      ValueError: if its files are damaged or incomplete, or it is not of labelled images.
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
                source = _read_split(builder, split, keys, size, channels, on_bad)
                if source is not None:
                    splits[split] = source
    except Exception as error:
        # The readers below raise whatever their format does: RuntimeError, IndexError, OSError.
        raise ValueError(
            f"the prepared {name} in {folder} is damaged ({type(error).__name__}: {error}); "
            f"delete that folder and run: jaxcnn prepare {name}"
        ) from error
    if "train" not in splits:
        raise ValueError(f"the data set in {folder} must have a split train, got {list(splits)}")
    if test_fraction is None:
        return splits
    return with_test_split(splits, test_fraction, f"the prepared {name} in {folder}")


def _check_format(folder: Path) -> None:
    """Refuse what is whole, but not written as ArrayRecord, TFDS's other format."""
    try:
        written = json.loads((folder / "dataset_info.json").read_text()).get("fileFormat")
    except (OSError, ValueError, AttributeError):
        return  # damaged, which is found next
    if written not in (None, "array_record"):
        raise ValueError(
            f"the data set in {folder} must be written as array_record, got {written}; prepare "
            "it again with file_format='array_record', or by jaxcnn prepare into another folder"
        )


def _check_features(folder: Path) -> None:
    """Refuse what would have TFDS import a module that is not its own: it imports what is named."""
    try:
        pending = [json.loads((folder / "features.json").read_text())]
    except (OSError, ValueError):
        return  # damaged, which is found next
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending += part
        if not isinstance(part, dict):
            continue
        for name in (part.get("pythonClassName"), part.get("type")):
            if isinstance(name, str) and not name.startswith("tensorflow_datasets."):
                raise ValueError(
                    f"the data set in {folder} is refused: its features.json asks for {name!r}, "
                    "which is not of TFDS"
                )
        pending += part.values()


def _keys(info: Any) -> tuple[str, str]:
    """Which features are image and label."""
    keys = info.supervised_keys or ("image", "label")
    if len(keys) != 2 or any(key not in info.features for key in keys):
        raise ValueError(f"it must have an image and a label, got {', '.join(info.features)}")
    return keys


def _check_shards(folder: Path, split: Any) -> None:
    """What is missing or cut off is found now, not in the middle of an epoch."""
    from array_record.python import array_record_module

    for path, count in zip(split.filepaths, split.shard_lengths, strict=True):
        reader = array_record_module.ArrayRecordReader(str(path))
        found = reader.num_records() if reader.ok() else None
        reader.close()
        if found != count:
            raise ValueError(f"{Path(path).name} must hold {count} records, got {found}")


def _read_split(
    builder: Any,
    split: str,
    keys: tuple[str, str],
    size: tuple[int, int] | None,
    channels: int | None,
    on_bad: OnBad,
) -> ArraySource | None:
    """One split, or None if it has no labels, as ImageNet's own test split."""
    import tensorflow_datasets as tfds

    image, label = keys
    # TFDS would check and convert every feature of a record, which takes ten times as long.
    records = builder.as_data_source(
        split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    shape = [-1 if length is None else length for length in builder.info.features[label].shape]
    given = np.array(
        [
            numbers
            for first in range(0, len(records), _PART)
            for numbers in _values(records, range(first, min(first + _PART, len(records))), label)
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
        name=lambda number: f"{split} number {number} of {builder.info.name}",
        label=label_names(labels.labels, labels.classes),
        identity=lambda: _identity(builder.info.splits[split]),
        read_many=read_many,
    )
    images = DecodedImages(
        encoded,
        size=size or ((own_height, own_width) if own_height and own_width else (64, 64)),
        channels=channels or (own_channels if own_channels in (1, 3) else 3),
        on_bad=on_bad,
    )
    pixels: np.ndarray | DecodedImages = images
    if own_height and own_width and np.prod(images.shape) <= _IN_MEMORY:
        threads = 1 if own_height * own_width < _THREADS_PAY else workers()
        with ThreadPoolExecutor(threads) as pool:
            pixels, _ = images.gather(np.arange(len(images)), pool)()
    # Where some are bad they have to be told of in every batch.
    return ArraySource(images if images.bad else pixels, labels.labels, labels.classes)


def _values(records: Any, numbers: Sequence[int], feature: str) -> list[Any]:
    """What records, as they are stored, hold of a feature: a sequence of numbers or bytes each."""
    from tensorflow_datasets.proto import tf_example_pb2

    found = []
    for record in records.__getitems__(numbers):
        values = tf_example_pb2.Example.FromString(record).features.feature[feature]
        found.append(getattr(values, values.WhichOneof("kind")).value)
    return found


def _identity(split: Any) -> bytes:
    lines = [f"{Path(path).name} {Path(path).stat().st_size}" for path in split.filepaths]
    return "\n".join(lines).encode()
