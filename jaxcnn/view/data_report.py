"""A report on a data set: classes, sizes, copies, unreadable files, statistics, a contact sheet."""

import collections
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn import data
from jaxcnn.messages import printable
from jaxcnn.view import plots

_SHEET = 48  # pictures
_LISTED = 10  # groups of copies, unreadable files


def data_report(
    splits: dict[str, data.ArraySource], left_out: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """What there is to know about the splits of a data set, as JSON values.

    Args:
      splits: loaded with ``on_bad="skip"``; what cannot be read is in their ``bad`` afterwards, of
        the training split.
      left_out: how many files beside them are no examples, by extension, as
        `jaxcnn.data.folders.left_out` counts them; None for data that is not in files.

    Returns:
      ``splits``: for each its ``examples`` and ``classes`` (how many can be read, of each),
      ``heights`` and ``widths`` (least, median, largest, as stored) and ``bad`` (file, label and
      reason of what cannot be read); ``copies``: groups of examples with equal content, each with
      its split, name and label; ``mean`` and ``std`` of the training images, brought to one size,
      in [0, 1]; and ``left_out``.

    Raises:
      ValueError: if the images are not ``[N, H, W, C]``, or none can be read.

    Example:
      >>> report = data_report({"train": data.load("fashion_mnist_slice", split="test")})
      >>> report["splits"]["train"]["classes"]["Bag"], report["copies"], report["mean"]
      (194, [], [0.28702301170468186])
    """
    shape = splits["train"].images.shape
    if len(shape) != 4:
        raise ValueError(f"data must hold images [N, H, W, C] for a report, got shape {shape}")
    found = {split: data.examine(source) for split, source in splits.items()}
    described = {}
    for split, source in splits.items():
        sizes = found[split].sizes[found[split].sizes[:, 0] > 0]
        described[split] = {
            "examples": len(source) - len(found[split].bad),
            "classes": _counts(source, np.delete(source.labels, list(found[split].bad), 0)),
            "heights": _range(sizes[:, 0]),
            "widths": _range(sizes[:, 1]),
            "bad": [bad._asdict() for bad in found[split].bad.values()],
        }
    mean, std = data.channel_moments(splits["train"].images)
    return {
        "splits": described,
        "copies": _copies(splits, found),
        "mean": mean.tolist(),
        "std": std.tolist(),
        "left_out": dict(left_out or {}),
    }


def report_lines(report: dict[str, Any]) -> list[str]:
    """The report in words, which a terminal can show whatever the names in it hold."""
    lines = []
    for split, values in report["splits"].items():
        lines.append(f"{split}: {values['examples']:,} examples")
        counts = {printable(name): count for name, count in values["classes"].items()}
        width = max(map(len, counts), default=0)
        lines += [f"  {name.ljust(width)}  {count:,}" for name, count in counts.items()]
        if counts and max(counts.values()) > 0:
            ratio = max(counts.values()) / max(min(counts.values()), 1)
            lines.append(f"  the largest is {ratio:.1f} times the smallest")
        for axis in ("heights", "widths"):
            lines.append(f"  {axis}: {' / '.join(map(str, values[axis]))} (least, median, largest)")
        lines.append(f"  cannot be read: {len(values['bad'])}")
        lines += [
            f"    {bad['file']} ({bad['label']}): {bad['reason']}"
            for bad in values["bad"][:_LISTED]
        ]
    if others := report["left_out"]:
        words = [f"{number:,} {end or 'without extension'}" for end, number in others.items()]
        lines.append(f"left out: {', '.join(words)}")
    lines.append(f"groups of equal images: {len(report['copies'])}")
    for group in report["copies"][:_LISTED]:
        shown = ", ".join(f"{split} {name} ({label})" for split, name, label in group[:4])
        leak = " <- in several splits" if len({split for split, *_ in group}) > 1 else ""
        contradiction = " <- with several labels" if len({row[2] for row in group}) > 1 else ""
        lines.append(f"  {shown}{leak}{contradiction}")
    for name in ("mean", "std"):
        values = " ".join(f"{value:.4f}" for value in report[name])
        lines.append(f"{name} of training images in [0, 1]: {values}")
    return list(map(printable, lines))


def write_contact_sheet(path: Path, source: data.ArraySource) -> None:
    """A picture of some examples of each class, as a network gets them, after `data_report`."""
    source = source.without_bad()
    order = data.permutation(len(source), 0)
    if source.labels.ndim == 1:
        # By turns one of each class.
        turn = np.zeros(len(source), np.int64)
        for label in np.unique(source.labels):
            members = order[source.labels[order] == label]
            turn[members] = np.arange(len(members))
        order = np.lexsort((source.labels, turn))
    shown = source.take(np.sort(order[:_SHEET]))
    if shown.labels.ndim == 1:
        shown = shown.take(np.argsort(shown.labels, kind="stable"))
    label = data.label_names(shown.labels, shown.classes)
    titles = [label(row) for row in range(len(shown))]
    heading = f"{len(shown)} of {len(source):,} training images"
    plots.save_figure(plots.pictures(shown.images[:], titles, heading), path)


def _copies(
    splits: dict[str, data.ArraySource], found: dict[str, data.Findings]
) -> list[list[list[str]]]:
    """Split, name and label of each example in groups of equal ones."""
    labels = {split: data.label_names(s.labels, s.classes) for split, s in splits.items()}
    numbered = {
        split: each._replace(names=tuple(map(str, range(len(each.names)))))
        for split, each in found.items()
    }
    return [
        [[split, found[split].names[int(row)], labels[split](int(row))] for split, row in group]
        for group in data.find_duplicates(numbered)
    ]


def _counts(source: data.ArraySource, labels: np.ndarray) -> dict[str, int]:
    if labels.ndim == 1:
        counts = np.bincount(labels, minlength=len(source.classes))
    elif np.issubdtype(labels.dtype, np.integer):
        counts = labels.sum(0)
    else:
        return {}
    times = collections.Counter(source.classes)
    names = [
        name if times[name] == 1 else f"{name} (number {number})"
        for number, name in enumerate(source.classes)
    ]
    return dict(zip(names, counts.tolist(), strict=True))


def _range(values: np.ndarray) -> list[int]:
    if not len(values):
        return [0, 0, 0]
    return [int(values.min()), int(np.median(values)), int(values.max())]
