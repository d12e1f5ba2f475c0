"""Random regularizers. The key is the first argument; the same key gives the same result."""

import jax
import jax.numpy as jnp

from jaxcnn import shapes


def dropout(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Zero each value with probability ``rate`` and divide the others by ``1 - rate``.

    The expectation of each value stays what it was, so nothing is rescaled at test time: there,
    dropout is simply left out.

    Args:
      key: a JAX random key.
      x: any shape, floating point.
      rate: probability of zeroing, in [0, 1).

    Returns:
      The shape and dtype of ``x``.

    Raises:
      ValueError: if ``rate`` is outside [0, 1) or ``x`` is not floating point.

    Example:
      >>> kept = dropout(jax.random.key(0), jnp.ones(1000), 0.2)
      >>> sorted(set(kept.tolist()))
      [0.0, 1.25]

    Reference:
      Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """
    shapes.check_floating(x, "x")
    shapes.check_probability(rate, "rate")
    kept = jnp.asarray(1 - rate, jnp.promote_types(x.dtype, jnp.float32))
    keep = jax.random.bernoulli(key, kept, x.shape)
    return jnp.where(keep, x / kept.astype(x.dtype), jnp.zeros_like(x))


def gaussian_noise(key: jax.Array, x: jax.Array, stddev: float) -> jax.Array:
    """Add independent normal noise of standard deviation ``stddev``: the deck's noise injection.

    Args:
      key: a JAX random key.
      x: any shape, floating point.
      stddev: standard deviation in the units of ``x``, >= 0.

    Returns:
      The shape and dtype of ``x``.

    Raises:
      ValueError: if ``stddev`` is negative or ``x`` is not floating point.

    Example:
      >>> noisy = gaussian_noise(jax.random.key(0), jnp.zeros(10_000), 0.5)
      >>> round(noisy.std().item(), 1)
      0.5

    Reference:
      Bishop 1995, "Training with noise is equivalent to Tikhonov regularization".
    """
    shapes.check_floating(x, "x")
    if not isinstance(stddev, jax.Array) and not 0 <= stddev < float("inf"):
        raise ValueError(f"stddev must be finite and >= 0, got {stddev!r}")
    return x + jnp.asarray(stddev, x.dtype) * jax.random.normal(key, x.shape, x.dtype)
