"""Random draws for each image, and checks for their bounds.

``key`` is either a single JAX random key, used as ``fold_in(key, i)`` for row i, or ``[B]`` keys,
one per row, as the training step passes to ``augment``. The same key draws the same numbers, so a
second call with the same key transforms masks in the same way as their images.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.ops.barriers import materialize


def row_keys(key: jax.Array, rows: int) -> jax.Array:
    """Return one key per row: ``[rows]`` keys unchanged, or one key folded with each row index.

    Raises:
      ValueError: if ``key`` is neither a single typed key nor ``rows`` typed keys.

    Example:
      >>> row_keys(jax.random.key(0), 3).shape
      (3,)
    """
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise ValueError(
            f"key must be made by jax.random.key, got {key.dtype} of shape {key.shape}"
        )
    if key.ndim == 0:
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(rows))
    if key.shape != (rows,):
        raise ValueError(f"key must be one key or {rows} keys, got shape {key.shape}")
    return key


def uniform(
    key: jax.Array, rows: int, low: float | np.ndarray, high: float | np.ndarray
) -> jax.Array:
    """Draw from [low, high): ``[rows]`` float32, or ``[rows, K]`` for ``[K]`` bounds."""
    shape = np.broadcast_shapes(np.shape(low), np.shape(high))
    low, high = (np.asarray(bound, np.float32) for bound in (low, high))
    return _uniform(row_keys(key, rows), shape, low, high)


@functools.partial(jax.jit, static_argnums=1, inline=True)
def _uniform(keys: jax.Array, shape: tuple[int, ...], low: jax.Array, high: jax.Array) -> jax.Array:
    draw = jax.vmap(lambda k: jax.random.uniform(k, shape, minval=low, maxval=high))
    return materialize(draw(keys))


def chances(key: jax.Array, rows: int, probability: float | jax.Array) -> jax.Array:
    """Draw one Bernoulli sample per row, ``[rows, 1, 1, 1]`` bool.

    Raises:
      ValueError: if ``probability`` is a number outside [0, 1].
    """
    if not isinstance(probability, jax.Array) and not 0 <= probability <= 1:
        raise ValueError(f"probability must be in [0, 1], got {probability!r}")
    draw = jax.vmap(lambda k: jax.random.bernoulli(k, probability))
    drawn = materialize(draw(row_keys(key, rows)))
    return drawn[:, None, None, None]


def interval(
    value: tuple[float, float], name: str, *, least: float = -np.inf, positive: bool = False
) -> tuple[float, ...]:
    """Check and return a (low, high) pair of finite numbers with low <= high.

    Raises:
      ValueError: if ``value`` is not such a pair, or ``low`` is below ``least`` or, with
        ``positive``, is not above 0.
    """
    try:
        low, high = (float(number) for number in value)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not least <= low <= high < np.inf or low == -np.inf or (positive and low <= 0):
        floor = " > 0" if positive else "" if least == -np.inf else f" >= {least:g}"
        raise ValueError(f"{name} must be (low, high){floor}, got {value!r}")
    return low, high


def extent(value: float, name: str, *, most: float = np.inf) -> float:
    """Check and return the bound of a symmetric range, a finite number >= 0.

    Raises:
      ValueError: if ``value`` is negative, not finite, or above ``most``.
    """
    if not 0 <= value <= most or value == np.inf:
        accepted = "finite and >= 0" if most == np.inf else f"in [0, {most:g}]"
        raise ValueError(f"{name} must be {accepted}, got {value!r}")
    return float(value)
