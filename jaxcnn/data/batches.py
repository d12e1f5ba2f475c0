"""Batches in an order that is a pure function of (seed, epoch), so a position is all to resume."""

import collections
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from jaxcnn.batch import Batch
from jaxcnn.data.lazy import DecodedImages, workers
from jaxcnn.data.sources import ArraySource
from jaxcnn.data.splits import balanced_order, permutation

_AHEAD = 3  # batches that are decoded while one is used


class Batches:
    """The batches of a source, epoch by epoch; make one with `batches`."""

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
        self._part = slice(
            process_index * batch_size // process_count,
            (process_index + 1) * batch_size // process_count,
        )

    def __len__(self) -> int:
        """Batches per epoch."""
        if self._drop_last:
            return len(self.source) // self.batch_size
        return math.ceil(len(self.source) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch in NumPy, from batch number ``start`` on.

        Images that are not in memory are decoded in threads, some batches ahead; the threads end
        with the iterator.
        """
        if start < 0:
            raise ValueError(f"start must be >= 0, got {start!r}")
        rows = zip(*(rows[start:] for rows in self.rows(epoch)), strict=True)
        if isinstance(self.source.images, DecodedImages):
            return self._decoded(rows, self.source.images, np.int32(epoch))
        return self._gathered(rows, self.source.images, np.int32(epoch))

    def rows(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Index and mask ``[batches, B]`` of the examples in each batch of an epoch."""
        if epoch < 0:
            raise ValueError(f"epoch must be >= 0, got {epoch!r}")
        size = len(self.source)
        if self.seed is None:
            order = np.arange(size, dtype=np.int32)
        elif self._balanced:
            order = balanced_order(self.source.labels, self.seed, epoch)
        else:
            order = permutation(size, self.seed, epoch)
        places = np.arange(len(self) * self.batch_size).reshape(len(self), self.batch_size)
        # The last batch is filled up from its own first rows.
        begin = (len(self) - 1) * self.batch_size
        filled = np.where(places < size, places, begin + (places - begin) % max(size - begin, 1))
        return order[filled][:, self._part], (places < size)[:, self._part]

    def shapes(self) -> Batch:
        """The shapes and dtypes of a batch; nothing is decoded."""
        images, labels = self.source.images, self.source.labels
        rows = self._part.stop - self._part.start

        def of(shape: tuple[int, ...], dtype: np.dtype | type) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(shape, dtype)

        return Batch(
            image=of((rows, *images.shape[1:]), images.dtype),
            label=of((rows, *labels.shape[1:]), labels.dtype),
            mask=of((rows,), np.bool_),
            index=of((rows,), np.int32),
            epoch=of((), np.int32),
        )

    def _gathered(
        self, rows: Iterator[tuple[np.ndarray, np.ndarray]], images: np.ndarray, epoch: np.int32
    ) -> Iterator[Batch]:
        for index, mask in rows:
            yield Batch(images[index], self.source.labels[index], mask, index, epoch)

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
        # Rows that only fill up are not decoded again; the others keep their order.
        _, first, inverse = np.unique(index, return_index=True, return_inverse=True)
        order = np.argsort(first)
        place = np.argsort(order)[inverse]
        wait = images.gather(index[first[order]], pool)

        def batch() -> Batch:
            pixels, good = wait()
            if len(pixels) == len(index) and good.all():
                return Batch(pixels, self.source.labels[index], mask, index, epoch)
            found = good[place]
            source, kept = np.arange(len(index)), mask & found
            if kept.any():
                # What cannot be read is filled up too, from the first rows that can be.
                stand_in = np.resize(np.flatnonzero(kept), len(index))
                source = np.where(found, source, stand_in)
            rows = index[source]
            return Batch(pixels[place[source]], self.source.labels[rows], kept, rows, epoch)

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
    """Batches that visit every example of a source exactly once per epoch.

    The last batch is filled up to ``batch_size`` and masked (see `jaxcnn.data.Batch`), and so are
    rows whose image cannot be read, if the source skips them.

    Args:
      source: the examples.
      batch_size: rows per batch, >= 1, of all processes together.
      seed: shuffle every epoch anew, by (seed, epoch); None keeps the order of the source.
      balanced: show every class equally often instead: an epoch is as long, and holds examples of
        rare classes several times. Needs a seed, and one class per image.
      drop_last: leave out what does not fill a batch, instead of filling it up.
      process_index: index of this process, as `jax.process_index()`.
      process_count: number of processes; each gets its own rows of every batch.

    Returns:
      An iterable over one epoch with ``len`` (batches per epoch) and ``epoch(number, start=0)``.

    Raises:
      ValueError: if an argument is out of range, or there are not enough examples for a batch.

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
    if drop_last and len(source) < batch_size:
        raise ValueError(
            f"batch_size must be at most {len(source)}, the number of examples, with drop_last, "
            f"got {batch_size}"
        )
    if process_count < 1 or not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index must be in [0, process_count), got {process_index!r} of "
            f"{process_count!r}"
        )
    if batch_size % process_count:
        raise ValueError(
            f"batch_size must be a multiple of process_count, {process_count}, got {batch_size}"
        )
    if balanced and (seed is None or source.labels.ndim != 1):
        raise ValueError("balanced needs a seed, and one class per image")
    return Batches(
        source,
        batch_size,
        seed,
        balanced=balanced,
        drop_last=drop_last,
        process_index=process_index,
        process_count=process_count,
    )
