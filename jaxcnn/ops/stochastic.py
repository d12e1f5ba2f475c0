"""Random regularizers. The key is the first argument; the same key produces the same result."""

import jax
import jax.numpy as jnp

from jaxcnn import shapes
from jaxcnn.ops.implementation import Implementation, check_implementation
from jaxcnn.ops.random_bits import random_normal, random_words


def dropout(
    key: jax.Array, x: jax.Array, rate: float, *, implementation: Implementation = "auto"
) -> jax.Array:
    """Zero each value with probability ``rate`` and divide the others by ``1 - rate``.

    This preserves the expectation of each value, so skip dropout during evaluation, without
    rescaling.

    Args:
      key: a JAX random key.
      x: any shape, floating point.
      rate: probability of zeroing each value, in [0, 1).
      implementation: ``"auto"`` generates random bits with a fast hash; ``"xla"`` draws them with
        `jax.random`, so the values differ. `plain_xla` does not affect this choice.

    Returns:
      An array with the shape and dtype of ``x``.

    Raises:
      ValueError: if ``rate`` is outside [0, 1) or ``x`` is not floating point.

    Example:
      >>> kept = dropout(jax.random.key(0), jnp.ones(1000), 0.2)
      >>> sorted(set(kept.tolist()))
      [0.0, 1.25]

    Reference:
      Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """
    return _drop(key, x, rate, x.shape, implementation)


def spatial_dropout(
    key: jax.Array, x: jax.Array, rate: float, *, implementation: Implementation = "auto"
) -> jax.Array:
    """Zero whole feature maps with probability ``rate`` and divide the others by ``1 - rate``.

    Neighboring values in a feature map are correlated, so dropping individual ones has little
    effect.

    Args:
      key: a JAX random key.
      x: ``[B, *spatial, C]``, floating point.
      rate: probability of zeroing each channel of each example, in [0, 1).
      implementation: ``"auto"`` generates random bits with a fast hash; ``"xla"`` draws them with
        `jax.random`, so the values differ. `plain_xla` does not affect this choice.

    Returns:
      An array with the shape and dtype of ``x``.

    Raises:
      ValueError: if ``rate`` is outside [0, 1) or ``x`` is not floating point.

    Example:
      >>> kept = spatial_dropout(jax.random.key(0), jnp.ones((2, 4, 4, 8)), 0.5)
      >>> bool((kept == kept[:, :1, :1]).all())
      True

    Reference:
      Tompson et al. 2015, "Efficient object localization using convolutional networks".
    """
    if x.ndim < 2:
        raise ValueError(f"x must be [B, *spatial, C], got shape {x.shape}")
    unit = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])
    return _drop(key, x, rate, unit, implementation)


def drop_path(
    key: jax.Array, x: jax.Array, rate: float, *, implementation: Implementation = "auto"
) -> jax.Array:
    """Zero whole examples with probability ``rate`` and divide the others by ``1 - rate``.

    On a residual branch, this skips the block for the zeroed examples (stochastic depth).

    Args:
      key: a JAX random key.
      x: ``[B, ...]``, floating point; the branch that is added to the shortcut.
      rate: probability of zeroing each example, in [0, 1).
      implementation: ``"auto"`` generates random bits with a fast hash; ``"xla"`` draws them with
        `jax.random`, so the values differ. `plain_xla` does not affect this choice.

    Returns:
      An array with the shape and dtype of ``x``.

    Raises:
      ValueError: if ``rate`` is outside [0, 1) or ``x`` is not floating point.

    Example:
      >>> sorted(set(drop_path(jax.random.key(0), jnp.ones((8, 3)), 0.5).sum(1).tolist()))
      [0.0, 6.0]

    Reference:
      Huang et al. 2016, "Deep networks with stochastic depth".
    """
    if x.ndim < 1:
        raise ValueError(f"x must be [B, ...], got shape {x.shape}")
    return _drop(key, x, rate, (x.shape[0], *(1,) * (x.ndim - 1)), implementation)


def gaussian_noise(
    key: jax.Array,
    x: jax.Array,
    stddev: float | jax.Array,
    *,
    implementation: Implementation = "auto",
) -> jax.Array:
    """Add independent Gaussian noise with standard deviation ``stddev``, to reduce overfitting.

    Args:
      key: a JAX random key.
      x: any shape, floating point.
      stddev: standard deviation in the units of ``x``, >= 0; may be traced.
      implementation: ``"auto"`` generates random bits with a fast hash; ``"xla"`` draws them with
        `jax.random`, so the values differ. `plain_xla` does not affect this choice.

    Returns:
      An array with the shape and dtype of ``x``.

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
    check_implementation(implementation)
    draw = random_normal if implementation == "auto" else jax.random.normal
    return x + jnp.asarray(stddev, x.dtype) * draw(key, x.shape).astype(x.dtype)


def _drop(
    key: jax.Array,
    x: jax.Array,
    rate: float,
    shape: tuple[int, ...],
    implementation: Implementation,
) -> jax.Array:
    """Apply dropout with one random decision per element of ``shape``, broadcast over ``x``."""
    shapes.check_floating(x, "x")
    shapes.check_probability(rate, "rate")
    check_implementation(implementation)
    kept = jnp.asarray(1 - rate, jnp.promote_types(x.dtype, jnp.float32))
    # Drop the smallest of 2**32 equally likely words; float32 keeps 24 bits of the threshold.
    dropped = (jnp.asarray(rate, jnp.float32) * 2.0**32).astype(jnp.uint32)
    draw = random_words if implementation == "auto" else jax.random.bits
    keep = draw(key, shape) >= dropped
    return jnp.where(keep, x / kept.astype(x.dtype), jnp.zeros_like(x))
