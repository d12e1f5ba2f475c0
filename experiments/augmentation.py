"""What augmentation costs and what it does: the classical CNN on all of Fashion-MNIST.

Claim: augmentation on the device adds at most a quarter to the time of an epoch, and narrows the
gap between training and validation accuracy.

Ten epochs of Adam 1e-3 in batches of 128, 54,000 training and 6,000 validation images; accuracies
are of the final network, in evaluation mode, on the whole of each split. The contenders take turns,
seed by seed; the time of an epoch is the median of all but the first, which compiles.

Command: ``jaxcnn prepare fashion_mnist && python experiments/augmentation.py``
Result: the table and the figure in experiments/README.md, written from results/augmentation.json.
"""

import dataclasses
import json
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any

import jax
from matplotlib.figure import Figure
from results import FOLDER, read_results, update_readme, write_results

from jaxcnn.experiment import runner
from jaxcnn.experiment.config import Augmentation, Experiment
from jaxcnn.view import plots

SEEDS = range(2)
CONTENDERS: dict[str, tuple[Augmentation, ...]] = {
    "none": (),
    "flip, affine": ("flip", "affine"),
    "flip, affine, erase": ("flip", "affine", "erase"),
}
EXPERIMENT = Experiment(data="fashion_mnist", epochs=10)
KEPT = ("train_accuracy", "validation_accuracy", "test_accuracy", "gap")


def measure(augment: tuple[Augmentation, ...], seed: int) -> dict[str, Any]:
    """Train once."""
    experiment = dataclasses.replace(EXPERIMENT, augment=augment, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        result = runner.run(experiment, Path(folder) / "run")
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    epochs = list(map(json.loads, lines))
    return {
        "seed": seed,
        **{name: result[name] for name in KEPT},
        "epoch_seconds": statistics.median(epoch["seconds"] for epoch in epochs[1:]),
        "curves": {
            split: [epoch[f"{split}_accuracy"] for epoch in epochs]
            for split in ("train", "validation")
        },
    }


def figure() -> Figure:
    """Accuracy by epoch, and the gap that is left at the end."""
    records = read_results("augmentation")
    picture = Figure(figsize=(10, 4.4), layout="constrained")
    curves, gaps = picture.subplots(1, 2, width_ratios=(3, 2))
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
    gaps.set(ylabel="training less validation accuracy", title="Gap of the final network")
    for axes in (curves, gaps):
        axes.grid(axis="y", alpha=0.3)
    return picture


def main() -> None:
    """Train every contender once per seed, in turns, and write the table and the figure."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for seed in SEEDS:
        for name, augment in CONTENDERS.items():
            rows[name].append(measure(augment, seed))
            print(name, {k: v for k, v in rows[name][-1].items() if k != "curves"}, flush=True)
    versions = f"jaxcnn on jax {jax.__version__}, Python {platform.python_version()}"
    for name, measured in rows.items():
        write_results("augmentation", name, versions, measured)
    plots.save_figure(figure(), FOLDER / "augmentation.png")
    update_readme()


if __name__ == "__main__":
    main()
