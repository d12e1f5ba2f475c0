"""Metrics as counts under a mask: added up over batches, divided once.

So a metric is exact whatever the batch size, and a masked row counts nothing.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Counts = dict[str, Any]


def classification_counts(
    logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array
) -> Counts:
    """What a batch adds to the metrics of a classifier.

    Args:
      logits: ``[B, K]``.
      labels: ``[B]`` class indices.
      losses: ``[B]``, the loss of each example.
      mask: ``[B]`` bool, the rows that count.

    Returns:
      Scalars ``loss`` (sum, float32), ``correct`` and ``examples`` (int32).

    Example:
      >>> logits = jnp.array([[0.0, 1.0], [1.0, 0.0]])
      >>> labels, mask = jnp.array([1, 1]), jnp.array([True, True])
      >>> counts = classification_counts(logits, labels, jnp.array([0.3, 1.3]), mask)
      >>> {name: round(value.item(), 3) for name, value in counts.items()}
      {'loss': 1.6, 'correct': 1, 'examples': 2}
    """
    correct = (jnp.argmax(logits, axis=-1) == labels) & mask
    return {
        "loss": jnp.sum(jnp.where(mask, losses, 0), dtype=jnp.float32),
        "correct": jnp.sum(correct, dtype=jnp.int32),
        "examples": jnp.sum(mask, dtype=jnp.int32),
    }


def add_counts(counts: Counts | None, more: Counts) -> Counts:
    """The sum of two counts; None is the empty count.

    Example:
      >>> add_counts({"examples": 2}, {"examples": 3})
      {'examples': 5}
    """
    return more if counts is None else jax.tree.map(lambda a, b: a + b, counts, more)


def summarize(counts: Counts) -> dict[str, float]:
    """Mean loss and accuracy from added-up counts.

    Example:
      >>> summarize({"loss": 1.0, "correct": 3, "examples": 4})
      {'loss': 0.25, 'accuracy': 0.75}
    """
    counts = jax.device_get(counts)
    examples = int(counts["examples"])
    return {
        "loss": float(counts["loss"]) / examples,
        "accuracy": int(counts["correct"]) / examples,
    }


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
