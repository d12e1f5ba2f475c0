"""Batches of examples: what travels from the data to the step."""

import collections
from collections.abc import Generator, Iterable
from typing import Any, NamedTuple, TypeVar

import jax

Arrays = TypeVar("Arrays")


class Batch(NamedTuple):
    """``B`` examples, of which those with ``mask`` True count.

    A short last batch is padded with copies of the batch's first rows (``mask`` False), so every
    batch has one shape, and batch statistics are those of real images.

    Attributes:
      image: ``[B, *spatial, C]``, uint8 in 0..255 or float32 in [0, 1].
      label: a pytree whose leaves have the leading axis ``B``, for example ``[B]`` int32 class
        indices, ``[B, L]`` int32 of 0 and 1, or ``[B, D]`` float32.
      mask: ``[B]`` bool, False for rows that must not count.
      index: ``[B]`` int32, the position of each example in its source.
      epoch: scalar int32, the pass over the source that the batch belongs to.
      length: ``[B]`` int32, the length of each padded series, or None.
      weight: ``[B]`` float32, factor on each example's objective, or None for 1.
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
        """Number of training steps that the batch is for: one."""
        return 1


def prefetch(batches: Iterable[Arrays], *, depth: int = 2) -> Generator[Arrays, None, None]:
    """Send batches, or other pytrees of arrays, to the device ``depth`` ahead of their use.

    The transfer is asynchronous, so the next batch is gathered while the device works. On a CPU
    batches pass through unchanged: a transfer would take cores from the step. Closing this
    iterator closes ``batches`` if that is a generator.

    Args:
      batches: the batches.
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
            iterator.close()  # it may have threads
