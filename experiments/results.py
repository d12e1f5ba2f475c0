"""Results of experiments as JSON files, and the tables that are made of them.

``results/<experiment>.json`` holds, for each contender, a row per run, and where and when it ran.
"""

import datetime
import json
import platform
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDER = HERE / "results"

# Of each experiment's table: heading, key in the rows, digits.
COLUMNS = {
    "fashion_mnist": (
        ("test accuracy", "test_accuracy", 4),
        ("train accuracy, while training", "train_accuracy", 4),
        ("seconds a run", "wall_seconds", 0),
    ),
    "remedies": (
        ("train accuracy", "train_accuracy", 4),
        ("validation accuracy", "validation_accuracy", 4),
        ("test accuracy", "test_accuracy", 4),
        ("gap", "gap", 4),
        ("seconds a run", "wall_seconds", 0),
    ),
    "augmentation": (
        ("train accuracy", "train_accuracy", 4),
        ("validation accuracy", "validation_accuracy", 4),
        ("test accuracy", "test_accuracy", 4),
        ("gap", "gap", 4),
        ("seconds an epoch", "epoch_seconds", 2),
    ),
    "finetuning": (
        ("train accuracy", "train_accuracy", 4),
        ("test accuracy", "test_accuracy", 4),
        ("seconds a run", "wall_seconds", 0),
    ),
    "precision": (
        ("train accuracy", "train_accuracy", 4),
        ("test accuracy", "test_accuracy", 4),
    ),
    "tasks": (
        ("measured by", "score", 0),
        ("baseline", "baseline", 0),
        ("its score", "baseline_score", 4),
        ("jaxcnn", "test_score", 4),
    ),
}


def write_results(
    experiment: str, name: str, versions: str, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Keep the rows of one contender, one per seed, with where and when they were measured."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{experiment}.json"
    records = json.loads(path.read_text()) if path.exists() else {}
    records[name] = {
        "versions": versions,
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "rows": list(rows),
    }
    path.write_text(json.dumps(records, indent=2) + "\n")


def read_results(experiment: str) -> dict[str, dict[str, Any]]:
    """The records of an experiment by contender."""
    return json.loads((FOLDER / f"{experiment}.json").read_text())


def table(experiment: str) -> str:
    """The Markdown table of an experiment: a line per contender, mean ± s.d. over its seeds."""
    columns = COLUMNS[experiment]
    lines = [
        f"| | seeds | {' | '.join(heading for heading, _, _ in columns)} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    notes: dict[str, list[str]] = {}
    for name, record in read_results(experiment).items():
        rows = record["rows"]
        cells = [_cell([row[key] for row in rows], digits) for _, key, digits in columns]
        seeds = f"{rows[0]['seed']}-{rows[-1]['seed']}"
        lines.append(f"| {name} | {seeds} | {' | '.join(cells)} |")
        note = f"{record['versions']}; {record['machine']}; {record['date']}."
        notes.setdefault(note, []).append(name)
    heads = {
        note: ", ".join(names) + ": " if len(notes) > 1 else "" for note, names in notes.items()
    }
    return "\n".join([*lines, "", *(f"- {heads[note]}{note}" for note in notes)])


def update_readme() -> None:
    """Write each table anew between its markers in experiments/README.md."""
    measured = [name for name in COLUMNS if (FOLDER / f"{name}.json").exists()]
    write_tables(HERE / "README.md", {name: table(name) for name in measured})


def write_tables(page: Path, tables: Mapping[str, str]) -> None:
    """Write tables between the markers ``<!-- name -->`` and ``<!-- end -->`` of a page."""

    def renew(match: re.Match[str]) -> str:
        if match[1] not in tables:
            return match[0]  # not measured yet
        return f"<!-- {match[1]} -->\n{tables[match[1]]}\n<!-- end -->"

    text = page.read_text()
    page.write_text(re.sub(r"<!-- ([\w. ]+) -->\n.*?<!-- end -->", renew, text, flags=re.DOTALL))


def machine() -> str:
    """Number and name of the processors."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return f"{len(names)} x {names[0]}" if names else platform.processor() or platform.machine()


def _cell(values: Sequence[Any], digits: int) -> str:
    if isinstance(values[0], str):
        return values[0]
    mean = f"{statistics.mean(values):.{digits}f}"
    spread = statistics.stdev(values)
    return f"{mean} ± {spread:.{digits}f}" if digits and spread else mean


if __name__ == "__main__":
    update_readme()
