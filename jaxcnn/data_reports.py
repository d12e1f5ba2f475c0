"""A report on a data set: classes, sizes, copies, unreadable files, statistics, a contact sheet."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn import data, plots

_SHEET = 48  # pictures
_LISTED = 10  # groups of copies, unreadable files


def data_report(splits: dict[str, data.ArraySource]) -> dict[str, Any]:
    """What there is to know about the splits of a data set, as JSON values.

    Args:
      splits: loaded with ``on_bad="skip"``; what cannot be read is in their ``bad`` afterwards, of
        the training split.

    Returns:
      ``splits``: for each its ``examples``, ``classes`` (examples of each), ``heights`` and
      ``widths`` (least, median, largest, as stored) and ``bad`` (file, label and reason of what
      cannot be read); ``copies``: groups of examples with equal content; ``mean`` and ``std`` of
      the training images, brought to one size, in [0, 1].

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
            "examples": len(source),
            "classes": _counts(source),
            "heights": _range(sizes[:, 0]),
            "widths": _range(sizes[:, 1]),
            "bad": [bad._asdict() for bad in found[split].bad.values()],
        }
    mean, std = data.channel_moments(splits["train"].images)
    return {
        "splits": described,
        "copies": [[list(example) for example in group] for group in data.copies(found)],
        "mean": mean.tolist(),
        "std": std.tolist(),
    }


def report_lines(report: dict[str, Any]) -> list[str]:
    """The report in words."""
    lines = []
    for split, values in report["splits"].items():
        lines.append(f"{split}: {values['examples']:,} examples")
        counts = values["classes"]
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
    lines.append(f"groups of equal images: {len(report['copies'])}")
    for group in report["copies"][:_LISTED]:
        leak = " <- in several splits" if len({split for split, _ in group}) > 1 else ""
        lines.append("  " + ", ".join(f"{split} {name}" for split, name in group[:4]) + leak)
    for name in ("mean", "std"):
        values = " ".join(f"{value:.4f}" for value in report[name])
        lines.append(f"{name} of training images in [0, 1]: {values}")
    return lines


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
    label = data.words(shown.labels, shown.classes)
    titles = [label(row) for row in range(len(shown))]
    heading = f"{len(shown)} of {len(source):,} training images"
    plots.save_figure(plots.pictures(shown.images[:], titles, heading), path)


def _counts(source: data.ArraySource) -> dict[str, int]:
    labels = source.labels
    if labels.ndim == 1:
        counts = np.bincount(labels, minlength=len(source.classes))
    elif np.issubdtype(labels.dtype, np.integer):
        counts = labels.sum(0)
    else:
        return {}
    return dict(zip(source.classes, counts.tolist(), strict=True))


def _range(values: np.ndarray) -> list[int]:
    if not len(values):
        return [0, 0, 0]
    return [int(values.min()), int(np.median(values)), int(values.max())]
