"""Rows of tables in CSV and JSON Lines files."""

import csv
import io
import json
import re
import warnings
from typing import Any

from jaxcnn.messages import printable


def csv_rows(text: str, table: str) -> list[dict[str, Any]]:
    r"""Return the rows of a CSV file by column; columns without a name are ignored.

    Args:
      text: contents of the file; cells are separated by commas, semicolons or tabs.
      table: name of the file, for a warning.

    Raises:
      ValueError: if two columns have the same name, or a row has too many or too few cells.

    Example:
      >>> csv_rows("file;label\na.png;cat\n", "labels.csv")
      [{'file': 'a.png', 'label': 'cat'}]
    """
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    names = [str(name).strip() for name in reader.fieldnames or ()]
    named = [name for name in names if not _is_unnamed(name)]
    if len(set(named)) < len(named):
        raise ValueError(f"columns must have distinct names, got {', '.join(names)}")
    if len(named) < len(names):
        warnings.warn(f"ignored a column without a name in {printable(table)}", stacklevel=2)
    rows = []
    for row in reader:
        cells = {str(key).strip(): value for key, value in row.items() if key is not None}
        if None in row or any(cells[name] is None for name in named):
            raise ValueError(
                f"line {reader.line_num} must have {len(reader.fieldnames or ())} columns, like "
                "the header"
            )
        rows.append({name: cells[name].strip() for name in named})
    return rows


def _is_unnamed(column: str) -> bool:
    """Return True for the name of an index column, also as pandas writes it the second time."""
    return not column or re.fullmatch(r"Unnamed: \d+", column) is not None


def json_rows(text: str) -> list[dict[str, Any]]:
    """Return the objects in a JSON Lines file.

    Raises:
      ValueError: if a line is not a JSON object.

    Example:
      >>> json_rows('{"file": "a.png", "label": 1}')
      [{'file': 'a.png', 'label': 1}]
    """
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # the latter for deeply nested brackets
            raise ValueError(f"line {number} is not valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} must be a JSON object, got {line.strip()[:40]}")
        rows.append(row)
    return rows
