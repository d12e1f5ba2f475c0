"""bfloat16 against float32: the main job and a small VGG with batch norm, three seeds each.

Claim: computing in bfloat16 (parameters, statistics, outputs and loss in float32) costs at most
0.005 of mean test accuracy.

Command: ``python experiments/precision.py``
Result: the table in experiments/README.md, written from results/precision.json.
"""

import itertools
import platform
import tempfile
from pathlib import Path
from typing import Literal

import jax
from results import update_readme, write_results

from jaxcnn.experiment import runner
from jaxcnn.experiment.config import Experiment

SEEDS = range(3)
PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
KEPT = ("train_accuracy", "test_accuracy")
# Two epochs of the small VGG, because a CPU without bfloat16 convolutions takes minutes for each.
EPOCHS = {"classic_cnn": 10, "small_vgg": 2}


def main() -> None:
    """Train every combination once per seed, and write the table."""
    versions = f"jaxcnn on jax {jax.__version__}, Python {platform.python_version()}"
    for model, precision in itertools.product(EPOCHS, PRECISIONS):
        rows = []
        for seed in SEEDS:
            experiment = Experiment(
                model=model, epochs=EPOCHS[model], seed=seed, precision=precision
            )
            with tempfile.TemporaryDirectory() as folder:
                result = runner.run(experiment, Path(folder) / "run")
            rows.append({"seed": seed, **{name: result[name] for name in KEPT}})
            print(model, precision, rows[-1], flush=True)
        write_results("precision", f"{model} {precision}", versions, rows)
    update_readme()


if __name__ == "__main__":
    main()
