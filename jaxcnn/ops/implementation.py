"""Which formulation of an operation runs: the library's own, or plain `jax.lax`.

On a CPU several of XLA's lowerings are slow, so operations have formulations of their own there,
with the same values and gradients (`jaxcnn.ops.cpu`). They are chosen per platform inside one
traced function; on other platforms plain `jax.lax` runs.
"""

import contextlib
from typing import Literal, TypeVar

import jax
from jax import lax

Implementation = Literal["auto", "xla"]
Values = TypeVar("Values")

_meaning_of_auto = jax.make_user_context("auto")


def plain_xla() -> contextlib.AbstractContextManager[None]:
    """Inside, every operation is plain `jax.lax`, on every platform.

    For comparisons, for forward mode through a whole network, and for doubt. It holds for what is
    traced inside, and JAX's caches know about it.

    Example:
      >>> from jaxcnn import ops
      >>> image = jax.numpy.arange(4.0).reshape(1, 2, 2, 1)
      >>> with plain_xla():
      ...     value, slope = jax.jvp(lambda x: ops.max_pool(x, 2), [image], [image + 1])
      >>> value.item(), slope.item()
      (3.0, 4.0)
    """
    return _meaning_of_auto("xla")


def is_own(implementation: Implementation) -> bool:
    """Whether the library's own formulation is asked for.

    Raises:
      ValueError: if ``implementation`` is neither ``"auto"`` nor ``"xla"``.
    """
    if implementation not in ("auto", "xla"):
        raise ValueError(f"implementation must be 'auto' or 'xla', got {implementation!r}")
    return implementation == "auto" and _meaning_of_auto.value == "auto"


def computed_once(values: Values) -> Values:
    """Values, any tree of arrays, that are stored before anything uses them, on a CPU.

    XLA's fusion there would compute them again for each use. jaxlib 0.10 fuses all the same.

    Example:
      >>> computed_once(jax.numpy.arange(3)).tolist()
      [0, 1, 2]
    """
    stored: Values = lax.platform_dependent(
        values, cpu=lax.optimization_barrier, default=lambda values: values
    )
    return stored
