"""Batches whose order is a pure function of (seed, epoch), so a position suffices to resume."""

import collections
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from jaxcnn import shapes
from jaxcnn.batch import Batch
from jaxcnn.data.lazy import DecodedImages, workers
from jaxcnn.data.sources import ArraySource
from jaxcnn.data.splits import balanced_order, permutation

_AHEAD = 3  # batches to decode ahead of the one in use


class Batches:
    """Batches of a source, epoch by epoch, as created by `batches`.

    Example:
      >>> from jaxcnn.data import from_arrays
      >>> epochs = batches(from_arrays(np.zeros((5, 8, 8, 1), np.uint8), np.arange(5)), 2, seed=0)
      >>> len(epochs), [batch.index.tolist() for batch in epochs.epoch(1, start=1)]
      (3, [[2, 1], [0, 0]])
    """

    def __init__(
        self,
        source: ArraySource,
        batch_size: int,
        seed: int | None,
        *,
        balanced: bool,
        drop_last: bool,
        process_index: int,
        process_count: int,
    ):
        self.source = source
        self.batch_size = batch_size
        self.seed = seed
        self._balanced, self._drop_last = balanced, drop_last
        # The rows of the last epoch, for callers that read one batch at a time.
        self._last: tuple[int, tuple[np.ndarray, np.ndarray]] | None = None
        self._part = slice(
            process_index * batch_size // process_count,
            (process_index + 1) * batch_size // process_count,
        )

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        if self._drop_last:
            return len(self.source) // self.batch_size
        return math.ceil(len(self.source) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def epoch(self, epoch: int, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """Iterate over batches ``start`` to ``stop - 1`` of one epoch, as NumPy arrays.

        Images that are not in memory are decoded in background threads, a few batches ahead; the
        threads stop when the iterator finishes or is closed.
        """
        start = shapes.check_integer(start, "start", minimum=0)
        if self._last is None or self._last[0] != epoch:
            self._last = epoch, self.rows(epoch)
        rows = zip(*(rows[start:stop] for rows in self._last[1]), strict=True)
        if isinstance(self.source.images, DecodedImages):
            return self._decoded(rows, self.source.images, np.int32(epoch))
        return self._gathered(rows, self.source.images, np.int32(epoch))

    def rows(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the example indices and the masks of an epoch's batches, each ``[batches, B]``."""
        shapes.check_integer(epoch, "epoch", minimum=0)
        size = len(self.source)
        if self.seed is None:
            order = np.arange(size, dtype=np.int32)
        elif self._balanced:
            order = balanced_order(self.source.labels, self.seed, epoch)
        else:
            order = permutation(size, self.seed, epoch)
        places = np.arange(len(self) * self.batch_size).reshape(len(self), self.batch_size)
        # The last batch is padded with copies of its first rows.
        begin = (len(self) - 1) * self.batch_size
        filled = np.where(places < size, places, begin + (places - begin) % max(size - begin, 1))
        return order[filled][:, self._part], (places < size)[:, self._part]

    def shapes(self) -> Batch:
        """Return the shapes and dtypes of a batch, without decoding anything."""
        images, labels = self.source.images, self.source.labels
        rows = self._part.stop - self._part.start

        def of(shape: tuple[int, ...], dtype: np.dtype | type) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(shape, dtype)

        return Batch(
            image=of((rows, *images.shape[1:]), images.dtype),
            label=jax.tree.map(lambda leaf: of((rows, *leaf.shape[1:]), leaf.dtype), labels),
            mask=of((rows,), np.bool_),
            index=of((rows,), np.int32),
            epoch=of((), np.int32),
            weight=None if self.source.weights is None else of((rows,), np.float32),
        )

    def _batch(
        self, images: np.ndarray, rows: np.ndarray, mask: np.ndarray, epoch: np.int32
    ) -> Batch:
        labels, weights = jax.tree.map(
            lambda leaf: leaf[rows], (self.source.labels, self.source.weights)
        )
        return Batch(images, labels, mask, rows, epoch, weight=weights)

    def _gathered(
        self, rows: Iterator[tuple[np.ndarray, np.ndarray]], images: np.ndarray, epoch: np.int32
    ) -> Iterator[Batch]:
        for index, mask in rows:
            yield self._batch(images[index], index, mask, epoch)

    def _decoded(
        self, rows: Iterator[tuple[np.ndarray, np.ndarray]], images: DecodedImages, epoch: np.int32
    ) -> Iterator[Batch]:
        waiting: collections.deque[Callable[[], Batch]] = collections.deque()
        pool = ThreadPoolExecutor(workers(), thread_name_prefix="decode")
        try:
            for index, mask in rows:
                waiting.append(self._request(index, mask, images, epoch, pool))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft()()
            while waiting:
                yield waiting.popleft()()
        finally:
            pool.shutdown(cancel_futures=True)

    def _request(
        self,
        index: np.ndarray,
        mask: np.ndarray,
        images: DecodedImages,
        epoch: np.int32,
        pool: ThreadPoolExecutor,
    ) -> Callable[[], Batch]:
        # Padding rows are not decoded again; the other rows keep their order.
        _, first, inverse = np.unique(index, return_index=True, return_inverse=True)
        order = np.argsort(first)
        place = np.argsort(order)[inverse]
        wait = images.gather(index[first[order]], pool)

        def batch() -> Batch:
            pixels, readable = wait()
            if len(pixels) == len(index) and readable.all():
                return self._batch(pixels, index, mask, epoch)
            readable = readable[place]
            source, kept = np.arange(len(index)), mask & readable
            if kept.any():
                # Unreadable rows are replaced with readable rows of the same batch.
                stand_in = np.resize(np.flatnonzero(kept), len(index))
                source = np.where(readable, source, stand_in)
            return self._batch(pixels[place[source]], index[source], kept, epoch)

        return batch


def batches(
    source: ArraySource,
    batch_size: int,
    *,
    seed: int | None = None,
    balanced: bool = False,
    drop_last: bool = False,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """Create batches that visit every example of a source exactly once per epoch.

    The last batch is padded to ``batch_size``, and padding is masked (see `jaxcnn.data.Batch`).
    Rows with unreadable images are also masked if the source skips such images.

    Args:
      source: the examples.
      batch_size: rows per batch across all processes, >= 1.
      seed: integer in [0, 2**32); each epoch gets its own shuffle, determined by (seed, epoch).
        None keeps the source's order.
      balanced: draw every class equally often; the epoch length does not change, so examples of
        rare classes are repeated. Requires a seed and one class per image.
      drop_last: drop the last batch if it is not full, instead of padding it.
      process_index: index of this process, as in `jax.process_index`.
      process_count: number of processes; each process gets its own rows of every batch.

    Returns:
      The `Batches`: iterating over them yields epoch 0, ``len`` returns the number of batches per
      epoch, and ``epoch(number, start=0)`` iterates over any epoch.

    Raises:
      ValueError: if an argument is out of range, or there are not enough examples for a batch.

    Example:
      >>> from jaxcnn.data import from_arrays
      >>> source = from_arrays(np.zeros((5, 8, 8, 1), np.uint8), np.arange(5))
      >>> [(b.index.tolist(), b.mask.tolist()) for b in batches(source, 3)]
      [([0, 1, 2], [True, True, True]), ([3, 4, 3], [True, True, False])]
    """
    batch_size = shapes.check_integer(batch_size, "batch_size", minimum=1)
    if seed is not None:
        seed = shapes.check_integer(seed, "seed", minimum=0, maximum=2**32 - 1)
    if len(source) == 0:
        raise ValueError("source must hold at least one example, got an empty source")
    if drop_last and len(source) < batch_size:
        raise ValueError(
            f"batch_size must be at most the number of examples ({len(source)}) with drop_last, "
            f"got {batch_size}"
        )
    if process_count < 1 or not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index must be in [0, process_count), got {process_index!r} with "
            f"process_count {process_count!r}"
        )
    if batch_size % process_count:
        raise ValueError(
            f"batch_size must be a multiple of process_count ({process_count}), got {batch_size}"
        )
    if balanced and (seed is None or source.labels.ndim != 1):
        raise ValueError("balanced requires a seed and one class per image")
    return Batches(
        source,
        batch_size,
        seed,
        balanced=balanced,
        drop_last=drop_last,
        process_index=process_index,
        process_count=process_count,
    )
