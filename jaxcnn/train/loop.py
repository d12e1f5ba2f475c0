"""The loop round the step: epochs, validation, checkpoints, a clean stop."""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from jaxcnn.batch import Batch, prefetch
from jaxcnn.metrics import Counts, add_counts, summarize
from jaxcnn.train.checkpoint import History, Snapshot
from jaxcnn.train.state import TrainState
from jaxcnn.train.step import EvalStep, TrainStep


class EpochBatches(Protocol):
    """What `fit` needs of `jaxcnn.data.Batches`."""

    def __len__(self) -> int:
        """Batches per epoch, the same for every epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on: a pure function of its arguments."""


class DivergedError(RuntimeError):
    """The training loss is no longer a finite number."""


def fit(
    start: TrainState | Snapshot,
    train_step: TrainStep,
    batches: EpochBatches,
    *,
    epochs: int,
    validate: Callable[[TrainState], dict[str, float]] | None = None,
    checkpoint: Callable[[Snapshot], None] | None = None,
    checkpoint_seconds: float = 300,
    on_step: Callable[[int, Counts], None] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[TrainState, History]:
    """Train for a number of epochs, from the beginning or from where a snapshot left off.

    The position in the data is ``state.step`` alone, so going on from a snapshot gives, bit for
    bit, what an unbroken run gives.

    Args:
      start: the state at step 0 (it is donated), or a `Snapshot` from `restore`.
      train_step: from `make_train_step`.
      batches: from `jaxcnn.data.batches`.
      epochs: epochs in all, counting those that a snapshot has behind it.
      validate: gives the validation metrics of a state, for example
        ``lambda state: evaluate(eval_step, state, validation_batches)``; called after each epoch.
      checkpoint: keeps a snapshot, for example ``functools.partial(save, folder)``; called after
        each epoch, every ``checkpoint_seconds`` in between, and when stopped.
      checkpoint_seconds: the most time that a crash can cost.
      on_step: called with the step number and the counts so far in the epoch. They are on the
        device: reading them waits for the step.
      on_epoch: called with each row of the history.
      should_stop: asked after each step; True saves a snapshot and returns early.

    Returns:
      The last state, and the history: one row per finished epoch with ``epoch``, ``step``,
      ``train_*`` (measured while training, dropout on), ``validation_*`` and ``seconds``.

    Raises:
      ValueError: if ``epochs`` is not positive.
      DivergedError: if an epoch's training loss is not finite; nothing is saved after that.

    Example:
      >>> import optax
      >>> from jaxcnn import data, image, models, train
      >>> source = data.load("fashion_mnist_slice", split="test")
      >>> model, optimizer = models.create("lenet5", 10), optax.adam(1e-3)
      >>> preprocess = image.Preprocess(size=(28, 28), channels=1)
      >>> state = train.create_state(model, optimizer, preprocess(source.images[:1]))
      >>> step = train.make_train_step(model, optimizer, preprocess=preprocess)
      >>> state, history = train.fit(state, step, data.batches(source, 100, seed=0), epochs=1)
      >>> state.step.item(), sorted(history[0])
      (20, ['epoch', 'seconds', 'step', 'train_accuracy', 'train_loss'])
    """
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs must be an integer >= 1, got {epochs!r}")
    snapshot = start if isinstance(start, Snapshot) else Snapshot(start)
    state, counts, history = snapshot.state, snapshot.counts, list(snapshot.history)

    def keep(counts: Counts | None) -> None:
        if checkpoint is not None:
            checkpoint(Snapshot(state, counts, list(history), snapshot.metadata))

    def stopping() -> bool:
        return should_stop is not None and should_stop()

    first, offset = divmod(int(state.step), len(batches))
    for epoch in range(first, epochs):
        began = saved = time.monotonic()
        number = epoch * len(batches) + offset
        for batch in prefetch(batches.epoch(epoch, offset)):
            state, step_counts = train_step(state, batch)
            counts = add_counts(counts, step_counts)
            number += 1
            if on_step is not None:
                on_step(number, counts)
            if number == (epoch + 1) * len(batches):
                break  # a snapshot from here on must hold the epoch's row
            if stopping():
                keep(counts)
                return state, history
            if time.monotonic() - saved > checkpoint_seconds:
                keep(counts)
                saved = time.monotonic()
        row = _row(epoch, number, counts, validate and validate(state))
        history.append(row | {"seconds": time.monotonic() - began})
        counts, offset = None, 0
        keep(counts)
        if on_epoch is not None:
            on_epoch(history[-1])
        if stopping():
            break
    return state, history


def evaluate(eval_step: EvalStep, state: TrainState, batches: Iterable[Batch]) -> dict[str, float]:
    """Metrics over all examples of ``batches``, exact for any batch size.

    Returns:
      ``{"loss": ..., "accuracy": ...}``, or what the step's ``metrics`` sum up to.

    Raises:
      ValueError: if there is no batch.
    """
    counts: Counts | None = None
    for batch in prefetch(batches):
        counts = add_counts(counts, eval_step(state, batch)[0])
    if counts is None:
        raise ValueError("batches must hold at least one batch, got none")
    return summarize(counts)


def predict(
    eval_step: EvalStep, state: TrainState, batches: Iterable[Batch]
) -> tuple[dict[str, float], np.ndarray]:
    """Metrics as `evaluate` gives them, and the logits ``[N, K]`` of the same pass.

    Raises:
      ValueError: if there is no batch.
    """
    logits: list[np.ndarray] = []

    def keep_logits(state: TrainState, batch: Batch) -> tuple[Counts, jax.Array]:
        counts, outputs = eval_step(state, batch)
        logits.append(np.asarray(outputs)[np.asarray(batch.mask)])
        return counts, outputs

    metrics = evaluate(keep_logits, state, batches)
    return metrics, np.concatenate(logits)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a flag that `fit` asks for; the second one is obeyed.

    Only the main thread can receive signals, so enter this there.

    Example:
      >>> with stop_signals() as should_stop:
      ...     should_stop()
      False
    """
    received: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def handle(number: int, frame: Any) -> None:
        del frame
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, handle)
    try:
        yield lambda: bool(received)
    finally:
        for restored, handler in before.items():
            signal.signal(restored, handler)


def _row(
    epoch: int, step: int, counts: Counts | None, validation: dict[str, float] | None
) -> dict[str, float]:
    metrics = summarize(counts or {})
    if not math.isfinite(metrics["loss"]):
        raise DivergedError(
            f"the training loss became {metrics['loss']} in epoch {epoch + 1} (by step {step}); "
            "try a smaller learning rate"
        )
    row: dict[str, float] = {"epoch": epoch + 1, "step": step}
    row |= {f"train_{name}": value for name, value in metrics.items()}
    return row | {f"validation_{name}": value for name, value in (validation or {}).items()}
