"""Penalties on parameters, added to the loss: L1 makes weights sparse, L2 keeps them small.

Unlike decoupled weight decay (``optax.adamw``), their gradients go through the optimizer.
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from jaxcnn.parameters import select


def penalty(
    params: chex.ArrayTree,
    *,
    l1: float = 0.0,
    l2: float = 0.0,
    patterns: Sequence[str] = ("*kernel",),
) -> jax.Array:
    """Return ``l1 * sum(|w|) + l2 * sum(w ** 2)`` over the selected parameters.

    Args:
      params: model parameters.
      l1: weight of the sum of absolute values, >= 0.
      l2: weight of the sum of squares, >= 0.
      patterns: shell patterns for the names to select; see `jaxcnn.parameters.select`.

    Returns:
      A float32 scalar.

    Raises:
      ValueError: if a weight is negative or not finite, or a pattern matches nothing.

    Example:
      >>> params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([5.0])}
      >>> penalty(params, l1=0.5, l2=0.1).item()
      2.0

    Reference:
      Keras's L1 and L2 regularizers (without a factor of one half).
    """
    for name, weight in (("l1", l1), ("l2", l2)):
        if not isinstance(weight, jax.Array) and not 0 <= weight < float("inf"):
            raise ValueError(f"{name} must be finite and >= 0, got {weight!r}")
    chosen = select(params, patterns)

    def of_leaf(leaf: jax.Array, is_chosen: bool) -> jax.Array:
        if not is_chosen:
            return jnp.zeros(())
        leaf = leaf.astype(jnp.float32)
        return l1 * jnp.sum(jnp.abs(leaf)) + l2 * jnp.sum(jnp.square(leaf))

    return sum(jax.tree.leaves(jax.tree.map(of_leaf, params, chosen)), jnp.zeros(()))
