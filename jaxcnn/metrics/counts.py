"""Sums that metrics are computed from: added over batches, divided once at the end.

A training or evaluation step returns *counts*: a dictionary with the number of examples and, under
each metric's name, the metric's sums. Adding them over batches with `add_counts` or `merge_counts`
and dividing once makes every metric exact for any batch size. Sums are NamedTuples, hence pytrees,
and each has a ``value`` method.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

Counts = dict[str, Any]


class Ratio(NamedTuple):
    """Mean of ratios, such as accuracy or macro-averaged F1.

    Attributes:
      numerator: array of any shape.
      denominator: array that broadcasts with ``numerator``.
      present: array that broadcasts with both; only entries where it is positive are counted. None
        means the denominator itself.
    """

    numerator: Any
    denominator: Any
    present: Any = None

    def value(self) -> float:
        """Return the mean of the ratios over the present entries, counting 0 / 0 as 0.

        Example:
          >>> Ratio(np.array([1, 0, 3]), np.array([2, 0, 4])).value()
          0.625
        """
        present = self.denominator if self.present is None else self.present
        numerator, denominator, present = np.broadcast_arrays(
            *map(np.atleast_1d, (self.numerator, self.denominator, present))
        )
        ratios = divide(numerator, denominator)[present > 0]
        return float(ratios.mean()) if ratios.size else float("nan")


class RootMeanSquare(NamedTuple):
    """Root mean squared error: sums of squared errors ``[D]``, and the number of examples."""

    squared: Any
    examples: Any

    def value(self) -> float:
        """Return the root mean squared error, averaged over the outputs."""
        return float(np.sqrt(self.squared / self.examples).mean())


class RSquared(NamedTuple):
    """Coefficient of determination, from statistics of D outputs and targets.

    Attributes:
      squared: ``[D]``, sums of squared errors.
      mean: ``[D]``, means of the targets.
      spread: ``[D]``, sums of the targets' squared differences from their means.
      examples: number of examples.
    """

    squared: Any
    mean: Any
    spread: Any
    examples: Any

    def merge(self, more: "RSquared") -> "RSquared":
        """Return the statistics of two sets of examples, either of which may be empty.

        Sums of the targets and of their squares could be added, but would leave no digits of the
        spread if it is small compared to the mean.

        Reference:
          Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance".
        """
        examples = self.examples + more.examples
        share = more.examples / (examples + (examples == 0))
        step = more.mean - self.mean
        return RSquared(
            squared=self.squared + more.squared,
            mean=self.mean + step * share,
            spread=self.spread + more.spread + step**2 * (self.examples * share),
            examples=examples,
        )

    def value(self) -> float:
        """Return the mean over the outputs; a constant target scores 1 for no error, else 0."""
        if not self.examples:
            return float("nan")
        # The mean of a constant may be one or two units in the last place of float32 off.
        constant = self.spread <= self.examples * (2.4e-7 * self.mean) ** 2
        explained = 1 - self.squared / np.where(constant, 1, self.spread)
        return float(np.where(constant, self.squared == 0, explained).mean())


class Calibration(NamedTuple):
    """Predictions binned by confidence; each field is ``[bins]``.

    Attributes:
      examples: number of predictions.
      correct: number of correct predictions.
      confidence: sum of the predictions' confidences.
    """

    examples: Any
    correct: Any
    confidence: Any

    def value(self) -> float:
        """Return the expected calibration error."""
        return float(np.abs(self.correct - self.confidence).sum() / self.examples.sum())


Sums = Ratio | RootMeanSquare | RSquared | Calibration
SUMS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Ratio, RootMeanSquare, RSquared, Calibration)
}
"""Kinds of sums by name, for storage."""


def as_sums(value: Any, name: str) -> Sums:
    """Convert a metric's result to sums: a ``(numerator, denominator)`` tuple becomes a `Ratio`.

    Args:
      value: result of a metric.
      name: name of the metric, for the error message.

    Raises:
      ValueError: if ``value`` is neither a tuple of two arrays nor one of the kinds of sums.

    Example:
      >>> as_sums((3, 4), "accuracy").value()
      0.75
    """
    if isinstance(value, Ratio | RootMeanSquare | RSquared | Calibration):
        return value
    if isinstance(value, tuple) and len(value) == 2:
        return Ratio(*value)
    raise ValueError(
        f"metric {name} must return (numerator, denominator) or sums from jaxcnn.metrics, "
        f"got {type(value).__name__}"
    )


def add_counts(counts: Counts | None, more: Counts) -> Counts:
    """Add two sets of counts on the device; None stands for empty counts, and so do zeros.

    Example:
      >>> add_counts({"examples": 2}, {"examples": 3})["examples"].item()
      5
    """
    return more if counts is None else _add_on_device(counts, more)


def merge_counts(counts: Counts, more: Counts) -> Counts:
    """Add two sets of counts where they are; counts in NumPy keep their precision.

    Example:
      >>> merge_counts({"loss": Ratio(1.0, 2)}, {"loss": Ratio(2.0, 1)})
      {'loss': Ratio(numerator=3.0, denominator=3, present=None)}
    """
    merged: Counts = jax.tree.map(
        lambda one, other: one.merge(other) if isinstance(one, RSquared) else one + other,
        counts,
        more,
        is_leaf=lambda node: isinstance(node, RSquared),
    )
    return merged


_add_on_device = jax.jit(merge_counts)


def summarize(counts: Counts) -> dict[str, float]:
    """Return the value of every metric in the counts, in double precision, with the loss first.

    Args:
      counts: summed counts from steps made by `jaxcnn.train.make_train_step` or `make_eval_step`.

    Example:
      >>> summarize({"accuracy": Ratio(3, 4), "examples": 4, "loss": Ratio(1.0, 4)})
      {'loss': 0.25, 'accuracy': 0.75}
    """
    sums = {name: value for name, value in counts.items() if isinstance(value, Sums)}
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), jax.device_get(sums))
    # Compiled functions return dictionaries sorted by key.
    names = sorted(exact, key=lambda name: (name != "loss", name))
    return {name: exact[name].value() for name in names}


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide elementwise, returning 0 where the denominator is not positive.

    Example:
      >>> divide(np.array([1.0, 2.0]), np.array([2.0, 0.0])).tolist()
      [0.5, 0.0]
    """
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), 0.0)
