"""Where examples come from: arrays, archives of them, the embedded slice, prepared data sets.

A source holds decoded images ``[N, *spatial, C]``, uint8 in 0..255 or float32 in [0, 1], and
labels: ``[N]`` class indices, ``[N, L]`` of 0 and 1, or ``[N, D]`` float32 targets. Nothing is
shuffled, scaled or batched here.
"""

import dataclasses
import importlib.resources
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcnn import shapes
from jaxcnn.data import fashion_mnist

SPLITS = ("train", "test")
EMBEDDED = "fashion_mnist_slice"
NAMES = (EMBEDDED, fashion_mnist.NAME)

# What reading a damaged archive, or a file that is none, happens to raise.
_UNREADABLE: tuple[type[Exception], ...] = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    TypeError,
    RuntimeError,
)
_UNREADABLE += (zipfile.BadZipFile, zlib.error)


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """Examples in memory; make one with `from_arrays` or `load`.

    Attributes:
      images: ``[N, *spatial, C]``, uint8 in 0..255 or float32 in [0, 1].
      labels: ``[N]`` int32, indices into ``classes``; ``[N, L]`` int32, a 0 or 1 per label; or
        ``[N, D]`` float32, the targets of a regression.
      classes: one name per class, label or target.
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
      labels: ``[N]`` integers (or truth values) from 0 to the number of classes - 1, one class
        per image;
        ``[N, L]`` integers or truth values, a 0 or 1 for each of L labels;
        or ``[N]`` or ``[N, D]`` finite floats, the targets of a regression.
      classes: one name per class, label or target; None names them "0", "1", ... (classes up to
        the largest label).
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


def load(
    name_or_path: str, *, split: str = "train", data_dir: str | Path | None = None
) -> ArraySource:
    """Load one split of a data set by name.

    Args:
      name_or_path: ``"fashion_mnist_slice"``, the first 10,000 training and 2,000 test images of
        Fashion-MNIST that ship with the package; ``"fashion_mnist"``, all 70,000, once
        `prepare` has written them; or the path of an ``.npz`` file with the arrays
        ``train_images``, ``train_labels``, ``test_images``, ``test_labels`` as `from_arrays`
        takes them, and ``classes``.
      split: ``"train"`` or ``"test"``.
      data_dir: folder of prepared data sets; None means TFDS's own (``$TFDS_DATA_DIR``, or
        ``~/tensorflow_datasets``).

    Returns:
      An `ArraySource`.

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
    elif Path(name_or_path).suffix == ".npz":
        return _read_archive(Path(name_or_path), split)
    elif name_or_path == fashion_mnist.NAME:
        images, labels = fashion_mnist.read(split, data_dir)
    else:
        raise ValueError(
            f"data must name a data set or an .npz file, got {name_or_path!r}. "
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


def take_fold(source: ArraySource, folds: int, fold: int) -> tuple[ArraySource, ArraySource]:
    """Split a source for cross-validation: all but one of ``folds`` equal parts, and that part.

    The parts depend on the size of the source alone, and every example is in exactly one.

    Args:
      source: what to split.
      folds: number of parts, from 2 to the number of examples.
      fold: which part to hold out, from 0.

    Returns:
      The training and the validation source.

    Raises:
      ValueError: if a number is out of range.

    Example:
      >>> train, validation = take_fold(load("fashion_mnist_slice"), 5, 0)
      >>> len(train), len(validation)
      (8000, 2000)
    """
    if not 2 <= folds <= len(source):
        raise ValueError(f"folds must be from 2 to {len(source)}, got {folds!r}")
    if not 0 <= fold < folds:
        raise ValueError(f"fold must be from 0 to {folds - 1}, got {fold!r}")
    parts = np.array_split(permutation(len(source), 0), folds)
    rest = np.concatenate(parts[:fold] + parts[fold + 1 :])
    return source.take(np.sort(rest)), source.take(np.sort(parts[fold]))


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
    count = int(labels.max()) + 1 if names is None else names
    wrong = np.flatnonzero((labels < 0) | (labels >= count))
    if wrong.size:
        raise ValueError(
            f"labels must be in 0..{count - 1} ({count} classes), "
            f"got {labels[wrong[0]]} at index {wrong[0]}"
        )
    return labels.astype(np.int32), count


def _read_archive(path: Path, split: str) -> ArraySource:
    if not path.is_file():
        raise ValueError(f"data must name a data set or an .npz file; there is no file {path}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = (f"{split}_images", f"{split}_labels")
            if missing := [name for name in names if name not in arrays.files]:
                raise ValueError(f"it holds no {missing[0]}, only {', '.join(arrays.files)}")
            images, labels = arrays[names[0]], arrays[names[1]]
            classes: Sequence[str] | None = None
            if "classes" in arrays.files:
                classes = arrays["classes"].reshape(-1).tolist()
            elif labels.ndim == 1 and not np.issubdtype(labels.dtype, np.floating):
                # Both splits together, so that they agree on what there is.
                every = [arrays[name] for name in arrays.files if name.endswith("_labels")]
                classes = [str(number) for number in range(max(int(max(a)) for a in every) + 1)]
        return from_arrays(images, labels, classes=classes)
    except _UNREADABLE as error:
        raise ValueError(f"data file {path} cannot be used: {error}") from error
