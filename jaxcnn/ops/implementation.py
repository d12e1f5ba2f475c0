"""The choice between the library's tuned formulation of an operation and plain `jax.lax`.

Several of XLA's lowerings are slow on CPU, so some operations have a tuned formulation with the
same values and gradients. The formulations in `jaxcnn.ops.cpu` are selected by platform inside a
single traced function; other platforms run plain `jax.lax`.

=====================================  =========================  ===============  ================
operation                              tuned formulation          `implementation` `plain_xla`
=====================================  =========================  ===============  ================
`conv`, `depthwise_conv`               forward and gradient, CPU  yes              disables it
`max_pool`, `avg_pool`, `sum_pool`     forward and gradient, CPU  yes              disables it
`conv_relu_max_pool`                   one fused pass, CPU        yes              disables it
`batch_norm` with ``train=True``       gradient, all platforms    yes              disables it
`dropout`, `spatial_dropout`,          hashed random bits, all    yes              keeps the bits
`drop_path`, `gaussian_noise`          platforms
`conv_transpose`, `dense`, `flatten`,  none                       no               no effect
`group_norm`, `adaptive_avg_pool`,
`global_avg_pool`, `global_max_pool`
=====================================  =========================  ===============  ================

The random operations draw different values with ``implementation="xla"``, so `plain_xla` leaves
them alone: a network computes the same results inside it, including dropout.
"""

import contextlib
from typing import Literal

import jax

Implementation = Literal["auto", "xla"]

_meaning_of_auto = jax.make_user_context("auto")


def plain_xla() -> contextlib.AbstractContextManager[None]:
    """Return a context manager that makes operations use plain `jax.lax` on every platform.

    Use it for comparisons, for debugging, or for forward-mode autodiff through a whole network. It
    applies to everything traced inside it, and is part of JAX's cache keys. Random operations keep
    their bits (see the table in `jaxcnn.ops.implementation`).

    Example:
      >>> from jaxcnn import ops
      >>> image = jax.numpy.arange(4.0).reshape(1, 2, 2, 1)
      >>> with plain_xla():
      ...     value, slope = jax.jvp(lambda x: ops.max_pool(x, 2), [image], [image + 1])
      >>> value.item(), slope.item()
      (3.0, 4.0)
    """
    return _meaning_of_auto("xla")


def is_tuned(implementation: Implementation) -> bool:
    """Return whether to use the tuned formulation, which `plain_xla` disables.

    Raises:
      ValueError: if ``implementation`` is neither ``"auto"`` nor ``"xla"``.

    Example:
      >>> is_tuned("auto"), is_tuned("xla")
      (True, False)
    """
    check_implementation(implementation)
    return implementation == "auto" and _meaning_of_auto.value == "auto"


def check_implementation(implementation: Implementation) -> None:
    """Raise ValueError if ``implementation`` is neither ``"auto"`` nor ``"xla"``.

    Example:
      >>> check_implementation("auto")
    """
    if implementation not in ("auto", "xla"):
        raise ValueError(f"implementation must be 'auto' or 'xla', got {implementation!r}")
