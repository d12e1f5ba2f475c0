"""From counts to scores: the one division at the end, in double precision."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcnn.metrics.counts import TOP_K, Counts


class Scores(NamedTuple):
    """Precision, recall and F1 by class, ``[K]`` each, and how many examples each class has."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    examples: np.ndarray


def precision_recall_f1(
    true_positive: np.ndarray, false_positive: np.ndarray, false_negative: np.ndarray
) -> Scores:
    """Scores of each class; one whose denominator is zero is 0.

    Args:
      true_positive: ``[K]``, examples of the class that were found.
      false_positive: ``[K]``, examples of others that were taken for it.
      false_negative: ``[K]``, examples of the class that were missed.

    Example:
      >>> scores = precision_recall_f1(np.array([3]), np.array([1]), np.array([2]))
      >>> [round(float(value[0]), 4) for value in scores]
      [0.75, 0.6, 0.6667, 5.0]
    """
    found, wrong, missed = (
        np.asarray(value, np.float64) for value in (true_positive, false_positive, false_negative)
    )
    return Scores(
        precision=_ratio(found, found + wrong),
        recall=_ratio(found, found + missed),
        f1=_ratio(2 * found, 2 * found + wrong + missed),
        examples=found + missed,
    )


def summarize(counts: Counts) -> dict[str, float]:
    """All the metrics that added-up counts hold.

    ``loss`` and what else is a sum over examples becomes a mean. Depending on the keys, there are
    ``accuracy`` (every label right, where there are several), ``top_5_accuracy``; ``precision``,
    ``recall`` and ``f1`` (where their counts are scalars), or their ``_macro`` means over the
    classes that occur in labels or predictions, and for labels ``[L]`` the ``_micro`` ones too;
    ``calibration_error`` (expected, 15 bins); ``mae``, ``rmse``, ``r2`` (means over outputs; R
    squared of a constant target is 1 if it is met and 0 otherwise). Counts of training steps also
    give ``objective`` and ``gradient_norm``, means over the steps.

    Example:
      >>> summarize({"loss": 1.0, "correct": 3, "examples": 4})
      {'loss': 0.25, 'accuracy': 0.75}
    """
    left = {name: np.asarray(value, np.float64) for name, value in jax.device_get(counts).items()}
    examples = left.pop("examples")
    summary = {"loss": left.pop("loss") / examples}
    if "correct" in left:
        summary["accuracy"] = left.pop("correct") / examples
    if f"top_{TOP_K}" in left:
        summary[f"top_{TOP_K}_accuracy"] = left.pop(f"top_{TOP_K}") / examples
    if "confusion" in left:
        matrix = left.pop("confusion")
        found = np.diag(matrix)
        summary |= _averages(found, matrix.sum(0) - found, matrix.sum(1) - found, micro=False)
    if "true_positive" in left:
        names = ("true_positive", "false_positive", "false_negative")
        summary |= _averages(*(left.pop(name) for name in names), micro=True)
    if "bin_examples" in left:
        off = np.abs(left.pop("bin_correct") - left.pop("bin_confidence"))
        summary["calibration_error"] = off.sum() / left.pop("bin_examples").sum()
    if "squared" in left:
        summary |= _regression(left, examples)
    if "steps" in left:
        steps = left.pop("steps")
        summary |= {n: left.pop(n) / steps for n in ("objective", "gradient_norm") if n in left}
    summary |= {name: value / examples for name, value in left.items()}
    return {name: float(value) for name, value in summary.items()}


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """How often class ``row`` was predicted as class ``column``, ``[K, K]`` integers.

    Args:
      labels: ``[N]`` true class indices.
      predictions: ``[N]`` predicted class indices.
      num_classes: ``K``.

    Example:
      >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
      array([[1, 1],
             [0, 1]])
    """
    for name, values in (("labels", labels), ("predictions", predictions)):
        values = np.asarray(values)
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(f"{name} must be in 0..{num_classes - 1}, got {values}")
    cells = np.asarray(labels, np.int64) * num_classes + np.asarray(predictions)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def _averages(found: Any, wrong: Any, missed: Any, *, micro: bool) -> dict[str, Any]:
    names = Scores._fields[:3]
    if not np.ndim(found):
        return dict(zip(names, precision_recall_f1(found, wrong, missed)[:3], strict=True))
    # As in scikit-learn, all labels of several count, but only those classes that occur.
    seen = (found + wrong + missed > 0) | micro
    scores = precision_recall_f1(found[seen], wrong[seen], missed[seen])
    summary = {f"{n}_macro": s.mean() for n, s in zip(names, scores[:3], strict=True)}
    if micro:
        scores = precision_recall_f1(
            *(value.sum(keepdims=True) for value in (found, wrong, missed))
        )
        summary |= {f"{n}_micro": s[0] for n, s in zip(names, scores[:3], strict=True)}
    return summary


def _regression(left: dict[str, np.ndarray], examples: np.ndarray) -> dict[str, Any]:
    squared, absolute = left.pop("squared"), left.pop("absolute")
    target, target_squared = left.pop("target"), left.pop("target_squared")
    spread = target_squared - target**2 / examples
    # Less than the rounding of the float32 sums is no spread at all.
    constant = spread <= 4e-7 * target_squared
    explained = np.where(constant, squared == 0, 1 - squared / np.where(constant, 1, spread))
    return {
        "mae": (absolute / examples).mean(),
        "rmse": np.sqrt(squared / examples).mean(),
        "r2": explained.mean(),
    }


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), 0.0)
