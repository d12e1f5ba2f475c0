"""The four kinds of output, each trained end to end and compared with a baseline.

Claim: each beats its baseline, a linear model on the pixels of the same training images
(scikit-learn's logistic or ridge regression); the rotation task also beats predicting the mean.

- multi_class: scikit-learn's handwritten digits, 8x8 pixels, 1,437 for training, 360 for testing.
- binary: footwear (sandals, sneakers and boots in the bundled Fashion-MNIST subset) or not.
- multi_label: five attributes of a garment at once, derived from its class.
- regression: the angle by which each image was rotated, drawn between -45 and 45 degrees.

Command: ``python experiments/tasks.py``
Result: the table in experiments/README.md, written from results/tasks.json.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import sklearn.datasets
import sklearn.linear_model
import sklearn.metrics
import sklearn.multiclass
from results import measure, write_results

from jaxcnn import data
from jaxcnn.experiment import Experiment

SEEDS = range(3)
SPLITS = ("train", "test")
FOOTWEAR = ("Sandal", "Sneaker", "Ankle boot")
ATTRIBUTES = {
    "footwear": FOOTWEAR,
    "upper body": ("T-shirt/top", "Pullover", "Dress", "Coat", "Shirt"),
    "long sleeves": ("Pullover", "Coat"),
    "covers legs": ("Trouser", "Dress"),
    "winter": ("Pullover", "Coat", "Ankle boot"),
}
Arrays = dict[str, Any]


def digits() -> Arrays:
    """Return handwritten digits, using every fifth image for testing."""
    loaded = sklearn.datasets.load_digits()
    images = np.round(loaded.images[..., None] * (255 / 16)).astype(np.uint8)
    test = np.arange(len(images)) % 5 == 0
    return {
        "train_images": images[~test],
        "train_labels": loaded.target[~test],
        "test_images": images[test],
        "test_labels": loaded.target[test],
    }


def footwear() -> Arrays:
    """Return the bundled Fashion-MNIST subset with two classes."""
    arrays, classes = _garments()
    is_footwear = np.isin(classes, FOOTWEAR).astype(np.int64)
    for split in SPLITS:
        arrays[f"{split}_labels"] = is_footwear[arrays[f"{split}_labels"]]
    return arrays | {"classes": np.array(["other", "footwear"])}


def attributes() -> Arrays:
    """Return the bundled Fashion-MNIST subset with five labels per image."""
    arrays, classes = _garments()
    table = np.stack([np.isin(classes, names) for names in ATTRIBUTES.values()], axis=1)
    for split in SPLITS:
        arrays[f"{split}_labels"] = table[arrays[f"{split}_labels"]].astype(np.int64)
    return arrays | {"classes": np.array(list(ATTRIBUTES))}


def rotation() -> Arrays:
    """Return the bundled Fashion-MNIST subset, rotated by random angles, which are the targets."""
    arrays, _ = _garments()
    angles = np.random.default_rng(0)
    for split in SPLITS:
        images = arrays[f"{split}_images"]
        degrees = angles.uniform(-45, 45, len(images)).astype(np.float32)
        for number, angle in enumerate(degrees):
            upright = PIL.Image.fromarray(images[number, ..., 0])
            images[number, ..., 0] = upright.rotate(angle, PIL.Image.Resampling.BILINEAR)
        arrays[f"{split}_labels"] = degrees[:, None]
    return arrays | {"classes": np.array(["degrees"])}


TASKS = {
    "multi_class: digits": (digits, Experiment(epochs=30, batch_size=32)),
    "binary: footwear": (footwear, Experiment(task="binary", epochs=5)),
    "multi_label: attributes": (attributes, Experiment(task="multi_label", epochs=5)),
    "regression: rotation": (rotation, Experiment(task="regression", epochs=10)),
}
SCORES = {
    "multi_class": ("accuracy", sklearn.metrics.accuracy_score),
    "binary": ("accuracy", sklearn.metrics.accuracy_score),
    "multi_label": (
        "f1_macro",
        lambda true, guess: sklearn.metrics.f1_score(true, guess, average="macro"),
    ),
    "regression": ("r2", sklearn.metrics.r2_score),
}


def baseline(task: str, arrays: Arrays) -> tuple[str, float]:
    """Return the name and the test score of a linear model on the pixels."""
    pixels = {
        s: arrays[f"{s}_images"].reshape(len(arrays[f"{s}_images"]), -1) / 255 for s in SPLITS
    }
    if task == "regression":
        name, model = "ridge regression", sklearn.linear_model.Ridge(10.0)
    else:
        name, model = "logistic regression", sklearn.linear_model.LogisticRegression(max_iter=300)
        if task == "multi_label":
            model = sklearn.multiclass.OneVsRestClassifier(model)
    model.fit(pixels["train"], arrays["train_labels"])
    guesses = model.predict(pixels["test"])
    return name, float(SCORES[task][1](arrays["test_labels"], guesses))


def main() -> None:
    """Train each task once per seed, and write the table."""
    for contender, (make_arrays, experiment) in TASKS.items():
        arrays = make_arrays()
        name, baseline_score = baseline(experiment.task, arrays)
        score = SCORES[experiment.task][0]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "data.npz"
            np.savez_compressed(file, **arrays)
            experiment = dataclasses.replace(experiment, data=str(file))
            (rows,) = measure({contender: experiment}, SEEDS, [f"test_{score}"]).values()
        linear = {"score": score, "baseline": name, "baseline_score": baseline_score}
        rows = [{"seed": row["seed"], **linear, "test_score": row[f"test_{score}"]} for row in rows]
        write_results("tasks", {contender: rows})


def _garments() -> tuple[Arrays, np.ndarray]:
    arrays: Arrays = {}
    for split in SPLITS:
        source = data.load("fashion_mnist_slice", split=split)
        arrays |= {f"{split}_images": source.images[:].copy(), f"{split}_labels": source.labels}
    return arrays, np.array(source.classes)


if __name__ == "__main__":
    main()
