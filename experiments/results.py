"""Measurement of experiments, JSON files with the results, and tables made from them.

For each contender, ``results/<experiment>.json`` contains one row per run, and where and when it
ran.
"""

import datetime
import json
import platform
import re
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxcnn.experiment import Experiment, run_sweep

Rows = list[dict[str, Any]]
HERE = Path(__file__).parent
FOLDER = HERE / "results"

# Columns in each experiment's table: heading, key in the rows, digits.
COLUMNS = {
    "fashion_mnist": (
        ("test accuracy", "test_accuracy", 4),
        ("train accuracy, during training", "train_accuracy", 4),
        ("seconds per run", "wall_seconds", 0),
    ),
    "remedies": (
        ("train accuracy", "train_accuracy", 4),
        ("validation accuracy", "validation_accuracy", 4),
        ("test accuracy", "test_accuracy", 4),
        ("gap", "gap", 4),
        ("seconds per run", "wall_seconds", 0),
    ),
    "augmentation": (
        ("train accuracy", "train_accuracy", 4),
        ("validation accuracy", "validation_accuracy", 4),
        ("test accuracy", "test_accuracy", 4),
        ("gap", "gap", 4),
        ("seconds per epoch", "epoch_seconds", 2),
    ),
    "finetuning": (
        ("train accuracy", "train_accuracy", 4),
        ("test accuracy", "test_accuracy", 4),
        ("seconds per run", "wall_seconds", 0),
    ),
    "precision": (
        ("train accuracy", "train_accuracy", 4),
        ("test accuracy", "test_accuracy", 4),
    ),
    "tasks": (
        ("metric", "score", 0),
        ("baseline", "baseline", 0),
        ("baseline score", "baseline_score", 4),
        ("jaxcnn", "test_score", 4),
    ),
}


def measure(
    contenders: Mapping[str, Experiment],
    seeds: Sequence[int],
    kept: Sequence[str],
    *,
    read: Callable[[Path], Mapping[str, Any]] | None = None,
) -> dict[str, Rows]:
    """Run every contender once per seed in a temporary folder, alternating between contenders.

    Args:
      contenders: experiments by name.
      seeds: the seeds.
      kept: names of the results to keep.
      read: returns additional values from a run folder.

    Returns:
      The rows of each contender, one per seed.
    """
    rows: dict[str, Rows] = {name: [] for name in contenders}
    for seed in seeds:
        for name, experiment in contenders.items():
            with tempfile.TemporaryDirectory() as folder:
                run_sweep(experiment, Path(folder) / "sweep", seeds=[seed])
                (run,) = (Path(folder) / "sweep").glob("seed*")
                result = json.loads((run / "result.json").read_text())
                row = {"seed": seed, **{key: result[key] for key in kept}}
                print(name, row, flush=True)
                rows[name].append(row | dict(read(run) if read else {}))
    return rows


def write_results(
    experiment: str, rows: Mapping[str, Sequence[Mapping[str, Any]]], versions: str | None = None
) -> None:
    """Write the contenders' rows, with machine and date, and update the tables.

    Args:
      experiment: name of the experiment.
      rows: one row per seed for each contender.
      versions: libraries that ran, with their versions; None means jaxcnn.
    """
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{experiment}.json"
    records = json.loads(path.read_text()) if path.exists() else {}
    for name, measured in rows.items():
        records[name] = {
            "versions": versions or f"jaxcnn on jax {jax.__version__}, Python {python()}",
            "machine": machine(),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "rows": list(measured),
        }
    path.write_text(json.dumps(records, indent=2) + "\n")
    update_readme()


def read_results(experiment: str) -> dict[str, dict[str, Any]]:
    """Return an experiment's records by contender."""
    return json.loads((FOLDER / f"{experiment}.json").read_text())


def table(experiment: str) -> str:
    """Return an experiment's Markdown table: one line per contender, mean ± s.d. over seeds."""
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
    """Rewrite each table between its markers in experiments/README.md."""
    measured = [name for name in COLUMNS if (FOLDER / f"{name}.json").exists()]
    write_tables(HERE / "README.md", {name: table(name) for name in measured})


def write_tables(page: Path, tables: Mapping[str, str]) -> None:
    """Write tables between the markers ``<!-- name -->`` and ``<!-- end -->`` on a page."""

    def renew(match: re.Match[str]) -> str:
        if match[1] not in tables:
            return match[0]  # not measured yet
        return f"<!-- {match[1]} -->\n{tables[match[1]]}\n<!-- end -->"

    text = page.read_text()
    page.write_text(re.sub(r"<!-- ([\w. ]+) -->\n.*?<!-- end -->", renew, text, flags=re.DOTALL))


def python() -> str:
    """Return the Python version."""
    return platform.python_version()


def machine() -> str:
    """Return the number and model of the processors."""
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
