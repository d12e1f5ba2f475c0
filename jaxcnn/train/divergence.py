"""On-device detection of training steps with non-finite results.

A step is finite if the objective, the gradient norm, and the updated parameters and batch
statistics are all finite. Everything else in the state is computed from these.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.metrics import Counts
from jaxcnn.train.state import TrainState

OnNonfinite = Literal["raise", "skip"]

NONFINITE_STEP = "nonfinite_step"
"""Name in the counts, with policy ``"raise"``: the step's number if it is not finite, else 0."""
SKIPPED_STEPS = "skipped_steps"
"""Name in the counts: the number of skipped steps."""
_LISTED = 8


class DivergedError(RuntimeError):
    """Training diverged: a loss, gradient or variable is not finite."""


def guard(
    old: TrainState, new: TrainState, counts: Counts, policy: OnNonfinite
) -> tuple[TrainState, Counts]:
    """Return the state and counts after a step, depending on whether the step was finite.

    Args:
      old: state before the step.
      new: state after it.
      counts: the step's counts, with ``objective`` and ``gradient_norm``.
      policy: ``"raise"`` marks a non-finite step in the counts, so that `fit` can raise an error;
        ``"skip"`` makes such a step change only ``state.step``, and counts it as skipped.
    """
    finite = _is_finite((counts["objective"].numerator, counts["gradient_norm"].numerator))
    finite &= _is_finite((new.params, new.batch_stats))
    skipped = jnp.zeros((), jnp.int32)
    if policy == "raise":
        number = jnp.where(finite, 0, new.step)
        return new, counts | {SKIPPED_STEPS: skipped, NONFINITE_STEP: number}
    # A branch copies each array once; jnp.where would read both candidates of every array.
    new, counts = lax.cond(
        finite,
        lambda: (new, counts),
        lambda: (dataclasses.replace(old, step=new.step), jax.tree.map(jnp.zeros_like, counts)),
    )
    return new, counts | {SKIPPED_STEPS: skipped + ~finite}


def check_finite(counts: Counts, batch: Any) -> None:
    """Raise an error if a step was not finite, naming the step and its examples.

    This waits for the step to finish.

    Args:
      counts: the counts returned by the step, or by several fused steps.
      batch: the batch, or group of batches, that was passed to it.

    Raises:
      DivergedError: if a step was not finite and its policy is ``"raise"``.
    """
    step = int(counts.get(NONFINITE_STEP, 0))
    if not step:
        return
    cause = "the parameters or batch statistics are not finite"
    for name in ("gradient_norm", "objective"):
        if not np.isfinite(value := float(counts[name].numerator)):
            cause = f"the {name.replace('_', ' ')} is {value}"
    index, mask = np.asarray(batch.index), np.asarray(batch.mask)
    if index.ndim > 1:  # fused steps, which end with the one that is not finite
        last = int(counts["objective"].denominator) - 1
        index, mask = index[last], mask[last]
    index = index[mask]
    listed = ", ".join(map(str, index[:_LISTED]))
    more = f" and {len(index) - _LISTED} more" if len(index) > _LISTED else ""
    raise DivergedError(
        f"{cause} after step {step}, on training examples {listed}{more}; try a "
        "smaller learning rate, or on_nonfinite='skip' to skip such steps"
    )


def _is_finite(tree: Any) -> jax.Array:
    """Return whether all floating-point values in a tree are finite."""
    # A sum is finite only if all of its terms are, and costs a single pass.
    sums = [
        jnp.sum(leaf, dtype=jnp.float32)
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    ]
    return jnp.isfinite(sum(sums, jnp.zeros((), jnp.float32)))
