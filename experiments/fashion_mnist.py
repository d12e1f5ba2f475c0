"""The classical CNN on all of Fashion-MNIST, five seeds.

Claim: ten epochs of the classical network reach a mean test accuracy of at least 0.905, and within
0.004 of Keras trained the same way on the same seeds (`fashion_mnist_keras.py`).

The validation fraction is 0, there is no model selection, and the test split is evaluated once,
after the last step. Glorot-uniform kernels, zero biases, Adam with learning rate 1e-3 and epsilon
1e-7, batches of 128.

Command: ``jaxcnn prepare fashion_mnist && python experiments/fashion_mnist.py``
Result: the table in experiments/README.md, written from experiments/results/.
"""

import json
from pathlib import Path
from typing import Any

from results import measure, write_results

from jaxcnn.experiment import Experiment

SEEDS = range(5)
EXPERIMENT = Experiment(data="fashion_mnist", validation_fraction=0.0, epochs=10, batch_size=128)
KEPT = ("test_accuracy", "test_loss", "wall_seconds", "params_sha256")


def while_training(run: Path) -> dict[str, Any]:
    """Return the training accuracy in the last epoch, measured with dropout."""
    result = json.loads((run / "result.json").read_text())
    return {"train_accuracy": result["last_epoch"]["train_accuracy"]}


if __name__ == "__main__":
    rows = measure({"jaxcnn": EXPERIMENT}, SEEDS, KEPT, read=while_training)
    write_results("fashion_mnist", rows)
