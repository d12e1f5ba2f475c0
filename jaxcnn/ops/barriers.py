"""A barrier against recomputation inside XLA's fusions."""

from typing import TypeVar

from jax import lax

Values = TypeVar("Values")


def materialize(values: Values) -> Values:
    """Store values on a CPU before anything uses them; return them unchanged.

    XLA's CPU fusion would otherwise compute them again for each use. There is no effect on other
    platforms, nor on jaxlib 0.10 (see DROPPED BARRIERS in `jaxcnn.ops.cpu.versions`).

    Args:
      values: any tree of arrays.

    Example:
      >>> import jax.numpy as jnp
      >>> materialize(jnp.arange(3)).tolist()
      [0, 1, 2]
    """
    stored: Values = lax.platform_dependent(
        values, cpu=lax.optimization_barrier, default=lambda values: values
    )
    return stored
