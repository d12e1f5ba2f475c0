"""Time of a training step with and without the check for non-finite values.

Claim: with either policy, a step takes at most 1.03 times as long as without the check.
Command: python experiments/benchmarks/divergence_speed.py
Result: see RESULTS.md, "The check for non-finite values".
"""

import statistics
import time
from typing import Any, get_args

import jax
import numpy as np
import optax
from workloads import WORKLOADS

from jaxcnn import models, train
from jaxcnn.batch import Batch
from jaxcnn.experiment import keep_freed_memory
from jaxcnn.train import step as step_module

ROUNDS = 15
STEPS = {"W1": 60, "W3": 2}  # steps of a round, about a second or more


def main() -> None:
    """Alternate between the policies, and print medians and medians of pairs."""
    keep_freed_memory()
    for workload, steps in STEPS.items():
        runs = {policy: _Run(workload, policy) for policy in ("none", *get_args(train.OnNonfinite))}
        times: dict[str, list[float]] = {policy: [] for policy in runs}
        for number in range(ROUNDS):
            for policy in runs if number % 2 else reversed(runs):
                times[policy].append(runs[policy].seconds(steps) / steps)
        for policy, seconds in times.items():
            pairs = (ours / none for none, ours in zip(times["none"], seconds, strict=True))
            print(
                f"{workload} {policy:5} {1000 * statistics.median(seconds):8.2f} ms, "
                f"median of pairs {statistics.median(pairs):.3f}",
                flush=True,
            )


class _Run:
    """A training step of a workload with one policy; "none" is the step without the check."""

    def __init__(self, workload: str, policy: Any):
        chosen = WORKLOADS[workload]
        model = models.create(chosen.model, chosen.classes, **chosen.options)
        optimizer = optax.adam(1e-3)
        if chosen.optimizer == "momentum":
            optimizer = optax.sgd(0.01, momentum=0.9)
        rows = np.arange(chosen.batch, dtype=np.int32)
        images = np.random.default_rng(0).random((chosen.batch, *chosen.shape), np.float32)
        batch = Batch(images, rows % chosen.classes, rows >= 0, rows, np.int32(0))
        self._batch = jax.device_put(batch)
        self._state = train.create_state(jax.random.key(0), model, optimizer, images[:1])
        guard = step_module.guard
        if policy == "none":
            step_module.guard = lambda old, new, counts, policy: (new, counts)
        self._step = train.make_train_step(
            model, optimizer, on_nonfinite="raise" if policy == "none" else policy
        )
        self.seconds(1)  # traces the step, with the guard above
        step_module.guard = guard

    def seconds(self, steps: int) -> float:
        """Return the time of some steps."""
        began = time.perf_counter()
        for _ in range(steps):
            self._state, counts = self._step(self._state, self._batch)
        jax.block_until_ready((self._state, counts))
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
