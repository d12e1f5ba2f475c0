"""The examples of an experiment: its splits, what its network expects of them, and bad ones."""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxcnn import data, image, train
from jaxcnn.experiment import Experiment


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


def load_split(experiment: Experiment, split: str) -> data.ArraySource:
    """The examples of one split of a run: ``train`` and ``validation`` as it divided them."""
    splits = load_splits(experiment)
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


def fingerprint(source: data.ArraySource) -> str:
    """A SHA-256 that changes with the examples: their pixels, or names and sizes of their files."""
    images = source.images
    content = images.identity if isinstance(images, data.DecodedImages) else images
    return train.fingerprint({"images": content, "labels": source.labels})


def with_absolute_paths(experiment: Experiment) -> Experiment:
    """The experiment with absolute paths of data and weights, found from anywhere."""

    def absolute(path: str) -> str:
        return str(Path(path).expanduser().absolute())

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
        temporary = path.with_name(f".{path.name}")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
        temporary.replace(path)
    return len(rows)
