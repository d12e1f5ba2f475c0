"""The data of an experiment: settings, splits, preprocessing, and unreadable examples."""

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
from jaxcnn.data.tables import LabelKind
from jaxcnn.experiment.fields import Ranges, Relations, Section, is_fraction, is_positive
from jaxcnn.messages import printable

LABEL_KINDS: dict[str, LabelKind] = {
    "multi_class": "classes",
    "binary": "classes",
    "multi_label": "labels",
    "regression": "targets",
}
"""Kind of labels that each task reads from a table."""
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
    """Settings for the data: where it is, how it is read, and how it is split."""

    data: str = "fashion_mnist_slice"
    """Dataset: fashion_mnist_slice (ships with the package); the name of a prepared dataset, such
    as cifar10; a folder, zip or tar with one subfolder of images per class; a table of images (CSV
    or JSON Lines); or FILE.npz."""
    data_dir: str | None = None
    """Folder of prepared datasets; by default, TFDS's own."""
    image_size: tuple[int, int] | None = None
    """Height and width to resize images to; by default, the size expected by the pretrained
    weights, else the dataset's own size, or 64 64 if it has none (as for image files)."""
    channels: int | None = None
    """Number of channels, 1 for grayscale or 3 for color; by default, as in the pretrained
    weights, else as in the dataset, or 3 for image files."""
    on_bad_example: Literal["raise", "skip"] = "raise"
    """Images that cannot be read: stop and name the first (raise), or skip them and list them in
    the run's bad_examples.jsonl (skip); this setting may be changed when resuming a run."""
    test_fraction: float = 0.2
    """Fraction of each class to hold out as the test split, if the data has only training
    examples."""
    normalization: Literal["unit", "symmetric", "standardize"] | tuple[float, ...] = "unit"
    """Scale pixels to [0, 1] (unit) or to [-1, 1] (symmetric), or standardize them with the
    training split's mean and standard deviation (standardize) or with the given numbers: one mean
    per channel, then one standard deviation per channel. Pretrained weights come with their own
    normalization, which overrides this setting."""
    validation_fraction: float = 0.1
    """Fraction of the training split to hold out for validation, unless the data comes with both
    validation and test splits; 0 disables validation."""
    stratified: bool = False
    """Hold out the same fraction of every class for validation."""
    group: str | None = None
    """Keep groups of images, such as all images of one patient, in the same split or fold: the name
    of a table's column, or a regular expression that finds the group in each file name."""
    label_separator: str | None = None
    """String between several labels in one cell of a table, such as a space."""
    balanced: bool = False
    """Sample every class equally often; examples of rare classes are repeated within an epoch."""
    folds: int | None = None
    """Cross-validation: number of folds to split the training examples into."""
    fold: int | None = None
    """Cross-validation: index of the fold to hold out, starting at 0; by default, one run per
    fold."""

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
            "unit, symmetric, standardize, or finite means, then standard deviations > 0, for 1 or "
            "3 channels",
        ),
        "folds": (lambda value: value >= 2, ">= 2"),
    }
    RELATIONS: ClassVar[Relations] = (
        (
            "fold",
            lambda c: c.fold is None or (c.folds is not None and 0 <= c.fold < c.folds),
            "from 0 to folds - 1, with folds set",
        ),
        ("stratified", lambda c: not c.stratified or c.folds is None, "omitted if folds is set"),
        ("stratified", lambda c: not c.stratified or c.group is None, "omitted if group is set"),
    )

    @property
    def has_validation(self) -> bool:
        """True if examples are held out for validation."""
        return self.folds is not None or self.validation_fraction > 0


class Splits(NamedTuple):
    """Examples for training, for validation (possibly none), and for the final test."""

    train: data.ArraySource
    validation: data.ArraySource
    test: data.ArraySource


def load_splits(config: DataConfig, task: str | None = None) -> Splits:
    """Load the data and hold out part of its training split for validation.

    Args:
      config: the settings.
      task: name of the task, which decides how the labels of a table are read; None infers it.

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
        group=config.group,
        label_separator=config.label_separator,
        label_kind=None if task is None else LABEL_KINDS[task],
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


def load_split(
    config: DataConfig, task: str, split: str, metadata: Mapping[str, Any]
) -> data.ArraySource:
    """Load one split of a run's data, split in the same way as in the run.

    Args:
      config: the run's settings.
      task: name of the run's task.
      split: ``train``, ``validation`` or ``test``.
      metadata: metadata from the run's checkpoints, including its `fingerprints`.

    Raises:
      ValueError: if the training data has changed, because the network could then be evaluated on
        examples that it was trained on.
    """
    splits = load_splits(config, task)
    if change := difference(splits, metadata, ("train",)):
        raise ValueError(
            f"data {config.data} has changed since this run was trained: {change}; use jaxcnn "
            "predict for single images, or train again"
        )
    check_readable(config, splits)
    if split == "validation" and not len(splits.validation):
        raise ValueError("this run has no validation split (validation_fraction is 0)")
    return getattr(splits, split)


def make_preprocess(
    source: data.ArraySource, normalization: str | tuple[float, ...]
) -> image.Preprocess:
    """Make the preprocessing for a network trained on ``source``.

    Raises:
      ValueError: if the source does not contain images, or the normalization does not match them.

    Example:
      >>> make_preprocess(load_splits(DataConfig()).train, "symmetric").mean
      (0.5,)
    """
    *size, channels = source.images.shape[1:]
    if len(size) != 2:
        raise ValueError(
            "data must contain [N, H, W, C] images for an experiment, "
            f"got shape {source.images.shape}"
        )
    mean, std = np.zeros(channels), np.ones(channels)
    if normalization == "symmetric":
        mean, std = mean + 0.5, std * 0.5
    elif normalization == "standardize":
        mean, std = data.channel_moments(source.images)
        if not std.all():
            raise ValueError(
                "normalization='standardize' requires channels that vary, got standard deviations "
                f"{std.tolist()}"
            )
    elif not isinstance(normalization, str):
        if len(normalization) != 2 * channels:
            raise ValueError(
                f"normalization must be {channels} means and {channels} standard deviations for "
                f"these images, got {normalization}"
            )
        mean, std = np.split(np.array(normalization), 2)
    height, width = size
    return image.Preprocess(
        size=(height, width), channels=channels, mean=tuple(mean.tolist()), std=tuple(std.tolist())
    )


def check_readable(config: DataConfig, splits: Splits) -> None:
    """Check that each split has a readable image, if unreadable images are skipped.

    Raises:
      ValueError: if no image of a split can be read; the message names the first image and the
        reason.
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
                f"the {split} split of {config.data} must have at least one readable image, got "
                f"{len(source)} unreadable images, the first of them {bad.file}: {bad.reason}"
            )


def unreadable(splits: Splits) -> str | None:
    """Return a message with the number of unreadable images, or None if there are none.

    The message names the classes in which every image is unreadable.
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
            line += f", including all images of {printable(', '.join(lost))}"
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
    """Describe how splits differ from the splits of a run; return None if they are the same.

    Args:
      splits: the current splits.
      metadata: metadata of the run, with its ``classes`` and `fingerprints`.
      names: the splits to compare.
    """
    then, now = metadata["classes"], splits.train.classes
    if list(now) != list(then):
        others = sorted(set(then) ^ set(now))
        named = f" ({printable(', '.join(others[:4]))})" if others else ""
        return f"its classes or their order have changed{named}"
    for name in names:
        if metadata[_KEPT_AS[name]] != data_fingerprint(getattr(splits, name)):
            return f"its {name} split has changed, or other files in the dataset have"
    return None


def data_fingerprint(source: data.ArraySource) -> str:
    """Return the SHA-256 of the labels, and of the pixels or the image files' names and sizes.

    Example:
      >>> source = data.from_arrays(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4) % 2)
      >>> data_fingerprint(source)[:8] == data_fingerprint(source.take(np.array([0, 1])))[:8]
      False
    """
    images = source.images
    content = images.identity if isinstance(images, data.DecodedImages) else images
    arrays = {"images": content, "labels": source.labels}
    if source.weights is not None:
        arrays["weights"] = source.weights
    return train.fingerprint(arrays)


def read_bad_examples(path: Path) -> list[dict[str, Any]]:
    """Return the unreadable examples that a run found before it was resumed.

    Raises:
      ValueError: if the file is damaged.
    """
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; delete it to resume") from error


def write_bad_examples(path: Path, splits: Splits) -> int:
    """Add the unreadable examples to a JSON Lines file, without duplicates.

    Returns:
      The number of examples in the file.
    """
    rows = read_bad_examples(path)
    for split, source in splits._asdict().items():
        for bad in source.bad.values():
            row = {"split": split, "file": bad.file, "label": bad.label, "reason": bad.reason}
            if row not in rows:
                rows.append(row)
    if rows:
        with atomic_write(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)
