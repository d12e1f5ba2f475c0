"""Where examples come from: arrays, the embedded slice, prepared data sets.

A source holds decoded images ``[N, *spatial, C]``, uint8 in 0..255 or float32 in [0, 1], and
labels ``[N]``. Nothing is shuffled, scaled or batched here.
"""

import dataclasses
import importlib.resources
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcnn import shapes
from jaxcnn.data import fashion_mnist

SPLITS = ("train", "test")
EMBEDDED = "fashion_mnist_slice"
NAMES = (EMBEDDED, fashion_mnist.NAME)


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """Examples in memory; make one with `from_arrays` or `load`.

    Attributes:
      images: ``[N, *spatial, C]``, uint8 in 0..255 or float32 in [0, 1].
      labels: ``[N]`` int32, indices into ``classes``.
      classes: one name per class.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"image": self.images[index], "label": self.labels[index]}

    def take(self, indices: np.ndarray) -> "ArraySource":
        """The source that holds the examples at ``indices``, in that order."""
        return dataclasses.replace(self, images=self.images[indices], labels=self.labels[indices])


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
      labels: ``[N]`` integers from 0 to the number of classes - 1.
      classes: one name per class; None names them "0", "1", ... up to the largest label.
      channels_first: ``images`` are ``[N, C, *spatial]`` (torch's layout) and are transposed here.
        This is the library's only conversion of layouts: everything after it is channels-last.

    Returns:
      An `ArraySource`; float images become float32, labels int32.

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
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be integers of shape ({len(images)},), "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    if channels_first:
        images = np.moveaxis(images, 1, -1)
    count = int(labels.max()) + 1 if classes is None else len(classes)
    wrong = np.flatnonzero((labels < 0) | (labels >= count))
    if wrong.size:
        raise ValueError(
            f"labels must be in 0..{count - 1} ({count} classes), "
            f"got {labels[wrong[0]]} at index {wrong[0]}"
        )
    return ArraySource(
        images=np.ascontiguousarray(_checked_pixels(images)),
        labels=labels.astype(np.int32),
        classes=tuple(map(str, range(count) if classes is None else classes)),
    )


def load(
    name_or_path: str, *, split: str = "train", data_dir: str | Path | None = None
) -> ArraySource:
    """Load one split of a data set by name.

    Args:
      name_or_path: ``"fashion_mnist_slice"``, the first 10,000 training and 2,000 test images of
        Fashion-MNIST that ship with the package, or ``"fashion_mnist"``, all 70,000, once
        `prepare` has written them.
      split: ``"train"`` or ``"test"``.
      data_dir: folder of prepared data sets; None means TFDS's own (``$TFDS_DATA_DIR``, or
        ``~/tensorflow_datasets``).

    Returns:
      An `ArraySource` with uint8 images.

    Raises:
      ValueError: if the name or split is unknown, or the data set is not prepared or damaged.

    Example:
      >>> source = load("fashion_mnist_slice", split="test")
      >>> source.images.shape, source.classes[source.labels[0]]
      ((2000, 28, 28, 1), 'Ankle boot')
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if name_or_path == EMBEDDED:
        archive = importlib.resources.files("jaxcnn.data") / f"{EMBEDDED}.npz"
        with archive.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    elif name_or_path == fashion_mnist.NAME:
        images, labels = fashion_mnist.read(split, data_dir)
    else:
        raise ValueError(
            f"data must name a data set, got {name_or_path!r}. "
            f"{shapes.did_you_mean(name_or_path, NAMES)}"
        )
    return from_arrays(images, labels, classes=fashion_mnist.CLASSES)


def hold_out(source: ArraySource, fraction: float) -> tuple[ArraySource, ArraySource]:
    """Split a source into a training part and a validation slice of ``fraction`` of it.

    Which examples are held out depends on the size of the source and the fraction alone, so
    runs with other seeds are validated on the same images.

    Args:
      source: what to split.
      fraction: share to hold out, in [0, 1).

    Returns:
      The training and the validation source; the latter is empty for ``fraction`` 0.

    Raises:
      ValueError: if ``fraction`` is outside [0, 1) or leaves one part without examples.

    Example:
      >>> train, validation = hold_out(load("fashion_mnist_slice"), 0.1)
      >>> len(train), len(validation)
      (9000, 1000)
    """
    shapes.check_probability(fraction, "fraction")
    count = round(len(source) * fraction)
    if fraction and not 0 < count < len(source):
        raise ValueError(
            f"fraction must leave examples on both sides of {len(source)}, got {fraction!r}"
        )
    order = permutation(len(source), 0)
    # Sorted, so that the parts keep the source's order and reading them stays sequential.
    return source.take(np.sort(order[count:])), source.take(np.sort(order[:count]))


def permutation(size: int, *address: int) -> np.ndarray:
    """A random order of ``range(size)``, int32, that is a pure function of ``address``.

    It sorts raw Philox output, whose stream NumPy guarantees for good; `Generator.permutation`
    may change from release to release.

    Example:
      >>> permutation(5, 0, 3)
      array([1, 3, 2, 4, 0], dtype=int32)
    """
    bits = np.random.Philox(np.random.SeedSequence(address)).random_raw(size)
    return np.argsort(bits, kind="stable").astype(np.int32)


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
