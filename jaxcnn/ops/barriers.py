"""A barrier against recomputation inside XLA's fusions."""

from typing import TypeVar

from jax import lax

Values = TypeVar("Values")


def materialize(values: Values) -> Values:
    """On CPU, force values to be materialized before they are used; return them unchanged.

    XLA's CPU fusion would otherwise recompute them for each use. This has no effect on other
    platforms or with jaxlib 0.10 (see DROPPED BARRIERS in `jaxcnn.ops.cpu.versions`).

    Args:
      values: any pytree of arrays.

    Example:
      >>> import jax.numpy as jnp
      >>> materialize(jnp.arange(3)).tolist()
      [0, 1, 2]
    """
    stored: Values = lax.platform_dependent(
        values, cpu=lax.optimization_barrier, default=lambda values: values
    )
    return stored
