"""Predictions as human-readable names and values."""

from collections.abc import Sequence

import numpy as np

from jaxcnn.train import Task

Description = list[tuple[str, float]]


def describe(
    task: Task, values: np.ndarray, names: Sequence[str], *, top: int | None = None
) -> Description:
    """Return one example's values with their names.

    Args:
      task: the task. The result has the most probable classes for ``multi_class`` and ``binary``,
        the probable labels for ``multi_label``, and every target otherwise.
      values: ``[K]``, one row of ``task.activate(predictions)``.
      names: names of the classes, labels or targets.
      top: number of classes or labels; None means 3 classes (2 for ``binary``), or every label with
        a probability above 0.5.

    Returns:
      The ``(name, value)`` pairs, with the most probable first, or the targets in order.

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
