"""Multiple training steps in one compiled call, over examples that stay on the device.

Only row indices are transferred to the device, where each step gathers its batch.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn import shapes
from jaxcnn.batch import Batch
from jaxcnn.metrics import Counts, add_counts
from jaxcnn.train.divergence import NONFINITE_STEP
from jaxcnn.train.state import TrainState
from jaxcnn.train.step import TrainStep


class Examples(Protocol):
    """The part of `jaxcnn.data.ArraySource` that `fuse_steps` needs."""

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None


@runtime_checkable
class SourceBatches(Protocol):
    """The part of `jaxcnn.data.Batches` that `fuse_steps` needs."""

    @property
    def source(self) -> Examples:
        """Return the examples, as arrays."""

    def __len__(self) -> int:
        """Return the number of batches per epoch, the same for every epoch."""

    def rows(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the index and mask ``[batches, B]`` of the examples in each batch of an epoch."""


class Rows(NamedTuple):
    """Row indices for up to ``K`` batches.

    Attributes:
      index: ``[K, B]`` int32, the position of each example in its source.
      mask: ``[K, B]`` bool, False for rows that do not count.
      count: scalar int32, the number of batches to use, at most ``K``.
      epoch: scalar int32, the epoch number.
    """

    index: Any
    mask: Any
    count: Any
    epoch: Any

    @property
    def steps(self) -> int:
        """Number of training steps that use these rows."""
        return int(self.count)


class FusedBatches:
    """Batches from a source, in groups of ``steps``.

    In every epoch, groups begin at multiples of ``steps``, regardless of where a run was
    interrupted, so a resumed run makes the same calls. All calls run the same compiled program;
    the last call of an epoch may run fewer iterations of its loop.
    """

    def __init__(self, batches: SourceBatches, steps: int):
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        """Return the number of steps per epoch."""
        return len(self.batches)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Rows]:
        """Yield the groups of one epoch from step ``start`` onward.

        Raises:
          ValueError: if ``start`` is not at the beginning of a group.
        """
        if start % self.steps:
            raise ValueError(
                f"steps (steps_per_call) must divide {start}, the step within the epoch at which "
                f"the snapshot was taken, got {self.steps}"
            )
        index, mask = self.batches.rows(epoch)
        padding = ((0, -len(index) % self.steps), (0, 0))
        index, mask = np.pad(index, padding), np.pad(mask, padding)
        for first in range(start, len(self.batches), self.steps):
            count = min(self.steps, len(self.batches) - first)
            taken = slice(first, first + self.steps)
            yield Rows(index[taken], mask[taken], np.int32(count), np.int32(epoch))


def fuse_steps(
    train_step: TrainStep, batches: object, *, steps: int
) -> tuple[TrainStep, FusedBatches]:
    """Fuse consecutive steps into one compiled call, for use with `fit`.

    This speeds up small networks on an accelerator, which then never waits for the host. It does
    not help on CPU, where convolutions outside `jaxcnn.ops` are many times slower inside a loop.
    Snapshots are taken, and ``on_step`` and ``should_stop`` are called, only between calls.

    Args:
      train_step: a step from `make_train_step`.
      batches: batches from `jaxcnn.data.batches`, over examples in arrays that fit on the device.
      steps: number of steps per call, >= 1; at most an epoch's are taken.

    Returns:
      The fused step and its batches, to pass to `fit` in place of the originals.

    Raises:
      ValueError: if ``steps`` is not positive, or ``batches`` has the wrong type.

    Example:
      >>> import optax
      >>> from jaxcnn import data, image, models, train
      >>> source = data.load("fashion_mnist_slice", split="test")
      >>> model, preprocess = models.create("lenet5", 10), image.Preprocess((28, 28), 1)
      >>> optimizer, images = optax.adam(1e-3), preprocess(source.images[:1])
      >>> state = train.create_state(jax.random.key(0), model, optimizer, images)
      >>> step = train.make_train_step(model, optimizer, preprocess=preprocess)
      >>> step, batches = fuse_steps(step, data.batches(source, 200, seed=0), steps=4)
      >>> state, history = train.fit(state, step, batches, epochs=1)
      >>> history[0]["step"]
      10
    """
    shapes.check_integer(steps, "steps", minimum=1)
    if not isinstance(batches, SourceBatches):
        raise ValueError(
            "batches must come from jaxcnn.data.batches, over examples in arrays, to fuse steps, "
            f"got {type(batches).__name__}"
        )
    steps = min(steps, len(batches))  # a call never spans two epochs
    source = batches.source
    examples = jax.device_put((source.images, source.labels, source.weights))
    call = jax.jit(_loop_over(train_step), donate_argnums=0)
    return lambda state, rows: call(state, examples, rows), FusedBatches(batches, steps)


def _loop_over(train_step: TrainStep) -> Any:
    def call(
        state: TrainState, examples: tuple[jax.Array, Any, Any], rows: Rows
    ) -> tuple[TrainState, Counts]:
        def one(carry: tuple[Any, TrainState, Any]) -> tuple[Any, TrainState, Counts]:
            number, state, counts = carry
            index = rows.index[number]
            image, label, weight = jax.tree.map(
                lambda array: array.at[index].get(mode="promise_in_bounds"), examples
            )
            batch = Batch(image, label, rows.mask[number], index, rows.epoch, weight=weight)
            state, more = train_step(state, batch)
            return number + 1, state, add_counts(counts, more)

        def has_more(carry: tuple[Any, TrainState, Any]) -> Any:
            number, _, counts = carry
            # The steps after one that is not finite would be as well.
            return (number < rows.count) & (counts.get(NONFINITE_STEP, 0) == 0)

        start = jnp.zeros((), jnp.int32)
        empty = jax.eval_shape(lambda state: one((start, state, None))[2], state)
        counts = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), empty)
        return lax.while_loop(has_more, one, (start, state, counts))[1:]

    return call
