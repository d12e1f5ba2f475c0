"""The data of an experiment: its settings, its splits, its preprocessing, and bad examples."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from jaxcnn import data, image, train
from jaxcnn.data.files import atomic_write
from jaxcnn.data.lazy import in_parts
from jaxcnn.experiment.fields import Ranges, Relations, Section, is_fraction, is_positive
from jaxcnn.messages import printable

_KEPT_AS = {"train": "data_sha256", "validation": "validation_sha256", "test": "test_sha256"}


def _are_moments(value: tuple[float, ...]) -> bool:
    channels = len(value) // 2
    return (
        len(value) in (2, 6)
        and all(map(math.isfinite, value))
        and all(map(is_positive, value[channels:]))
    )


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """Settings of the data: where it is, how it is read, and how it is split."""

    data: str = "fashion_mnist_slice"
    """Dataset: fashion_mnist_slice (ships with the package); a prepared one by name, such as
    cifar10; a folder, zip or tar with a folder of images per class; a table of images (CSV, JSON
    lines); or FILE.npz."""
    data_dir: str | None = None
    """Folder of prepared datasets; by default that of TFDS."""
    image_size: tuple[int, int] | None = None
    """Height and width that images are resized to; by default those of the pretrained weights, or
    their own, or 64 64 for files."""
    channels: int | None = None
    """1 for gray or 3 for color; by default those of the pretrained weights, or of the data, or 3
    for files."""
    on_bad_example: Literal["raise", "skip"] = "raise"
    """Images that cannot be read: stop and name the first (raise), or skip them and list them in
    the run's bad_examples.jsonl (skip); a resumed run may change it."""
    test_fraction: float = 0.2
    """Share of each class that becomes the test split, if the data has none."""
    normalization: Literal["unit", "symmetric", "standardize"] | tuple[float, ...] = "unit"
    """Scale pixels to [0, 1] (unit) or to [-1, 1] (symmetric); standardize them by the mean and
    standard deviation of the training split; or by numbers: a mean for each channel, then a
    standard deviation for each. Pretrained weights bring their own."""
    validation_fraction: float = 0.1
    """Share of the training split held out for validation, unless the data has a validation split;
    0 for none."""
    stratified: bool = False
    """Hold out the same share of every class."""
    balanced: bool = False
    """Show every class equally often; examples of rare classes repeat within an epoch."""
    folds: int | None = None
    """Cross-validation: number of folds that the training examples are split into."""
    fold: int | None = None
    """Cross-validation: fold that is held out, from 0; by default one run for each fold."""

    RANGES: ClassVar[Ranges] = {
        "validation_fraction": (is_fraction, "in [0, 1)"),
        "test_fraction": (is_fraction, "in [0, 1)"),
        "image_size": (
            lambda value: len(value) == 2 and min(value) >= 1,
            "a height and a width >= 1",
        ),
        "channels": (lambda value: value in (1, 3), "1 or 3"),
        "normalization": (
            lambda value: isinstance(value, str) or _are_moments(value),
            "unit, symmetric, standardize, or for 1 or 3 channels finite means, then deviations "
            "> 0",
        ),
        "folds": (lambda value: value >= 2, ">= 2"),
    }
    RELATIONS: ClassVar[Relations] = (
        (
            "fold",
            lambda c: c.fold is None or (c.folds is not None and 0 <= c.fold < c.folds),
            "from 0 to folds - 1, with folds given",
        ),
        ("stratified", lambda c: not c.stratified or c.folds is None, "left out with folds"),
    )

    @property
    def has_validation(self) -> bool:
        """True if examples are held out for validation."""
        return self.folds is not None or self.validation_fraction > 0


class Splits(NamedTuple):
    """Examples to train on, to validate on (possibly none), and to test on at the end."""

    train: data.ArraySource
    validation: data.ArraySource
    test: data.ArraySource


def load_splits(config: DataConfig) -> Splits:
    """Load the data and hold out a part of its training split for validation.

    Raises:
      ValueError: if the data cannot be loaded or split as configured.

    Example:
      >>> [len(split) for split in load_splits(DataConfig(validation_fraction=0.25))]
      [7500, 2500, 2000]
    """
    splits = data.load_splits(
        config.data,
        data_dir=config.data_dir,
        size=config.image_size,
        channels=config.channels,
        test_fraction=config.test_fraction,
        on_bad=config.on_bad_example,
    )
    training, test = splits["train"], splits["test"]
    if config.folds is not None:
        if config.fold is None:
            raise ValueError(f"fold must be from 0 to {config.folds - 1} in a single run, got None")
        return Splits(*data.take_fold(training, config.folds, config.fold), test)
    if "validation" in splits and config.validation_fraction:
        return Splits(training, splits["validation"], test)
    parts = data.hold_out(training, config.validation_fraction, stratified=config.stratified)
    return Splits(*parts, test)


def load_split(config: DataConfig, split: str, metadata: Mapping[str, Any]) -> data.ArraySource:
    """Load one split of a run, divided as the run divided it.

    Args:
      config: settings of the run.
      split: ``train``, ``validation`` or ``test``.
      metadata: metadata of the run's checkpoints, with `fingerprints`.

    Raises:
      ValueError: if the training data has changed, because another division would mix examples
        that the network was trained on with those that it is measured on.
    """
    splits = load_splits(config)
    if change := difference(splits, metadata, ("train",)):
        raise ValueError(
            f"data {config.data} has changed since this run was trained: {change}; predict single "
            "images with jaxcnn predict, or train again"
        )
    check_readable(config, splits)
    if split == "validation" and not len(splits.validation):
        raise ValueError("this run held out no validation split (validation_fraction is 0)")
    return getattr(splits, split)


def make_preprocess(
    source: data.ArraySource, normalization: str | tuple[float, ...]
) -> image.Preprocess:
    """Make the preprocessing of a network that is trained on ``source``.

    Raises:
      ValueError: if the source does not have images, or the normalization does not fit them.

    Example:
      >>> make_preprocess(load_splits(DataConfig()).train, "symmetric").mean
      (0.5,)
    """
    *size, channels = source.images.shape[1:]
    if len(size) != 2:
        raise ValueError(
            f"data must have images [N, H, W, C] for an experiment, got shape {source.images.shape}"
        )
    mean, std = np.zeros(channels), np.ones(channels)
    if normalization == "symmetric":
        mean, std = mean + 0.5, std * 0.5
    elif normalization == "standardize":
        mean, std = data.channel_moments(source.images)
        if not std.all():
            raise ValueError(
                f"normalization standardize needs channels that vary, got deviations {std.tolist()}"
            )
    elif not isinstance(normalization, str):
        if len(normalization) != 2 * channels:
            raise ValueError(
                f"normalization must be {channels} means and {channels} deviations for these "
                f"images, got {normalization}"
            )
        mean, std = np.split(np.array(normalization), 2)
    height, width = size
    return image.Preprocess(
        size=(height, width), channels=channels, mean=tuple(mean.tolist()), std=tuple(std.tolist())
    )


def check_readable(config: DataConfig, splits: Splits) -> None:
    """Check that each split has a readable image, if unreadable ones are skipped.

    Raises:
      ValueError: if no image of a split can be read; it names the first one and the reason.
    """
    if config.on_bad_example != "skip":
        return
    for split, source in splits._asdict().items():
        images = source.images
        if not isinstance(images, data.DecodedImages):
            continue
        # Usually decodes a single image, or a few if the first ones are bad.
        if len(source) and not any(len(part) for part in in_parts(images, rows=32)):
            bad = source.bad[0]
            raise ValueError(
                f"the {split} split of {config.data} must have an image that can be read, got "
                f"{len(source)} that cannot, the first of them {bad.file}: {bad.reason}"
            )


def unreadable(splits: Splits) -> str | None:
    """Return a message on the number of unreadable images, None if there are none.

    It names classes that have no other images.
    """
    bad, every = (sum(map(len, sources)) for sources in ((s.bad for s in splits), splits))
    if not bad:
        return None
    line = f"{bad:,} of {every:,} images could not be read"
    if splits.train.labels.ndim == 1:
        before, after = (
            np.concatenate([source.labels for source in sources])
            for sources in (splits, [source.without_bad() for source in splits])
        )
        lost = [splits.train.classes[label] for label in np.setdiff1d(before, after)]
        if lost:
            line += f", among them all of {printable(', '.join(lost))}"
    return line


def fingerprints(splits: Splits) -> dict[str, str]:
    """Return the fingerprints of the splits, as stored in a run's metadata.

    Example:
      >>> sorted(fingerprints(load_splits(DataConfig())))
      ['data_sha256', 'test_sha256', 'validation_sha256']
    """
    return {_KEPT_AS[name]: data_fingerprint(source) for name, source in splits._asdict().items()}


def difference(
    splits: Splits, metadata: Mapping[str, Any], names: Sequence[str] = Splits._fields
) -> str | None:
    """Describe how splits differ from those of a run; None if they are equal.

    Args:
      splits: the present splits.
      metadata: metadata of the run, with its ``classes`` and `fingerprints`.
      names: the splits to compare.
    """
    then, now = metadata["classes"], splits.train.classes
    if list(now) != list(then):
        others = sorted(set(then) ^ set(now))
        named = f" ({printable(', '.join(others[:4]))})" if others else ""
        return f"its classes, or their order, are different{named}"
    for name in names:
        if metadata[_KEPT_AS[name]] != data_fingerprint(getattr(splits, name)):
            return f"its {name} split has changed, or the files beside it"
    return None


def data_fingerprint(source: data.ArraySource) -> str:
    """Return a SHA-256 of the labels and the pixels, or of the names and sizes of image files.

    Example:
      >>> source = data.from_arrays(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4) % 2)
      >>> data_fingerprint(source)[:8] == data_fingerprint(source.take(np.array([0, 1])))[:8]
      False
    """
    images = source.images
    content = images.identity if isinstance(images, data.DecodedImages) else images
    return train.fingerprint({"images": content, "labels": source.labels})


def write_bad_examples(path: Path, splits: Splits) -> int:
    """Add the unreadable examples to a file of JSON lines, without duplicates.

    Returns:
      Number of examples in the file.
    """
    rows = []
    if path.is_file():  # written before the run was resumed
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    for split, source in splits._asdict().items():
        for bad in source.bad.values():
            row = {"split": split, "file": bad.file, "label": bad.label, "reason": bad.reason}
            if row not in rows:
                rows.append(row)
    if rows:
        with atomic_write(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)
