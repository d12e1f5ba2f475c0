"""Examples as arrays: images ``[N, *spatial, C]`` and labels, in memory or decoded when taken.

Images are uint8 in 0..255 or float32 in [0, 1]; labels ``[N]`` class indices, ``[N, L]`` of 0 and
1, or ``[N, D]`` float32 targets. Nothing is shuffled, scaled or batched here.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxcnn.data.lazy import BadExample, DecodedImages, Encoded, OnBad, encoded_arrays

# A larger label, where classes are not named, is a number of something else.
UNNAMED_CLASSES = 100_000


class Source(Protocol):
    """Examples by number, as TFDS's ``data_source`` and grain's sources give them.

    An example is a mapping with ``image``, encoded (bytes of a file) or pixels ``[H, W, C]``
    uint8, and ``label``. A method ``__getitems__(numbers)``, which gives several at once, is used
    where there is one.
    """

    def __len__(self) -> int:
        """How many examples."""

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """One of them."""


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """Examples as arrays; make one with `from_arrays`, `from_source`, `from_folder` or `load`.

    It is itself a `Source`.

    Attributes:
      images: ``[N, *spatial, C]``, uint8 in 0..255 or float32 in [0, 1]; or `DecodedImages`, which
        read and decode rows that are taken of them.
      labels: ``[N]`` int32, indices into ``classes``; ``[N, L]`` int32, a 0 or 1 per label; or
        ``[N, D]`` float32, the targets of a regression.
      classes: one name per class, label or target.
    """

    images: np.ndarray | DecodedImages
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"image": self.images[index], "label": self.labels[index]}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Several examples, decoded together."""
        rows = np.asarray(indices, np.int64)
        images, labels = self.images[rows], self.labels[rows]
        return [
            {"image": image, "label": label} for image, label in zip(images, labels, strict=True)
        ]

    @property
    def bad(self) -> dict[int, BadExample]:
        """By index, the examples that were found to be unreadable so far."""
        return self.images.bad if isinstance(self.images, DecodedImages) else {}

    def take(self, indices: np.ndarray) -> "ArraySource":
        """The source that holds the examples at ``indices``, in that order."""
        in_memory = isinstance(self.images, np.ndarray)
        images = self.images[indices] if in_memory else self.images.take(indices)
        return dataclasses.replace(self, images=images, labels=self.labels[indices])

    def without_bad(self) -> "ArraySource":
        """The source without the examples that were found to be unreadable so far."""
        bad = self.bad
        return self.take(np.setdiff1d(np.arange(len(self)), list(bad))) if bad else self


def from_arrays(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    classes: Sequence[str] | None = None,
    channels_first: bool = False,
) -> ArraySource:
    """Check arrays at the door and make a source of them.

    Args:
      images: ``[N, *spatial, C]`` with 1 to 3 spatial dimensions, uint8 or floats in [0, 1].
      labels: ``[N]`` integers (or truth values) from 0 to the number of classes - 1, one class
        per image;
        ``[N, L]`` integers or truth values, a 0 or 1 for each of L labels;
        or ``[N]`` or ``[N, D]`` finite floats, the targets of a regression.
      classes: one name per class, label or target; None names them "0", "1", ...
        (classes up to the largest label, 99,999 at most).
      channels_first: ``images`` are ``[N, C, *spatial]`` (torch's layout) and are transposed here.
        This is the library's only conversion of layouts: everything after it is channels-last.

    Returns:
      An `ArraySource`; float images and targets become float32, other labels int32.

    Raises:
      ValueError: if shapes, dtypes, lengths, labels or pixel values are not as described.

    Example:
      >>> source = from_arrays(np.zeros((4, 28, 28, 1), np.uint8), np.array([0, 1, 2, 1]))
      >>> len(source), source.classes
      (4, ('0', '1', '2'))
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim not in (3, 4, 5) or 0 in images.shape[1:]:
        raise ValueError(
            "images must be [N, *spatial, C] with 1 to 3 spatial dimensions and none empty, "
            f"got shape {images.shape}"
        )
    if len(images) == 0:
        raise ValueError("images must hold at least one example, got none")
    if channels_first:
        images = np.moveaxis(images, 1, -1)
    labels, count = _checked_labels(labels, len(images), None if classes is None else len(classes))
    return ArraySource(
        images=np.ascontiguousarray(_checked_pixels(images)),
        labels=labels,
        classes=tuple(map(str, range(count) if classes is None else classes)),
    )


def from_source(
    source: Source,
    *,
    size: tuple[int, int],
    channels: int,
    classes: Sequence[str] | None = None,
    on_bad: OnBad = "raise",
) -> ArraySource:
    """Use a source of single examples, such as one of TFDS or grain.

    All labels are read once, here; images are read and decoded when they are needed, in threads.

    Args:
      source: the examples: ``image`` is bytes of a file or pixels ``[H, W, 1 or 3]`` uint8.
      size: (height, width) to bring images to, as `decode_image` does.
      channels: 1 or 3.
      classes: as for `from_arrays`.
      on_bad: ``"raise"`` names an image that cannot be read; ``"skip"`` leaves it out and
        collects it in ``source.bad``.

    Returns:
      An `ArraySource` whose images are decoded when they are taken.

    Raises:
      ValueError: if there are no examples, or labels are not as `from_arrays` takes them.

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
        raise ValueError("source must hold at least one example, got an empty one")
    rows = enumerate(_each(source))
    given = stacked([_field(row, "label", number) for number, row in rows], "labels")
    labels, count = _checked_labels(given, len(source), None if classes is None else len(classes))
    names = tuple(map(str, range(count) if classes is None else classes))

    def read_many(numbers: Sequence[int]) -> list[bytes | np.ndarray]:
        rows = zip(numbers, _several(source, numbers), strict=True)
        return [_content(_field(row, "image", number)) for number, row in rows]

    encoded = Encoded(
        length=len(source),
        read=lambda number: _content(_field(source[number], "image", number)),
        name=lambda i: f"number {i}",
        label=label_names(labels, names),
        identity=labels.tobytes,  # nothing else is known of the examples
        read_many=read_many if hasattr(source, "__getitems__") else None,
    )
    images = DecodedImages(encoded, size=size, channels=channels, on_bad=on_bad)
    return ArraySource(images, labels, names)


def resized(source: ArraySource, size: tuple[int, int] | None, channels: int | None) -> ArraySource:
    """The source with images of another size or number of channels, by `decode_image`.

    Raises:
      ValueError: if its images are not uint8 of two spatial dimensions.
    """
    *old_size, old_channels = source.images.shape[1:]
    shape = (*(size or old_size), channels or old_channels)
    if shape == source.images.shape[1:]:
        return source
    if source.images.dtype != np.uint8 or len(old_size) != 2 or old_channels not in (1, 3):
        raise ValueError(
            "image_size and channels must be left out unless images are [N, H, W, 1 or 3] uint8, "
            f"got {source.images.dtype} of shape {source.images.shape}"
        )
    encoded = encoded_arrays(source.images[:], label_names(source.labels, source.classes))
    images = DecodedImages(encoded, size=(shape[0], shape[1]), channels=shape[2])
    return dataclasses.replace(source, images=images)


def label_names(labels: np.ndarray, classes: Sequence[str]) -> Callable[[int], str]:
    """What the label of example ``i`` is called.

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


def stacked(rows: Any, name: str) -> np.ndarray:
    """Rows of values as an array.

    Raises:
      ValueError: if they are not of one shape.

    Example:
      >>> stacked([[1, 0], [0, 1]], "labels").shape
      (2, 2)
    """
    try:
        return np.asarray(rows)
    except ValueError as error:
        sizes = [np.shape(row) for row in rows]
        index = next(index for index, size in enumerate(sizes) if size != sizes[0])
        raise ValueError(
            f"{name} must be of one shape in all rows, got {sizes[0]} in the first and "
            f"{sizes[index]} at index {index}"
        ) from error


def _each(source: Source, part: int = 1024) -> Any:
    """All examples, several at once where the source can."""
    for first in range(0, len(source), part):
        yield from _several(source, range(first, min(first + part, len(source))))


def _several(source: Source, numbers: Sequence[int]) -> Any:
    several = getattr(source, "__getitems__", None)
    return several(numbers) if several else (source[number] for number in numbers)


def _field(row: Mapping[str, Any], name: str, number: int) -> Any:
    try:
        return row[name]
    except (KeyError, IndexError, TypeError) as error:
        what = ", ".join(map(str, row)) if isinstance(row, Mapping) else type(row).__name__
        raise ValueError(
            f"source must give mappings with image and label, got {what} as number {number}"
        ) from error


def _content(image: Any) -> bytes | np.ndarray:
    return image if isinstance(image, bytes) else np.asarray(image)


def _checked_pixels(images: np.ndarray) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"images must be uint8 or floating point, got {images.dtype}")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images in floating point must be in [0, 1], got values from {low} to {high}; "
            "divide 0..255 by 255"
        )
    return images.astype(np.float32)


def _checked_labels(labels: np.ndarray, rows: int, names: int | None) -> tuple[np.ndarray, int]:
    """The labels in their type, and how many classes, labels or targets there are."""
    floats = np.issubdtype(labels.dtype, np.floating)
    whole = np.issubdtype(labels.dtype, np.integer) or labels.dtype == np.bool_
    if labels.ndim not in (1, 2) or len(labels) != rows or 0 in labels.shape or not floats | whole:
        raise ValueError(
            f"labels must be integers of shape ({rows},) or ({rows}, L), or floats of shape "
            f"({rows},) or ({rows}, D), got {labels.dtype} of shape {labels.shape}"
        )
    if floats:
        with np.errstate(over="ignore"):
            labels = labels.reshape(rows, -1).astype(np.float32)
        if not np.isfinite(labels).all():
            raise ValueError("labels in floating point must be finite in float32, got others")
    if labels.ndim == 2:
        count = labels.shape[1]
        if names not in (None, count):
            raise ValueError(f"classes must name {count} columns of labels, got {names} names")
        if not floats and not np.isin(labels, (0, 1)).all():
            raise ValueError("labels of shape [N, L] must be 0 or 1, got other numbers")
        return labels if floats else labels.astype(np.int32), count
    if names is None and labels.max() >= UNNAMED_CLASSES:
        raise ValueError(
            f"labels must be below {UNNAMED_CLASSES} where classes does not name them, "
            f"got {labels.max()} at index {labels.argmax()}"
        )
    count = int(labels.max()) + 1 if names is None else names
    wrong = np.flatnonzero((labels < 0) | (labels >= count))
    if wrong.size:
        raise ValueError(
            f"labels must be in 0..{count - 1} ({count} classes), "
            f"got {labels[wrong[0]]} at index {wrong[0]}"
        )
    return labels.astype(np.int32), count
