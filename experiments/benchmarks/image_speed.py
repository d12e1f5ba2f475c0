"""Image functions compared with their peers: a check of equal results, then timings.

Claim: on a CPU, jaxcnn augments several times as many images per second as widely used libraries.

Command: ``python experiments/benchmarks/image_speed.py --python torch=.venv-torch/bin/python
keras=.venv-keras/bin/python``
Result: image_results.json beside this file, and the table of RESULTS.md, which report.py writes.

Each library runs in a separate process. First, deterministic results must be equal (kornia's
components may be incomplete, because it stops after 100 iterations), and random results must agree
on average over about a thousand images. Then the libraries take turns, and medians are compared.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from compare import Contender, running
from image_tasks import RANDOM, TASKS, Task
from report import IMAGES, keep

ENVIRONMENTS = {
    "jaxcnn": "jax",
    "albumentations": "torch",
    "kornia": "torch",
    "torchvision": "torch",
    "keras": "keras",
    "opencv": "torch",
}
CONTENDERS = {
    name: Contender(name, "image_peer.py", environment, name, KERAS_BACKEND="tensorflow")
    for name, environment in ENVIRONMENTS.items()
}
# Maximum error relative to the largest value; Gaussian uint8 values may differ by two levels.
LIMITS = {"median3": 0.0, "median5": 0.0, "gaussian": 1e-5, "sobel": 1e-5}
SHOWN = 1024  # number of random images whose means are compared
# Maximum difference of means and standard deviations, in standard deviations: the order of
# transforms differs between chains.
ALIKE = 0.1


def main() -> None:
    """Check and time every requested task, then print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="", help="run only tasks whose names contain this")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="duration of a turn")
    parser.add_argument("--python", nargs="*", default=[], help="jax=PATH torch=PATH keras=PATH")
    parser.add_argument("--dry-run", action="store_true", help="print without writing results")
    options = parser.parse_args()
    pythons = dict.fromkeys(("jax", "torch", "keras"), sys.executable)
    pythons |= dict(pair.split("=") for pair in options.python)
    tasks = {name: task for name, task in TASKS.items() if options.tasks in name}
    needed = sorted({peer for task in tasks.values() for peer in task.peers})
    with running([CONTENDERS[name] for name in needed], pythons) as processes:
        libraries = dict(zip(needed, processes, strict=True))
        versions = {name: p.ask(do="versions")["versions"] for name, p in libraries.items()}
        for name, task in tasks.items():
            peers = {peer: libraries[peer] for peer in task.peers}
            times = take_turns(name, task, peers, options)
            medians = {peer: statistics.median(values) for peer, values in times.items()}
            print(name, {peer: f"{value:.2f} ms" for peer, value in medians.items()}, flush=True)
            if not options.dry_run:
                row = {
                    "milliseconds": times,
                    "batch": task.shape[0],
                    "versions": {peer: versions[peer] for peer in peers},
                }
                keep(f"{name}, {versions['jaxcnn']}", row, file=IMAGES)


def take_turns(
    name: str, task: Task, peers: dict[str, Any], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Return each peer's milliseconds per batch in each round."""
    turns = {}
    for peer, process in peers.items():
        process.ask(do="load", task=name)
        turns[peer] = max(
            1, round(options.seconds / process.ask(do="run", task=name, steps=2)["seconds"])
        )
    check(name, task, peers)
    times: dict[str, list[float]] = {peer: [] for peer in peers}
    for _ in range(options.rounds):
        for peer, process in peers.items():
            answer = process.ask(do="run", task=name, steps=turns[peer])
            times[peer].append(answer["seconds"] * 1000)
    return times


def check(name: str, task: Task, peers: dict[str, Any]) -> None:
    """Check that every peer produces the same results.

    Raises:
      SystemExit: if a peer's results differ.
    """
    results = {}
    steps = SHOWN // task.shape[0] if task.kind in RANDOM else 1
    with tempfile.TemporaryDirectory() as folder:
        for peer, process in peers.items():
            file = str(Path(folder) / f"{peer}.npy")
            process.ask(do="show", task=name, file=file, steps=steps)
            results[peer] = np.load(file).astype(np.float64)
    own = results.pop("jaxcnn")
    for peer, other in results.items():
        if task.kind in RANDOM:
            apart = np.abs([other.mean() - own.mean(), other.std() - own.std()]) / own.std()
            fits = apart.max() < ALIKE
        elif task.kind == "components":
            apart = other[0].max(), own[0].max()
            fits = peer == "kornia" or same_parts(other[0], own[0])
        else:
            apart = np.abs(other - own).max() / np.abs(other).max()
            level = 2.01 / 255 if task.kind == "gaussian" and task.dtype == "uint8" else 0.0
            fits = apart <= max(LIMITS[task.kind], level)
        if not fits:
            raise SystemExit(f"{name}: {peer} must produce the same results, got distance {apart}")


def same_parts(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two labelings have the same components, in any order."""
    for a, b in zip(one, other, strict=True):
        pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
        if not pairs.shape[1] == len(np.unique(a)) == len(np.unique(b)):
            return False
    return True


if __name__ == "__main__":
    main()
