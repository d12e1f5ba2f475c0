"""jaxcnn compared with its peers: first a check of equal values, then interleaved timings.

Claim: on a CPU, training steps in jaxcnn are faster than in Keras, PyTorch or plain Flax.

Command: ``python experiments/benchmarks/compare.py --python torch=.venv-torch/bin/python
keras=.venv-keras/bin/python``
Result: results.json beside this file, and the tables of RESULTS.md, which report.py writes from it.

Each peer runs in a separate process. First, all peers compute the loss and gradients from the same
weights, and the values must agree. Then fresh processes take turns (A B C A B C ...), each for
about a second at a time, and the medians over the rounds are compared. Finally, each peer is
started alone, to measure the time to its first step and the peak memory up to its fourth. With
``--precision bfloat16``, the peers are also timed in float32, in case that is faster.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from report import keep
from workloads import WORKLOADS

HERE = Path(__file__).parent


class Contender:
    """A peer: its name, script, environment, flags and environment variables."""

    def __init__(self, name: str, script: str, environment: str, *flags: str, **variables: str):
        self.name, self.script, self.environment = name, script, environment
        self.flags, self.variables = flags, variables


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("jaxcnn", "peer_jaxcnn.py", "jax"),
        Contender("flax", "peer_flax.py", "jax"),
        Contender("keras_tensorflow", "peer_keras.py", "keras", KERAS_BACKEND="tensorflow"),
        Contender("keras_jax", "peer_keras.py", "keras", KERAS_BACKEND="jax"),
        Contender("torch", "peer_torch.py", "torch"),
        Contender("torch_compile", "peer_torch.py", "torch", "--compile"),
    )
}


class Limits(NamedTuple):
    """Limits on the distance between a peer's values and plain Flax's values in float64.

    Attributes:
      loss: maximum relative error of the loss.
      gradient: maximum error of a gradient leaf, relative to its largest entry.
      cosine: minimum cosine similarity between all gradients and the reference.
    """

    loss: float
    gradient: float
    cosine: float


LIMITS = {
    "float64": Limits(1e-10, 1e-7, 1 - 1e-12),
    "float32": Limits(1e-5, 0.1, 0.9999),
    "bfloat16": Limits(1e-2, 1.0, 0.99),
}


KERAS_MEANS = "keras_jax", "float64"


class Process:
    """A running peer."""

    def __init__(self, contender: Contender, pythons: dict[str, str], variables: dict[str, str]):
        self.contender = contender
        # Absolute, because the process starts in a different folder.
        python = Path(pythons[contender.environment]).absolute()
        command = [str(python), contender.script, *contender.flags]
        self.process = subprocess.Popen(
            command,
            cwd=HERE,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"} | contender.variables | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the response."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.contender.name} ended during {request}; see its error above")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    """Check and time every requested workload, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=WORKLOADS)
    parser.add_argument("--peers", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--starts", type=int, default=3, help="starts of each peer alone")
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of a turn")
    parser.add_argument("--python", nargs="*", default=[], help="jax=PATH torch=PATH keras=PATH")
    parser.add_argument("--dry-run", action="store_true", help="print without writing results")
    options = parser.parse_args()
    pythons = dict.fromkeys(("jax", "torch", "keras"), sys.executable)
    pythons |= dict(pair.split("=") for pair in options.python)
    contenders = [CONTENDERS[name] for name in options.peers]
    for workload in options.workloads:
        check(workload, contenders, options.precision, pythons)
        row = {
            "workload": workload,
            "precision": options.precision,
            **take_turns(workload, contenders, options, pythons),
        }
        print_times(row)
        row |= start_alone(workload, contenders, options, pythons)
        print_starts(row)
        if not options.dry_run:
            release = row["versions"]["jaxcnn"].partition(",")[0]
            keep(f"{workload} {options.precision} {release}", row)


def check(
    workload: str, contenders: list[Contender], precision: str, pythons: dict[str, str]
) -> None:
    """Check that every contender computes the same values as plain Flax from the same weights.

    In float64, values must agree to ten digits, which only the same function does. In the timed
    precision, a nearly tied ReLU or maximum may be decided differently, and the effect on gradients
    increases with depth. So there, a contender's distance from the float64 values may exceed the
    limits if it is at most twice the distance of plain Flax in the same precision.

    Raises:
      SystemExit: if a contender's values differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.npz"
        with running([CONTENDERS["flax"]], pythons, JAX_ENABLE_X64="1") as (flax,):
            # One step makes the biases differ from zero.
            flax.ask(do="load", workload=workload, precision="float32")
            flax.ask(do="weights", file=str(weights))
            expected = values(flax, workload, "float64", weights)
        with running([CONTENDERS["flax"]], pythons, JAX_ENABLE_X64="0") as (flax,):
            plain = distance(values(flax, workload, precision, weights), expected)
        limits = LIMITS | {precision: doubled(plain, LIMITS[precision])}
        for contender in contenders:
            for dtype, x64 in (("float64", "1"), (precision, "0")):
                with running([contender], pythons, JAX_ENABLE_X64=x64) as (process,):
                    apart = distance(values(process, workload, dtype, weights), expected)
                print(
                    f"{contender.name} in {dtype}: loss within {apart.loss:.1e}, gradients within "
                    f"{apart.gradient:.1e}, cosine at least {apart.cosine:.6f}"
                )
                # Keras on JAX always computes means in float32, including batch statistics.
                keeps = "float32" if (contender.name, dtype) == KERAS_MEANS else dtype
                if not within(apart, limits[keeps]):
                    raise SystemExit(
                        f"{contender.name} in {dtype} does not compute the same function: "
                        f"the limits are {limits[keeps]}"
                    )


def values(
    process: Process, workload: str, precision: str, weights: Path
) -> tuple[float, dict[str, np.ndarray]]:
    """Return the loss and gradients for the first batch."""
    process.ask(do="load", workload=workload, precision=precision, weights=str(weights))
    file = weights.with_name("gradients.npz")
    loss = process.ask(do="gradients", file=str(file))["loss"]
    return loss, dict(np.load(file))


def doubled(plain: Limits, limits: Limits) -> Limits:
    """Return the larger of each limit and twice plain Flax's distance."""
    return Limits(
        loss=max(limits.loss, 2 * plain.loss),
        gradient=max(limits.gradient, 2 * plain.gradient),
        cosine=min(limits.cosine, 1 - 2 * (1 - plain.cosine)),
    )


def within(apart: Limits, limits: Limits) -> bool:
    """Return whether a distance is within the limits."""
    return (
        apart.loss <= limits.loss
        and apart.gradient <= limits.gradient
        and apart.cosine >= limits.cosine
    )


def distance(
    found: tuple[float, dict[str, np.ndarray]], expected: tuple[float, dict[str, np.ndarray]]
) -> Limits:
    """Return the distance between two results."""
    loss, gradients = found
    if gradients.keys() != expected[1].keys():
        raise SystemExit(f"parameters differ: {gradients.keys() ^ expected[1].keys()}")
    most = max(float(np.abs(reference).max()) for reference in expected[1].values())
    farthest, product, squares = 0.0, 0.0, np.zeros(2)
    for leaf, reference in expected[1].items():
        value = gradients[leaf].astype(np.float64)
        if value.shape != reference.shape:
            raise SystemExit(f"{leaf} must have shape {reference.shape}, got {value.shape}")
        product += float((value * reference).sum())
        squares += [(value**2).sum(), (reference**2).sum()]
        if np.abs(reference).max() < 1e-9 * most:
            continue  # the gradient of a bias before normalization is only rounding error
        error = float(np.abs(value - reference).max() / np.abs(reference).max())
        farthest = max(farthest, error)
    cosine = float(product / np.sqrt(squares.prod()))
    return Limits(abs(loss - expected[0]) / abs(expected[0]), farthest, cosine)


@contextlib.contextmanager
def running(
    contenders: list[Contender], pythons: dict[str, str], **variables: str
) -> Iterator[list[Process]]:
    """Start the contenders' processes, and end them on exit."""
    processes = [Process(contender, pythons, variables) for contender in contenders]
    try:
        yield processes
    finally:
        for process in processes:
            process.close()


def take_turns(
    workload: str, contenders: list[Contender], options: argparse.Namespace, pythons: dict[str, str]
) -> dict[str, Any]:
    """Return interleaved times of the training step and forward pass, and their lower bounds."""
    runners = [(contender, options.precision) for contender in contenders]
    if options.precision != "float32":
        runners += [(peer, "float32") for peer in contenders if peer.name != "jaxcnn"]
    names = [label(contender, precision, options) for contender, precision in runners]
    with running([contender for contender, _ in runners], pythons) as processes:
        turns, costs = {}, {}
        for name, (_, precision), process in zip(names, runners, processes, strict=True):
            process.ask(do="load", workload=workload, precision=precision)
            for what in ("train", "forward"):
                process.ask(do=what, steps=3)
                seconds = process.ask(do=what, steps=3)["seconds"]
                turns[name, what] = max(1, round(options.seconds / seconds))
            if name == "jaxcnn":
                costs = process.ask(do="costs")
        times: dict[str, dict[str, list[float]]] = {"train": {}, "forward": {}}
        for _ in range(options.rounds):
            for name, process in zip(names, processes, strict=True):
                for what, found in times.items():
                    answer = process.ask(do=what, steps=turns[name, what])
                    found.setdefault(name, []).append(answer["seconds"] * 1000)
        versions = {p.contender.name: p.ask(do="versions")["versions"] for p in processes}
    return {"versions": versions, "milliseconds": times, "costs": costs}


def start_alone(
    workload: str, contenders: list[Contender], options: argparse.Namespace, pythons: dict[str, str]
) -> dict[str, Any]:
    """Return the seconds from process start to the end of the first step, and the peak memory."""
    seconds: dict[str, list[float]] = {}
    peak: dict[str, list[float]] = {}
    for _ in range(options.starts):
        for contender in contenders:
            began = time.perf_counter()
            with running([contender], pythons) as (process,):
                process.ask(do="load", workload=workload, precision=options.precision)
                process.ask(do="train", steps=1)
                seconds.setdefault(contender.name, []).append(time.perf_counter() - began)
                answer = process.ask(do="train", steps=3)
                peak.setdefault(contender.name, []).append(answer["peak_mib"])
    return {"first_step_seconds": seconds, "peak_mib": peak}


def label(contender: Contender, precision: str, options: argparse.Namespace) -> str:
    """Return a contender's name in the results."""
    return contender.name if precision == options.precision else f"{contender.name} {precision}"


def print_times(row: dict[str, Any]) -> None:
    """Print medians and ratios."""
    for what, times in row["milliseconds"].items():
        own = statistics.median(times["jaxcnn"]) if "jaxcnn" in times else float("nan")
        for name, values in times.items():
            median = statistics.median(values)
            spread = (max(values) - min(values)) / median
            print(
                f"{row['workload']} {row['precision']} {what:8} {name:17} {median:9.2f} ms "
                f"(spread {spread:4.0%})  jaxcnn takes {own / median:5.2f}x this time",
                flush=True,
            )


def print_starts(row: dict[str, Any]) -> None:
    """Print the time to the first step, and the peak memory."""
    for name, seconds in row["first_step_seconds"].items():
        memory = statistics.median(row["peak_mib"][name])
        print(
            f"{row['workload']} {row['precision']} first step of {name:17} "
            f"{statistics.median(seconds):6.1f} s, {memory:6.0f} MiB"
        )


if __name__ == "__main__":
    main()
