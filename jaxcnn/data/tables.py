"""Labels in a table next to the images: CSV with a header, or one JSON object per line.

The column ``file`` (or ``filename``, ``filepath``, ``image``, ``image_id``, ``id_code``, ``path``)
names each image, relative to the table; an optional column ``split`` contains ``train``,
``validation`` or ``test``. The label is the column ``label``, ``class`` or ``target``; then a
column ``weight`` contains the weight of each example in the training loss. If there is no such
column, all other columns are labels. Columns are found regardless of case; columns without a name,
such as an index written by pandas, are ignored. Labels are read as follows:

- one column of strings or integers: classes;
- one column of numbers with a decimal point: regression targets;
- several columns of numbers: multiple labels if all are 0 or 1, otherwise several targets.

In JSON, a label may also be a list of names (multiple labels) or of numbers (targets); in CSV,
names may be joined with a separator, which must then be given. Every image
must have a label: empty cells, ``NaN``, ``NA``, ``N/A``, ``null`` and ``None`` are rejected, as are
strings mixed with numbers that have a decimal point.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxcnn.data.array_checks import checked_weights
from jaxcnn.data.groups import group_indices, groups_of_names
from jaxcnn.data.table_rows import csv_rows, json_rows
from jaxcnn.messages import printable

NAMES = ("labels.csv", "labels.jsonl")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_FILE_COLUMNS = (
    *("file", "filename", "file_name", "image", "path"),
    *("filepath", "file_path", "image_path", "image_name", "image_id", "id_code"),
)
LabelKind = Literal["classes", "labels", "targets"]
_LABEL_COLUMNS = ("label", "class", "target")
# Spellings of missing values.
_MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "<na>", "nat"})


class Table(NamedTuple):
    """The contents of a label table.

    Attributes:
      files: the name of each image, relative to the table.
      labels: ``[N]`` int32 class indices, ``[N, L]`` int32 zeros and ones, or ``[N, D]`` float32.
      classes: names of the classes, labels or targets.
      splits: the split of each image, or None if the table has no split column.
      groups: the group of each image, or None if there are none.
      weights: ``[N]`` float32, the weight of each image, or None if the table has no such column.
    """

    files: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: tuple[str, ...] | None
    groups: np.ndarray | None
    weights: np.ndarray | None


def read_table(
    content: bytes,
    name: str,
    *,
    group: str | None = None,
    label_separator: str | None = None,
    label_kind: LabelKind | None = None,
) -> Table:
    """Read a table.

    Args:
      content: contents of the file, in UTF-8.
      name: name of the file; ``.jsonl`` means JSON Lines, anything else CSV.
      group: name of the column with each image's group; or a regular expression for file names, as
        in `groups_of_names`. None means no groups.
      label_separator: string between the labels in a cell of the label column; None means that
        each cell is one label.
      label_kind: ``"classes"``, one class per image; ``"labels"``, any number of labels; or
        ``"targets"``, numbers. Decides where cells fit several kinds: ``"classes"`` accepts one
        column of 0 and 1 per class, and ``"targets"`` integers. None infers the kind.

    Raises:
      ValueError: if the table is invalid; the message names the offending line or row, if any.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(printable(f"table {name} must be UTF-8 text: {error}")) from error
    try:
        rows = json_rows(text) if name.lower().endswith(".jsonl") else csv_rows(text, name)
        return _table(rows, group, label_separator, label_kind)
    except (ValueError, csv.Error) as error:
        raise ValueError(printable(f"table {name} cannot be used: {error}")) from error


def class_indices(names: Iterable[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number class names in alphabetical order, or in numerical order if all are integers.

    Args:
      names: the class name of each example.

    Returns:
      The ``[N]`` int32 class indices, and the distinct names.

    Example:
      >>> class_indices(["dog", "cat", "dog"])
      (array([1, 0, 1], dtype=int32), ('cat', 'dog'))
    """
    names = list(names)
    numeric = all(_is_integer(name) for name in names)
    # Equal numbers, such as 1 and 01, are ordered alphabetically.
    classes = sorted(sorted(set(names)), key=int if numeric else str)
    places = {name: place for place, name in enumerate(classes)}
    return np.array([places[name] for name in names], np.int32), tuple(classes)


def is_missing(value: Any) -> bool:
    """Return True for values that mean "missing", such as ``NaN``, ``None`` and ``"n/a"``.

    Example:
      >>> is_missing(float("nan")), is_missing("NA"), is_missing("cat")
      (True, True, False)
    """
    return str(value).strip().lower() in _MISSING


def _table(
    rows: Sequence[Mapping[str, Any]],
    group: str | None,
    label_separator: str | None,
    label_kind: LabelKind | None,
) -> Table:
    if not rows:
        raise ValueError("it has no rows")
    column = _find(rows[0], _FILE_COLUMNS)
    if column is None:
        raise ValueError(
            f"one of the columns must be named {' or '.join(_FILE_COLUMNS)}, got "
            f"{', '.join(rows[0])}"
        )
    group_column = None if group is None else _find(rows[0], (group,))
    split_column = _find(rows[0], ("split",))
    label_columns = [name for name in rows[0] if name not in (column, split_column, group_column)]
    named = _find(label_columns, _LABEL_COLUMNS)
    # Without a named label, a weight may be what is to be predicted.
    weight_column = None if named is None else _find(label_columns, ("weight",))
    label_columns = label_columns if named is None else [named]
    if not label_columns:
        raise ValueError("it has no label column")
    others = (split_column, group_column, weight_column)
    used = [column, *label_columns, *(name for name in others if name is not None)]
    for number, row in enumerate(rows, 1):
        if missing := [name for name in used if row.get(name) in (None, "")]:
            raise ValueError(f"row {number} has no {missing[0]}")
        if more := row.keys() - rows[0].keys():
            raise ValueError(f"row {number} has {min(more)}, which is missing from the first row")
    files = tuple(_inner_name(str(row[column])) for row in rows)
    if len(set(files)) < len(files):
        twice = next(name for i, name in enumerate(files) if name in files[:i])
        raise ValueError(f"it lists {twice} twice")
    splits = tuple(_split(row[split_column]) for row in rows) if split_column else None
    groups = weights = None
    if group_column is not None:
        _check_present([row[group_column] for row in rows], group_column)
        groups = group_indices(str(row[group_column]) for row in rows)
    elif group is not None:
        groups = group_indices(groups_of_names(files, group))
    if weight_column is not None:
        weights = checked_weights([_number(row[weight_column]) for row in rows], len(rows))
    if len(label_columns) == 1:
        cells = [row[label_columns[0]] for row in rows]
        if label_separator is not None:
            _check_present(cells, label_columns[0])
            cells = [_separated(cell, label_separator) for cell in cells]
        labels, classes = _one_column(cells, label_columns[0], label_kind)
    else:
        if label_separator is not None:
            raise ValueError(
                f"label_separator requires one label column, got {', '.join(label_columns)}"
            )
        if label_kind != "targets":
            _check_no_id(rows, label_columns)
        labels, classes = _columns(
            [[row[name] for name in label_columns] for row in rows], label_columns, label_kind
        )
    return Table(files, labels, classes, splits, groups, weights)


def _find(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """Return the first column with one of the names, in order of the names; prefer equal case."""
    columns = list(columns)
    for name in names:
        if name in columns:
            return name
    folded = {column.casefold(): column for column in reversed(columns)}
    return next((folded[name.casefold()] for name in names if name.casefold() in folded), None)


def _separated(cell: Any, separator: str) -> Any:
    """Return the labels in a cell; lists in JSON are already separate."""
    if isinstance(cell, list):
        return cell
    return [label.strip() for label in str(cell).split(separator) if label.strip()]


def _one_column(
    values: list[Any], name: str, kind: LabelKind | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    if all(isinstance(value, list) for value in values):
        if all(isinstance(item, str) for value in values for item in value):
            _, classes = class_indices(item for value in values for item in value)
            if not classes:
                raise ValueError("no row has a label")
            return np.array([[c in value for c in classes] for value in values], np.int32), classes
        width = {len(value) for value in values}
        if len(width) > 1:
            raise ValueError(
                f"lists of targets must all have the same length, got lengths {sorted(width)}"
            )
        return _columns(values, [f"{name}_{i}" for i in range(width.pop())], kind)
    if any(isinstance(value, list | dict | bool) for value in values):
        raise ValueError(
            "labels must be all strings, all numbers, or all lists of strings or numbers"
        )
    strings = [str(value) for value in values]
    _check_present(strings, name)
    if kind == "labels":
        if all(_is_number(string) and float(string) in (0, 1) for string in strings):
            return np.array(strings, np.float64).astype(np.int32)[:, None], (name,)
        _reject_single_labels(strings, name)
    numbers = [_is_number(string) for string in strings]
    if kind == "targets":
        _check_targets(strings, numbers, name)
    elif kind == "classes" and all(numbers) and {float(string) for string in strings} <= {0, 1}:
        return class_indices(str(int(float(string))) for string in strings)
    if all(numbers) and (kind == "targets" or not all(map(_is_integer, strings))):
        return np.array(values, np.float64).astype(np.float32)[:, None], (name,)
    _check_no_number_with_a_point(strings, numbers, name)
    return class_indices(strings)


def _check_present(values: Sequence[Any], name: str) -> None:
    """Reject spellings of missing values."""
    for number, value in enumerate(values, 1):
        if not isinstance(value, list) and is_missing(value):
            raise ValueError(
                f"row {number} has no {name}, got {str(value)!r}; remove the row, or rename the "
                "value"
            )


def _reject_single_labels(strings: list[str], name: str) -> None:
    """Explain how to write several labels per image."""
    example = next((s for s in strings if re.search(r"\w[\s,;|/+]+\w", s)), strings[0])
    raise ValueError(
        f"column {name} contains one string per image, such as {example!r}: if it is several "
        "labels, give the string between them as label_separator (--label-separator); otherwise "
        "write lists in a .jsonl table, or one column of 0 and 1 per label"
    )


def _check_targets(strings: list[str], numbers: list[bool], name: str) -> None:
    if not all(numbers):
        row = numbers.index(False)
        digits = re.search(r"\d", strings[row])
        how = ", without units or thousands separators" if digits else ""
        raise ValueError(
            f"row {row + 1}: {name} must be a number like 1234.5{how}, got {strings[row]!r}"
        )


def _check_no_number_with_a_point(strings: list[str], numbers: list[bool], name: str) -> None:
    """Reject strings among targets, which would turn the targets into classes."""
    with_point = any(is_one and "." in s for s, is_one in zip(strings, numbers, strict=True))
    with_comma = not all(numbers) and all(_is_number(s.replace(",", ".")) for s in strings)
    if with_point or with_comma:
        row = numbers.index(False)
        raise ValueError(
            f"row {row + 1}: {name} must be a number with a decimal point, like the other targets, "
            f"got {strings[row]!r}; class labels must be strings or integers in every row"
        )


def _check_no_id(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Reject columns that look like row IDs, which would otherwise become targets."""
    for name in names:
        values = {str(row[name]) for row in rows}
        if len(values) == len(rows) and all(map(_is_integer, values)) and not values <= {"0", "1"}:
            raise ValueError(
                f"column {name} contains a different integer in each row, like an ID: remove it, "
                f"or name the label column {' or '.join(_LABEL_COLUMNS)}; write targets with a "
                "decimal point, such as 20.0"
            )


def _columns(
    rows: Sequence[Sequence[Any]], names: Sequence[str], kind: LabelKind | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    for number, row in enumerate(rows, 1):
        for value, name in zip(row, names, strict=True):
            if not _is_number(str(value)):
                raise ValueError(
                    f"row {number}: multiple label columns must all contain numbers, got {value!r} "
                    f"for {name}"
                )
    numbers = np.array(rows, np.float64)
    if kind == "classes" and np.isin(numbers, (0, 1)).all() and (numbers.sum(1) == 1).all():
        return numbers.argmax(1).astype(np.int32), tuple(names)
    if kind == "targets":
        return numbers.astype(np.float32), tuple(names)
    are_integers = all(_is_integer(str(value)) for row in rows for value in row)
    if np.isin(numbers, (0, 1)).all() and (are_integers or kind == "labels"):
        return numbers.astype(np.int32), tuple(names)
    return numbers.astype(np.float32), tuple(names)


def _inner_name(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
        raise ValueError(f"file names must be relative and inside the table's folder, got {name}")
    return path.as_posix()


def _split(value: Any) -> str:
    split = SPLIT_NAMES.get(str(value).lower())
    if split is None:
        raise ValueError(f"split must be train, validation or test, got {value!r}")
    return split


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"weight must be a number, got {value!r}") from error


def _is_integer(string: str) -> bool:
    return string.removeprefix("-").isdecimal()


def _is_number(string: str) -> bool:
    try:
        return abs(float(string)) <= float(np.finfo(np.float32).max)
    except ValueError:
        return False
