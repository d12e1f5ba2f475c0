"""Predictions as names and values, for people to read."""

from collections.abc import Sequence

import numpy as np

from jaxcnn.train import Task

Description = list[tuple[str, float]]


def describe(
    task: Task, values: np.ndarray, names: Sequence[str], *, top: int | None = None
) -> Description:
    """Name the values of one example.

    Args:
      task: the task; for ``multi_class`` and ``binary`` the most probable classes are returned,
        for ``multi_label`` the probable labels, else every target.
      values: ``[K]``, one row of ``task.activate(predictions)``.
      names: names of the classes, labels or targets.
      top: number of classes or labels; None for 3 classes, or the labels above one half.

    Returns:
      ``(name, value)`` pairs, the most probable first, or the targets in order.

    Example:
      >>> from jaxcnn import train
      >>> describe(train.multi_label(), np.array([0.9, 0.2, 0.6]), ("shoe", "shirt", "dark"))
      [('shoe', 0.9), ('dark', 0.6)]
    """
    if task.name == "multi_class":
        return _most_probable(values, names, top or 3)
    if task.name == "binary":
        return _most_probable(np.array([1 - values[0], values[0]]), names, top or 2)
    if task.name == "multi_label":
        best = _most_probable(values, names, top or len(names))
        return best if top else [(name, value) for name, value in best if value > 0.5]
    return [(name, float(value)) for name, value in zip(names, values, strict=True)]


def _most_probable(values: np.ndarray, names: Sequence[str], top: int) -> Description:
    best = np.argsort(-values, kind="stable")[:top]
    return [(names[k], float(values[k])) for k in best]
