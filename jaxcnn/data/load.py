"""Loading datasets of any kind by name or path."""

import importlib.resources
import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcnn.data.array_checks import UNNAMED_CLASSES
from jaxcnn.data.files import is_archive, is_zip
from jaxcnn.data.folders import ORDER, TABLES, read_folder
from jaxcnn.data.groups import check_groups_apart
from jaxcnn.data.lazy import OnBad
from jaxcnn.data.official.catalog import PREPARABLE
from jaxcnn.data.official.idx import FASHION_CLASSES
from jaxcnn.data.reading import Reading
from jaxcnn.data.sources import ArraySource, from_arrays, resized
from jaxcnn.data.tables import LabelKind
from jaxcnn.data.tfds import data_root, find_prepared, read_prepared
from jaxcnn.messages import did_you_mean, printable

SPLITS = ORDER
EMBEDDED = "fashion_mnist_slice"

# Exceptions raised while reading damaged archives. NumPy parses an array's header as Python, and
# allocates as much memory as the header declares.
_UNREADABLE: tuple[type[Exception], ...] = (
    ValueError, OSError, EOFError, KeyError, TypeError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip


def load(
    name_or_path: str | Path,
    *,
    split: str = "train",
    data_dir: str | Path | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    test_fraction: float = 0.2,
    on_bad: OnBad = "raise",
    group: str | None = None,
    label_separator: str | None = None,
    label_kind: LabelKind | None = None,
) -> ArraySource:
    """Load one split of a dataset.

    Args:
      name_or_path: name of a dataset, or path to a folder, archive, table or ``.npz`` file, as
        described in `load_splits`.
      split: ``"train"``, ``"validation"`` or ``"test"``.
      data_dir: folder of prepared datasets; None means TFDS's own.
      size: (height, width) to resize images to; None means the dataset's own size, or 64 x 64 for
        image files.
      channels: 1 or 3; None means the dataset's own number, or 3 for image files.
      test_fraction: fraction of each class to hold out as the test split, if the data has none.
      on_bad: ``"raise"`` raises an error that names the unreadable image; ``"skip"`` masks the
        image in batches and records it in ``source.bad``.
      group: column or regular expression that identifies groups of images, as in `from_folder`.
      label_separator: string between the labels in a cell of a table, as in `from_folder`.
      label_kind: kind of labels in a table, as in `from_folder`.

    Returns:
      An `ArraySource`.

    Raises:
      ValueError: if the dataset cannot be loaded or has no such split.

    Example:
      >>> source = load("fashion_mnist_slice", split="test")
      >>> source.images.shape, source.classes[source.labels[0]]
      ((2000, 28, 28, 1), 'Ankle boot')
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    reading = Reading(size, channels, test_fraction, on_bad, group, label_separator, label_kind)
    splits = _splits(os.fspath(name_or_path), data_dir, reading, needed=(split,))
    if split not in splits:
        name = printable(name_or_path)
        raise ValueError(f"split of {name} must be {' or '.join(splits)}, got {split!r}")
    return splits[split]


def load_splits(
    name_or_path: str | Path,
    *,
    data_dir: str | Path | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    test_fraction: float | None = 0.2,
    on_bad: OnBad = "raise",
    group: str | None = None,
    label_separator: str | None = None,
    label_kind: LabelKind | None = None,
) -> dict[str, ArraySource]:
    """Load a dataset by name, or from a file or folder.

    Args:
      name_or_path: one of

        - ``"fashion_mnist_slice"``, the first 10,000 training and 2,000 test images of
          Fashion-MNIST, which ship with the package;
        - the name of a dataset in ``data_dir``, such as ``"cifar10"``: ArrayRecord files of
          labeled images, written by `prepare` or TFDS;
        - a folder, zip, tar, or table (``.csv``, ``.jsonl``) of images; see `from_folder`;
        - an ``.npz`` file with the arrays ``train_images``, ``train_labels``, ``test_images`` and
          ``test_labels`` as in `from_arrays`, and optionally ``validation_...`` and ``classes``;
          class labels need at least two classes, and every class in another split must also be in
          the training split. ``train_groups`` and ``train_weights`` are optional.
      data_dir: folder of prepared datasets; None means TFDS's own (``$TFDS_DATA_DIR``, or
        ``~/tensorflow_datasets``).
      size: (height, width) to resize images to; None means the dataset's own size, or 64 x 64 for
        image files.
      channels: 1 or 3; None means the dataset's own number, or 3 for image files.
      test_fraction: fraction of each class to hold out as the test split, if the data has none;
        None keeps the splits as they are.
      on_bad: ``"raise"`` raises an error that names the unreadable image; ``"skip"`` masks the
        image in batches and records it in ``source.bad``.
      group: column or regular expression that identifies groups of images, as in `from_folder`.
      label_separator: string between the labels in a cell of a table, as in `from_folder`.
      label_kind: kind of labels in a table, as in `from_folder`.

    Returns:
      The splits ``train`` and ``test``, and ``validation`` if the dataset has one; with
      ``test_fraction=None``, only the existing splits.

    Raises:
      ValueError: if the name or layout is unknown, or the dataset is damaged or not prepared.

    Example:
      >>> sorted(load_splits("fashion_mnist_slice"))
      ['test', 'train']
    """
    reading = Reading(size, channels, test_fraction, on_bad, group, label_separator, label_kind)
    needed = ("train",) if test_fraction is None else ("train", "test")
    return _splits(os.fspath(name_or_path), data_dir, reading, needed=needed)


def is_path(name_or_path: str | Path) -> bool:
    """Return True for a path to a file or folder, False for a dataset name.

    Example:
      >>> is_path("cifar10"), is_path("photos/"), is_path("photos.zip")
      (False, True, True)
    """
    name = os.fspath(name_or_path)
    if not name or name.partition(":")[0] in {EMBEDDED, *PREPARABLE}:
        return False  # Path("") would be the current folder
    has_form = name.startswith((".", "/", "~")) or name.endswith("/")
    is_file = _suffix(name) in (".npz", *TABLES) or is_archive(name)
    # Path.exists raises on invalid file names.
    return has_form or is_file or os.path.exists(name)  # noqa: PTH110


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise ValueError(f"data {name!r} refers to the home folder of an unknown user") from error


def _splits(
    name: str, data_dir: str | Path | None, reading: Reading, *, needed: Sequence[str]
) -> dict[str, ArraySource]:
    if is_path(name) and _suffix(name) != ".npz":
        return read_folder(_expanded(name), reading)
    for option in ("group", "label_separator"):
        if getattr(reading, option) is not None:
            raise ValueError(f"{option} requires a folder, archive or table of images, got {name}")
    if name == EMBEDDED:
        splits = _read_embedded()
    elif _suffix(name) == ".npz":
        splits = _read_archive(_expanded(name), needed)
    else:
        return read_prepared(name, _prepared(name, data_dir), reading)
    return {
        split: resized(source, reading.size, reading.channels) for split, source in splits.items()
    }


def _prepared(name: str, data_dir: str | Path | None) -> Path:
    try:
        folder = None if "\0" in name else find_prepared(name, data_dir)
    except OSError:  # an invalid file name
        folder = None
    if folder is not None:
        return folder
    base = name.partition(":")[0]
    if base in PREPARABLE:
        # `prepare` writes only one version.
        hint = "" if name == base else f", and use the name {base}, without a version"
        raise ValueError(
            printable(f"{name} is not prepared in {data_root(data_dir)}; ")
            + f"run: jaxcnn prepare {base}{hint}"
        )
    raise ValueError(
        f"data must name a dataset, a folder, an archive, a table or an .npz file, got {name!r}. "
        f"{did_you_mean(name.lower(), [EMBEDDED, *PREPARABLE])}"
    )


def _read_embedded() -> dict[str, ArraySource]:
    archive = importlib.resources.files("jaxcnn.data") / f"{EMBEDDED}.npz"
    with archive.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {
            split: from_arrays(
                arrays[f"{split}_images"],
                arrays[f"{split}_labels"],
                classes=FASHION_CLASSES,
            )
            for split in ("train", "test")
        }


def _read_archive(path: Path, needed: Sequence[str]) -> dict[str, ArraySource]:
    if not path.is_file():
        raise ValueError(
            f"data must name a dataset or an .npz file; there is no file {printable(path)}"
        )
    try:
        if not is_zip(path):
            raise ValueError("it is not an archive of arrays like those written by numpy.savez")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            splits = [s for s in SPLITS if f"{s}_images" in arrays.files or s in needed]
            names = [f"{split}_{part}" for split in splits for part in ("images", "labels")]
            if missing := [name for name in names if name not in arrays.files]:
                raise ValueError(
                    f"it does not contain {missing[0]}, only {', '.join(arrays.files)}"
                )
            labels = {split: _array(arrays, f"{split}_labels") for split in splits}
            classes = _class_names(arrays, labels)
            groups, weights = (
                {s: _array(arrays, f"{s}_{part}") for s in splits if f"{s}_{part}" in arrays.files}
                for part in ("groups", "weights")
            )
            sources = {
                split: from_arrays(
                    _array(arrays, f"{split}_images"),
                    labels[split],
                    classes=classes,
                    groups=groups.get(split),
                    weights=weights.get(split),
                )
                for split in splits
            }
            _check_alike(sources)
            check_groups_apart(groups)
            return sources
    except _UNREADABLE as error:
        is_header = isinstance(error, tokenize.TokenError)
        why = "the header of an array is damaged" if is_header else error
        raise ValueError(printable(f"data file {path} cannot be used: {why}")) from error


def _array(arrays: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        array = arrays[name]
    except ValueError as error:
        # NumPy's own message advises allowing pickles, which can execute code.
        why = "contains Python objects" if "allow_pickle" in str(error) else f"is damaged: {error}"
        raise ValueError(f"its {name} {why}") from error
    if not isinstance(array, np.ndarray):  # NumPy returns other members of the zip as bytes
        raise ValueError(f"its {name} is not a NumPy array")
    return array


def _check_alike(sources: dict[str, ArraySource]) -> None:
    """Check that splits agree in dtypes and label shapes, and that ``train`` has every class."""
    first, *_ = sources
    one = sources[first]
    for split, other in sources.items():
        if other.images.dtype != one.images.dtype:
            raise ValueError(
                f"{first}_images and {split}_images must have the same dtype, got "
                f"{one.images.dtype} and {other.images.dtype}, which imply different value ranges"
            )
        if (other.labels.dtype, other.labels.shape[1:]) != (one.labels.dtype, one.labels.shape[1:]):
            raise ValueError(
                f"{first}_labels and {split}_labels must have the same dtype and shape per "
                f"example, got {one.labels.dtype} of shape {one.labels.shape} and "
                f"{other.labels.dtype} of shape {other.labels.shape}"
            )
        unknown = np.setdiff1d(other.labels, one.labels)
        if first == "train" and one.labels.ndim == 1 and unknown.size:
            raise ValueError(
                f"{split}_labels has the class {one.classes[unknown[0]]!r}, which is missing from "
                "train_labels"
            )
    if len(set(one.classes)) < len(one.classes):
        raise ValueError(f"classes must have distinct names, got {', '.join(one.classes)[:100]}")
    if one.labels.ndim == 1 and len(one.classes) < 2:
        raise ValueError(f"it must have at least two classes, got only {one.classes[0]!r}")


def _class_names(
    arrays: np.lib.npyio.NpzFile, labels: dict[str, np.ndarray]
) -> Sequence[str] | None:
    if "classes" in arrays.files:
        return _array(arrays, "classes").reshape(-1).tolist()
    every = list(labels.values())
    if any(a.ndim != 1 or a.size == 0 or a.dtype.kind not in "bui" for a in every):
        return None
    # Use all splits, so that they agree on the number of classes.
    count = max(int(a.max()) for a in every) + 1
    # `from_arrays` rejects larger labels.
    return [str(number) for number in range(count)] if count <= UNNAMED_CLASSES else None
