"""Speed of a network on this machine, compared with plain XLA and a lower bound."""

import contextlib
import functools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxcnn import losses, ops, train
from jaxcnn.batch import Batch
from jaxcnn.view import costs


class Timing(NamedTuple):
    """Time of one pass over a batch.

    Attributes:
      name: ``"train step"`` or ``"forward pass"``.
      seconds: median over the rounds.
      xla_seconds: median for the same network in plain `jax.lax`, timed in alternating rounds.
      compile_seconds: duration of the first call, which includes compilation.
      flops: number of additions and multiplications.
      floor_seconds: minimum time for the operations on this machine (see `jaxcnn.view.costs`).
    """

    name: str
    seconds: float
    xla_seconds: float
    compile_seconds: float
    flops: int
    floor_seconds: float


class _Contender:
    """A compiled pass, created and called with one implementation of the operations."""

    def __init__(
        self,
        make: Callable[[], Callable[[], Any]],
        context: Callable[[], contextlib.AbstractContextManager[None]],
    ):
        self.context = context
        with context():
            self.call = make()
        self.first = self.time(1)
        self.times: list[float] = []

    def time(self, calls: int) -> float:
        """Return seconds per call."""
        with self.context():
            began = time.perf_counter()
            for _ in range(calls):
                result = self.call()
            jax.block_until_ready(result)
            return (time.perf_counter() - began) / calls


def benchmark(
    model: Any,
    size: tuple[int, int, int],
    *,
    batch_size: int,
    rounds: int = 5,
    seconds: float = 1.0,
) -> list[Timing]:
    """Time a classifier's training step (with Adam) and forward pass on random images.

    Args:
      model: a Linen module called as ``model(images, train=...)``.
      size: (height, width, channels) of an image.
      batch_size: rows per step, >= 1.
      rounds: number of times to alternate between jaxcnn and plain XLA, >= 1.
      seconds: approximate duration of each timing, in seconds, > 0.

    Returns:
      One timing for the training step and one for the forward pass.

    Raises:
      ValueError: if ``batch_size``, ``rounds`` or ``seconds`` is out of range.

    Example:
      >>> from jaxcnn import models
      >>> model = models.create("lenet5", 10)
      >>> timings = benchmark(model, (28, 28, 1), batch_size=2, rounds=1, seconds=0.01)
      >>> [timing.name for timing in timings]
      ['train step', 'forward pass']
    """
    for name, value in (("batch_size", batch_size), ("rounds", rounds), ("seconds", seconds)):
        if not 0 < value < math.inf or (name != "seconds" and value != int(value)):
            raise ValueError(f"{name} must be positive, got {value!r}")
    optimizer = optax.adam(1e-3)
    images = np.random.default_rng(0).standard_normal((batch_size, *size), np.float32)
    rows = np.arange(batch_size, dtype=np.int32)
    batch = jax.device_put(Batch(images, rows * 0, rows >= 0, rows, np.int32(0)))

    def start() -> train.TrainState:
        return train.create_state(jax.random.key(0), model, optimizer, images)

    def make_step() -> Callable[[], Any]:
        step, state = train.make_train_step(model, optimizer), start()

        def call() -> Any:
            nonlocal state
            state, counts = step(state, batch)
            return counts

        return call

    def make_forward() -> Callable[[], Any]:
        step, state = train.make_predict_step(model), start()
        return lambda: step(state, batch.image)

    ceilings = costs.measure_ceilings()
    timings = []
    counted_passes = count_operations(model, size, batch_size=batch_size)
    for (name, counted), make in zip(
        counted_passes.items(), (make_step, make_forward), strict=True
    ):
        own, plain = _Contender(make, contextlib.nullcontext), _Contender(make, ops.plain_xla)
        _take_turns([own, plain], rounds, seconds)
        timings.append(
            Timing(
                name,
                statistics.median(own.times),
                statistics.median(plain.times),
                own.first,
                sum(operation.flops for operation in counted),
                costs.floor_seconds(counted, ceilings),
            )
        )
    return timings


def count_operations(
    model: Any, size: tuple[int, int, int], *, batch_size: int
) -> dict[str, list[costs.Operation]]:
    """List the operations of a classifier's training step and forward pass, in plain `jax.lax`.

    Args:
      model: a Linen module called as ``model(images, train=...)``.
      size: (height, width, channels) of an image.
      batch_size: rows per step.

    Returns:
      The operations, keyed by ``"train step"`` and ``"forward pass"``.

    Example:
      >>> from jaxcnn import models
      >>> counted = count_operations(models.create("lenet5", 10), (28, 28, 1), batch_size=2)
      >>> sum(operation.flops for operation in counted["forward pass"]) > 1e6
      True
    """
    images = jax.ShapeDtypeStruct((batch_size, *size), np.float32)
    labels = jax.ShapeDtypeStruct((batch_size,), np.int32)
    state = jax.eval_shape(
        lambda images: train.create_state(jax.random.key(0), model, optax.identity(), images),
        images,
    )
    with ops.plain_xla():
        return {
            name: costs.operations(functools.partial(function, model), state, images, labels)
            for name, function in (("train step", _gradients), ("forward pass", _logits))
        }


def _gradients(model: Any, state: train.TrainState, images: Any, labels: Any) -> Any:
    def loss(params: Any) -> jax.Array:
        logits, _ = model.apply(
            state.variables | {"params": params},
            images,
            train=True,
            rngs={"dropout": state.key},
            mutable=["batch_stats"],
        )
        return losses.cross_entropy(logits, labels).mean()

    return jax.grad(loss)(state.params)


def _logits(model: Any, state: train.TrainState, images: Any, labels: Any) -> jax.Array:
    del labels
    return model.apply(state.eval_variables, images, train=False)


def _take_turns(contenders: list[_Contender], rounds: int, seconds: float) -> None:
    """Alternate between the contenders, because a machine's speed drifts."""
    calls = [math.ceil(seconds / contender.time(2)) for contender in contenders]
    for _ in range(rounds):
        for contender, count in zip(contenders, calls, strict=True):
            contender.times.append(contender.time(count))
