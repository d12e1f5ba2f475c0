"""Detection of training steps whose results are not finite, on the device.

A step is finite if its objective, the norm of its gradients, and the parameters and batch
statistics after its update are. Everything else in the state is computed from these.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.metrics import Counts
from jaxcnn.train.state import TrainState

OnNonfinite = Literal["raise", "skip"]

NONFINITE_STEP = "nonfinite_step"
"""Entry of a step's counts with the policy ``"raise"``: its number if it is not finite, else 0."""
SKIPPED_STEPS = "skipped_steps"
"""Entry of a step's counts: 1 if it was skipped, else 0."""
_LISTED = 8


class DivergedError(RuntimeError):
    """Training diverged: values that should be finite are not."""


def guard(
    old: TrainState, new: TrainState, counts: Counts, policy: OnNonfinite
) -> tuple[TrainState, Counts]:
    """Return the state and counts after a step, depending on whether its results are finite.

    Args:
      old: state before the step.
      new: state after it.
      counts: the step's counts, with ``objective`` and ``gradient_norm``.
      policy: with ``"raise"``, the counts report a step that is not finite, for `fit` to raise;
        with ``"skip"``, such a step changes only ``state.step``, and counts as skipped.
    """
    finite = _is_finite((counts["objective"].numerator, counts["gradient_norm"].numerator))
    finite &= _is_finite((new.params, new.batch_stats))
    skipped = jnp.zeros((), jnp.int32)
    if policy == "raise":
        number = jnp.where(finite, 0, new.step)
        return new, counts | {SKIPPED_STEPS: skipped, NONFINITE_STEP: number}
    kept = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        (new.params, new.batch_stats, new.opt_state, new.ema),
        (old.params, old.batch_stats, old.opt_state, old.ema),
    )
    new = dataclasses.replace(
        new, **dict(zip(("params", "batch_stats", "opt_state", "ema"), kept, strict=True))
    )
    counts = jax.tree.map(lambda sums: jnp.where(finite, sums, jnp.zeros_like(sums)), counts)
    return new, counts | {SKIPPED_STEPS: skipped + ~finite}


def check_finite(counts: Counts, batch: Any) -> None:
    """Raise an error that names the step and its examples if a call to a step was not finite.

    Waits until the call is finished.

    Args:
      counts: the counts that the call returned.
      batch: the batch, or the group of batches, that it used.

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
    if index.ndim > 1:  # a group: its last step is the one that is not finite
        last = int(counts["objective"].denominator) - 1
        index, mask = index[last], mask[last]
    index = index[mask]
    listed = ", ".join(map(str, index[:_LISTED]))
    more = f" and {len(index) - _LISTED} more" if len(index) > _LISTED else ""
    raise DivergedError(
        f"{cause} after step {step}, on training examples {listed}{more}; the last checkpoint is "
        "finite. Try a smaller learning rate, or skip such steps: on_nonfinite='skip'"
    )


def _is_finite(tree: Any) -> jax.Array:
    """Return whether all floating-point values in a tree are finite."""
    # A sum is finite only if its terms are, and adding is all that it costs.
    sums = [
        jnp.sum(leaf, dtype=jnp.float32)
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    ]
    return jnp.isfinite(sum(sums, jnp.zeros((), jnp.float32)))
