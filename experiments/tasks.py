"""The four kinds of output, each trained end to end through the command line, and a baseline each.

Claim: each beats its baseline, a linear model on the pixels of the same training images
(scikit-learn's logistic or ridge regression, and for the rotation angle also the mean).

- multi_class: scikit-learn's handwritten digits, 8x8 pixels, 1,437 to train on and 360 to test.
- binary: is it footwear? Sandals, sneakers and boots of the embedded slice against the rest.
- multi_label: five attributes of a garment at once, made from its class.
- regression: by how many degrees an image was turned, drawn from -45 to 45 for each.

Command: ``python experiments/tasks.py``
Result: the table in experiments/README.md, written from results/tasks.json.
"""

import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import PIL.Image
import sklearn.datasets
import sklearn.linear_model
import sklearn.metrics
import sklearn.multiclass
from results import update_readme, write_results

from jaxcnn import __main__ as command_line
from jaxcnn import data

SEEDS = range(3)
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
    """Handwritten digits; every fifth is for testing."""
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
    """The embedded slice with two classes."""
    arrays, classes = _garments()
    is_footwear = np.isin(classes, FOOTWEAR).astype(np.int64)
    for split in data.SPLITS:
        arrays[f"{split}_labels"] = is_footwear[arrays[f"{split}_labels"]]
    return arrays | {"classes": np.array(["other", "footwear"])}


def attributes() -> Arrays:
    """The embedded slice with five labels for each image."""
    arrays, classes = _garments()
    table = np.stack([np.isin(classes, names) for names in ATTRIBUTES.values()], axis=1)
    for split in data.SPLITS:
        arrays[f"{split}_labels"] = table[arrays[f"{split}_labels"]].astype(np.int64)
    return arrays | {"classes": np.array(list(ATTRIBUTES))}


def rotation() -> Arrays:
    """The embedded slice, each image turned by an angle of its own, which is the target."""
    arrays, _ = _garments()
    angles = np.random.default_rng(0)
    for split in data.SPLITS:
        images = arrays[f"{split}_images"]
        turned = angles.uniform(-45, 45, len(images)).astype(np.float32)
        for number, angle in enumerate(turned):
            picture = PIL.Image.fromarray(images[number, ..., 0])
            images[number, ..., 0] = picture.rotate(angle, PIL.Image.Resampling.BILINEAR)
        arrays[f"{split}_labels"] = turned[:, None]
    return arrays | {"classes": np.array(["degrees"])}


TASKS = {
    "multi_class: digits": ("multi_class", digits, ("--epochs", "30", "--batch-size", "32")),
    "binary: footwear": ("binary", footwear, ("--epochs", "5")),
    "multi_label: attributes": ("multi_label", attributes, ("--epochs", "5")),
    "regression: rotation": ("regression", rotation, ("--epochs", "10")),
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
    """A linear model on the pixels: its name, and its score on the test split."""
    pixels = {
        s: arrays[f"{s}_images"].reshape(len(arrays[f"{s}_images"]), -1) / 255 for s in data.SPLITS
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
    """Train each task once per seed, through the command line, and write the table."""
    versions = f"jaxcnn on jax {jax.__version__}, Python {platform.python_version()}"
    for contender, (task, make_arrays, flags) in TASKS.items():
        arrays = make_arrays()
        name, baseline_score = baseline(task, arrays)
        score = SCORES[task][0]
        rows = []
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as folder:
                file, run = Path(folder) / "data.npz", Path(folder) / "run"
                np.savez_compressed(file, **arrays)
                command = ["train", "--task", task, "--data", str(file), "--seed", str(seed)]
                command += [*flags, "--workdir", str(run)]
                if command_line.main(command):
                    raise SystemExit(1)
                result = json.loads((run / "result.json").read_text())
            rows.append(
                {
                    "seed": seed,
                    "score": score,
                    "baseline": name,
                    "baseline_score": baseline_score,
                    "test_score": result[f"test_{score}"],
                }
            )
            print(contender, rows[-1], flush=True)
        write_results("tasks", contender, versions, rows)
    update_readme()


def _garments() -> tuple[Arrays, np.ndarray]:
    arrays: Arrays = {}
    for split in data.SPLITS:
        source = data.load("fashion_mnist_slice", split=split)
        arrays |= {f"{split}_images": source.images[:].copy(), f"{split}_labels": source.labels}
    return arrays, np.array(source.classes)


if __name__ == "__main__":
    main()
