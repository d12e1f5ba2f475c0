"""Batches in an order that is a pure function of (seed, epoch), so a position is all to resume."""

import math
from collections.abc import Iterator

import numpy as np

from jaxcnn.batch import Batch
from jaxcnn.data.sources import ArraySource, permutation


class Batches:
    """The batches of a source, epoch by epoch; make one with `batches`."""

    def __init__(self, source: ArraySource, batch_size: int, seed: int | None):
        self.source = source
        self.batch_size = batch_size
        self.seed = seed

    def __len__(self) -> int:
        """Batches per epoch."""
        return math.ceil(len(self.source) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch in NumPy, from batch number ``start`` on."""
        if start < 0:
            raise ValueError(f"start must be >= 0, got {start!r}")
        for index, mask in zip(*(rows[start:] for rows in self.rows(epoch)), strict=True):
            yield Batch(
                image=self.source.images[index],
                label=self.source.labels[index],
                mask=mask,
                index=index,
                epoch=np.int32(epoch),
            )

    def rows(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Index and mask ``[batches, batch_size]`` of the examples in each batch of an epoch."""
        if epoch < 0:
            raise ValueError(f"epoch must be >= 0, got {epoch!r}")
        size = len(self.source)
        if self.seed is None:
            order = np.arange(size, dtype=np.int32)
        else:
            order = permutation(size, self.seed, epoch)
        places = np.arange(len(self) * self.batch_size).reshape(len(self), self.batch_size)
        # The last batch is filled up from its own first rows.
        begin, rest = places[-1, 0], size - places[-1, 0]
        filled = np.where(places < size, places, begin + (places - begin) % rest)
        return order[filled], places < size


def batches(source: ArraySource, batch_size: int, *, seed: int | None = None) -> Batches:
    """Batches that visit every example of a source exactly once per epoch.

    The last batch is filled up to ``batch_size`` and masked (see `jaxcnn.data.Batch`).

    Args:
      source: the examples.
      batch_size: rows per batch, >= 1.
      seed: shuffle every epoch anew, by (seed, epoch); None keeps the order of the source.

    Returns:
      An iterable over one epoch with ``len`` (batches per epoch) and ``epoch(number, start=0)``.

    Raises:
      ValueError: if ``batch_size`` or ``seed`` is out of range, or the source is empty.

    Example:
      >>> from jaxcnn.data import from_arrays
      >>> source = from_arrays(np.zeros((5, 8, 8, 1), np.uint8), np.arange(5))
      >>> [(b.index.tolist(), b.mask.tolist()) for b in batches(source, 3)]
      [([0, 1, 2], [True, True, True]), ([3, 4, 3], [True, True, False])]
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be an integer >= 1, got {batch_size!r}")
    if seed is not None and (
        isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32
    ):
        raise ValueError(f"seed must be None or an integer from 0 to 2**32 - 1, got {seed!r}")
    if len(source) == 0:
        raise ValueError("source must hold at least one example, got an empty one")
    return Batches(source, batch_size, seed)
