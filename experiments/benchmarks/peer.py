"""Process for one peer, which answers one JSON request per line until its input ends.

Each peer has a separate process (and, where packages conflict, a separate environment), so that one
runtime's threads and memory do not affect another's. This file requires only NumPy.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from workloads import WORKLOADS, Workload

BATCHES = 4  # number of distinct batches, used in turn
COMPARED = 4  # number of rows in the batch for comparing values


class Peer(Protocol):
    """Interface for peers. Weights and gradients use jaxcnn's names and layouts."""

    def load(
        self,
        workload: Workload,
        precision: str,
        weights: dict[str, np.ndarray] | None,
        data: list[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Build the network and optimizer, load the weights, and prepare the batches.

        If ``weights`` is given, the peer's values are compared, so random regularizers are off.
        Otherwise the peer is timed, with its own initial weights and with regularizers on.
        ``precision`` is float32, bfloat16 (computation dtype, with float32 parameters) or, for
        comparisons only, float64.
        """

    def gradients(self) -> tuple[float, dict[str, np.ndarray]]:
        """Return the training loss and its gradients for the first batch."""

    def train(self, steps: int) -> None:
        """Take ``steps`` optimizer steps, and wait for them to finish."""

    def forward(self, steps: int) -> None:
        """Compute logits for ``steps`` batches in evaluation mode, and wait for them to finish."""

    def versions(self) -> str:
        """Return the names and versions of the libraries."""


def examples(workload: Workload, dtype: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return normally distributed images and random labels, the same in every process."""
    generator = np.random.default_rng(0)
    return [
        (
            generator.standard_normal((workload.batch, *workload.shape), np.float32).astype(dtype),
            generator.integers(workload.classes, size=workload.batch, dtype=np.int32),
        )
        for _ in range(BATCHES)
    ]


def serve(make: Callable[[], Peer]) -> None:
    """Answer requests to load, to train, and to call the other methods of a peer."""
    # Only responses may go to the real standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer = make()
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(_answer(peer, request)) + "\n")
        answers.flush()


def _answer(peer: Any, request: dict[str, Any]) -> Any:
    if request["do"] == "load":
        workload = WORKLOADS[request["workload"]]
        precision, weights = request["precision"], None
        dtype = "float64" if precision == "float64" else "float32"
        data = examples(workload, dtype)
        if request.get("weights"):
            stored = dict(np.load(request["weights"]))
            weights = {name: array.astype(dtype) for name, array in stored.items()}
            data = [(images[:COMPARED], labels[:COMPARED]) for images, labels in data]
        peer.load(workload, precision, weights, data)
        return {}
    if request["do"] == "gradients":
        loss, gradients = peer.gradients()
        np.savez(request["file"], **gradients)
        return {"loss": loss}
    if request["do"] == "weights":
        np.savez(request["file"], **peer.weights())
        return {}
    if request["do"] == "costs":
        return peer.costs()
    if request["do"] == "versions":
        return {"versions": peer.versions()}
    began = time.perf_counter()
    (peer.train if request["do"] == "train" else peer.forward)(request["steps"])
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds / request["steps"], "peak_mib": peak}
