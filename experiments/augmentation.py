"""Cost and effect of augmentation: the classical CNN on all of Fashion-MNIST.

Claim: augmentation on the device increases the epoch time by at most a quarter, and narrows the
gap between training and validation accuracy.

Ten epochs with Adam (learning rate 1e-3) and batches of 128, on 54,000 training and 6,000
validation images. Accuracies are measured with the final network in evaluation mode, on all of each
split. The contenders take turns, seed by seed; the epoch time is the median over all epochs except
the first, which includes compilation.

Command: ``jaxcnn prepare fashion_mnist && python experiments/augmentation.py``
Result: the table and the figure in experiments/README.md, written from results/augmentation.json.
"""

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from results import FOLDER, measure, read_results, write_results

from jaxcnn.experiment import Experiment
from jaxcnn.view import plots

SEEDS = range(2)
EXPERIMENT = Experiment(data="fashion_mnist", epochs=10)
CONTENDERS = {
    "none": EXPERIMENT,
    "flip, affine": dataclasses.replace(EXPERIMENT, augment=("flip", "affine")),
    "flip, affine, erase": dataclasses.replace(EXPERIMENT, augment=("flip", "affine", "erase")),
}
KEPT = ("train_accuracy", "validation_accuracy", "test_accuracy", "gap")


def epochs(run: Path) -> dict[str, Any]:
    """Return the median epoch time, excluding the first epoch, and both accuracies per epoch."""
    rows = list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines()))
    return {
        "epoch_seconds": statistics.median(row["seconds"] for row in rows[1:]),
        "curves": {
            split: [row[f"{split}_accuracy"] for row in rows] for split in ("train", "validation")
        },
    }


def figure() -> Figure:
    """Plot accuracy by epoch, and the gap of the final network."""
    records = read_results("augmentation")
    result = Figure(figsize=(10, 4.4), layout="constrained")
    curves, gaps = result.subplots(1, 2, width_ratios=(3, 2))
    for place, (name, record) in enumerate(records.items()):
        color = f"C{place}"
        for split, line in (("train", ":"), ("validation", "-")):
            runs_ = [row["curves"][split] for row in record["rows"]]
            means = [statistics.mean(values) for values in zip(*runs_, strict=True)]
            label = name if split == "validation" else None
            curves.plot(range(1, len(means) + 1), means, line, color=color, label=label)
        values = [row["gap"] for row in record["rows"]]
        gaps.bar(place, statistics.mean(values), color=color, alpha=0.6)
        gaps.plot([place] * len(values), values, "k.")
    curves.set(xlabel="epoch", ylabel="accuracy", title="Validation (lines), training (dots)")
    curves.legend()
    gaps.set_xticks(range(len(records)), list(records), rotation=20, ha="right")
    gaps.set(ylabel="training minus validation accuracy", title="Gap of the final network")
    for axes in (curves, gaps):
        axes.grid(axis="y", alpha=0.3)
    return result


if __name__ == "__main__":
    write_results("augmentation", measure(CONTENDERS, SEEDS, KEPT, read=epochs))
    plots.save_figure(figure(), FOLDER / "augmentation.png")
