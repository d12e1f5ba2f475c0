"""Batches of examples, passed from the data pipeline to the training step."""

import collections
from collections.abc import Generator, Iterable
from typing import Any, NamedTuple, TypeVar

import jax

Arrays = TypeVar("Arrays")


class Batch(NamedTuple):
    """``B`` examples; only those where ``mask`` is True count.

    A short last batch is padded with copies of the batch's first rows (``mask`` False), so all
    batches have the same shape, and batch statistics are computed from real images only.

    Attributes:
      image: ``[B, *spatial, C]``, uint8 in 0..255 or float32 in [0, 1].
      label: a pytree whose leaves have a leading axis of size ``B``, for example ``[B]`` int32
        class indices, ``[B, L]`` int32 zeros and ones, or ``[B, D]`` float32.
      mask: ``[B]`` bool, False for rows that must not count.
      index: ``[B]`` int32, the position of each example in its source.
      epoch: scalar int32, the pass over the source that the batch is from.
      length: ``[B]`` int32, the length of each padded series, or None.
      weight: ``[B]`` float32, weight of each example in the training loss; None means 1.
    """

    image: Any
    label: Any
    mask: Any
    index: Any
    epoch: Any
    length: Any = None
    weight: Any = None

    @property
    def steps(self) -> int:
        """Number of training steps that the batch covers, always 1."""
        return 1


def prefetch(batches: Iterable[Arrays], *, depth: int = 2) -> Generator[Arrays, None, None]:
    """Transfer batches, or other pytrees of arrays, to the device ``depth`` batches ahead of use.

    Transfers are asynchronous, so the next batch is gathered while the device works. On CPU,
    batches are passed through unchanged, because a transfer would take cores from the training
    step. Closing this iterator also closes ``batches`` if it is a generator.

    Args:
      batches: the batches to transfer.
      depth: number of batches in flight, >= 1.

    Example:
      >>> from jaxcnn import data
      >>> source = data.load("fashion_mnist_slice", split="test")
      >>> next(data.prefetch(data.batches(source, 32))).image.shape
      (32, 28, 28, 1)
    """
    is_cpu = jax.default_backend() == "cpu"
    waiting: collections.deque[Arrays] = collections.deque()
    iterator = iter(batches)
    try:
        for batch in iterator:
            if is_cpu:
                yield batch
                continue
            waiting.append(jax.device_put(batch))
            if len(waiting) > depth:
                yield waiting.popleft()
        yield from waiting
    finally:
        if isinstance(iterator, Generator):
            iterator.close()  # the generator may own threads
