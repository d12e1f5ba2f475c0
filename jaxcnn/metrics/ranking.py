"""Metrics of an order: how well scores put the yes before the no, over all thresholds at once.

They need every score of a split together, so they are not sums over batches.
"""

from typing import NamedTuple

import numpy as np


class Curve(NamedTuple):
    """Points ``(x, y)`` of a curve by falling threshold: yes is a score >= the threshold."""

    x: np.ndarray
    y: np.ndarray
    thresholds: np.ndarray


def roc_curve(scores: np.ndarray, labels: np.ndarray) -> Curve:
    """False positive rate (x) against true positive rate (y), from (0, 0) to (1, 1).

    Args:
      scores: ``[N]``, higher for yes; probabilities or logits.
      labels: ``[N]``, 0 or 1, both of which must occur.

    Raises:
      ValueError: if shapes differ, or one of the two classes is missing.

    Example:
      >>> curve = roc_curve(np.array([0.9, 0.8, 0.1]), np.array([1, 0, 1]))
      >>> curve.x.tolist(), curve.y.tolist()
      ([0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0])
    """
    found, wrong, thresholds = _cumulated(scores, labels)
    if not (found[-1] and wrong[-1]):
        raise ValueError("labels must hold both a 0 and a 1, got only one of them")
    start = np.zeros(1)
    return Curve(
        np.concatenate([start, wrong / wrong[-1]]),
        np.concatenate([start, found / found[-1]]),
        np.concatenate([[np.inf], thresholds]),
    )


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a yes scores above a no, ties half.

    Args:
      scores: ``[N]``.
      labels: ``[N]``, 0 or 1.

    Returns:
      A number in [0, 1], or nan if one of the two classes is missing.

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
    """Recall (x) against precision (y), from the highest threshold down.

    Args:
      scores: ``[N]``.
      labels: ``[N]``, 0 or 1, with at least one 1.

    Raises:
      ValueError: if shapes differ, or there is no 1.

    Example:
      >>> curve = precision_recall_curve(np.array([0.9, 0.8, 0.1]), np.array([1, 0, 1]))
      >>> curve.x.tolist(), curve.y[:2].tolist()
      ([0.5, 0.5, 1.0], [1.0, 0.5])
    """
    found, wrong, thresholds = _cumulated(scores, labels)
    if not found[-1]:
        raise ValueError("labels must hold a 1, got none")
    return Curve(found / found[-1], found / (found + wrong), thresholds)


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Precision averaged over the recall that each threshold gains.

    Args:
      scores: ``[N]``.
      labels: ``[N]``, 0 or 1.

    Returns:
      A number in [0, 1], or nan if there is no 1.

    Example:
      >>> round(average_precision(np.array([0.9, 0.8, 0.1]), np.array([1, 0, 1])), 4)
      0.8333
    """
    if not np.any(labels):
        return float("nan")
    curve = precision_recall_curve(scores, labels)
    return float(np.sum(np.diff(curve.x, prepend=0.0) * curve.y))


def _cumulated(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and false positives down to each distinct score, from the highest, and the scores."""
    scores, labels = np.asarray(scores), np.asarray(labels) > 0.5
    if scores.ndim != 1 or scores.shape != labels.shape or not len(scores):
        raise ValueError(
            "scores and labels must be [N] and not empty, "
            f"got shapes {scores.shape} and {labels.shape}"
        )
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], labels[order]
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    found = np.cumsum(labels)[last].astype(np.float64)
    return found, last + 1 - found, scores[last]
