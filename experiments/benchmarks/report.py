"""Benchmark results as JSON files, and the tables in RESULTS.md generated from them.

Command: ``python experiments/benchmarks/report.py``
"""

import datetime
import json
import statistics
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from results import machine, write_tables  # noqa: E402 - from the parent folder

FILE, IMAGES, DATA = (HERE / f"{name}results.json" for name in ("", "image_", "data_"))
PASSES = {"train": "training step", "forward": "forward pass"}


def keep(name: str, row: dict[str, Any], *, file: Path = FILE) -> None:
    """Write a result with machine and date, replacing any older result with the same name."""
    rows = read(file)
    rows[name] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        **row,
    }
    file.write_text(json.dumps(dict(sorted(rows.items())), indent=1) + "\n")


def read(file: Path) -> dict[str, Any]:
    """Return the stored results."""
    rows: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return rows


def main() -> None:
    """Write every table that has results."""
    rows, images = read(FILE), read(IMAGES)
    tables = {}
    for release in sorted({name.rpartition("jax ")[2] for name in (*rows, *images)}):
        of_images = {
            name.rpartition(", jax")[0]: row
            for name, row in images.items()
            if name.endswith(f"jax {release}")
        }
        own = {name: row for name, row in rows.items() if name.endswith(f"jax {release}")}
        compared = [row for row in own.values() if "workload" in row]
        short = ".".join(release.split(".")[:2])
        tables[f"steps {short}"] = _steps(compared)
        tables[f"floors {short}"] = _floors(compared)
        tables[f"starts {short}"] = _starts(compared)
        tables[f"images {short}"] = _images(of_images)
        jobs = [row for row in own.values() if "workload" not in row]
        if jobs:
            tables[f"job {short}"] = _job(jobs[0])
    for name, row in read(DATA).items():
        tables[f"data {'.'.join(name.removeprefix('jax ').split('.')[:2])}"] = _data(row)
    write_tables(HERE / "RESULTS.md", tables)


def _steps(rows: list[dict[str, Any]]) -> str:
    """Return the table of all peers' median times, and the ratios."""
    names = list(dict.fromkeys(name for row in rows for name in row["milliseconds"]["train"]))
    head = ["", *(_title(name) for name in names), "to the fastest peer", "to plain Flax"]
    lines = [_line(head), "|---" * len(head) + "|"]
    for what in PASSES:
        for row in rows:
            times = row["milliseconds"][what]
            medians = {name: statistics.median(values) for name, values in times.items()}
            own, peers = medians["jaxcnn"], [v for n, v in medians.items() if n != "jaxcnn"]
            cells = [_cell(times[name]) if name in times else "" for name in names]
            flax = f"{own / medians['flax']:.2f}" if "flax" in medians else ""
            ratio = f"**{own / min(peers):.2f}**"
            lines.append(_line([_name(row, what), *cells, ratio, flax]))
    return "\n".join([*lines, "", *_notes(rows)])


def _floors(rows: list[dict[str, Any]]) -> str:
    """Return the table of floors: operation costs at peak rates measured at the same time."""
    head = ["", "GFLOP", "GB", "ceiling GFLOP/s", "GB/s", "floor ms", "median ms", "floor/median"]
    lines = [_line(head), "|---" * len(head) + "|"]
    for what in PASSES:
        for row in rows:
            cost, ceilings = row["costs"]["passes"][what], row["costs"]["ceilings"]
            median = statistics.median(row["milliseconds"][what]["jaxcnn"])
            floor = cost["floor_milliseconds"]
            values = (
                f"{cost['flops'] / 1e9:.1f}",
                f"{cost['bytes'] / 1e9:.2f}",
                f"{ceilings['flops'][row['precision']] / 1e9:.0f}",
                f"{ceilings['bytes'] / 1e9:.0f}",
                f"{floor:.1f}",
                f"{median:.1f}",
                f"{floor / median:.0%}",
            )
            lines.append(_line([_name(row, what), *values]))
    return "\n".join(lines)


def _starts(rows: list[dict[str, Any]]) -> str:
    """Return the table of times from process start to the first step, and peak memory."""
    names = list(dict.fromkeys(name for row in rows for name in row["first_step_seconds"]))
    lines = [_line(["", *map(_title, names)]), "|---" * (len(names) + 1) + "|"]
    for row in rows:
        cells = [
            f"{statistics.median(row['first_step_seconds'][name]):.1f} s, "
            f"{statistics.median(row['peak_mib'][name]):.0f} MiB"
            if name in row["first_step_seconds"]
            else ""
            for name in names
        ]
        lines.append(_line([_name(row, "train"), *cells]))
    return "\n".join(lines)


def _images(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table of ms per batch, with ratios to the fastest library and OpenCV's loop."""
    names = list(dict.fromkeys(peer for row in rows.values() for peer in row["milliseconds"]))
    head = ["", *map(_title, names), "times as fast as the fastest library", "vs. OpenCV's loop"]
    lines = [_line(head), "|---" * len(head) + "|"]
    for task, row in rows.items():
        times = row["milliseconds"]
        medians = {name: statistics.median(values) for name, values in times.items()}
        own, loop = medians.pop("jaxcnn"), medians.pop("opencv", None)
        fastest = f"**{min(medians.values()) / own:.1f}**" if medians else ""
        cells = [_cell(times[name]) if name in times else "" for name in names]
        lines.append(_line([task, *cells, fastest, f"{loop / own:.2f}" if loop else ""]))
    return "\n".join([*lines, "", *_notes(list(rows.values()))])


def _data(row: dict[str, Any]) -> str:
    """Return the table of each loader's images per second, and the cost of data per step."""
    lines = ["| | images/s | jaxcnn speedup |", "|---|---|---|"]
    speeds = row["images_per_second"]
    own = statistics.median(speeds["jaxcnn"])
    for name, values in speeds.items():
        ratio = f"{own / statistics.median(values):.2f}"
        lines.append(_line([_title(name), _cell(values), "" if name == "jaxcnn" else ratio]))
    real, fixed = (row["step_milliseconds"][name] for name in ("real", "fixed"))
    step = (
        f"W1's step takes {_cell(real)} ms on real data and {_cell(fixed)} ms on a fixed batch, a "
        f"ratio of **{statistics.median(real) / statistics.median(fixed):.2f}**."
    )
    return "\n".join([*lines, "", step, "", *_notes([row])])


def _job(row: dict[str, Any]) -> str:
    """Return the table of seconds and test accuracy for the whole job."""
    lines = ["| | seconds | test accuracy |", "|---|---|---|"]
    for name, seconds in row["seconds"].items():
        lines.append(_line([_title(name), _cell(seconds), f"{row['test_accuracy'][name]:.4f}"]))
    own, peer = (statistics.median(seconds) for seconds in row["seconds"].values())
    return "\n".join(
        [*lines, "", f"jaxcnn takes **{own / peer:.2f}** of Keras's time.", *_notes([row])]
    )


def _name(row: dict[str, Any], what: str) -> str:
    precision = "" if row["precision"] == "float32" else f", {row['precision']}"
    return f"{row['workload']} {PASSES[what]}{precision}"


def _title(name: str) -> str:
    return name.replace("_", " ")


def _cell(values: list[float]) -> str:
    """Return the median, ± half the difference between the largest and smallest value."""
    median, spread = statistics.median(values), (max(values) - min(values)) / 2
    digits = 1 if median < 100 else 0
    return f"{median:.{digits}f} ± {spread:.{digits}f}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    """Return the distinct machines, dates and versions."""
    notes = {
        f"- {row['machine']}; {row['date']}; "
        + "; ".join(f"{_title(name)}: {text}" for name, text in row["versions"].items())
        for row in rows
    }
    return sorted(notes)


if __name__ == "__main__":
    main()
