"""Report on a dataset: classes, sizes, duplicates, unreadable files, statistics, contact sheet."""

import collections
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn import data
from jaxcnn.messages import printable
from jaxcnn.view import plots

_SHEET = 48  # images
_LISTED = 10  # groups of duplicates, unreadable files


def data_report(
    splits: dict[str, data.ArraySource], skipped_files: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Describe the splits of a dataset as JSON values.

    Args:
      splits: the splits, including ``train``, loaded with ``on_bad="skip"``.
      skipped_files: number of files that are not examples, by extension, from
        `jaxcnn.data.folders.skipped_files`; None for data that does not come from files.

    Returns:
      A dictionary with the keys

      - ``splits``: for each split, ``examples`` (number of readable examples), ``classes`` (the
        same number for each class), ``heights`` and ``widths`` (smallest, median and largest, as
        stored) and ``bad`` (file, label and reason for each unreadable example);
      - ``duplicates``: groups of examples with identical content, listing each example's split,
        name and label;
      - ``mean`` and ``std`` of each channel of the resized training images, in [0, 1];
      - ``skipped_files``.

    Raises:
      ValueError: if the images are not ``[N, H, W, C]``, or none of them are readable.

    Example:
      >>> report = data_report({"train": data.load("fashion_mnist_slice", split="test")})
      >>> report["splits"]["train"]["classes"]["Bag"], report["duplicates"], report["mean"]
      (194, [], [0.28702301170468186])
    """
    shape = splits["train"].images.shape
    if len(shape) != 4:
        raise ValueError(f"data must contain [N, H, W, C] images for a report, got shape {shape}")
    found = {split: data.examine(source) for split, source in splits.items()}
    described = {}
    for split, source in splits.items():
        sizes = found[split].sizes[found[split].sizes[:, 0] > 0]
        described[split] = {
            "examples": len(source) - len(found[split].bad),
            **({} if source.groups is None else {"groups": len(np.unique(source.groups))}),
            "classes": _counts(source, np.delete(source.labels, list(found[split].bad), 0)),
            "heights": _range(sizes[:, 0]),
            "widths": _range(sizes[:, 1]),
            "bad": [bad._asdict() for bad in found[split].bad.values()],
        }
    mean, std = data.channel_moments(splits["train"].images)
    return {
        "splits": described,
        "duplicates": _duplicates(splits, found),
        "mean": mean.tolist(),
        "std": std.tolist(),
        "skipped_files": dict(skipped_files or {}),
    }


def report_lines(report: dict[str, Any]) -> list[str]:
    """Format a report as lines of text, with control characters in names escaped.

    Example:
      >>> report = data_report({"train": data.load("fashion_mnist_slice", split="test")})
      >>> report_lines(report)[-2]
      'mean of training images in [0, 1]: 0.2870'
    """
    lines = []
    for split, values in report["splits"].items():
        groups = f" in {values['groups']:,} groups" if "groups" in values else ""
        lines.append(f"{split}: {values['examples']:,} examples{groups}")
        counts = {printable(name): count for name, count in values["classes"].items()}
        width = max(map(len, counts), default=0)
        lines += [f"  {name.ljust(width)}  {count:,}" for name, count in counts.items()]
        if counts and max(counts.values()) > 0:
            ratio = max(counts.values()) / max(min(counts.values()), 1)
            lines.append(f"  the largest class is {ratio:.1f} times the size of the smallest")
        for axis in ("heights", "widths"):
            numbers = " / ".join(map(str, values[axis]))
            lines.append(f"  {axis}: {numbers} (smallest, median, largest)")
        lines.append(f"  unreadable: {len(values['bad'])}")
        lines += [
            f"    {bad['file']} ({bad['label']}): {bad['reason']}"
            for bad in values["bad"][:_LISTED]
        ]
    if skipped := report["skipped_files"]:
        named = [f"{number:,} {end or 'without an extension'}" for end, number in skipped.items()]
        lines.append(f"skipped files: {', '.join(named)}")
    lines.append(f"groups of duplicates: {len(report['duplicates'])}")
    for group in report["duplicates"][:_LISTED]:
        shown = ", ".join(f"{split} {name} ({label})" for split, name, label in group[:4])
        leak = " <- in several splits" if len({split for split, *_ in group}) > 1 else ""
        contradiction = " <- with several labels" if len({row[2] for row in group}) > 1 else ""
        lines.append(f"  {shown}{leak}{contradiction}")
    for name in ("mean", "std"):
        values = " ".join(f"{value:.4f}" for value in report[name])
        lines.append(f"{name} of training images in [0, 1]: {values}")
    return list(map(printable, lines))


def write_contact_sheet(path: Path, source: data.ArraySource) -> None:
    """Draw some readable examples of each class, resized as they would be for a network.

    Args:
      path: image file to write.
      source: the examples, ``[N, H, W, C]``.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "sheet.png"
      >>> write_contact_sheet(path, data.load("fashion_mnist_slice", split="test"))
      >>> data.decode_image(path, size=(64, 64), channels=3).shape
      (64, 64, 3)
    """
    source = source.without_bad()
    order = data.permutation(len(source), 0)
    if source.labels.ndim == 1:
        # Take one example of each class in turn.
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


def _duplicates(
    splits: dict[str, data.ArraySource], found: dict[str, data.Findings]
) -> list[list[list[str]]]:
    """Return groups of duplicates, with the split, name and label of each example."""
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
