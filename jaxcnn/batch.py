"""Batches of examples, passed from any data pipeline to the training step."""

import collections
import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np

from jaxcnn import shapes

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


@runtime_checkable
class EpochBatches(Protocol):
    """Batches of a fixed number of steps per epoch, such as `jaxcnn.data.Batches`."""

    def __len__(self) -> int:
        """Return the number of steps per epoch, the same for every epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Yield an epoch's batches from step ``start`` onward, a pure function of the arguments."""


class Stream:
    """Batches from any iterable, as created by `stream`."""

    def __init__(self, factory: Callable[[int], Iterable[Any]], steps_per_epoch: int):
        self._factory, self._steps = factory, steps_per_epoch

    def __len__(self) -> int:
        """Return the number of steps per epoch."""
        return self._steps

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of one epoch, from step ``start`` onward.

        Raises:
          ValueError: if there are too few batches, or an item is not a batch.
        """
        with contextlib.ExitStack() as stack:
            items = iter(self._factory(epoch))
            if isinstance(items, Generator):
                stack.enter_context(contextlib.closing(items))
            taken = 0
            batches = as_batches(itertools.islice(items, self._steps), epoch=epoch)
            for taken, batch in enumerate(batches, 1):
                if taken > start:
                    yield batch
            if taken < self._steps:
                raise ValueError(
                    f"batches must contain {self._steps} batches per epoch (steps_per_epoch), got "
                    f"{taken} in epoch {epoch}"
                )


def stream(
    factory: Callable[[int], Iterable[Any]], *, steps_per_epoch: int | None = None
) -> Stream:
    """Create batches from a function that returns an iterable, such as a generator function.

    The iterable yields batches in any of these forms: `Batch`, ``(images, labels)``,
    ``(images, labels, weights)``, or a mapping with ``image``, ``label`` and perhaps ``weight``.
    A run is reproducible, and resumes with the same batches, if the iterable depends only on the
    number of the epoch; skipped batches are then computed again.

    Args:
      factory: ``factory(epoch) -> iterable``, called at the beginning of each epoch.
      steps_per_epoch: number of batches to take in each epoch; None means the length of
        ``factory(0)``.

    Returns:
      Batches for `jaxcnn.train.fit` and `jaxcnn.train.evaluate`. Batches with fewer rows than the
      first are padded, and the padding is masked.

    Raises:
      ValueError: if ``steps_per_epoch`` is not an integer >= 1, or None for an iterable without a
        length.

    Example:
      >>> def batches(epoch):
      ...     random = np.random.default_rng(epoch)
      ...     while True:
      ...         yield random.uniform(0, 1, (4, 8, 8, 1)), random.integers(0, 3, 4)
      >>> [batch.image.shape for batch in stream(batches, steps_per_epoch=2)]
      [(4, 8, 8, 1), (4, 8, 8, 1)]
    """
    if steps_per_epoch is None:
        items = factory(0)
        if not isinstance(items, Sized):
            raise ValueError(
                f"steps_per_epoch must be given, because {type(items).__name__} has no length"
            )
        steps_per_epoch = len(items)
    return Stream(factory, shapes.check_integer(steps_per_epoch, "steps_per_epoch", minimum=1))


def as_epochs(batches: EpochBatches | Iterable[Any]) -> EpochBatches:
    """Return batches that can be read epoch by epoch, from any iterable that can be repeated.

    Args:
      batches: batches with a method ``epoch``, or an iterable with a length, such as a list, whose
        items have one of the forms that `stream` accepts.

    Raises:
      ValueError: if the iterable cannot be repeated, or has no length.

    Example:
      >>> batches = as_epochs([(np.zeros((4, 8, 8, 1)), np.arange(4))] * 3)
      >>> len(batches), [batch.index.tolist() for batch in batches.epoch(1, start=2)]
      (3, [[8, 9, 10, 11]])
    """
    if isinstance(batches, EpochBatches):
        return _Converted(batches)
    if isinstance(batches, Iterator) or not isinstance(batches, Sized):
        raise ValueError(
            f"batches must be readable once per epoch, got {type(batches).__name__}; pass "
            "jaxcnn.data.stream(lambda epoch: ..., steps_per_epoch=...)"
        )
    return stream(lambda epoch: batches)


class _Converted:
    """Batches of another class, such as Keras's flows, converted to `Batch` as they are read."""

    def __init__(self, batches: EpochBatches):
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, epoch: int, start: int = 0) -> Generator[Any, None, None]:
        size = getattr(self._batches, "batch_size", None)
        items = self._batches.epoch(epoch, start)
        with contextlib.ExitStack() as stack:
            if isinstance(items, Generator):
                stack.enter_context(contextlib.closing(items))
            for step, item in enumerate(items, start):
                yield as_batch(item, epoch=epoch, step=step, size=size)


def as_batches(items: Iterable[Any], *, epoch: int = 0) -> Generator[Any, None, None]:
    """Convert the items of one epoch to batches of the same number of rows as the first.

    Args:
      items: items in any of the forms that `stream` accepts.
      epoch: number of the epoch.

    Raises:
      ValueError: if an item has another form.

    Example:
      >>> items = [(np.zeros((2, 8, 8, 1)), np.arange(2)), (np.zeros((1, 8, 8, 1)), np.arange(1))]
      >>> [batch.mask.tolist() for batch in as_batches(items)]
      [[True, True], [True, False]]
    """
    size = None
    for step, item in enumerate(items):
        batch = as_batch(item, epoch=epoch, step=step, size=size)
        size = len(batch.mask)
        yield batch


def as_batch(item: Any, *, epoch: int, step: int, size: int | None) -> Any:
    """Convert an item to a `Batch`; items that are batches already are returned unchanged.

    Args:
      item: `Batch`, ``(images, labels)``, ``(images, labels, weights)``, or a mapping with
        ``image``, ``label`` and perhaps ``weight``.
      epoch: number of the epoch.
      step: position of the batch in the epoch.
      size: number of rows to pad to; None means the item's own.

    Raises:
      ValueError: if the item has another form, or its arrays differ in length.

    Example:
      >>> as_batch((np.zeros((2, 8, 8, 1)), np.arange(2)), epoch=0, step=1, size=3).index.tolist()
      [3, 4, 3]
    """
    if hasattr(item, "steps"):
        return item
    parts: tuple[Any, ...]
    if isinstance(item, Mapping) and {"image", "label"} <= item.keys():
        parts = (item["image"], item["label"], item.get("weight"))
    elif isinstance(item, tuple | list) and len(item) in (2, 3):
        parts = (*item, None)[:3]
    else:
        raise ValueError(
            "batches must yield (images, labels), (images, labels, weights), mappings with image "
            f"and label, or jaxcnn.data.Batch, got {type(item).__name__}"
        )
    images, labels, weights = jax.tree.map(_as_array, parts, is_leaf=_is_array_like)
    rows = len(images) if np.ndim(images) else 0
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves((images, labels, weights))}
    size = rows if size is None else size
    if lengths != {(rows,)} or not 0 < rows <= size:
        raise ValueError(
            f"each batch must have the same number of images, labels and weights, from 1 to {size},"
            f" got {sorted(lengths)}"
        )
    # The rows that pad a short batch are copies of its first rows.
    places = np.arange(size, dtype=np.int32) % rows
    if rows < size:
        images, labels, weights = jax.tree.map(lambda leaf: leaf[places], (images, labels, weights))
    mask, index = np.arange(size) < rows, step * size + places
    return Batch(images, labels, mask, index.astype(np.int32), np.int32(epoch), weight=weights)


def _is_array_like(node: Any) -> bool:
    """Return True for nested lists of numbers, which are arrays rather than pytrees of arrays."""
    return isinstance(node, list) and not any(
        hasattr(leaf, "shape") for leaf in jax.tree.leaves(node)
    )


def _as_array(values: Any) -> Any:
    """Return an array in a dtype that JAX keeps, so that all batches have the same one."""
    if isinstance(values, jax.Array):
        return values
    array = np.asarray(values)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
