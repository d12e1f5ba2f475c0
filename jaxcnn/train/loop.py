"""The loop round the step: epochs, validation, checkpoints, a clean stop."""

import collections
import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcnn.batch import Batch, prefetch
from jaxcnn.metrics import Counts, add_counts, summarize
from jaxcnn.train.checkpoint import History, Snapshot
from jaxcnn.train.monitors import EarlyStopping, ReduceOnPlateau
from jaxcnn.train.multi_step import Resident
from jaxcnn.train.state import TrainState
from jaxcnn.train.step import EvalStep, TrainStep

Overall = Callable[[np.ndarray, np.ndarray], dict[str, float]]


class EpochBatches(Protocol):
    """What `fit` needs of `jaxcnn.data.Batches`."""

    def __len__(self) -> int:
        """Batches per epoch, the same for every epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on: a pure function of its arguments."""


class DivergedError(RuntimeError):
    """A loss or a norm is no longer a finite number."""


def fit(
    start: TrainState | Snapshot,
    train_step: TrainStep,
    batches: EpochBatches,
    *,
    epochs: int,
    validate: Callable[[TrainState], dict[str, float]] | None = None,
    early_stopping: EarlyStopping | None = None,
    plateau: ReduceOnPlateau | None = None,
    checkpoint: Callable[[Snapshot], None] | None = None,
    checkpoint_seconds: float = 300,
    steps_per_call: int = 1,
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
      batches: from `jaxcnn.data.batches`. One without a row that counts is passed over; its
        number counts in ``state.step`` all the same.
      epochs: epochs in all, counting those that a snapshot has behind it.
      validate: gives the validation metrics of a state, for example
        ``lambda state: evaluate(eval_step, state, validation_batches)``; called after each epoch.
      early_stopping: when to stop before the last epoch; the state that is returned evaluates
        with the variables of the best epoch, whether it stopped or ran out.
      plateau: when to take smaller steps.
      checkpoint: keeps a snapshot, for example ``functools.partial(save, folder)``; called after
        each epoch, every ``checkpoint_seconds`` in between, and when stopped.
      checkpoint_seconds: the most time that a crash can cost.
      steps_per_call: steps that one call of a compiled program takes, over examples that stay on
        the device and must fit there; ``batches`` must be those of `jaxcnn.data.batches`. Small
        networks gain on an accelerator, which then never waits for the host. On a CPU nothing is
        gained, and convolutions that are not those of `jaxcnn.ops` take many times as long in a
        loop. Snapshots are taken, and ``on_step`` and ``should_stop`` called, between calls.
      on_step: called with the step number and the counts so far in the epoch. They are on the
        device: reading them waits for the step.
      on_epoch: called with each row of the history.
      should_stop: asked after each call; True saves a snapshot and returns early.

    Returns:
      The last state, and the history: one row per finished epoch with ``epoch``, ``step``,
      ``train_*`` (measured while training, dropout on; ``train_objective`` and
      ``train_gradient_norm`` are means over the steps), ``parameter_norm``, ``validation_*`` and
      ``seconds``.

    Raises:
      ValueError: if ``epochs`` or ``steps_per_call`` is not positive, what is monitored is not in
        the history, or the snapshot was taken with another ``steps_per_call``.
      DivergedError: if a number of an epoch's row is not finite; nothing is saved after that.

    Example:
      >>> import optax
      >>> from jaxcnn import data, image, models, train
      >>> source = data.load("fashion_mnist_slice", split="test")
      >>> model, optimizer = models.create("lenet5", 10), optax.adam(1e-3)
      >>> preprocess = image.Preprocess(size=(28, 28), channels=1)
      >>> state = train.create_state(
      ...     jax.random.key(0), model, optimizer, preprocess(source.images[:1])
      ... )
      >>> step = train.make_train_step(model, optimizer, preprocess=preprocess)
      >>> state, history = train.fit(state, step, data.batches(source, 100, seed=0), epochs=1)
      >>> state.step.item(), history[0]["train_accuracy"] > 0.3
      (20, True)
    """
    for name, value in (("epochs", epochs), ("steps_per_call", steps_per_call)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
    snapshot = start if isinstance(start, Snapshot) else Snapshot(start)
    state, counts, best = snapshot.state, snapshot.counts, snapshot.best
    history = list(snapshot.history)
    calls: Any = batches
    if steps_per_call > 1:
        calls = Resident(batches, train_step, steps_per_call)
        train_step = calls.take

    def keep(counts: Counts | None) -> None:
        if checkpoint is not None:
            checkpoint(Snapshot(state, counts, list(history), snapshot.metadata, best))

    def stopping() -> bool:
        return should_stop is not None and should_stop()

    first, offset = divmod(int(state.step), len(batches))
    for epoch in range(first, epochs):
        if early_stopping and not offset and early_stopping.should_stop(history):
            break
        began = saved = time.monotonic()
        number = epoch * len(batches) + offset
        has_rows: collections.deque[bool] = collections.deque()  # of batches on their way
        noted = _noted(calls.epoch(epoch, offset), has_rows)
        with contextlib.closing(prefetch(noted)) as coming:
            for batch in coming:
                if has_rows.popleft():
                    state, step_counts = train_step(state, batch)
                    counts = add_counts(counts, step_counts)
                else:  # no image of it could be read, but it keeps its place in the epoch
                    state = dataclasses.replace(state, step=state.step + 1)
                number = min(number + steps_per_call, (epoch + 1) * len(batches))
                if on_step is not None and counts is not None:
                    on_step(number, counts)
                if number == (epoch + 1) * len(batches):
                    break  # a snapshot from here on must hold the epoch's row
                if stopping():
                    keep(counts)
                    return state, history
                if time.monotonic() - saved > checkpoint_seconds:
                    keep(counts)
                    saved = time.monotonic()
        row = _row(epoch, state, counts, validate and validate(state))
        history.append(row | {"seconds": time.monotonic() - began})
        if early_stopping and early_stopping.best_epoch(history) == epoch + 1:
            best = jax.tree.map(jnp.copy, state.eval_variables)
        if plateau:
            scale = jnp.float32(plateau.scale(history))
            state = dataclasses.replace(state, lr_scale=scale)
        counts, offset = None, 0
        keep(counts)
        if on_epoch is not None:
            on_epoch(history[-1])
        if stopping():
            break
    return (state if best is None else state.with_eval_variables(best)), history


def evaluate(
    eval_step: EvalStep,
    state: TrainState,
    batches: Iterable[Batch],
    *,
    overall: Overall | None = None,
) -> dict[str, float]:
    """Metrics over all examples of ``batches``, exact for any batch size.

    Args:
      eval_step: from `make_eval_step`.
      state: what to evaluate.
      batches: the examples.
      overall: a task's metrics that are no sums over batches, such as the area under the ROC
        curve: ``task.overall``.

    Returns:
      What the step's counts add up to (see `jaxcnn.metrics.summarize`), and what ``overall`` says.

    Raises:
      ValueError: if there is no batch, or no row of any that counts.
    """
    return predict(eval_step, state, batches, overall=overall)[0]


def predict(
    eval_step: EvalStep,
    state: TrainState,
    batches: Iterable[Batch],
    *,
    overall: Overall | None = None,
) -> tuple[dict[str, float], np.ndarray]:
    """Metrics as `evaluate` gives them, and the outputs ``[N, K]`` of the same pass.

    Raises:
      ValueError: if there is no batch, or no row of any that counts.
    """
    counts: Counts | None = None
    outputs: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    with contextlib.closing(_one_behind(state, eval_step, batches)) as coming:
        for batch, (more, rows) in coming:
            # Floating-point sums go on in double precision, so many batches are as exact as few.
            more = {name: _widened(np.asarray(value)) for name, value in more.items()}
            counts = more if counts is None else {n: counts[n] + value for n, value in more.items()}
            mask = np.asarray(batch.mask)
            outputs.append(np.asarray(rows)[mask])
            labels.append(np.asarray(batch.label)[mask])
    if counts is None:
        raise ValueError("batches must hold at least one batch, got none")
    if not int(counts["examples"]):
        raise _nothing_readable()
    summary = summarize(counts)
    if overall is not None:
        summary |= overall(np.concatenate(outputs), np.concatenate(labels))
    return summary, np.concatenate(outputs)


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
    epoch: int, state: TrainState, counts: Counts | None, validation: dict[str, float] | None
) -> dict[str, float]:
    if counts is None:
        raise _nothing_readable()
    row: dict[str, float] = {"epoch": epoch + 1, "step": int(state.step)}
    row |= {f"train_{name}": value for name, value in summarize(counts).items()}
    row["parameter_norm"] = float(_norm(state.params))
    row |= {f"validation_{name}": value for name, value in (validation or {}).items()}
    for name, value in row.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"{name} became {value} in epoch {epoch + 1} (by step {int(state.step)}); "
                "try a smaller learning rate"
            )
    return row


def _noted(batches: Iterator[Batch], has_rows: collections.deque[bool]) -> Generator[Batch]:
    """The batches; whether a row of each counts is noted on the host, which waits for no step."""
    with contextlib.ExitStack() as stack:
        if isinstance(batches, Generator):
            stack.enter_context(contextlib.closing(batches))
        for batch in batches:
            has_rows.append(bool(np.any(batch.mask)))
            yield batch


def _nothing_readable() -> ValueError:
    return ValueError("batches must hold an example that can be read, got none")


def _one_behind(
    state: TrainState, eval_step: EvalStep, batches: Iterable[Batch]
) -> Generator[tuple[Batch, tuple[Counts, jax.Array]], None, None]:
    """Each batch with its results when the next one is on its way, so the device never waits."""
    before = None
    with contextlib.closing(prefetch(batches)) as coming:
        for batch in coming:
            now = batch, eval_step(state, batch)
            if before is not None:
                yield before
            before = now
    if before is not None:
        yield before


def _widened(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64 if np.issubdtype(array.dtype, np.floating) else np.int64)


_norm = jax.jit(optax.tree.norm)
