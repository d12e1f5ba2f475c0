"""Several steps in one call, over examples that stay on the device.

Only the numbers of the rows travel: a step gathers its batch where the examples are.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.batch import Batch
from jaxcnn.metrics import Counts, add_counts
from jaxcnn.train.state import TrainState
from jaxcnn.train.step import TrainStep


class Examples(Protocol):
    """What `Resident` needs of `jaxcnn.data.ArraySource`."""

    images: np.ndarray
    labels: np.ndarray


@runtime_checkable
class SourceBatches(Protocol):
    """What `Resident` needs of `jaxcnn.data.Batches`."""

    @property
    def source(self) -> Examples:
        """The examples, as arrays."""

    def __len__(self) -> int:
        """Batches per epoch, the same for every epoch."""

    def rows(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Which examples each batch of an epoch holds: index and mask, ``[batches, B]`` each."""


class Rows(NamedTuple):
    """The rows of up to ``K`` batches.

    Attributes:
      index: ``[K, B]`` int32, the position of each example in its source.
      mask: ``[K, B]`` bool, False for rows that must not count.
      count: scalar int32, how many of the ``K`` are to be taken.
      epoch: scalar int32.
    """

    index: Any
    mask: Any
    count: Any
    epoch: Any


class Resident:
    """The batches of a source ``steps`` at a time, and the call that takes them.

    Calls begin at multiples of ``steps`` in every epoch, whatever a run was interrupted by, so
    going on from a snapshot makes the same calls. All are of one compiled program: the last of an
    epoch takes fewer turns of the same loop.
    """

    def __init__(self, batches: object, train_step: TrainStep, steps: int):
        if not isinstance(batches, SourceBatches):
            raise ValueError(
                f"batches must be those of jaxcnn.data.batches for steps_per_call {steps}, whose "
                f"examples are arrays; got {type(batches).__name__}"
            )
        self.batches, self.steps = batches, steps
        source = batches.source
        self._examples = jax.device_put((source.images, source.labels))
        self._call = jax.jit(_loop_over(train_step), donate_argnums=0)

    def epoch(self, epoch: int, start: int) -> Iterator[Rows]:
        """The calls of one epoch, from batch number ``start`` on."""
        if start % self.steps:
            raise ValueError(
                f"steps_per_call must divide the step {start} of its epoch that the snapshot was "
                f"taken at, got {self.steps}"
            )
        index, mask = self.batches.rows(epoch)
        padding = ((0, -len(index) % self.steps), (0, 0))
        index, mask = np.pad(index, padding), np.pad(mask, padding)
        for first in range(start, len(self.batches), self.steps):
            count = min(self.steps, len(self.batches) - first)
            taken = slice(first, first + self.steps)
            yield Rows(index[taken], mask[taken], np.int32(count), np.int32(epoch))

    def take(self, state: TrainState, rows: Rows) -> tuple[TrainState, Counts]:
        """The steps over these rows; the state is donated."""
        return self._call(state, self._examples, rows)


def _loop_over(train_step: TrainStep) -> Any:
    def call(
        state: TrainState, examples: tuple[jax.Array, jax.Array], rows: Rows
    ) -> tuple[TrainState, Counts]:
        def one(number: Any, carry: tuple[TrainState, Any]) -> tuple[TrainState, Counts]:
            state, counts = carry
            index = rows.index[number]
            image, label = (array.at[index].get(mode="promise_in_bounds") for array in examples)
            state, more = train_step(
                state, Batch(image, label, rows.mask[number], index, rows.epoch)
            )
            return state, add_counts(counts, more)

        empty = jax.eval_shape(lambda state: one(0, (state, None))[1], state)
        counts = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), empty)
        return lax.fori_loop(0, rows.count, one, (state, counts))

    return call
