"""Learning rates: a range test that suggests one, and layer-wise multipliers."""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import numpy as np
import optax

from jaxcnn import shapes
from jaxcnn.batch import Batch, EpochBatches, as_epochs, prefetch
from jaxcnn.parameters import map_with_name, matches_any
from jaxcnn.train.state import TrainState
from jaxcnn.train.step import TrainStep

SMOOTHING = 0.9


class LearningRates(NamedTuple):
    """Result of a learning-rate range test.

    Attributes:
      rates: ``[S]``, the learning rate of each step.
      losses: ``[S]``, the batch loss before each step's update.
      smoothed: ``[S]``, the exponential moving average of the losses.
      suggestion: the learning rate at which the smoothed loss falls fastest.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float


def find_learning_rate(
    prepare: Callable[[optax.Schedule], tuple[TrainState, TrainStep]],
    batches: EpochBatches | Iterable[Any],
    *,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 200,
) -> LearningRates:
    """Train while increasing the learning rate from ``low`` to ``high``, and suggest a rate.

    Args:
      prepare: ``prepare(schedule) -> (state, train_step)``, which returns a fresh state and a step
        whose optimizer gets its learning rate from ``schedule``.
      batches: batches of training examples, repeated if necessary.
      low: first learning rate, > 0.
      high: last learning rate, > low.
      steps: number of steps, >= 10. The test ends early when the smoothed loss exceeds four times
        its smallest value or is not finite.

    Returns:
      The learning rates and losses of the steps taken, and the suggestion.

    Raises:
      ValueError: if an argument is out of range, or the loss diverges in the first steps.

    Example:
      >>> from jaxcnn import data, image, models, train
      >>> source = data.load("fashion_mnist_slice", split="test")
      >>> model, preprocess = models.create("lenet5", 10), image.Preprocess((28, 28), 1)
      >>> def prepare(schedule):
      ...     optimizer, images = optax.sgd(schedule), preprocess(source.images[:1])
      ...     state = train.create_state(jax.random.key(0), model, optimizer, images)
      ...     return state, train.make_train_step(model, optimizer, preprocess=preprocess)
      >>> found = train.find_learning_rate(prepare, data.batches(source, 50), steps=10)
      >>> len(found.rates)
      10

    Reference:
      Smith 2015, "Cyclical learning rates for training neural networks", section 3.3.
    """
    if not 0 < low < high < math.inf:
        raise ValueError(f"low and high must satisfy 0 < low < high, got {low!r} and {high!r}")
    shapes.check_integer(steps, "steps", minimum=10)
    ratio = (high / low) ** (1 / (steps - 1))
    state, step = prepare(lambda count: low * ratio**count)
    losses: list[float] = []
    smoothed: list[float] = []
    average, best = 0.0, math.inf
    with contextlib.closing(prefetch(_forever(as_epochs(batches)))) as coming:
        for number, batch in enumerate(itertools.islice(coming, steps), 1):
            state, counts = step(state, batch)
            loss = float(counts["loss"].numerator) / int(counts["loss"].denominator)
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
        raise ValueError(
            f"low must be smaller: the loss is not finite at a learning rate of {low!r}"
        )
    rates = low * ratio ** np.arange(len(losses))
    slope = np.gradient(np.asarray(smoothed), np.log(rates))
    return LearningRates(
        rates, np.asarray(losses), np.asarray(smoothed), float(rates[np.argmin(slope)])
    )


def layer_rates(
    model: nn.Module, images: Any, decay: float, *, output_layers: Sequence[str] = ()
) -> chex.ArrayTree:
    """Return a learning-rate multiplier for every parameter, smaller for layers near the input.

    Parameters are grouped by the model's direct submodules, in call order. A submodule without a
    kernel, such as a normalization layer, joins the group before it. The last group's multiplier
    is 1.

    Args:
      model: a Linen module called as ``model(images, train=...)``.
      images: preprocessed images ``[B, *spatial, C]``, or a ``jax.ShapeDtypeStruct``.
      decay: each group's multiplier is ``decay`` times that of the group after it, in (0, 1].
      output_layers: patterns for modules whose multiplier is 1 regardless of their position, such
        as auxiliary heads.

    Returns:
      A pytree with the structure of the parameters, with one float per parameter array.

    Raises:
      ValueError: if ``decay`` is out of range, or the model is not a Linen module.

    Example:
      >>> from jaxcnn import models
      >>> images = jax.ShapeDtypeStruct((1, 28, 28, 1), jax.numpy.float32)
      >>> rates = layer_rates(models.create("classic_cnn", 10), images, 0.5)
      >>> rates["output"]["kernel"], rates["hidden"]["kernel"], rates["conv"]["kernel"]
      (1.0, 0.5, 0.25)

    Reference:
      Howard and Ruder 2018, "Universal language model fine-tuning for text classification";
      ``layer_decay`` in Bao et al. 2021 ("BEiT") and in timm.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be in (0, 1], got {decay!r}")
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a Linen module for layer-wise rates, got {model!r}")
    called: list[str] = []

    def record(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        path = context.module.path
        if path and path[0] not in called:
            called.append(path[0])
        return call(*arguments, **options)

    with nn.intercept_methods(record):
        init = functools.partial(model.init, train=False)
        params = jax.eval_shape(init, jax.random.key(0), images)["params"]
    groups: dict[str, int] = {}
    number = -1
    for name in called:
        if name in params:
            has_kernel = any(leaf.ndim > 1 for leaf in jax.tree.leaves(params[name]))
            number += has_kernel or number < 0
            groups[name] = number

    def rate(name: str, _: Any) -> float:
        if matches_any(name, output_layers):
            return 1.0
        return decay ** (number - groups[name.split("/")[0]])

    return map_with_name(rate, params)


def _forever(batches: EpochBatches) -> Iterator[Batch]:
    for epoch in itertools.count():
        readable = False
        for batch in batches.epoch(epoch):
            if np.any(batch.mask):
                readable = True
                yield batch
        if not readable:
            raise ValueError("batches must contain at least one readable example, got none")
