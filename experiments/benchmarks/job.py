"""A whole job compared with Keras: the classical CNN on all of Fashion-MNIST.

Claim: ``jaxcnn train`` takes less time than a script with Keras ``fit``, including startup.

Both train for ten epochs with batches of 128 and seed 0, and evaluate on the test split at the end.
They run in separate processes and take turns. Run ``jaxcnn prepare fashion_mnist`` first.

Command: ``python experiments/benchmarks/job.py --keras .venv-keras/bin/python``
Result: results.json beside this file, and the tables of RESULTS.md, which report.py writes from it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
from report import HERE, keep

FLAGS = "--data fashion_mnist --validation-fraction 0"
KERAS = "import json, fashion_mnist_keras as job; print(json.dumps(job.train_once(0)))"


def main() -> None:
    """Run both jobs in turn, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--keras", type=Path, default=Path(sys.executable), help="Python in the Keras environment"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dry-run", action="store_true", help="print without writing results")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"jaxcnn": [], "keras": []}
    accuracy = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            workdir = Path(folder) / "run"
            command = [sys.executable, "-m", "jaxcnn", "train", *FLAGS.split(), "--workdir"]
            seconds["jaxcnn"].append(_timed([*command, str(workdir)])[0])
            accuracy["jaxcnn"] = json.loads((workdir / "result.json").read_text())["test_accuracy"]
        # Not resolved: an environment's Python is a link. Absolute: the job runs in another folder.
        taken, output = _timed([str(options.keras.absolute()), "-c", KERAS])
        seconds["keras"].append(taken)
        accuracy["keras"] = json.loads(output.splitlines()[-1])["test_accuracy"]
        print(seconds, accuracy, flush=True)
    if not options.dry_run:
        versions = {"jaxcnn": f"jax {jax.__version__}"}
        row = {"seconds": seconds, "test_accuracy": accuracy, "versions": versions}
        keep(f"job jax {jax.__version__}", row)


def _timed(command: list[str]) -> tuple[float, str]:
    """Return the duration in seconds and the standard output of a command."""
    began = time.perf_counter()
    result = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - began, result.stdout


if __name__ == "__main__":
    main()
