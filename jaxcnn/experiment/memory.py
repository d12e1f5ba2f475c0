"""The error message for training that does not fit in the device's memory."""

import contextlib
from collections.abc import Iterator

import jax

from jaxcnn.experiment.build import Assembly
from jaxcnn.experiment.config import Experiment
from jaxcnn.view.costs import activation_bytes


@contextlib.contextmanager
def memory_errors(experiment: Experiment, parts: Assembly) -> Iterator[None]:
    """Convert an out-of-memory error of the device into one that suggests what to change.

    Raises:
      MemoryError: if the device runs out of memory.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "out of memory" not in str(error).lower():
            raise
        raise MemoryError(_message(experiment, parts)) from error


def _message(experiment: Experiment, parts: Assembly) -> str:
    network = parts.network
    size = (*network.preprocess.size, network.preprocess.channels)
    state = jax.eval_shape(lambda: network.initial_state(0))
    rows = experiment.batch_size // experiment.accumulate
    needed = rows * activation_bytes(network.model, state.variables, size)
    needed += sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return (
        f"a training step on {rows} images of {size[0]} x {size[1]} keeps about "
        f"{needed / 2**20:,.0f} MiB of activations, parameters and optimizer state. Reduce "
        f"--batch-size (now {experiment.batch_size}) or --image-size, compute the gradients in "
        f"microbatches with --accumulate (now {experiment.accumulate}), or recompute activations "
        "with --model-options remat True if the network has that option"
    )
