"""The examples of an experiment: its splits, what its network expects of them, and bad ones."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcnn import data, image, train
from jaxcnn.data.files import atomic_write
from jaxcnn.data.lazy import in_parts
from jaxcnn.experiment.config import Experiment
from jaxcnn.messages import printable

_KEPT_AS = {"train": "data_sha256", "validation": "validation_sha256", "test": "test_sha256"}


class Splits(NamedTuple):
    """What an experiment trains on, chooses by (perhaps nothing), and is measured on at the end."""

    train: data.ArraySource
    validation: data.ArraySource
    test: data.ArraySource


def load_splits(experiment: Experiment) -> Splits:
    """The splits of an experiment's data, with a part of its training split held out.

    Raises:
      ValueError: if the data cannot be loaded, or not be divided so.
    """
    splits = data.load_splits(
        experiment.data,
        data_dir=experiment.data_dir,
        size=experiment.image_size,
        channels=experiment.channels,
        test_fraction=experiment.test_fraction,
        on_bad=experiment.on_bad_example,
    )
    training, test = splits["train"], splits["test"]
    if experiment.folds is not None:
        if experiment.fold is None:
            raise ValueError(
                f"fold must be from 0 to {experiment.folds - 1} in a single run, got None"
            )
        return Splits(*data.take_fold(training, experiment.folds, experiment.fold), test)
    if "validation" in splits and experiment.validation_fraction:
        return Splits(training, splits["validation"], test)
    parts = data.hold_out(
        training, experiment.validation_fraction, stratified=experiment.stratified
    )
    return Splits(*parts, test)


def load_split(experiment: Experiment, split: str, metadata: Mapping[str, Any]) -> data.ArraySource:
    """The examples of one split of a run: ``train`` and ``validation`` as it divided them.

    Args:
      experiment: the run's.
      split: ``train``, ``validation`` or ``test``.
      metadata: what the run keeps of its data, with `fingerprints`.

    Raises:
      ValueError: if the data is no longer what the run was trained on: others might be divided so
        that what it has learned is measured as new.
    """
    splits = load_splits(experiment)
    if change := difference(splits, metadata, ("train",)):
        raise ValueError(
            f"data {experiment.data} is no longer what this run was trained on: {change}; ask for "
            "single images with jaxcnn predict, or train anew"
        )
    check_readable(experiment, splits)
    if split == "validation" and not len(splits.validation):
        raise ValueError("this run held out no validation slice (validation_fraction is 0)")
    return getattr(splits, split)


def make_preprocess(
    source: data.ArraySource, normalization: str | tuple[float, ...]
) -> image.Preprocess:
    """What a network trained on ``source`` expects of its images."""
    *size, channels = source.images.shape[1:]
    if len(size) != 2:
        raise ValueError(
            f"data must hold images [N, H, W, C] for an experiment, got shape {source.images.shape}"
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


def check_readable(experiment: Experiment, splits: Splits) -> None:
    """Refuse a split of which no image can be read, where those are skipped.

    Raises:
      ValueError: if there is one; it names the first image, and why it cannot be read.
    """
    for split, source in splits._asdict().items():
        images = source.images
        if not isinstance(images, data.DecodedImages) or experiment.on_bad_example != "skip":
            continue
        # Mostly a single image is decoded, or with bad ones among the first, a few.
        if len(source) and not any(len(part) for part in in_parts(images, rows=32)):
            bad = source.bad[0]
            raise ValueError(
                f"the {split} split of {experiment.data} must hold an image that can be read, got "
                f"{len(source)} that cannot, the first of them {bad.file}: {bad.reason}"
            )


def unreadable(splits: Splits) -> str | None:
    """How many of the images were found to be unreadable, in words; None if there are none.

    Classes that have no other images are named.
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
    """What a run keeps of its splits, to know them again; see `difference`."""
    return {_KEPT_AS[name]: fingerprint(source) for name, source in splits._asdict().items()}


def difference(
    splits: Splits, metadata: Mapping[str, Any], names: Sequence[str] = Splits._fields
) -> str | None:
    """How splits differ from those that a run keeps, in words; None if they do not.

    Args:
      splits: what there is now.
      metadata: the run's ``classes`` and `fingerprints`; older runs have that of ``train`` alone.
      names: the splits to compare.
    """
    then, now = metadata["classes"], splits.train.classes
    if list(now) != list(then):
        others = sorted(set(then) ^ set(now))
        named = f" ({printable(', '.join(others[:4]))})" if others else ""
        return f"its classes, or their order, are others{named}"
    for name in names:
        if metadata.get(_KEPT_AS[name]) not in (None, fingerprint(getattr(splits, name))):
            return f"its {name} split has changed, or the files beside it"
    return None


def fingerprint(source: data.ArraySource) -> str:
    """A SHA-256 that changes with the examples: their pixels, or names and sizes of their files."""
    images = source.images
    content = images.identity if isinstance(images, data.DecodedImages) else images
    return train.fingerprint({"images": content, "labels": source.labels})


def with_absolute_paths(experiment: Experiment) -> Experiment:
    """The experiment with absolute paths of data and weights, found from anywhere.

    Raises:
      ValueError: if a path is in the home of an unknown user.
    """

    def absolute(path: str) -> str:
        try:
            return str(Path(path).expanduser().absolute())
        except RuntimeError as error:
            raise ValueError(f"{path} names the home of a user who is not known") from error

    data_is_path = data.is_path(experiment.data)
    weights = experiment.pretrained
    return dataclasses.replace(
        experiment,
        data=absolute(experiment.data) if data_is_path else experiment.data,
        pretrained=weights and (weights if weights.startswith("hf-hub:") else absolute(weights)),
    )


def write_bad_examples(path: Path, splits: Splits) -> int:
    """Write what could not be read, an object per line, beside what the file holds already.

    Returns:
      How many examples it holds.
    """
    rows = []
    if path.is_file():  # of the run before it was resumed
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
