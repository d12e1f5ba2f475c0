"""Time that training waits for a save in the background, compared with a save in the foreground.

Claim: saving a ResNet-50 with momentum in the background takes less than 20% of the training
thread's time that a save in the foreground takes.
Command: python experiments/benchmarks/save_speed.py
Result: see RESULTS.md, "Saves in the background".
"""

import resource
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import optax

from jaxcnn import models, train
from jaxcnn.train.checkpoint import Snapshot
from jaxcnn.train.saving import Saver, Saving

ROUNDS = 5


def main() -> None:
    """Alternate between the two kinds of saves, and print medians."""
    model, images = models.create("resnet50", 1000), jnp.zeros((1, 224, 224, 3))
    state = train.create_state(jax.random.key(0), model, optax.sgd(0.1, momentum=0.9), images)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state)))
    waits: dict[str, list[float]] = {"foreground": [], "background": [], "in all": []}
    peaks = [_peak()]
    for _ in range(ROUNDS):
        folder = tempfile.mkdtemp()
        began = time.perf_counter()
        train.save(folder, Snapshot(state))
        waits["foreground"].append(time.perf_counter() - began)
        began = time.perf_counter()
        with Saver(Saving(tempfile.mkdtemp())) as saver:
            saver.save(Snapshot(state))
            waits["background"].append(time.perf_counter() - began)
        waits["in all"].append(time.perf_counter() - began)
    peaks.append(_peak())
    print(f"state of {size / 2**20:,.0f} MiB, medians of {ROUNDS}")
    for name, seconds in waits.items():
        print(f"{name:10} {statistics.median(seconds):6.2f} s")
    ratio = statistics.median(waits["background"]) / statistics.median(waits["foreground"])
    print(f"the training thread waits {ratio:.1%} of the time of a save in the foreground")
    print(f"peak memory: {peaks[0]:,.0f} MiB before, {peaks[1]:,.0f} MiB after the saves")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
