"""What a batch adds to the metrics: sums over the rows that count.

A dictionary of arrays says what it holds by its keys, and `jaxcnn.metrics.summarize` reads it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Counts = dict[str, Any]

BINS = 15
TOP_K = 5


def classification_counts(
    logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array
) -> Counts:
    """What a batch adds to the loss and the accuracy of a classifier of K classes.

    Args:
      logits: ``[B, K]``.
      labels: ``[B]`` class indices, or ``[B, K]`` shares of the classes, of which the largest
        counts.
      losses: ``[B]``, the loss of each example.
      mask: ``[B]`` bool, the rows that count.

    Returns:
      Scalars ``loss`` (sum, float32), ``correct`` and ``examples`` (int32).

    Example:
      >>> logits = jnp.array([[0.0, 1.0], [1.0, 0.0]])
      >>> labels, mask = jnp.array([1, 1]), jnp.array([True, True])
      >>> counts = classification_counts(logits, labels, jnp.array([0.3, 1.3]), mask)
      >>> {name: round(value.item(), 3) for name, value in counts.items()}
      {'loss': 1.6, 'examples': 2, 'correct': 1}
    """
    if labels.ndim == logits.ndim:
        labels = jnp.argmax(labels, axis=-1)
    correct = (jnp.argmax(logits, axis=-1) == labels) & mask
    return _loss(losses, mask) | {"correct": jnp.sum(correct, dtype=jnp.int32)}


def classification_details(
    logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array
) -> Counts:
    """`classification_counts`, and what every other metric of a classifier is made of.

    Returns:
      In addition ``confusion`` ``[K, K]`` (true class by row), ``top_5`` (if K > 5), and the bins
      of confidence for the calibration error: ``bin_examples``, ``bin_correct`` and
      ``bin_confidence`` (sums of the highest probability), ``[15]`` each.

    Example:
      >>> logits = jnp.array([[0.0, 1.0], [1.0, 0.0]])
      >>> labels, mask = jnp.array([1, 1]), jnp.array([True, True])
      >>> classification_details(logits, labels, jnp.zeros(2), mask)["confusion"].tolist()
      [[0, 0], [1, 1]]
    """
    classes = logits.shape[-1]
    counts = classification_counts(logits, labels, losses, mask)
    predicted = jnp.argmax(logits, axis=-1)
    confusion = jnp.zeros((classes, classes), jnp.int32)
    counts["confusion"] = confusion.at[labels, predicted].add(mask.astype(jnp.int32))
    if classes > TOP_K:
        own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
        # Equal scores rank by class, the last one first, as in scikit-learn.
        later = jnp.arange(classes)[None, :] > labels[:, None]
        rank = jnp.sum((logits > own) | ((logits == own) & later), axis=-1)
        counts[f"top_{TOP_K}"] = jnp.sum((rank < TOP_K) & mask, dtype=jnp.int32)
    confidence = jnp.max(jax.nn.softmax(logits), axis=-1)
    return counts | _calibration(confidence, predicted == labels, mask)


def label_counts(
    logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array
) -> Counts:
    """What a batch adds to the metrics of L yes-or-no labels; a binary classifier has one.

    Args:
      logits: ``[B, L]``; yes is predicted where they are positive.
      labels: ``[B, L]``, each 0 or 1.
      losses: ``[B]``, the loss of each example.
      mask: ``[B]`` bool, the rows that count.

    Returns:
      ``loss`` and ``examples``, ``correct`` (rows with every label right),
      ``true_positive``, ``false_positive``, ``false_negative`` ``[L]``, and the bins of the
      probability of yes: ``bin_examples``, ``bin_correct`` (that are yes), ``bin_confidence``.

    Example:
      >>> logits, labels = jnp.array([[2.0, -1.0]]), jnp.array([[1, 1]])
      >>> counts = label_counts(logits, labels, jnp.zeros(1), jnp.array([True]))
      >>> counts["true_positive"].tolist(), counts["false_negative"].tolist()
      ([1, 0], [0, 1])
    """
    predicted, true, each = logits > 0, labels > 0.5, mask[:, None]
    right = jnp.all(predicted == true, axis=-1) & mask

    def count(cells: jax.Array) -> jax.Array:
        return jnp.sum(cells & each, axis=0, dtype=jnp.int32)

    counts = _loss(losses, mask) | {
        "correct": jnp.sum(right, dtype=jnp.int32),
        "true_positive": count(predicted & true),
        "false_positive": count(predicted & ~true),
        "false_negative": count(~predicted & true),
    }
    return counts | _calibration(jax.nn.sigmoid(logits), true, jnp.broadcast_to(each, true.shape))


def regression_counts(
    outputs: jax.Array, targets: jax.Array, losses: jax.Array, mask: jax.Array
) -> Counts:
    """What a batch adds to the mean absolute error, the root mean squared error and R squared.

    Args:
      outputs: ``[B, D]``.
      targets: ``[B, D]``, best with a mean near zero: the sums are float32.
      losses: ``[B]``, the loss of each example.
      mask: ``[B]`` bool, the rows that count.

    Returns:
      ``loss`` and ``examples``, and ``absolute``, ``squared`` (of the errors), ``target``,
      ``target_squared``, ``[D]`` each.

    Example:
      >>> outputs, targets = jnp.array([[1.0], [2.0]]), jnp.array([[1.5], [2.5]])
      >>> counts = regression_counts(outputs, targets, jnp.zeros(2), jnp.array([True, True]))
      >>> counts["absolute"].tolist(), counts["target"].tolist()
      ([1.0], [4.0])
    """
    errors = outputs - targets

    def total(values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(mask[:, None], values, 0), axis=0, dtype=jnp.float32)

    return _loss(losses, mask) | {
        "absolute": total(jnp.abs(errors)),
        "squared": total(jnp.square(errors)),
        "target": total(targets),
        "target_squared": total(jnp.square(targets)),
    }


@jax.jit
def _sum(counts: Counts, more: Counts) -> Counts:
    return jax.tree.map(jnp.add, counts, more)


def add_counts(counts: Counts | None, more: Counts) -> Counts:
    """The sum of two counts, on the device; None is the empty count.

    Example:
      >>> add_counts({"examples": 2}, {"examples": 3})["examples"].item()
      5
    """
    return more if counts is None else _sum(counts, more)


def _loss(losses: jax.Array, mask: jax.Array) -> Counts:
    return {
        "loss": jnp.sum(jnp.where(mask, losses, 0), dtype=jnp.float32),
        "examples": jnp.sum(mask, dtype=jnp.int32),
    }


def _calibration(confidence: jax.Array, correct: jax.Array, mask: jax.Array) -> Counts:
    """Bins (low, high] of equal width over [0, 1], as scikit-learn's ``calibration_curve``."""
    exact = np.arange(1, BINS) / BINS
    edges = exact.astype(np.float32)
    # The largest float32 that is not above: a confidence is above it if it is above the edge.
    edges = np.where(edges > exact, np.nextafter(edges, np.float32(0)), edges)
    bins = jnp.searchsorted(edges, confidence.astype(jnp.float32), side="left").reshape(-1)
    confidence, correct, mask = confidence.reshape(-1), correct.reshape(-1), mask.reshape(-1)
    whole, real = jnp.zeros(BINS, jnp.int32), jnp.zeros(BINS, jnp.float32)
    return {
        "bin_examples": whole.at[bins].add(mask.astype(jnp.int32)),
        "bin_correct": whole.at[bins].add((correct & mask).astype(jnp.int32)),
        "bin_confidence": real.at[bins].add(jnp.where(mask, confidence, 0).astype(jnp.float32)),
    }
