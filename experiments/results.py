"""Results of experiments as JSON files, and the tables that are made of them."""

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


def write_results(
    experiment: str, name: str, versions: str, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Keep the rows of one experiment, one per seed, with where and when they were measured."""
    FOLDER.mkdir(exist_ok=True)
    record = {
        "versions": versions,
        "machine": _machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "rows": list(rows),
    }
    (FOLDER / f"{experiment}-{name}.json").write_text(json.dumps(record, indent=2) + "\n")


def table(experiment: str) -> str:
    """The Markdown table of an experiment: a line per contender, mean and spread over seeds."""
    lines = [
        "| | seeds | test accuracy, mean ± s.d. | each seed | train accuracy | seconds a run |",
        "|---|---|---|---|---|---|",
    ]
    notes = []
    for path in sorted(FOLDER.glob(f"{experiment}-*.json")):
        record = json.loads(path.read_text())
        rows = record["rows"]
        name = path.stem.removeprefix(f"{experiment}-")
        accuracies = [row["test_accuracy"] for row in rows]
        cells = [
            name,
            f"{rows[0]['seed']}-{rows[-1]['seed']}",
            f"{_mean(accuracies, 4)} ± {statistics.stdev(accuracies):.4f}",
            " ".join(f"{accuracy:.4f}" for accuracy in accuracies),
            _mean([row["train_accuracy"] for row in rows], 4),
            _mean([row["wall_seconds"] for row in rows], 0),
        ]
        lines.append(f"| {' | '.join(cells)} |")
        notes.append(f"{name}: {record['versions']}; {record['machine']}; {record['date']}.")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])


def update_readme() -> None:
    """Write each table anew between its markers in experiments/README.md."""
    path = HERE / "README.md"

    def renew(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{table(match[1])}\n<!-- end -->"

    text = re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", renew, path.read_text(), flags=re.DOTALL)
    path.write_text(text)


def _mean(values: Sequence[float], digits: int) -> str:
    return f"{statistics.mean(values):.{digits}f}"


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return f"{len(names)} x {names[0]}" if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    update_readme()
