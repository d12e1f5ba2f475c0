"""A data set by its name or path, whatever it is: splits of arrays, files, records."""

import importlib.resources
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcnn import shapes
from jaxcnn.data import folders
from jaxcnn.data.decode import check_decoding
from jaxcnn.data.decoded import OnBad, check_on_bad
from jaxcnn.data.files import is_archive
from jaxcnn.data.idx import FASHION_CLASSES
from jaxcnn.data.prepare import PREPARABLE
from jaxcnn.data.prepared import data_root, find_prepared, read_prepared
from jaxcnn.data.sources import ArraySource, from_arrays, resized

SPLITS = folders.ORDER
EMBEDDED = "fashion_mnist_slice"
_TABLES = (".csv", ".tsv", ".jsonl")

# What reading a damaged archive, or a file that is none, happens to raise.
_UNREADABLE: tuple[type[Exception], ...] = (
    *(ValueError, OSError, EOFError, KeyError, TypeError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


def load(
    name_or_path: str,
    *,
    split: str = "train",
    data_dir: str | Path | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    test_fraction: float = 0.2,
    on_bad: OnBad = "raise",
) -> ArraySource:
    """Load one split of a data set; see `load_splits`.

    Raises:
      ValueError: as there, or if there is no such split.

    Example:
      >>> source = load("fashion_mnist_slice", split="test")
      >>> source.images.shape, source.classes[source.labels[0]]
      ((2000, 28, 28, 1), 'Ankle boot')
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    options = (data_dir, size, channels, test_fraction, on_bad)
    splits = _splits(name_or_path, *options, needed=(split,))
    if split not in splits:
        raise ValueError(f"split of {name_or_path} must be {' or '.join(splits)}, got {split!r}")
    return splits[split]


def load_splits(
    name_or_path: str,
    *,
    data_dir: str | Path | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    test_fraction: float = 0.2,
    on_bad: OnBad = "raise",
) -> dict[str, ArraySource]:
    """Load a data set by name, or from a file or folder.

    Args:
      name_or_path: one of

        - ``"fashion_mnist_slice"``, the first 10,000 training and 2,000 test images of
          Fashion-MNIST, which ship with the package;
        - the name of a data set in ``data_dir``, such as ``"cifar10"``: one that `prepare` wrote,
          or TFDS, as ArrayRecord files of labelled images;
        - a folder, zip, tar, or table (``.csv``, ``.jsonl``) of images, see `from_folder`;
        - an ``.npz`` file with the arrays ``train_images``, ``train_labels``, ``test_images``,
          ``test_labels`` as `from_arrays` takes them, perhaps ``validation_...`` and ``classes``.
      data_dir: folder of prepared data sets; None means TFDS's own (``$TFDS_DATA_DIR``, or
        ``~/tensorflow_datasets``).
      size: (height, width) to bring images to; None for their own, or 64 x 64 for files.
      channels: 1 or 3; None for their own, or 3 for files.
      test_fraction: share of each class in a folder that becomes the test split, if it has none.
      on_bad: what becomes of images that cannot be read: ``"raise"`` names the first,
        ``"skip"`` leaves them out, and collects them in ``source.bad``.

    Returns:
      ``train`` and ``test``, and ``validation`` where the data set has one.

    Raises:
      ValueError: if the name is unknown, or the data set is not prepared, damaged, or in no known
        layout.

    Example:
      >>> sorted(load_splits("fashion_mnist_slice"))
      ['test', 'train']
    """
    options = (data_dir, size, channels, test_fraction, on_bad)
    return _splits(name_or_path, *options, needed=("train", "test"))


def is_path(name_or_path: str) -> bool:
    """Whether a data set is given by the path of a file or folder, not by name.

    Example:
      >>> is_path("cifar10"), is_path("photos/"), is_path("photos.zip")
      (False, True, True)
    """
    path = Path(name_or_path)
    if name_or_path.partition(":")[0] in {EMBEDDED, *PREPARABLE}:
        return False
    has_form = name_or_path.startswith((".", "/", "~")) or name_or_path.endswith("/")
    is_file = path.suffix in (".npz", *_TABLES) or is_archive(name_or_path)
    return has_form or is_file or path.exists()


def _splits(
    name_or_path: str,
    data_dir: str | Path | None,
    size: tuple[int, int] | None,
    channels: int | None,
    test_fraction: float,
    on_bad: OnBad,
    *,
    needed: Sequence[str],
) -> dict[str, ArraySource]:
    check_decoding(
        folders.SIZE if size is None else size, folders.CHANNELS if channels is None else channels
    )
    check_on_bad(on_bad)
    shapes.check_probability(test_fraction, "test_fraction")
    if name_or_path == EMBEDDED:
        splits = _read_embedded()
    elif Path(name_or_path).suffix == ".npz":
        splits = _read_archive(Path(name_or_path).expanduser(), needed)
    elif is_path(name_or_path):
        return folders.from_folder(
            Path(name_or_path).expanduser(),
            size=size or folders.SIZE,
            channels=channels or folders.CHANNELS,
            test_fraction=test_fraction,
            on_bad=on_bad,
        )
    else:
        folder = _prepared(name_or_path, data_dir)
        return read_prepared(
            name_or_path,
            folder,
            size=size,
            channels=channels,
            test_fraction=test_fraction,
            on_bad=on_bad,
        )
    return {split: resized(source, size, channels) for split, source in splits.items()}


def _prepared(name: str, data_dir: str | Path | None) -> Path:
    folder = find_prepared(name, data_dir)
    if folder is not None:
        return folder
    if name in PREPARABLE:
        raise ValueError(
            f"{name} is not prepared in {data_root(data_dir)}; run: jaxcnn prepare {name}"
        )
    raise ValueError(
        f"data must name a data set, a folder, an archive, a table or an .npz file, got {name!r}. "
        f"{shapes.did_you_mean(name, [EMBEDDED, *PREPARABLE])}"
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
        raise ValueError(f"data must name a data set or an .npz file; there is no file {path}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            splits = [s for s in SPLITS if f"{s}_images" in arrays.files or s in needed]
            names = [f"{split}_{part}" for split in splits for part in ("images", "labels")]
            if missing := [name for name in names if name not in arrays.files]:
                raise ValueError(f"it holds no {missing[0]}, only {', '.join(arrays.files)}")
            labels = {split: arrays[f"{split}_labels"] for split in splits}
            classes = _class_names(arrays, labels)
            return {
                split: from_arrays(arrays[f"{split}_images"], labels[split], classes=classes)
                for split in splits
            }
    except _UNREADABLE as error:
        raise ValueError(f"data file {path} cannot be used: {error}") from error


def _class_names(
    arrays: np.lib.npyio.NpzFile, labels: dict[str, np.ndarray]
) -> Sequence[str] | None:
    if "classes" in arrays.files:
        return arrays["classes"].reshape(-1).tolist()
    every = list(labels.values())
    if any(a.ndim != 1 or a.size == 0 or np.issubdtype(a.dtype, np.floating) for a in every):
        return None
    # All splits together, so that they agree on what there is.
    return [str(number) for number in range(max(int(a.max()) for a in every) + 1)]
