"""Ranking metrics for binary scores, over all thresholds at once, in NumPy.

They need all scores of a split at once, so they are not sums over batches. The values match
scikit-learn's.
"""

from typing import NamedTuple

import numpy as np


class Curve(NamedTuple):
    """Points ``(x, y)`` of a curve, in order of decreasing threshold.

    A score >= the threshold counts as positive.
    """

    x: np.ndarray
    y: np.ndarray
    thresholds: np.ndarray


def roc_curve(scores: np.ndarray, labels: np.ndarray) -> Curve:
    """Return true positive rate (y) against false positive rate (x), from (0, 0) to (1, 1).

    Args:
      scores: ``[N]``, probabilities or logits of the positive class.
      labels: ``[N]``, 0 or 1; both must occur.

    Raises:
      ValueError: if the shapes differ, a score is NaN, or one of the two classes is missing.

    Example:
      >>> curve = roc_curve(np.array([0.9, 0.8, 0.1]), np.array([1, 0, 1]))
      >>> curve.x.tolist(), curve.y.tolist()
      ([0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0])
    """
    found, wrong, thresholds = _cumulated(scores, labels)
    if not (found[-1] and wrong[-1]):
        raise ValueError("labels must contain both 0 and 1, got only one of the two")
    start = np.zeros(1)
    return Curve(
        np.concatenate([start, wrong / wrong[-1]]),
        np.concatenate([start, found / found[-1]]),
        np.concatenate([[np.inf], thresholds]),
    )


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the area under the ROC curve.

    This is the probability that a positive example scores higher than a negative one, with ties
    counted as one half.

    Args:
      scores: ``[N]``.
      labels: ``[N]``, 0 or 1.

    Returns:
      A number in [0, 1], or NaN if one of the two classes is missing.

    Raises:
      ValueError: if the shapes differ, or a score is NaN.

    Example:
      >>> roc_auc(np.array([0.9, 0.8, 0.1]), np.array([1, 0, 1]))
      0.5
    """
    found, wrong, _ = _cumulated(scores, labels)
    if not (found[-1] and wrong[-1]):
        return float("nan")
    curve = roc_curve(scores, labels)
    return float(np.trapezoid(curve.y, curve.x))


def precision_recall_curve(scores: np.ndarray, labels: np.ndarray) -> Curve:
    """Return precision (y) against recall (x), from the highest threshold down.

    Args:
      scores: ``[N]``.
      labels: ``[N]``, 0 or 1, with at least one 1.

    Raises:
      ValueError: if the shapes differ, a score is NaN, or no label is 1.

    Example:
      >>> curve = precision_recall_curve(np.array([0.9, 0.8, 0.1]), np.array([1, 0, 1]))
      >>> curve.x.tolist(), curve.y[:2].tolist()
      ([0.5, 0.5, 1.0], [1.0, 0.5])
    """
    found, wrong, thresholds = _cumulated(scores, labels)
    if not found[-1]:
        raise ValueError("labels must contain at least one 1, got none")
    return Curve(found / found[-1], found / (found + wrong), thresholds)


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean precision over thresholds, weighted by each threshold's increase in recall.

    Args:
      scores: ``[N]``.
      labels: ``[N]``, 0 or 1.

    Returns:
      A number in [0, 1], or NaN if no label is 1.

    Raises:
      ValueError: if the shapes differ, or a score is NaN.

    Example:
      >>> round(average_precision(np.array([0.9, 0.8, 0.1]), np.array([1, 0, 1])), 4)
      0.8333
    """
    found, _, _ = _cumulated(scores, labels)
    if not found[-1]:
        return float("nan")
    curve = precision_recall_curve(scores, labels)
    return float(np.sum(np.diff(curve.x, prepend=0.0) * curve.y))


def _cumulated(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cumulative true and false positives, and the distinct scores in descending order."""
    scores, labels = np.asarray(scores), np.asarray(labels) > 0.5
    if scores.ndim != 1 or scores.shape != labels.shape or not len(scores):
        raise ValueError(
            "scores and labels must be [N] and non-empty, "
            f"got shapes {scores.shape} and {labels.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError(f"scores must not be NaN, got {np.isnan(scores).sum()} of {len(scores)}")
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], labels[order]
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    found = np.cumsum(labels)[last].astype(np.float64)
    return found, last + 1 - found, scores[last]
