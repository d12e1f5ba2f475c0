"""The learning-rate range test: a few hundred steps, each a little larger than the one before."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import optax

from jaxcnn.batch import Batch, prefetch
from jaxcnn.train.loop import EpochBatches
from jaxcnn.train.state import TrainState
from jaxcnn.train.step import TrainStep

SMOOTHING = 0.9


class LearningRates(NamedTuple):
    """What a range test saw.

    Attributes:
      rates: ``[S]``, the learning rate of each step.
      losses: ``[S]``, the loss of the batch before the step.
      smoothed: ``[S]``, their moving average.
      suggestion: the rate at which the smoothed loss falls fastest.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float


def find_learning_rate(
    prepare: Callable[[optax.Schedule], tuple[TrainState, TrainStep]],
    batches: EpochBatches,
    *,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 200,
) -> LearningRates:
    """Train while the learning rate grows from ``low`` to ``high``, and see where the loss falls.

    Args:
      prepare: ``prepare(schedule) -> (state, train_step)``: a fresh state, and a step whose
        optimizer takes its learning rate from ``schedule``.
      batches: the training examples, repeated if need be.
      low: first learning rate, > 0.
      high: last one, > low.
      steps: how many, >= 10. It ends early when the smoothed loss is four times its smallest
        value, or no number.

    Returns:
      The steps that were taken, and the suggestion.

    Raises:
      ValueError: if an argument is out of range, or the loss was no number from the start.

    Reference:
      Smith 2015, "Cyclical learning rates for training neural networks", section 3.3.
    """
    if not 0 < low < high < math.inf:
        raise ValueError(f"low and high must be 0 < low < high, got {low!r} and {high!r}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 10:
        raise ValueError(f"steps must be an integer >= 10, got {steps!r}")
    ratio = (high / low) ** (1 / (steps - 1))
    state, step = prepare(lambda count: low * ratio**count)
    losses: list[float] = []
    smoothed: list[float] = []
    average, best = 0.0, math.inf
    with contextlib.closing(prefetch(_forever(batches))) as coming:
        for number, batch in enumerate(itertools.islice(coming, steps), 1):
            state, counts = step(state, batch)
            loss = float(counts["loss"]) / int(counts["examples"])
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            value = average / (1 - SMOOTHING**number)
            if not math.isfinite(value):
                break
            losses.append(loss)
            smoothed.append(value)
            best = min(best, value)
            if value > 4 * best:
                break
    if len(losses) < 3:
        raise ValueError(f"low must be smaller: the loss is no number at a rate of {low!r}")
    rates = low * ratio ** np.arange(len(losses))
    slope = np.gradient(np.asarray(smoothed), np.log(rates))
    return LearningRates(
        rates, np.asarray(losses), np.asarray(smoothed), float(rates[np.argmin(slope)])
    )


def _forever(batches: EpochBatches) -> Iterator[Batch]:
    for epoch in itertools.count():
        readable = False
        for batch in batches.epoch(epoch):
            if np.any(batch.mask):
                readable = True
                yield batch
        if not readable:
            raise ValueError("batches must hold an example that can be read, got none")
