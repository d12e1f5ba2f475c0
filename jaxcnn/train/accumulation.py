"""Gradients of a batch, computed one microbatch after the other to save memory."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.batch import Batch
from jaxcnn.metrics import Counts, add_counts
from jaxcnn.train.state import TrainState


def accumulated(
    value_and_grad: Callable[..., Any], state: TrainState, batch: Batch, key: jax.Array, parts: int
) -> tuple[jax.Array, chex.ArrayTree, chex.ArrayTree, Counts]:
    """Return value, gradients, statistics and counts for a batch of ``parts`` microbatches.

    Args:
      value_and_grad: ``(params, batch_stats, batch, key) -> ((value, (batch_stats, counts)),
        gradients)``, with values and gradients that add up over microbatches.
      state: supplies the parameters and the batch statistics.
      batch: the whole batch.
      key: dropout key; each microbatch folds in its number.
      parts: number of microbatches, a divisor of the batch size.

    Raises:
      ValueError: if ``parts`` does not divide the batch size.
    """
    if parts == 1:
        (value, (batch_stats, counts)), gradients = value_and_grad(
            state.params, state.batch_stats, batch, key
        )
        return value, gradients, batch_stats, counts
    rows = len(batch.mask)
    if rows % parts:
        raise ValueError(f"accumulate must divide the batch size ({rows}), got {parts}")

    def of_part(batch_stats: chex.ArrayTree, number: jax.Array) -> tuple[Any, Any, Counts]:
        size = rows // parts
        part = jax.tree.map(
            lambda leaf: lax.dynamic_slice_in_dim(leaf, number * size, size),
            batch._replace(epoch=None),
        )
        (value, (batch_stats, counts)), gradients = value_and_grad(
            state.params,
            batch_stats,
            part._replace(epoch=batch.epoch),
            jax.random.fold_in(key, number),
        )
        return batch_stats, (value, gradients), counts

    def body(carry: Any, number: jax.Array) -> tuple[Any, None]:
        batch_stats, sums, counts = carry
        batch_stats, more, more_counts = of_part(batch_stats, number)
        sums = jax.tree.map(jnp.add, sums, more)
        return (batch_stats, sums, add_counts(counts, more_counts)), None

    first = of_part(state.batch_stats, jnp.zeros((), jnp.int32))
    (batch_stats, (value, gradients), counts), _ = lax.scan(body, first, jnp.arange(1, parts))
    return value, gradients, batch_stats, counts
