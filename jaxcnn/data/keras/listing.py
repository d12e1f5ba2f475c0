"""Files and labels for `ImageDataGenerator`, listed from folders and data frames as in Keras."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import numpy as np

from jaxcnn import shapes
from jaxcnn.data.array_checks import stacked
from jaxcnn.data.decode import Interpolation
from jaxcnn.data.files import is_hidden, is_image, open_files, read_plain
from jaxcnn.data.lazy import DecodedImages, Encoded
from jaxcnn.data.missing import describe_missing
from jaxcnn.data.sources import label_names
from jaxcnn.data.tables import class_indices, is_missing
from jaxcnn.messages import did_you_mean, printable

ClassMode = Literal["categorical", "binary", "sparse", "input", "raw", "multi_output"]
ColorMode = Literal["rgb", "rgba", "grayscale"]
Subset = Literal["training", "validation"]
_CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}


class Listed(NamedTuple):
    """Files with their labels.

    Attributes:
      root: the folder that the names are relative to.
      names: names of the files.
      labels: ``[N]`` class indices, ``[N, K]`` zeros and ones, the raw values of a table, or a
        tuple of the values of several columns.
      classes: class names; empty for raw values.
    """

    root: Path
    names: Sequence[str]
    labels: Any
    classes: tuple[str, ...]


def listed_by_directory(
    directory: str | Path,
    classes: Sequence[str] | None,
    subset: Subset | None,
    split: float,
    *,
    follow_links: bool,
) -> Listed:
    """List the images in the class folders of a directory, as Keras does.

    Raises:
      ValueError: if a folder is missing, class names are repeated, or there are no images.
    """
    root = Path(directory)
    if not root.is_dir():
        raise ValueError(f"directory must be a folder, got {printable(directory)}")
    inner = (path.name for path in root.iterdir() if path.is_dir())
    found = sorted(name for name in inner if not is_hidden(name))
    _check_distinct(classes)
    if classes is not None and (missing := [name for name in classes if name not in found]):
        raise ValueError(f"directory {printable(directory)} has no folder for class {missing[0]!r}")
    classes = tuple(found if classes is None else classes)
    names: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(classes):
        files = open_files(root / folder, follow_links=follow_links)
        inside = [name for name in files.sizes if is_image(name)]
        inside = inside[part_of(len(inside), subset, split)]
        names += [f"{folder}/{name}" for name in inside]
        labels += [label] * len(inside)
    if not names:
        raise ValueError(
            f"directory {printable(directory)} must contain images in class folders, found none"
        )
    listed = Listed(root, names, np.array(labels, np.int32), classes)
    warn_of_missing_classes(listed.labels, listed.classes, subset)
    return listed


def listed_by_dataframe(
    dataframe: Any,
    directory: str | Path | None,
    x_col: str,
    y_col: str | Sequence[str] | None,
    classes: Sequence[str] | None,
    subset: Subset | None,
    split: float,
    *,
    class_mode: ClassMode | None,
    validate_filenames: bool,
) -> Listed:
    """List the images named in a table (a pandas ``DataFrame`` or a dictionary of columns).

    Raises:
      ValueError: if a column, a value or a file is missing.
    """
    root = Path(directory or "")
    names = [str(name) for name in column_of(dataframe, x_col)]
    missing = [name for name in names if validate_filenames and not (root / name).is_file()]
    if missing:
        is_folder = directory is not None and root.is_dir()
        existing = open_files(root, follow_links=False).sizes if is_folder else ()
        raise ValueError(f"column {x_col} refers to {describe_missing(missing, existing)}")
    if others := [name for name in names if not is_image(name)]:
        raise ValueError(
            f"column {x_col} must name images, got {len(others)} other names, such as "
            f"{printable(others[0])}"
        )
    part = part_of(len(names), subset, split)
    values: Any = None
    found: tuple[str, ...] = ()
    if class_mode not in ("input", None):
        if y_col is None:
            raise ValueError(f"y_col must name a column for class_mode {class_mode}, got None")
        values, found = _labels_of(dataframe, y_col, class_mode, classes, len(names))
    if not names[part]:
        raise ValueError(f"dataframe must contain images for subset {subset!r}, got none")
    labels = jax.tree.map(lambda column: column[part], values)
    listed = Listed(root, names[part], labels, found)
    if found:
        warn_of_missing_classes(listed.labels, listed.classes, subset)
    return listed


def warn_of_missing_classes(
    labels: Any, classes: Sequence[str] | np.ndarray, subset: Subset | None
) -> None:
    """Warn if a subset has no image of a class.

    Args:
      labels: ``[N]`` integers, or ``[N, K]`` zeros and ones, of the subset; other labels are not
        checked.
      classes: names of the classes, or their numbers for labels of arrays.
      subset: name of the subset; nothing is checked for None.
    """
    if subset is None or not len(classes) or not np.issubdtype(labels.dtype, np.integer):
        return
    if labels.ndim == 2:
        missing = [name for name, some in zip(classes, labels.any(0), strict=False) if not some]
    elif isinstance(classes, np.ndarray):
        missing = np.setdiff1d(classes, labels).tolist()
    else:
        missing = [classes[i] for i in np.setdiff1d(np.arange(len(classes)), labels)]
    if missing:
        warnings.warn(
            f"the {subset} subset has no image of class "
            f"{printable(', '.join(map(str, missing)))}; "
            "validation_split takes the first rows of a dataframe, and the first files of a class, "
            "so shuffle the rows or choose a larger split",
            stacklevel=4,
        )


def _labels_of(
    dataframe: Any,
    y_col: str | Sequence[str],
    class_mode: str,
    classes: Sequence[str] | None,
    rows: int,
) -> tuple[Any, tuple[str, ...]]:
    """Return the labels of all rows in one column or several, and class names, if any."""
    columns = [y_col] if isinstance(y_col, str) else list(y_col)
    given = [column_of(dataframe, name, rows) for name in columns]
    if class_mode == "multi_output":
        return tuple(map(stacked, given, columns)), ()
    if class_mode == "raw":
        values = list(map(stacked, given, columns))
        return values[0] if isinstance(y_col, str) else np.stack(values, 1), ()
    if not isinstance(y_col, str):
        raise ValueError(
            f"y_col must be one column for class_mode {class_mode}, got {columns}; class_mode raw "
            "and multi_output accept several"
        )
    return _classes_of(given[0], y_col, classes)


def column_of(dataframe: Any, name: str, length: int | None = None) -> list[Any]:
    """Return the values of a column.

    Raises:
      ValueError: if the column does not exist, has a missing value, or has the wrong length.
    """
    if name not in dataframe:
        raise ValueError(f"dataframe must have the column {name!r}")
    values = list(dataframe[name])
    if length not in (None, len(values)):
        raise ValueError(
            f"the columns of dataframe must have the same length, {length}, got {len(values)} in "
            f"{name}"
        )
    for row, value in enumerate(values):
        if any(map(is_missing, value if isinstance(value, list | tuple) else [value])):
            raise ValueError(
                f"column {name} of dataframe must not contain missing values, got {value!r} at "
                f"index {row}"
            )
    return values


def _classes_of(
    values: list[Any], name: str, classes: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels, ``[N]`` indices or ``[N, K]`` zeros and ones for lists, and class names."""
    if any(isinstance(value, list | tuple) for value in values):
        values = [value if isinstance(value, list | tuple) else [value] for value in values]
        rows = [[str(item) for item in value] for value in values]
    else:
        rows = []
    names = [item for row in rows for item in row] if rows else [str(value) for value in values]
    indices, found = class_indices(names)
    if classes is not None:
        _check_distinct(classes)
        if unknown := sorted(set(names) - set(classes)):
            raise ValueError(
                f"classes must contain all values of {name}, but {unknown[0]!r} is missing"
            )
        found = tuple(classes)
        indices = np.array([found.index(item) for item in names], np.int32)
    if rows:
        if not found:
            raise ValueError(
                f"{name} must contain a class in at least one row, got only empty lists"
            )
        indices = np.array([[known in row for known in found] for row in rows], np.int32)
    return indices, found


def _check_distinct(classes: Sequence[str] | None) -> None:
    if classes is not None and len(set(classes)) < len(classes):
        raise ValueError(f"classes must have distinct names, got {list(classes)}")


def decoded_files(
    listed: Listed,
    target_size: tuple[int, int],
    color_mode: ColorMode,
    interpolation: Interpolation,
    *,
    keep_aspect_ratio: bool,
) -> DecodedImages:
    """Return the decoded images, either stretched or cropped and resized to the target size."""
    if color_mode not in _CHANNELS:
        raise ValueError(f"color_mode must be rgb, rgba or grayscale, got {color_mode!r}")
    height, width = shapes.ints(target_size, 2, "target_size")
    labels = listed.labels
    encoded = Encoded(
        length=len(listed.names),
        read=lambda number: read_plain(listed.root / listed.names[number]),
        name=lambda number: str(listed.root / listed.names[number]),
        label=label_names(labels, listed.classes)
        if listed.classes
        else lambda i: str(jax.tree.map(lambda column: column[i], labels)),
        identity=lambda: "\n".join(listed.names).encode(),
    )
    return DecodedImages(
        encoded,
        size=(height, width),
        channels=_CHANNELS[color_mode],
        crop=keep_aspect_ratio,
        interpolation=interpolation,
    )


def targets(listed: Listed, class_mode: ClassMode | None) -> list[Any]:
    """Return the arrays that batches contain in addition to the images.

    Raises:
      ValueError: if the mode is unknown or does not match the labels.
    """
    modes = get_args(ClassMode)
    if class_mode is not None and class_mode not in modes:
        hint = did_you_mean(str(class_mode), modes)
        raise ValueError(
            f"class_mode must be None or {', '.join(modes)}, got {class_mode!r}. {hint}"
        )
    if listed.classes and listed.labels.ndim == 2:
        if class_mode != "categorical":
            raise ValueError(
                f"class_mode must be categorical for lists of classes, got {class_mode}"
            )
        return [listed.labels.astype(np.float32)]
    if class_mode == "categorical":
        return [np.eye(len(listed.classes), dtype=np.float32)[listed.labels]]
    if class_mode == "binary" and len(listed.classes) != 2:
        raise ValueError(f"class_mode binary requires two classes, got {len(listed.classes)}")
    if class_mode == "binary":
        return [listed.labels.astype(np.float32)]
    if class_mode == "sparse":  # Keras returns floats, which only its own losses accept as classes
        return [listed.labels]
    if class_mode == "multi_output":
        return [list(listed.labels)]
    return [listed.labels] if class_mode == "raw" else []


def part_of(count: int, subset: Subset | None, split: float) -> slice:
    """Return the slice that selects a subset of ``count`` elements; validation comes first."""
    if subset not in (*get_args(Subset), None):
        raise ValueError(f"subset must be training, validation or None, got {subset!r}")
    first = int(split * count)
    return {None: slice(None), "validation": slice(first), "training": slice(first, None)}[subset]


def weights_of(
    dataframe: Any, name: str, x_col: str, subset: Subset | None, split: float
) -> np.ndarray:
    """Return the sample weights ``[N]`` for a subset.

    Raises:
      ValueError: if the column does not exist, has the wrong length, or is not numeric.
    """
    values = column_of(dataframe, name, len(dataframe[x_col]))
    for row, value in enumerate(values):
        if not isinstance(value, int | float | np.number):
            raise ValueError(f"{name} must contain numbers, got {value!r} at index {row}")
    return np.asarray(values, np.float32)[part_of(len(values), subset, split)]
