"""Examples as arrays: images ``[N, *spatial, C]`` and labels, in memory or decoded when read.

Images are uint8 in 0..255 or float32 in [0, 1]; labels are ``[N]`` class indices, ``[N, L]`` zeros
and ones, or ``[N, D]`` float32 targets. Nothing is shuffled, scaled or batched here.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxcnn.data.array_checks import (
    checked_groups,
    checked_labels,
    checked_pixels,
    checked_weights,
    stacked,
)
from jaxcnn.data.lazy import BadExample, DecodedImages, Encoded, OnBad, encoded_arrays


class Source(Protocol):
    """Indexable examples, such as TFDS's ``data_source`` or a Grain data source.

    Each example is a mapping with an ``image``, either image file contents (bytes) or
    ``[H, W, C]`` uint8 pixels, and a ``label``. If the source has a ``__getitems__(indices)``
    method, which returns several examples, that method is used.

    Example:
      >>> source = [{"image": np.zeros((8, 8, 3), np.uint8), "label": 0}]  # a list is a source
      >>> from_source(source, size=(8, 8), channels=3).images.shape
      (1, 8, 8, 3)
    """

    def __len__(self) -> int:
        """Return the number of examples."""

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Return one example."""


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """Images and labels, as created by `from_arrays`, `from_source`, `from_folder` or `load`.

    An `ArraySource` is itself a `Source`.

    Attributes:
      images: ``[N, *spatial, C]``, uint8 in 0..255 or float32 in [0, 1]; or `DecodedImages`, which
        are decoded when they are read.
      labels: ``[N]`` int32 indices into ``classes``; ``[N, L]`` int32, 0 or 1 for each label; or
        ``[N, D]`` float32 regression targets.
      classes: one name per class, label or target.
      groups: ``[N]`` int32, the group of each example, such as a patient; groups are never split
        between training, validation and test. None means that each example is its own group.
      weights: ``[N]`` float32, the weight of each example in the training loss; None means 1.

    Example:
      >>> source = from_arrays(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 2, 1]))
      >>> len(source), source[3]["label"].item(), source.take(np.array([2, 0])).labels.tolist()
      (4, 1, [2, 0])
    """

    images: np.ndarray | DecodedImages
    labels: np.ndarray
    classes: tuple[str, ...]
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"image": self.images[index], "label": self.labels[index]}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Return several examples, decoded together."""
        rows = np.asarray(indices, np.int64)
        images, labels = self.images[rows], self.labels[rows]
        return [
            {"image": image, "label": label} for image, label in zip(images, labels, strict=True)
        ]

    @property
    def bad(self) -> dict[int, BadExample]:
        """Unreadable examples found so far, by index; `read` returns which rows are readable."""
        return self.images.bad if isinstance(self.images, DecodedImages) else {}

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return images, decoded if necessary, and a mask of the readable ones.

        Args:
          indices: ``[n]`` integers.

        Returns:
          The ``[n, *spatial, C]`` images, zeros where unreadable, and ``[n]`` booleans, True for
          readable images.

        Raises:
          ValueError: if an image is unreadable and the source does not skip such images.
        """
        if isinstance(self.images, DecodedImages):
            return self.images.read(indices)
        return self.images[indices], np.ones(len(indices), bool)

    def take(self, indices: np.ndarray) -> "ArraySource":
        """Return a source with the examples at ``indices``, in that order."""
        in_memory = isinstance(self.images, np.ndarray)
        images = self.images[indices] if in_memory else self.images.take(indices)
        return dataclasses.replace(
            self,
            images=images,
            labels=self.labels[indices],
            groups=None if self.groups is None else self.groups[indices],
            weights=None if self.weights is None else self.weights[indices],
        )

    def without_bad(self) -> "ArraySource":
        """Return a source with only the readable examples.

        Images that were not read before are read now. A source that does not skip unreadable
        images is returned unchanged.
        """
        bad = self.images.find_bad() if isinstance(self.images, DecodedImages) else {}
        return self.take(np.setdiff1d(np.arange(len(self)), list(bad))) if bad else self


def from_arrays(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    classes: Sequence[str] | None = None,
    groups: Sequence[object] | np.ndarray | None = None,
    weights: Sequence[float] | np.ndarray | None = None,
    channels_first: bool = False,
) -> ArraySource:
    """Check arrays and wrap them in a source.

    Args:
      images: ``[N, *spatial, C]`` with 1 to 3 spatial dimensions, uint8 or floats in [0, 1].
      labels: ``[N]`` integers (or booleans) from 0 to the number of classes - 1, one class per
        image; ``[N, L]`` integers or booleans, 0 or 1 for each of L labels; or ``[N]`` or
        ``[N, D]`` finite floats as regression targets.
      classes: one name per class, label or target; None names them "0", "1", ...
        (classes up to the largest label, which is at most 99,999).
      groups: the group of each example, ``[N]`` integers or strings; None means none.
      weights: ``[N]`` finite numbers >= 0, weights in the training loss; None means 1.
      channels_first: whether ``images`` are ``[N, C, *spatial]`` (PyTorch's layout), to be
        transposed here. This is the library's only layout conversion: everything after it is
        channels-last.

    Returns:
      An `ArraySource`; float images and targets become float32, other labels int32.

    Raises:
      ValueError: if images and labels differ in length, a shape or dtype is not one of the
        above, a label or weight is out of range, or floating-point pixels are outside [0, 1].

    Example:
      >>> source = from_arrays(np.zeros((4, 28, 28, 1), np.uint8), np.array([0, 1, 2, 1]))
      >>> len(source), source.classes
      (4, ('0', '1', '2'))
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim not in (3, 4, 5) or 0 in images.shape[1:]:
        raise ValueError(
            "images must be [N, *spatial, C] with 1 to 3 spatial dimensions, none of them empty, "
            f"got shape {images.shape}"
        )
    if len(images) == 0:
        raise ValueError("images must hold at least one example, got none")
    if channels_first:
        images = np.moveaxis(images, 1, -1)
    labels, count = checked_labels(labels, len(images), None if classes is None else len(classes))
    return ArraySource(
        images=np.ascontiguousarray(checked_pixels(images)),
        labels=labels,
        classes=tuple(map(str, range(count) if classes is None else classes)),
        groups=None if groups is None else checked_groups(groups, len(images)),
        weights=None if weights is None else checked_weights(weights, len(images)),
    )


def from_source(
    source: Source,
    *,
    size: tuple[int, int],
    channels: int,
    classes: Sequence[str] | None = None,
    on_bad: OnBad = "raise",
) -> ArraySource:
    """Wrap a source of individual examples, such as one from TFDS or Grain.

    All labels are read immediately; images are read and decoded in threads when they are needed.

    Args:
      source: the examples; ``image`` is file contents or ``[H, W, 1 or 3]`` uint8 pixels.
      size: (height, width) to resize images to, as in `decode_image`.
      channels: 1 for grayscale or 3 for RGB.
      classes: one name per class, label or target; None names them "0", "1", ...
      on_bad: ``"raise"`` raises an error that names the unreadable image; ``"skip"`` masks the
        image in batches and records it in ``source.bad``.

    Returns:
      An `ArraySource` whose images are decoded when they are read.

    Raises:
      ValueError: if there are no examples, or `from_arrays` would reject the labels.

    Example:
      >>> pixels = np.zeros((40, 30, 3), np.uint8)
      >>> found = from_source(
      ...     [{"image": pixels, "label": 1}, {"image": pixels, "label": 0}],
      ...     size=(8, 8),
      ...     channels=1,
      ... )
      >>> found.images.shape, found.labels.tolist()
      ((2, 8, 8, 1), [1, 0])
    """
    if len(source) == 0:
        raise ValueError("source must hold at least one example, got an empty source")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels!r}")
    rows = enumerate(_each(source))
    given = stacked([_field(row, "label", number) for number, row in rows], "labels")
    labels, count = checked_labels(given, len(source), None if classes is None else len(classes))
    names = tuple(map(str, range(count) if classes is None else classes))

    def read_many(numbers: Sequence[int]) -> list[bytes | np.ndarray]:
        rows = zip(numbers, _several(source, numbers), strict=True)
        return [_content(_field(row, "image", number)) for number, row in rows]

    encoded = Encoded(
        length=len(source),
        read=lambda number: _content(_field(source[number], "image", number)),
        name=lambda i: f"number {i}",
        label=label_names(labels, names),
        identity=labels.tobytes,  # nothing else is known without reading the images
        read_many=read_many if hasattr(source, "__getitems__") else None,
    )
    images = DecodedImages(encoded, size=size, channels=channels, on_bad=on_bad)
    return ArraySource(images, labels, names)


def resized(source: ArraySource, size: tuple[int, int] | None, channels: int | None) -> ArraySource:
    """Resize the images of a source, or convert their channels, with `decode_image`.

    Raises:
      ValueError: if a change is needed and images are not ``[N, H, W, 1 or 3]`` uint8.
    """
    *old_size, old_channels = source.images.shape[1:]
    shape = (*(size or old_size), channels or old_channels)
    if shape == source.images.shape[1:]:
        return source
    if source.images.dtype != np.uint8 or len(old_size) != 2 or old_channels not in (1, 3):
        raise ValueError(
            "image_size and channels must be omitted unless images are [N, H, W, 1 or 3] uint8, "
            f"got {source.images.dtype} of shape {source.images.shape}"
        )
    encoded = encoded_arrays(source.images[:], label_names(source.labels, source.classes))
    images = DecodedImages(encoded, size=(shape[0], shape[1]), channels=shape[2])
    return dataclasses.replace(source, images=images)


def label_names(labels: np.ndarray, classes: Sequence[str]) -> Callable[[int], str]:
    """Return a function that maps an example's index to its label as a string.

    Args:
      labels: ``[N]``, ``[N, L]`` or ``[N, D]``, as in `ArraySource`.
      classes: one name per class, label or target.

    Example:
      >>> label_names(np.array([1, 0]), ("cat", "dog"))(0)
      'dog'
      >>> label_names(np.array([[1, 1]]), ("cat", "dog"))(0)
      'cat, dog'
    """

    def describe(index: int) -> str:
        label = labels[index]
        if labels.ndim == 1:
            return classes[int(label)]
        if np.issubdtype(labels.dtype, np.integer):
            return ", ".join(classes[int(i)] for i in np.flatnonzero(label)) or "none"
        return ", ".join(f"{name} {value:g}" for name, value in zip(classes, label, strict=True))

    return describe


def _each(source: Source, chunk: int = 1024) -> Any:
    """Yield all examples, reading several at a time if the source supports it."""
    for first in range(0, len(source), chunk):
        yield from _several(source, range(first, min(first + chunk, len(source))))


def _several(source: Source, numbers: Sequence[int]) -> Any:
    several = getattr(source, "__getitems__", None)
    return several(numbers) if several else (source[number] for number in numbers)


def _field(row: Mapping[str, Any], name: str, number: int) -> Any:
    try:
        return row[name]
    except (KeyError, IndexError, TypeError) as error:
        what = ", ".join(map(str, row)) if isinstance(row, Mapping) else type(row).__name__
        raise ValueError(
            f"source must return mappings with image and label, got {what} at index {number}"
        ) from error


def _content(image: Any) -> bytes | np.ndarray:
    return image if isinstance(image, bytes) else np.asarray(image)
