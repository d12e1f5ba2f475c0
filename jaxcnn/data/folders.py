"""Images in a folder or an archive, labeled by their folders or by a table.

Supported layouts, with images at any depth inside a class folder::

    cat/1.jpg  dog/2.jpg                        classes; part of each is held out as the test split
    train/cat/1.jpg  val/...  test/...          classes per split; val/ replaces a missing test/
    labels.csv (or labels.jsonl), images        see `jaxcnn.data.tables`

Everything may be wrapped in a single folder of any name. Class names taken from folders are
normalized to Unicode NFC, because macOS decomposes "é" and other systems do not.
"""

import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from jaxcnn.data.decode import reason
from jaxcnn.data.files import Files, is_image, listed_files, open_files
from jaxcnn.data.groups import check_groups_apart, group_indices, groups_of_names
from jaxcnn.data.lazy import Encoded, OnBad
from jaxcnn.data.missing import describe_missing
from jaxcnn.data.reading import AS_IS, CHANNELS, SIZE, Reading
from jaxcnn.data.sources import ArraySource, label_names
from jaxcnn.data.tables import NAMES, SPLIT_NAMES, LabelKind, Table, class_indices
from jaxcnn.messages import printable

ORDER = ("train", "validation", "test")
TABLES = (".csv", ".tsv", ".jsonl")


class Listing(NamedTuple):
    """The files to use as examples, with their labels and splits.

    Attributes:
      files: reader for the files.
      names: the file name of each example.
      labels: ``[N]`` or ``[N, L]`` int32, or ``[N, D]`` float32.
      classes: names of the classes, labels or targets.
      splits: the rows of each split, by split name.
      groups: ``[N]`` int32, the group of each example, or None.
      weights: ``[N]`` float32, the weight of each example, or None.
    """

    files: Files
    names: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: dict[str, np.ndarray]
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None


def from_folder(
    path: str | Path,
    *,
    size: tuple[int, int] = SIZE,
    channels: int = CHANNELS,
    test_fraction: float | None = 0.2,
    on_bad: OnBad = "raise",
    group: str | None = None,
    label_separator: str | None = None,
    label_kind: LabelKind | None = None,
) -> dict[str, ArraySource]:
    r"""Read the splits of a folder, zip, tar or table (CSV, JSON Lines) of images.

    The layout is ``class/image.jpg``; ``train/class/image.jpg`` alongside ``val/`` and ``test/``;
    or a table, ``labels.csv`` or ``labels.jsonl``, with a ``file`` column, label columns and an
    optional ``split`` column (to use a table with a different name, pass it as ``path``). Images
    stay on disk until they are used; decoded images are kept in memory if all of them fit.

    Args:
      path: the folder, archive or table.
      size: (height, width) to resize images to, as in `decode_image`.
      channels: 1 for grayscale or 3 for RGB.
      test_fraction: fraction of each class to hold out as the test split if there is neither a
        test nor a validation split; always the same files. None keeps the splits as they are.
      on_bad: ``"raise"`` raises an error that names the unreadable image; ``"skip"`` masks the
        image in batches and records it in ``source.bad``.
      group: column of the table with each image's group, such as a patient; or a regular expression
        that finds the group in each file name, such as ``r"patient(\d+)"``. A group is never
        split between training, validation and test.
      label_separator: string between several labels in a cell of the table, such as ``" "``.
      label_kind: kind of labels in a table: ``"classes"``, one per image, also as one column of 0
        and 1 per class; ``"labels"``, any number per image; ``"targets"``, numbers, also without a
        decimal point. None infers the kind.

    Returns:
      The splits ``train``, ``test`` and possibly ``validation``, each an `ArraySource`; with
      ``test_fraction=None``, only the existing splits.

    Raises:
      ValueError: if the layout is unknown, a class has no images, a split has a class that is
        missing from ``train``, two splits share a group, or a symbolic link makes a folder appear a
        second time (links to other folders are followed).

    Example:
      >>> import tempfile, PIL.Image
      >>> root = Path(tempfile.mkdtemp())
      >>> for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
      ...     (root / name).parent.mkdir(exist_ok=True)
      ...     PIL.Image.new("RGB", (40, 30)).save(root / name)
      >>> splits = from_folder(root, size=(32, 32), test_fraction=0.5)
      >>> splits["train"].images.shape, splits["train"].classes
      ((2, 32, 32, 3), ('cat', 'dog'))
    """
    return read_folder(
        Path(path),
        Reading(size, channels, test_fraction, on_bad, group, label_separator, label_kind),
    )


def read_folder(path: Path, reading: Reading) -> dict[str, ArraySource]:
    """Read the splits of a folder, archive or table; see `from_folder`."""
    listing = list_examples(path, reading)
    missing = [name for name in listing.names if name not in listing.files.sizes]
    if missing and (reading.on_bad == "raise" or len(missing) == len(listing.names)):
        described = describe_missing(missing, _existing(path, listing))
        raise ValueError(f"{printable(path)} lists {described}")

    def identity() -> bytes:
        sizes = listing.files.sizes
        lines = [f"{name} {sizes.get(name)}" for name in listing.names]
        return "\n".join(lines).encode("utf-8", "surrogateescape")

    def read(number: int) -> bytes:
        name = listing.names[number]
        if name not in listing.files.sizes:
            raise FileNotFoundError("it does not exist")
        return listing.files.read(name)

    root = listing.files.path
    encoded = Encoded(
        length=len(listing.names),
        read=read,
        name=lambda number: str(root / listing.names[number]),
        label=label_names(listing.labels, listing.classes),
        identity=identity,
    )
    whole = ArraySource(
        reading.images(encoded), listing.labels, listing.classes, listing.groups, listing.weights
    )
    splits = {name: whole.take(rows) for name, rows in listing.splits.items()}
    return reading.with_test_split(splits, str(path))


def _existing(path: Path, listing: Listing) -> Iterable[str]:
    """Return the names of all files next to a table."""
    if not is_table(path):
        return listing.files.sizes
    try:
        return open_files(path.parent).sizes
    except (OSError, ValueError):  # such as links in circles, which do not matter for the table
        return ()


def skipped_files(path: str | Path, reading: Reading = AS_IS) -> dict[str, int]:
    """Count the files in a folder or archive that are not examples, by extension.

    Such files include HEIC photos, text files, and images that are outside the class folders or
    not listed in the table. Hidden files and tables are not counted, nor are the files next to a
    table that is passed as ``path``.

    Args:
      path: the folder, archive or table.
      reading: options for reading it.

    Returns:
      The counts by lowercase extension (``".heic"``; ``""`` means no extension), largest first.

    Raises:
      ValueError: if `from_folder` would reject the path.

    Example:
      >>> import tempfile, PIL.Image
      >>> root = Path(tempfile.mkdtemp())
      >>> for name in ("cat/1.png", "dog/1.png", "cat/2.heic", "dog/2.HEIC", "3.png"):
      ...     (root / name).parent.mkdir(exist_ok=True)
      ...     PIL.Image.new("RGB", (40, 30)).save(root / name, "PNG")
      >>> skipped_files(root)
      {'.heic': 2, '.png': 1}
    """
    listing = list_examples(Path(path), reading)
    others = sorted(listing.files.sizes.keys() - set(listing.names))
    endings = Counter(_ending(name) for name in others if PurePosixPath(name).name not in NAMES)
    return dict(endings.most_common())


def is_table(path: Path) -> bool:
    """Return True for a path with the extension of a table.

    Example:
      >>> is_table(Path("labels.csv")), is_table(Path("photos.zip"))
      (True, False)
    """
    return path.suffix.lower() in TABLES


def list_examples(path: Path, reading: Reading = AS_IS) -> Listing:
    """Find the examples of a folder, archive or table.

    Raises:
      ValueError: if there are no examples, or the layout is unknown.
    """
    if is_table(path) and path.is_file():
        table = reading.table(path.read_bytes(), path.name)
        return _of_table(listed_files(path.parent, table.files), "", table)
    files = open_files(path)
    prefix = _common_folder(files)
    for name in NAMES:
        if prefix + name in files.sizes:
            try:
                content = files.read(prefix + name)
            except Exception as error:
                raise ValueError(
                    f"table {path}/{prefix}{name} cannot be read: {reason(error)}"
                ) from error
            return _of_table(files, prefix, reading.table(content, f"{path}/{prefix}{name}"))
    if reading.label_separator is not None:
        raise ValueError(f"label_separator requires a table of labels, got {path}")
    return _of_folders(files, prefix, reading.group)


def _common_folder(files: Files) -> str:
    """Return the path of the folders that wrap everything, such as ``photos/``, or ``""``."""
    prefix = ""
    while top := _only_folder(_below(prefix, files.sizes), _below(prefix, files.folders)):
        prefix += f"{top}/"
    return prefix


def _only_folder(names: list[list[str]], folders: list[list[str]]) -> str:
    """Return the single folder that contains all images and tables, or ``""`` if there is none."""
    tops = {parts[0] for parts in folders} | {parts[0] for parts in names if len(parts) > 1}
    if len(tops) != 1 or SPLIT_NAMES.keys() & {top.lower() for top in tops}:
        return ""
    for name, *inside in names:
        if not inside and (is_image(name) or name in NAMES):
            return ""
    is_layout = any(
        (len(parts) == 2 and parts[1] in NAMES) or (len(parts) > 2 and is_image(parts[-1]))
        for parts in names
    )
    return tops.pop() if is_layout else ""


def _below(prefix: str, names: Iterable[str]) -> list[list[str]]:
    """Split the names that start with ``prefix`` into parts, without the prefix."""
    return [name.removeprefix(prefix).split("/") for name in names if name.startswith(prefix)]


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _of_table(files: Files, prefix: str, table: Table) -> Listing:
    names = tuple(prefix + name for name in table.files)
    rows = np.arange(len(names))
    splits = {"train": rows}
    if table.splits is not None:
        given = np.array(table.splits)
        splits = {split: rows[given == split] for split in ORDER if split in table.splits}
    listing = Listing(
        files, names, table.labels, table.classes, splits, table.groups, table.weights
    )
    return _checked(listing)


def _of_folders(files: Files, prefix: str, group: str | None) -> Listing:
    inside = {name: name.removeprefix(prefix).split("/") for name in files.sizes if is_image(name)}
    tops = {parts[0] for parts in inside.values() if len(parts) > 1}
    named = {top for top in tops if top.lower() in SPLIT_NAMES}
    has_splits = bool(tops) and named == tops
    deep = {parts[0] for parts in inside.values() if len(parts) > 2}
    # A train folder beside a single other one, such as test1 or masks, is unlikely to be a class.
    few = {top for top in named if SPLIT_NAMES[top.lower()] == "train" and len(tops - named) < 2}
    if not has_splits and (split := min((named & deep) | few, default=None)):
        raise ValueError(
            f"{printable(files.path)} must contain either splits or classes, got "
            f"{printable(', '.join(sorted(tops - named)))} alongside {', '.join(sorted(named))}; "
            f"to use {split} as a class, put its images directly in it, beside the folders of at "
            "least two other classes, or list the images in labels.csv"
        )
    if named and not has_splits:
        warnings.warn(
            f"{printable(', '.join(sorted(named)))} in {printable(files.path)} is used as a class, "
            "because there are other classes beside it",
            stacklevel=2,
        )
    depth = 2 if has_splits else 1
    examples = {name: parts for name, parts in inside.items() if len(parts) > depth}
    if not examples:
        raise ValueError(
            f"{files.path} must contain images in one folder per class (class/image.jpg, perhaps "
            f"inside train/, val/ and test/) or next to {' or '.join(NAMES)}, got {len(inside)} "
            "images elsewhere"
        )
    _check_no_empty_class(files, prefix, depth, examples)
    labels, classes = class_indices(
        unicodedata.normalize("NFC", parts[depth - 1]) for parts in examples.values()
    )
    rows = np.arange(len(examples))
    splits = {"train": rows}
    if has_splits:
        of = np.array([SPLIT_NAMES[parts[0].lower()] for parts in examples.values()])
        splits = {split: rows[of == split] for split in ORDER if split in of}
    groups = None
    if group is not None:
        groups = group_indices(
            groups_of_names([name.removeprefix(prefix) for name in examples], group)
        )
    return _checked(Listing(files, tuple(examples), labels, classes, splits, groups))


def _check_no_empty_class(
    files: Files, prefix: str, depth: int, examples: Mapping[str, list[str]]
) -> None:
    """Reject empty class folders, which are more likely to be mistakes than classes."""
    inside = _below(prefix, files.sizes)
    folders = [*_below(prefix, files.folders), *(parts[:-1] for parts in inside)]
    known = {
        tuple(parts[:depth])
        for parts in folders
        if len(parts) >= depth and (depth == 1 or parts[0].lower() in SPLIT_NAMES)
    }
    empty = known - {tuple(parts[:depth]) for parts in examples.values()}
    if empty:
        folder = min(empty)
        kinds = {_ending(parts[-1]) for parts in inside if tuple(parts[:depth]) == folder} - {""}
        only = f", only {', '.join(sorted(kinds))}" if kinds else ""
        raise ValueError(
            f"class folder {files.path / prefix / '/'.join(folder)} contains no images{only}; "
            "remove it, or add images"
        )


def _checked(listing: Listing) -> Listing:
    root = listing.files.path
    if "train" not in listing.splits:
        raise ValueError(f"{root} must have a train split, got {', '.join(listing.splits)}")
    if listing.labels.ndim == 1:
        known = np.unique(listing.labels[listing.splits["train"]])
        for split, rows in listing.splits.items():
            unknown = np.setdiff1d(listing.labels[rows], known)
            if unknown.size:
                raise ValueError(
                    f"{root}: the {split} split has the class "
                    f"{listing.classes[unknown[0]]!r}, which is missing from train"
                )
        if len(listing.classes) < 2:
            raise ValueError(f"{root} must contain at least two classes, got {listing.classes}")
    if listing.groups is not None:
        check_groups_apart({split: listing.groups[rows] for split, rows in listing.splits.items()})
    return listing
