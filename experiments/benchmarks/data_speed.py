"""Loading batches from JPEG files, compared with other loaders, and the cost of data per step.

Claim: on two cores, jaxcnn reads a folder of photographs as fast as the fastest of PyTorch's
DataLoader, tf.data and grain, and small in-memory images never delay a step.

Command: ``python experiments/benchmarks/data_speed.py --python torch=.venv-torch/bin/python
keras=.venv-keras/bin/python``
Result: data_results.json beside this file, and the table of RESULTS.md, which report.py writes.

1,024 JPEG files of 501x375 pixels are cropped from the photographs that ship with scikit-learn.
Each loader runs in a separate process. First, all loaders must produce the same pixels, up to the
rounding of their filters. Then they take turns reading one epoch each, with a warm file cache.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import PIL.Image
from compare import Contender, running
from report import DATA, keep
from sklearn.datasets import load_sample_images

from jaxcnn import data, image, models, train
from jaxcnn.experiment import keep_freed_memory

ENVIRONMENTS = {
    "jaxcnn": "jax",
    "torch": "torch",
    "torch_tensors": "torch",
    "tensorflow": "keras",
    "grain": "torch",
}
FILES = 1024
SHAPE = (501, 375)  # odd width: the centered square starts at an integer pixel
CLASSES = 8
APART = 1.0  # mean difference in levels of 255: decoders and filters round differently


def main() -> None:
    """Check and time the loaders, then print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", nargs="+", default=list(ENVIRONMENTS), choices=ENVIRONMENTS)
    parser.add_argument("--python", nargs="*", default=[], help="jax=PATH torch=PATH keras=PATH")
    parser.add_argument("--dry-run", action="store_true", help="print without writing results")
    options = parser.parse_args()
    pythons = dict.fromkeys(("jax", "torch", "keras"), sys.executable)
    pythons |= dict(pair.split("=") for pair in options.python)
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder))
        row = read_in_turns(folder, options.peers, pythons, options.rounds)
    steps = steps_in_turns(options.rounds)
    medians = {name: statistics.median(values) for name, values in steps.items()}
    print(f"step time, real data / fixed batch: {medians['real'] / medians['fixed']:.3f}")
    if not options.dry_run:
        keep(f"jax {jax.__version__}", row | {"step_milliseconds": steps}, file=DATA)


def write_photographs(folder: Path) -> None:
    """Write random crops of two photographs, at varying scales, to class folders."""
    photographs = [PIL.Image.fromarray(pixels) for pixels in load_sample_images().images]
    generator = np.random.default_rng(0)
    for number in range(FILES):
        path = folder / "train" / f"class{number % CLASSES}" / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph = photographs[number % 2]
        share = generator.uniform(0.5, 1)
        size = np.array(photograph.size) * share
        left, top = generator.uniform(0, np.array(photograph.size) - size)
        part = photograph.resize(SHAPE, box=(left, top, left + size[0], top + size[1]))
        part.save(path, quality=90)
    last = folder / "test" / "class0" / "0.jpg"
    last.parent.mkdir(parents=True)
    part.save(last)


def read_in_turns(
    folder: str, peers: list[str], pythons: dict[str, str], rounds: int
) -> dict[str, Any]:
    """Return each loader's images per second in each round, and the loaders' versions."""
    contenders = [
        Contender(name, "data_peer.py", ENVIRONMENTS[name], name, KERAS_BACKEND="tensorflow")
        for name in peers
    ]
    with running(contenders, pythons) as processes:
        loaders = dict(zip(peers, processes, strict=True))
        shown = {}
        for name, process in loaders.items():
            process.ask(do="load", folder=folder)
            file = f"{folder}/{name}.npz"
            process.ask(do="show", file=file)
            shown[name] = dict(np.load(file))
        check(shown)
        speeds: dict[str, list[float]] = {name: [] for name in peers}
        for number in range(rounds + 1):
            for name, process in loaders.items():
                answer = process.ask(do="run")
                if answer["images"] < FILES:
                    raise SystemExit(f"{name} must read {FILES} images, got {answer['images']}")
                if number:  # the first round warms up
                    speeds[name].append(FILES / answer["seconds"])
        for name, values in speeds.items():
            print(f"{name}: {statistics.median(values):.0f} images/s", flush=True)
        versions = {name: p.ask(do="versions")["versions"] for name, p in loaders.items()}
    return {"images_per_second": speeds, "versions": versions}


def check(shown: dict[str, dict[str, np.ndarray]]) -> None:
    """Check that every loader produces the same pixels and labels.

    Raises:
      SystemExit: if a loader's pixels or labels differ.
    """
    own = shown["jaxcnn"]
    for name, other in shown.items():
        if not np.array_equal(own["labels"], other["labels"]):
            raise SystemExit(f"{name} must produce the same labels as jaxcnn")
        apart = np.abs(own["images"].astype(float) - other["images"]).mean()
        print(f"{name}: mean pixel difference of {apart:.2f} levels", flush=True)
        if apart > APART:
            raise SystemExit(f"{name} must produce the same pixels as jaxcnn, up to {APART} levels")


def steps_in_turns(rounds: int) -> dict[str, list[float]]:
    """Return W1's step times in ms, on an epoch of real data and on one fixed batch."""
    source = data.load("fashion_mnist_slice")
    batches = data.batches(source, 128, seed=0)
    preprocess = image.Preprocess(size=(28, 28), channels=1)
    model, optimizer = models.create("classic_cnn", 10), optax.adam(1e-3)
    step = train.make_train_step(model, optimizer, preprocess=preprocess)
    state = train.create_state(jax.random.key(0), model, optimizer, preprocess(source.images[:1]))
    fixed = jax.device_put(next(iter(batches)))

    def seconds(epoch: Any) -> float:
        nonlocal state
        began = time.perf_counter()
        for batch in epoch:
            state, counts = step(state, batch)
        jax.block_until_ready(counts)
        return time.perf_counter() - began

    times: dict[str, list[float]] = {"real": [], "fixed": []}
    for number in range(rounds + 1):
        real = seconds(data.prefetch(batches.epoch(number)))
        same = seconds([fixed] * len(batches))
        if number:
            times["real"].append(real / len(batches) * 1000)
            times["fixed"].append(same / len(batches) * 1000)
    return times


if __name__ == "__main__":
    keep_freed_memory()
    main()
