"""Images in a folder or an archive, labelled by the folders they lie in or by a table.

Known layouts, with any depth below a class::

    cat/1.jpg  dog/2.jpg                        classes; a share of each is held out as test split
    train/cat/1.jpg  val/...  test/...          classes in splits; without test/, val/ is the test
    labels.csv (or labels.jsonl), images        see `jaxcnn.data.tables`

All of it may lie in one folder of any name. Class names are compared, and shown, as Unicode's
NFC: macOS takes "é" apart, others do not.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from jaxcnn.data.decode import reason
from jaxcnn.data.files import Files, is_image, listed_files, open_files
from jaxcnn.data.lazy import DecodedImages, Encoded, OnBad
from jaxcnn.data.sources import ArraySource, label_names
from jaxcnn.data.splits import with_test_split
from jaxcnn.data.tables import NAMES, SPLIT_NAMES, Table, class_indices, read_table

ORDER = ("train", "validation", "test")
SIZE = (64, 64)
CHANNELS = 3


class Listing(NamedTuple):
    """Which files are examples, and of what.

    Attributes:
      files: where they are read.
      names: of each example's file.
      labels: ``[N]`` or ``[N, L]`` int32, or ``[N, D]`` float32.
      classes: names of the classes, labels or targets.
      splits: by name, the rows that belong to it.
    """

    files: Files
    names: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: dict[str, np.ndarray]


def from_folder(
    path: str | Path,
    *,
    size: tuple[int, int] = SIZE,
    channels: int = CHANNELS,
    test_fraction: float | None = 0.2,
    on_bad: OnBad = "raise",
) -> dict[str, ArraySource]:
    """The splits of a folder, a zip or a tar of images, or of a table (CSV, JSON lines) of them.

    ``class/image.jpg``, ``train/class/image.jpg`` beside ``val/`` and ``test/``, or a table
    ``labels.csv`` or ``labels.jsonl`` with a column ``file``, columns of labels and perhaps
    ``split`` (a table of another name is given itself as ``path``). Images stay on disk until
    they are used; decoded ones stay in memory if all fit.

    Args:
      path: the folder, archive or table.
      size: (height, width) that images are brought to, as by `decode_image`.
      channels: 1 or 3.
      test_fraction: share of each class that becomes the test split if there is neither a test
        nor a validation split; the same files each time. None leaves the splits as they are.
      on_bad: ``"raise"`` names an image that cannot be read; ``"skip"`` leaves it out and
        collects it in ``source.images.bad``.

    Returns:
      ``train``, ``test`` and perhaps ``validation``, each an `ArraySource`; with
      ``test_fraction=None`` those that are there.

    Raises:
      ValueError: if there is no such layout, a class has no images, splits disagree, or a link
        shows a folder a second time (links to folders elsewhere are followed).

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
    listing = list_examples(Path(path))
    if on_bad == "raise" and (missing := set(listing.names) - set(listing.files.sizes)):
        raise ValueError(f"{path} names the file {min(missing)}, which is not there")
    labels = label_names(listing.labels, listing.classes)

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
        label=labels,
        identity=identity,
    )
    images = DecodedImages(encoded, size=size, channels=channels, on_bad=on_bad)
    whole = ArraySource(images, listing.labels, listing.classes)
    splits = {name: whole.take(rows) for name, rows in listing.splits.items()}
    return splits if test_fraction is None else with_test_split(splits, test_fraction, str(path))


def left_out(path: str | Path) -> dict[str, int]:
    """How many files of a folder or an archive are no examples, by what their names end in.

    Such as HEIC photographs, which are not read, text, or images in no class folder or no row of
    the table. Hidden files and tables do not count, nor what lies beside a table that is given
    itself.

    Args:
      path: as for `from_folder`.

    Returns:
      Numbers by lower-case extension (``".heic"``; ``""`` for none), the largest first.

    Raises:
      ValueError: as `from_folder`.

    Example:
      >>> import tempfile, PIL.Image
      >>> root = Path(tempfile.mkdtemp())
      >>> for name in ("cat/1.png", "dog/1.png", "cat/2.heic", "dog/2.HEIC", "3.png"):
      ...     (root / name).parent.mkdir(exist_ok=True)
      ...     PIL.Image.new("RGB", (40, 30)).save(root / name, "PNG")
      >>> left_out(root)
      {'.heic': 2, '.png': 1}
    """
    listing = list_examples(Path(path))
    others = sorted(listing.files.sizes.keys() - set(listing.names))
    endings = Counter(_ending(name) for name in others if PurePosixPath(name).name not in NAMES)
    return dict(endings.most_common())


def list_examples(path: Path) -> Listing:
    """Find the examples in a folder or an archive, or those of a table.

    Raises:
      ValueError: if there are none, or they are in no known layout.
    """
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv", ".jsonl"):
        table = read_table(path.read_bytes(), path.name)
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
            return _of_table(files, prefix, read_table(content, f"{path}/{prefix}{name}"))
    return _of_folders(files, prefix)


def _common_folder(files: Files) -> str:
    """The one folder that holds everything, such as ``photos/`` or one in it, or nothing."""
    prefix = ""
    while top := _only_folder(_below(prefix, files.sizes), _below(prefix, files.folders)):
        prefix += f"{top}/"
    return prefix


def _only_folder(names: list[list[str]], folders: list[list[str]]) -> str:
    """The one folder that holds all images and tables, of which some lie deeper, or nothing."""
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
    """The parts of names that begin so, without that."""
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
    return _checked(Listing(files, names, table.labels, table.classes, splits))


def _of_folders(files: Files, prefix: str) -> Listing:
    inside = {name: name.removeprefix(prefix).split("/") for name in files.sizes if is_image(name)}
    tops = {parts[0] for parts in inside.values() if len(parts) > 1}
    named = {top for top in tops if top.lower() in SPLIT_NAMES}
    has_splits = bool(tops) and named == tops
    if not has_splits and any(SPLIT_NAMES[top.lower()] == "train" for top in named):
        raise ValueError(
            f"{files.path} must hold splits or classes, got {', '.join(sorted(tops - named))} "
            f"beside {', '.join(sorted(named))}"
        )
    depth = 2 if has_splits else 1
    examples = {name: parts for name, parts in inside.items() if len(parts) > depth}
    if not examples:
        raise ValueError(
            f"{files.path} must hold images in one folder per class (class/image.jpg, perhaps "
            f"below train/, val/ and test/) or beside {' or '.join(NAMES)}; it holds "
            f"{len(inside)} images, none of them so"
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
    return _checked(Listing(files, tuple(examples), labels, classes, splits))


def _check_no_empty_class(
    files: Files, prefix: str, depth: int, examples: Mapping[str, list[str]]
) -> None:
    """An empty folder among the classes is more likely a mistake than a class."""
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
            f"the class folder {files.path / prefix / '/'.join(folder)} holds no images{only}; "
            "remove it, or fill it"
        )


def _checked(listing: Listing) -> Listing:
    root = listing.files.path
    if "train" not in listing.splits:
        raise ValueError(f"{root} must have a split train, got {', '.join(listing.splits)}")
    if listing.labels.ndim == 1:
        known = np.unique(listing.labels[listing.splits["train"]])
        for split, rows in listing.splits.items():
            strange = np.setdiff1d(listing.labels[rows], known)
            if strange.size:
                raise ValueError(
                    f"{root}: the split {split} has the class "
                    f"{listing.classes[strange[0]]!r}, which train has not"
                )
        if len(listing.classes) < 2:
            raise ValueError(f"{root} must hold two classes or more, got {listing.classes}")
    return listing
