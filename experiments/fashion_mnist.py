"""The classical CNN on all of Fashion-MNIST, five seeds.

Claim: ten epochs of the classical network reach a mean test accuracy of at least 0.905, and within
0.004 of Keras trained the same way on the same seeds (`fashion_mnist_keras.py`).

Validation fraction 0, no selection, the test split read once after the last step; Glorot-uniform
kernels, zero biases, Adam 1e-3 with epsilon 1e-7, batches of 128.

Command: ``jaxcnn prepare fashion_mnist && python experiments/fashion_mnist.py``
Result: the table in experiments/README.md, written from experiments/results/.
"""

import platform
import tempfile
from pathlib import Path

import jax
from results import update_readme, write_results

from jaxcnn.experiment import runner
from jaxcnn.experiment.config import Experiment

SEEDS = range(5)
EXPERIMENT = Experiment(data="fashion_mnist", validation_fraction=0.0, epochs=10, batch_size=128)


def main() -> None:
    """Train once per seed and write the table."""
    rows = []
    for seed in SEEDS:
        experiment = Experiment.from_json({**vars(EXPERIMENT), "seed": seed})
        with tempfile.TemporaryDirectory() as folder:
            result = runner.run(experiment, Path(folder) / "run")
        rows.append(
            {
                "seed": seed,
                **{name: result[name] for name in KEPT},
                "train_accuracy": result["last_epoch"]["train_accuracy"],
            }
        )
        print(rows[-1], flush=True)
    versions = f"jaxcnn on jax {jax.__version__}, Python {platform.python_version()}"
    write_results("fashion_mnist", "jaxcnn", versions, rows)
    update_readme()


KEPT = ("test_accuracy", "test_loss", "wall_seconds", "params_sha256")

if __name__ == "__main__":
    main()
