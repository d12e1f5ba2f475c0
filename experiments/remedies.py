"""Seven remedies against overfitting, each alone and all together, five seeds each.

Claim: without any remedy, the classical CNN overfits the bundled Fashion-MNIST subset: the gap
between training and validation accuracy exceeds 0.05. The table shows the effect of each remedy.

Ten epochs with Adam (learning rate 1e-3) and batches of 128, on 9,000 training and 1,000 validation
images. Accuracies are measured with the final network in evaluation mode, on all of each split. The
network without remedies has no pooling and no dropout.

Command: ``python experiments/remedies.py`` (optionally with names of contenders)
Result: the table and the figure in experiments/README.md, written from results/remedies.json.
"""

import dataclasses
import sys
from typing import Any

from matplotlib.figure import Figure
from results import FOLDER, measure, read_results, write_results

from jaxcnn.experiment import Experiment
from jaxcnn.view import plots

SEEDS = range(5)
BARE: dict[str, Any] = {"pool": "none", "dropout": 0.0}
REMEDIES: dict[str, dict[str, Any]] = {
    "none": {},
    "dropout": {"model_options": {"dropout": 0.5}},
    "batch norm": {"model_options": {"norm": "batch"}},
    "pooling": {"model_options": {"pool": "max"}},
    "early stopping": {"early_stopping": 2},
    "noise injection": {"model_options": {"noise": 0.2}, "input_noise": 0.1},
    "L1 and L2": {"l1": 1e-5, "l2": 1e-4},
    "augmentation": {"augment": ("flip", "shift")},
}
KEPT = ("train_accuracy", "validation_accuracy", "test_accuracy", "gap", "wall_seconds")


def with_remedies(*names: str) -> Experiment:
    """Return the classical CNN with these remedies and no others."""
    result = Experiment(model_options=BARE)
    for name in names:
        changes = dict(REMEDIES[name])
        options = {**result.model_options, **changes.pop("model_options", {})}
        result = dataclasses.replace(result, model_options=options, **changes)
    return result


CONTENDERS = {name: with_remedies(name) for name in REMEDIES}
CONTENDERS["all seven"] = with_remedies(*REMEDIES)


def figure() -> Figure:
    """Plot every contender's training, validation and test accuracy: each seed and the mean."""
    records = read_results("remedies")
    result = Figure(figsize=(9, 4.8), layout="constrained")
    axes = result.subplots()
    marks = (("train", "tab:blue", "o"), ("validation", "tab:orange", "s"), ("test", "k", "D"))
    for place, record in enumerate(records.values()):
        for offset, (split, color, mark) in enumerate(marks):
            values = [row[f"{split}_accuracy"] for row in record["rows"]]
            spots = [place + 0.22 * (offset - 1)] * len(values)
            axes.plot(spots, values, mark, color=color, markersize=3.5, alpha=0.45)
            mean = sum(values) / len(values)
            axes.plot(
                spots[0], mean, mark, color=color, markersize=8, label=None if place else split
            )
    axes.set_xticks(range(len(records)), list(records), rotation=25, ha="right")
    axes.set(ylabel="accuracy", title="Remedies against overfitting, each alone and all together")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(title="mean, and each seed")
    return result


if __name__ == "__main__":
    chosen = {name: CONTENDERS[name] for name in sys.argv[1:] or CONTENDERS}
    write_results("remedies", measure(chosen, SEEDS, KEPT))
    plots.save_figure(figure(), FOLDER / "remedies.png")
