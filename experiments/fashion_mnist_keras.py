"""The Keras counterpart of `fashion_mnist.py`: the same network, data, optimizer and seeds.

Keras runs on TensorFlow and calls ``model.fit`` on in-memory arrays, as Keras users would.

Command: ``pip install -e ".[bench]" && python experiments/fashion_mnist_keras.py``
Result: the table in experiments/README.md, written from experiments/results/.
"""

import os
import time

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from results import python, write_results

from jaxcnn import data

SEEDS = range(5)


def classical_cnn() -> keras.Model:
    """Return the course's network, compiled as on the course's slide."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 5, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(2, padding="same"),
            keras.layers.Dropout(0.2),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-7),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def train_once(seed: int) -> dict[str, float]:
    """Train for ten epochs, then evaluate on the test split."""
    began = time.monotonic()
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    train, test = (data.load("fashion_mnist", split=split) for split in ("train", "test"))
    model = classical_cnn()
    pixels = train.images[:].astype(np.float32) / 255
    history = model.fit(pixels, train.labels, batch_size=128, epochs=10, verbose=0)
    loss, accuracy = model.evaluate(
        test.images[:].astype(np.float32) / 255, test.labels, batch_size=128, verbose=0
    )
    return {
        "seed": seed,
        "test_accuracy": accuracy,
        "test_loss": loss,
        "train_accuracy": history.history["accuracy"][-1],
        "wall_seconds": round(time.monotonic() - began, 2),
    }


def main() -> None:
    """Train once per seed and write the table."""
    rows = []
    for seed in SEEDS:
        rows.append(train_once(seed))
        print(rows[-1], flush=True)
    versions = f"Keras {keras.__version__} on TensorFlow {tf.__version__}, Python {python()}"
    write_results("fashion_mnist", {"keras": rows}, versions)


if __name__ == "__main__":
    main()
