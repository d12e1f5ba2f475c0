"""The training loop, with validation, checkpoints and clean stopping; evaluation and prediction."""

import collections
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcnn import shapes
from jaxcnn.batch import Batch, EpochBatches, as_batches, as_epochs, prefetch
from jaxcnn.metrics import Counts, add_counts, merge_counts, summarize
from jaxcnn.train.checkpoint import History, Snapshot
from jaxcnn.train.divergence import NONFINITE_STEP, SKIPPED_STEPS, DivergedError, check_finite
from jaxcnn.train.monitors import Monitor
from jaxcnn.train.saving import Saver, Saving
from jaxcnn.train.state import TrainState
from jaxcnn.train.step import EvalStep, TrainStep
from jaxcnn.train.tasks import Overall


def fit(
    start: TrainState | Snapshot,
    train_step: TrainStep,
    batches: EpochBatches | Iterable[Any],
    *,
    epochs: int,
    validate: Callable[[TrainState], dict[str, float]] | None = None,
    monitors: Sequence[Monitor] = (),
    saving: Saving | None = None,
    on_step: Callable[[int, Counts], None] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[TrainState, History]:
    """Train for a number of epochs, from the beginning or from a snapshot.

    The position in the data depends only on ``state.step``, so a run resumed from a snapshot
    produces the same results, bit for bit, as an uninterrupted run.

    Args:
      start: the state at step 0 (donated), or a `Snapshot` from `restore`.
      train_step: a step from `make_train_step` or `fuse_steps`.
      batches: batches from `jaxcnn.data.batches`, `jaxcnn.data.stream` or `fuse_steps`, an
        `ImageDataGenerator` flow, or a list of batches. A batch in which no row counts is skipped,
        but still advances ``state.step``.
      epochs: total number of epochs, including those before a snapshot.
      validate: returns the validation metrics for a state, for example
        ``lambda state: evaluate(eval_step, state, validation_batches)``; called after each epoch.
      monitors: objects that make decisions based on the history, such as `EarlyStopping` and
        `ReduceOnPlateau`. If a monitor chooses a best epoch, the returned state evaluates with the
        variables from that epoch.
      saving: where and how often to save snapshots: after each epoch, every ``saving.seconds``
        during an epoch, and when stopped. None disables saving.
      on_step: called with the step number and the epoch's counts so far. The counts are on the
        device, so reading them waits for the step to finish.
      on_epoch: called with each row of the history.
      should_stop: called after each step; if it returns True, `fit` saves a snapshot and returns
        early.

    Returns:
      The final state, and the history: one row per finished epoch with ``epoch``, ``step``,
      ``train_*`` (computed during training, with dropout; ``train_objective`` and
      ``train_gradient_norm`` are means over the steps), ``parameter_norm``, ``validation_*`` and
      ``seconds``.

    Raises:
      ValueError: if ``epochs`` is not positive, ``batches`` cannot be read once per epoch, or a
        monitored metric is not in the history.
      DivergedError: if a step (see ``on_nonfinite`` of `make_train_step`) or a value in an epoch's
        row is not finite; nothing is saved after that.

    Example:
      >>> import optax
      >>> from jaxcnn import data, image, models, train
      >>> source = data.load("fashion_mnist_slice", split="test")
      >>> model, optimizer = models.create("lenet5", 10), optax.adam(1e-3)
      >>> preprocess = image.Preprocess(size=(28, 28), channels=1)
      >>> images = preprocess(source.images[:1])
      >>> state = train.create_state(jax.random.key(0), model, optimizer, images)
      >>> step = train.make_train_step(model, optimizer, preprocess=preprocess)
      >>> state, history = train.fit(state, step, data.batches(source, 100, seed=0), epochs=1)
      >>> state.step.item(), history[0]["train_accuracy"] > 0.3
      (20, True)
    """
    shapes.check_integer(epochs, "epochs", minimum=1)
    batches = as_epochs(batches)
    stopping = should_stop or (lambda: False)
    with _Run(start if isinstance(start, Snapshot) else Snapshot(start), saving) as run:
        first, offset = divmod(int(run.state.step), len(batches))
        for epoch in range(first, epochs):
            if not offset and any(monitor.should_stop(run.history) for monitor in monitors):
                break
            began = time.monotonic()
            with contextlib.closing(run.steps(train_step, batches, epoch, offset)) as numbers:
                for number in numbers:
                    if on_step is not None and run.counts is not None:
                        on_step(number, run.counts)
                    if number == (epoch + 1) * len(batches):
                        break  # from here on, a snapshot must contain the epoch's row
                    if stopping():
                        run.save()
                        return run.state, run.history
                    run.save_if_due()
            run.check_finite()
            row = _row(epoch, run.state, run.counts, validate and validate(run.state))
            run.finish_epoch(row | {"seconds": time.monotonic() - began}, monitors)
            offset = 0
            run.save()
            if on_epoch is not None:
                on_epoch(run.history[-1])
            if stopping():
                break
    if run.best is not None:
        return run.state.with_eval_variables(run.best), run.history
    return run.state, run.history


class _Run:
    """State that changes while `fit` runs: a snapshot's contents, and the time of the last save."""

    def __init__(self, start: Snapshot, saving: Saving | None):
        self.state, self.counts, self.best = start.state, start.counts, start.best
        self.history = list(start.history)
        self._metadata, self._saving = start.metadata, saving
        self._saver = None if saving is None else Saver(saving)
        self._saved = time.monotonic()
        self._unchecked: tuple[Counts, Any] | None = None  # from the last step

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._saver is not None:
            self._saver.__exit__(*error)

    def steps(
        self, train_step: TrainStep, batches: EpochBatches, epoch: int, offset: int
    ) -> Generator[int, None, None]:
        """Take the steps of an epoch; after each, yield the number of steps taken in the run."""
        self._saved = time.monotonic()
        number = epoch * len(batches) + offset
        has_rows: collections.deque[bool] = collections.deque()  # for the batches in flight
        noted = _noted(batches.epoch(epoch, offset), has_rows)
        with contextlib.closing(prefetch(noted)) as coming:
            for batch in coming:
                if has_rows.popleft():
                    self.state, counts = train_step(self.state, batch)
                    self.check_finite()  # of the previous step, so that the device does not wait
                    self._unchecked = counts, batch
                    sums = {name: counts[name] for name in counts if name != NONFINITE_STEP}
                    self.counts = add_counts(self.counts, sums)
                else:  # no image in the batch could be read, but its steps still count
                    self.state = dataclasses.replace(self.state, step=self.state.step + batch.steps)
                number += batch.steps
                yield number

    def check_finite(self) -> None:
        """Raise an error if the last step was not finite (see `check_finite`)."""
        if self._unchecked is not None:
            check_finite(*self._unchecked)
            self._unchecked = None

    def finish_epoch(self, row: dict[str, float], monitors: Sequence[Monitor]) -> None:
        """Append a row to the history and apply the monitors' decisions."""
        self.history.append(row)
        if any(monitor.best_epoch(self.history) == row["epoch"] for monitor in monitors):
            self.best = jax.tree.map(jnp.copy, self.state.eval_variables)
        if monitors:
            scale = math.prod(monitor.lr_scale(self.history) for monitor in monitors)
            self.state = dataclasses.replace(self.state, lr_scale=jnp.float32(scale))
        self.counts = None

    def save(self) -> None:
        """Save a snapshot if saving is enabled and the last step was finite."""
        self.check_finite()
        if self._saver is not None:
            self._saver.save(
                Snapshot(self.state, self.counts, list(self.history), self._metadata, self.best)
            )

    def save_if_due(self) -> None:
        """Save a snapshot if the last one is older than ``saving.seconds``.

        Raises:
          OSError: if the last one could not be saved.
        """
        if self._saving is None or self._saver is None:
            return
        self._saver.check()
        if time.monotonic() - self._saved > self._saving.seconds:
            self.save()
            self._saved = time.monotonic()


def evaluate(
    eval_step: EvalStep,
    state: TrainState,
    batches: EpochBatches | Iterable[Any],
    *,
    overall: Overall | None = None,
) -> dict[str, float]:
    """Compute metrics over all examples in ``batches``, exact for any batch size.

    Predictions are kept in memory only if ``overall`` is given.

    Args:
      eval_step: a step from `make_eval_step`.
      state: the state to evaluate.
      batches: batches of examples in any of the forms that `jaxcnn.data.stream` accepts. Of
        batches with a method ``epoch``, the first epoch is read.
      overall: computes metrics that are not sums over batches, such as the area under the ROC
        curve; usually ``task.overall``.

    Returns:
      The values of the step's metrics, plus the metrics that ``overall`` returns.

    Raises:
      ValueError: if there are no batches, or all rows of all batches are masked.

    Example:
      >>> from jaxcnn import data, image, models, train
      >>> source = data.load("fashion_mnist_slice", split="test")
      >>> model, preprocess = models.create("lenet5", 10), image.Preprocess((28, 28), 1)
      >>> images = preprocess(source.images[:1])
      >>> state = train.create_state(jax.random.key(0), model, optax.identity(), images)
      >>> step = train.make_eval_step(model, preprocess=preprocess)
      >>> 0 <= train.evaluate(step, state, data.batches(source, 500))["accuracy"] <= 1
      True
    """
    counts, kept = _collect(eval_step, state, batches, keep=overall is not None)
    return summarize(counts) | (overall(*kept) if overall is not None else {})


def predict(
    eval_step: EvalStep,
    state: TrainState,
    batches: EpochBatches | Iterable[Any],
    *,
    overall: Overall | None = None,
) -> tuple[dict[str, float], Any]:
    """Return the metrics that `evaluate` computes, and the predictions from the same pass.

    The arguments and errors are the same as for `evaluate`.

    Returns:
      The metrics, and the decoded predictions for the rows that count, in order: an array
      ``[N, ...]``, or a pytree of such arrays.

    Example:
      >>> from jaxcnn import data, image, models, train
      >>> source = data.load("fashion_mnist_slice", split="test")
      >>> model, preprocess = models.create("lenet5", 10), image.Preprocess((28, 28), 1)
      >>> images = preprocess(source.images[:1])
      >>> state = train.create_state(jax.random.key(0), model, optax.identity(), images)
      >>> step = train.make_eval_step(model, preprocess=preprocess)
      >>> train.predict(step, state, data.batches(source, 500))[1].shape
      (2000, 10)
    """
    counts, (predictions, labels) = _collect(eval_step, state, batches, keep=True)
    summary = summarize(counts)
    return summary | (overall(predictions, labels) if overall is not None else {}), predictions


def _collect(
    eval_step: EvalStep, state: TrainState, batches: EpochBatches | Iterable[Any], *, keep: bool
) -> tuple[Counts, tuple[Any, Any]]:
    """Return summed counts and, with ``keep``, predictions and labels of the rows that count."""
    counts: Counts | None = None
    kept: list[tuple[Any, Any]] = []
    with contextlib.closing(_one_behind(state, eval_step, _one_pass(batches))) as coming:
        for batch, (more, predictions) in coming:
            # Accumulate in double precision, so that many batches do not lose precision.
            more = jax.tree.map(lambda x: _widened(np.asarray(x)), more)
            counts = more if counts is None else merge_counts(counts, more)
            if keep:
                kept.append(_rows((predictions, batch.label), np.asarray(batch.mask)))
    if counts is None:
        raise ValueError("batches must contain at least one batch, got none")
    if not int(counts["examples"]):
        raise _nothing_readable()
    if not keep:
        return counts, (None, None)
    return counts, jax.tree.map(lambda *parts: np.concatenate(parts), *kept)


def _row(
    epoch: int, state: TrainState, counts: Counts | None, validation: dict[str, float] | None
) -> dict[str, float]:
    if counts is None:
        raise _nothing_readable()
    row: dict[str, float] = {"epoch": epoch + 1, "step": int(state.step)}
    if skipped := int(counts.get(SKIPPED_STEPS, 0)):
        row[SKIPPED_STEPS] = skipped
        if not int(counts["examples"]):
            raise DivergedError(
                f"all steps of epoch {epoch + 1} were skipped because their results were not "
                "finite; try a smaller learning rate"
            )
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


def _noted(batches: Iterator[Any], has_rows: collections.deque[bool]) -> Generator[Any]:
    """Yield the batches; record on the host, without waiting for a step, if any row counts."""
    with contextlib.ExitStack() as stack:
        if isinstance(batches, Generator):
            stack.enter_context(contextlib.closing(batches))
        for batch in batches:
            has_rows.append(bool(np.any(batch.mask)))
            yield batch


def _nothing_readable() -> ValueError:
    return ValueError("batches must contain at least one readable example, got none")


def _one_behind(
    state: TrainState, eval_step: EvalStep, batches: Iterable[Batch]
) -> Generator[tuple[Batch, tuple[Counts, jax.Array]], None, None]:
    """Yield each batch with its results once the next one is in flight; the device never waits."""
    before = None
    with contextlib.closing(prefetch(batches)) as coming:
        for batch in coming:
            now = batch, eval_step(state, batch)
            if before is not None:
                yield before
            before = now
    if before is not None:
        yield before


def _one_pass(batches: EpochBatches | Iterable[Any]) -> Iterator[Batch]:
    """Return the batches of one epoch."""
    if isinstance(batches, EpochBatches):
        return as_epochs(batches).epoch(0)
    return as_batches(batches)


def _rows(tree: Any, mask: np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[mask], tree)


def _widened(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64 if np.issubdtype(array.dtype, np.floating) else np.int64)


_norm = jax.jit(optax.tree.norm)
