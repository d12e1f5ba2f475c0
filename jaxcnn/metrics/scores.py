"""Metrics for classification and regression as masked sums, and per-class scores.

Every metric is a pure function ``metric(predictions, labels, mask) -> sums`` that can be jitted;
``mask`` ``[B]`` is True for the rows that count. Each raises ``ValueError`` if the shapes do not
match, because broadcasting would give wrong counts. The values match scikit-learn's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import shapes
from jaxcnn.metrics.counts import Calibration, Ratio, RootMeanSquare, RSquared, divide

BINS = 15


class Scores(NamedTuple):
    """Precision, recall, F1 and number of examples per class, ``[K]`` each."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    examples: np.ndarray


def accuracy(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Ratio:
    """Compute the sums for the accuracy of a classifier.

    Args:
      logits: ``[B, K]``.
      labels: ``[B]`` class indices, or ``[B, K]`` class proportions, where the largest one
        determines the class.
      mask: ``[B]`` bool, the rows that count.

    Example:
      >>> logits = jnp.array([[0.0, 1.0], [1.0, 0.0]])
      >>> accuracy(logits, jnp.array([1, 1]), jnp.array([True, True])).value()
      0.5
    """
    labels = _as_classes(logits, labels, mask)
    return _share((jnp.argmax(logits, axis=-1) == labels) & mask, mask)


def top_k_accuracy(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, *, k: int = 5
) -> Ratio | None:
    """Compute the sums for top-k accuracy: the true class is among the ``k`` largest logits.

    Among equal logits, the higher class index ranks first, as in scikit-learn.

    Args:
      logits: ``[B, K]``.
      labels: as for `accuracy`.
      mask: ``[B]`` bool, the rows that count.
      k: number of highest-ranking classes to consider.

    Returns:
      The sums, or None if there are at most ``k`` classes.

    Example:
      >>> logits = jnp.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
      >>> top_k_accuracy(logits, jnp.array([1, 0]), jnp.array([True, True]), k=2).value()
      0.5
    """
    labels = _as_classes(logits, labels, mask)
    classes = logits.shape[-1]
    if classes <= k:
        return None
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    later = jnp.arange(classes)[None, :] > labels[:, None]
    rank = jnp.sum((logits > own) | ((logits == own) & later), axis=-1)
    return _share((rank < k) & mask, mask)


def class_precision(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Ratio:
    """Compute the sums for macro precision over the classes that occur in labels or predictions.

    Args:
      logits: ``[B, K]``.
      labels: as for `accuracy`.
      mask: ``[B]`` bool, the rows that count.

    Example:
      >>> logits = jnp.array([[0.0, 1.0], [1.0, 0.0]])
      >>> class_precision(logits, jnp.array([1, 1]), jnp.array([True, True])).value()
      0.5
    """
    correct, predicted, true = _class_counts(logits, labels, mask)
    return Ratio(correct, predicted, predicted + true)


def class_recall(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Ratio:
    """Compute the sums for macro recall; arguments as for `class_precision`.

    Example:
      >>> logits = jnp.array([[0.0, 1.0], [1.0, 0.0]])
      >>> class_recall(logits, jnp.array([1, 1]), jnp.array([True, True])).value()
      0.25
    """
    correct, predicted, true = _class_counts(logits, labels, mask)
    return Ratio(correct, true, predicted + true)


def class_f1(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Ratio:
    """Compute the sums for macro F1; arguments as for `class_precision`.

    Example:
      >>> logits = jnp.array([[0.0, 1.0], [0.0, 1.0]])
      >>> class_f1(logits, jnp.array([1, 1]), jnp.array([True, True])).value()
      1.0
    """
    correct, predicted, true = _class_counts(logits, labels, mask)
    return Ratio(2 * correct, predicted + true)


def class_calibration(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Calibration:
    """Compute the sums for the calibration error of the largest softmax probability.

    Args:
      logits: ``[B, K]``.
      labels: as for `accuracy`.
      mask: ``[B]`` bool, the rows that count.

    Example:
      >>> logits = jnp.array([[0.0, 100.0]])
      >>> class_calibration(logits, jnp.array([0]), jnp.array([True])).value()
      1.0
    """
    labels = _as_classes(logits, labels, mask)
    confidence = jnp.max(jax.nn.softmax(logits), axis=-1)
    return _calibration(confidence, jnp.argmax(logits, axis=-1) == labels, mask)


def label_accuracy(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Ratio:
    """Compute the sums for exact-match accuracy: all L labels correct, at a logit threshold of 0.

    Args:
      logits: ``[B, L]``.
      labels: ``[B, L]``, each 0 or 1.
      mask: ``[B]`` bool, the rows that count.

    Example:
      >>> logits, labels = jnp.array([[2.0, -1.0]]), jnp.array([[1, 1]])
      >>> label_accuracy(logits, labels, jnp.array([True])).value()
      0.0
    """
    _check_columns(logits, labels, mask)
    return _share(jnp.all((logits > 0) == (labels > 0.5), axis=-1) & mask, mask)


def label_precision(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, *, micro: bool = False
) -> Ratio:
    """Compute the sums for the precision of L labels.

    Args:
      logits: ``[B, L]``.
      labels: ``[B, L]``, each 0 or 1.
      mask: ``[B]`` bool, the rows that count.
      micro: pool the counts of all labels instead of averaging over labels.

    Example:
      >>> logits, labels = jnp.array([[2.0, -1.0]]), jnp.array([[1, 1]])
      >>> label_precision(logits, labels, jnp.array([True])).value()
      0.5
    """
    correct, predicted, _ = _label_counts(logits, labels, mask, micro=micro)
    return Ratio(correct, predicted, _examples(mask))


def label_recall(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, *, micro: bool = False
) -> Ratio:
    """Compute the sums for the recall of L labels; arguments as for `label_precision`.

    Example:
      >>> logits, labels = jnp.array([[2.0, -1.0]]), jnp.array([[1, 1]])
      >>> label_recall(logits, labels, jnp.array([True]), micro=True).value()
      0.5
    """
    correct, _, true = _label_counts(logits, labels, mask, micro=micro)
    return Ratio(correct, true, _examples(mask))


def label_f1(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, *, micro: bool = False
) -> Ratio:
    """Compute the sums for the F1 of L labels; arguments as for `label_precision`.

    Example:
      >>> logits, labels = jnp.array([[2.0, -1.0]]), jnp.array([[1, 1]])
      >>> label_f1(logits, labels, jnp.array([True])).value()
      0.5
    """
    correct, predicted, true = _label_counts(logits, labels, mask, micro=micro)
    return Ratio(2 * correct, predicted + true, _examples(mask))


def label_calibration(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Calibration:
    """Compute the sums for the calibration error of the sigmoid probabilities of L labels.

    Args:
      logits: ``[B, L]``.
      labels: ``[B, L]``, each 0 or 1.
      mask: ``[B]`` bool, the rows that count.

    Example:
      >>> label_calibration(jnp.zeros((2, 1)), jnp.array([[0], [1]]), jnp.ones(2, bool)).value()
      0.0
    """
    _check_columns(logits, labels, mask)
    true = labels > 0.5
    return _calibration(jax.nn.sigmoid(logits), true, jnp.broadcast_to(mask[:, None], true.shape))


def mean_absolute_error(outputs: jax.Array, targets: jax.Array, mask: jax.Array) -> Ratio:
    """Compute the sums for the mean absolute error of D outputs.

    Args:
      outputs: ``[B, D]``.
      targets: ``[B, D]``.
      mask: ``[B]`` bool, the rows that count.

    Example:
      >>> outputs, targets = jnp.array([[1.0], [2.0]]), jnp.array([[1.5], [2.5]])
      >>> mean_absolute_error(outputs, targets, jnp.array([True, True])).value()
      0.5
    """
    _check_columns(outputs, targets, mask)
    return Ratio(_column_sums(jnp.abs(outputs - targets), mask), _examples(mask))


def root_mean_squared_error(
    outputs: jax.Array, targets: jax.Array, mask: jax.Array
) -> RootMeanSquare:
    """Compute the sums for the root mean squared error; arguments as for `mean_absolute_error`.

    Example:
      >>> outputs, targets = jnp.array([[1.0], [2.0]]), jnp.array([[1.5], [2.5]])
      >>> root_mean_squared_error(outputs, targets, jnp.array([True, True])).value()
      0.5
    """
    _check_columns(outputs, targets, mask)
    return RootMeanSquare(_column_sums(jnp.square(outputs - targets), mask), _examples(mask))


def r2_score(outputs: jax.Array, targets: jax.Array, mask: jax.Array) -> RSquared:
    """Compute the statistics for R squared; arguments as for `mean_absolute_error`.

    Example:
      >>> outputs, targets = jnp.array([[1.0], [2.0]]), jnp.array([[1.0], [2.0]])
      >>> r2_score(outputs, targets, jnp.array([True, True])).value()
      1.0
    """
    _check_columns(outputs, targets, mask)
    examples = _examples(mask)

    def mean(values: jax.Array) -> jax.Array:
        return _column_sums(values, mask) / jnp.maximum(examples, 1)

    center = mean(targets)
    center += mean(targets - center[None])  # removes the rounding error of the first sum
    return RSquared(
        squared=_column_sums(jnp.square(outputs - targets), mask),
        mean=center,
        spread=_column_sums(jnp.square(targets - center[None]), mask),
        examples=examples,
    )


def precision_recall_f1(
    true_positive: np.ndarray, false_positive: np.ndarray, false_negative: np.ndarray
) -> Scores:
    """Return per-class scores; a score with a zero denominator is 0.

    Args:
      true_positive: ``[K]``, number of examples of each class that were found.
      false_positive: ``[K]``, number of examples of other classes that were mistaken for this one.
      false_negative: ``[K]``, number of examples of each class that were missed.

    Example:
      >>> scores = precision_recall_f1(np.array([3]), np.array([1]), np.array([2]))
      >>> [round(float(value[0]), 4) for value in scores]
      [0.75, 0.6, 0.6667, 5.0]
    """
    found, wrong, missed = (
        np.asarray(value, np.float64) for value in (true_positive, false_positive, false_negative)
    )
    return Scores(
        precision=divide(found, found + wrong),
        recall=divide(found, found + missed),
        f1=divide(2 * found, 2 * found + wrong + missed),
        examples=found + missed,
    )


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Count how often each class (row) was predicted as each class (column), ``[K, K]`` integers.

    Args:
      labels: ``[N]`` true class indices.
      predictions: ``[N]`` predicted class indices.
      num_classes: ``K``.

    Raises:
      ValueError: if a class index is not in ``[0, K)``, or the shapes are not both ``[N]``.

    Example:
      >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
      array([[1, 1],
             [0, 1]])
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1:
        raise ValueError(f"labels must be [N], got shape {labels.shape}")
    shapes.check_shape(predictions, labels.shape, "predictions", "the shape of labels")
    for name, values in (("labels", labels), ("predictions", predictions)):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(f"{name} must be in 0..{num_classes - 1}, got {values}")
    cells = labels.astype(np.int64) * num_classes + predictions.astype(np.int64)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def _examples(mask: jax.Array) -> jax.Array:
    return jnp.sum(mask, dtype=jnp.int32)


def _share(counted: jax.Array, mask: jax.Array) -> Ratio:
    return Ratio(jnp.sum(counted, dtype=jnp.int32), _examples(mask))


def _class_counts(
    logits: jax.Array, labels: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the numbers of correct, predicted and true examples of each class."""
    labels = _as_classes(logits, labels, mask)
    predicted = jnp.argmax(logits, axis=-1)
    none, rows = jnp.zeros(logits.shape[-1], jnp.int32), mask.astype(jnp.int32)
    correct = (predicted == labels).astype(jnp.int32) * rows
    return none.at[labels].add(correct), none.at[predicted].add(rows), none.at[labels].add(rows)


def _label_counts(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, *, micro: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the numbers of correct, predicted and true examples, per label or in total."""
    _check_columns(logits, labels, mask)
    predicted, true = logits > 0, labels > 0.5
    axes = (0, 1) if micro else 0
    correct, predicted, true = (
        jnp.sum(cells & mask[:, None], axis=axes, dtype=jnp.int32)
        for cells in (predicted & true, predicted, true)
    )
    return correct, predicted, true


def _as_classes(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> jax.Array:
    """Check the shapes of logits, labels and a mask; return class indices ``[B]``."""
    if jnp.ndim(logits) != 2:
        raise ValueError(f"logits must be [B, K], got shape {jnp.shape(logits)}")
    shapes.check_shape(mask, logits.shape[:1], "mask", "[B]")
    if labels.shape == logits.shape:
        return jnp.argmax(labels, axis=-1)
    shapes.check_shape(labels, logits.shape[:1], "labels", "[B]")
    return labels


def _check_columns(outputs: jax.Array, labels: jax.Array, mask: jax.Array) -> None:
    """Check the shapes of outputs and labels ``[B, D]`` and a mask ``[B]``."""
    if jnp.ndim(outputs) != 2:
        raise ValueError(f"outputs must be [B, D], got shape {jnp.shape(outputs)}")
    shapes.check_shape(labels, outputs.shape, "labels", "the shape of the outputs")
    shapes.check_shape(mask, outputs.shape[:1], "mask", "[B]")


def _column_sums(values: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(mask[:, None], values, 0), axis=0, dtype=jnp.float32)


def _calibration(confidence: jax.Array, correct: jax.Array, mask: jax.Array) -> Calibration:
    """Count predictions in bins (low, high], as in scikit-learn's ``calibration_curve``."""
    exact = np.arange(1, BINS) / BINS
    edges = exact.astype(np.float32)
    # Round edges down to float32; a confidence is above the result iff it is above the edge.
    edges = np.where(edges > exact, np.nextafter(edges, np.float32(0)), edges)
    bins = jnp.searchsorted(edges, confidence.astype(jnp.float32), side="left").reshape(-1)
    confidence, correct, mask = confidence.reshape(-1), correct.reshape(-1), mask.reshape(-1)
    integers, floats = jnp.zeros(BINS, jnp.int32), jnp.zeros(BINS, jnp.float32)
    return Calibration(
        examples=integers.at[bins].add(mask.astype(jnp.int32)),
        correct=integers.at[bins].add((correct & mask).astype(jnp.int32)),
        confidence=floats.at[bins].add(jnp.where(mask, confidence, 0).astype(jnp.float32)),
    )
