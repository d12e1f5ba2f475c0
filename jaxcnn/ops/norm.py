"""Normalisation as pure functions: batch norm takes statistics and returns them."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn import shapes


def batch_norm(
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    mean: jax.Array,
    var: jax.Array,
    *,
    train: bool,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Normalise each channel to zero mean and unit variance, then scale and shift it.

    ``y = (x - m) / sqrt(v + epsilon) * scale + bias``, where ``m`` and ``v`` are the mean and the
    (biased) variance of the batch in training, and the running statistics otherwise. Statistics
    are computed in float32 (float64 for float64 input) whatever the dtype of ``x``.

    Args:
      x: ``[B, ..., C]``, floating point; every axis but the last is averaged over.
      scale: ``[C]``, or None for 1.
      bias: ``[C]``, or None for 0.
      mean: running mean ``[C]``.
      var: running variance ``[C]``.
      train: use the statistics of the batch and move the running ones towards them.
      momentum: the share of the running statistics kept at each step, in [0, 1].
      epsilon: added to the variance, > 0.

    Returns:
      ``y`` with shape and dtype of ``x``, and the running ``(mean, var)`` to keep: unchanged when
      ``train`` is False, ``momentum * running + (1 - momentum) * batch`` otherwise.

    Raises:
      ValueError: if shapes do not fit, or ``momentum`` or ``epsilon`` are out of range.

    Example:
      >>> x = jnp.array([[1.0], [3.0]])
      >>> zero, one = jnp.zeros(1), jnp.ones(1)
      >>> y, (mean, var) = batch_norm(x, one, zero, zero, one, train=True, epsilon=1e-9)
      >>> y.ravel().tolist(), round(mean.item(), 6)
      ([-1.0, 1.0], 0.2)

    Reference:
      Ioffe and Szegedy 2015, "Batch normalization". The running variance follows Keras and Flax
      (biased); torch feeds it the unbiased estimate.
    """
    x = jnp.asarray(x)
    shapes.check_floating(x, "x")
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"x must be [B, ..., C] with no empty dimension, got shape {x.shape}")
    for name, vector in (("scale", scale), ("bias", bias), ("mean", mean), ("var", var)):
        if vector is not None:
            shapes.check_bias(vector, x.shape[-1], name)
    if not isinstance(momentum, jax.Array) and not 0 <= momentum <= 1:
        raise ValueError(f"momentum must be in [0, 1], got {momentum!r}")
    if not isinstance(epsilon, jax.Array) and not epsilon > 0:
        raise ValueError(f"epsilon must be > 0, got {epsilon!r}")

    precise = jnp.promote_types(x.dtype, jnp.float32)
    values = x.astype(precise)
    axes = tuple(range(x.ndim - 1))
    running = (mean, var)
    if train:
        mean = jnp.mean(values, axes)
        var = jnp.mean(lax.square(values - jnp.expand_dims(mean, axes)), axes)
        running = (
            momentum * running[0] + (1 - momentum) * mean,
            momentum * running[1] + (1 - momentum) * var,
        )
    factor = lax.rsqrt(var + epsilon)
    if scale is not None:
        factor = factor * scale
    y = (values - jnp.expand_dims(mean, axes)) * jnp.expand_dims(factor, axes)
    if bias is not None:
        y = y + jnp.expand_dims(bias, axes)
    return y.astype(x.dtype), running


def group_norm(
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    *,
    groups: int,
    epsilon: float = 1e-5,
) -> jax.Array:
    """Normalise each example's groups of channels to zero mean and unit variance.

    Nothing depends on the other examples, so it is the same in training and evaluation and for
    any batch size. Statistics are computed in float32 (float64 for float64 input).

    Args:
      x: ``[B, ..., C]``, floating point.
      scale: ``[C]``, or None for 1.
      bias: ``[C]``, or None for 0.
      groups: how many groups of neighbouring channels, a divisor of ``C``; 1 is layer norm over
        positions and channels, ``C`` is instance norm.
      epsilon: added to the variance, > 0.

    Returns:
      The shape and dtype of ``x``.

    Raises:
      ValueError: if shapes do not fit, ``groups`` does not divide ``C`` or ``epsilon`` is not > 0.

    Example:
      >>> x = jnp.array([[[1.0, 10.0], [3.0, 30.0]]])
      >>> group_norm(x, None, None, groups=2, epsilon=1e-9).tolist()
      [[[-1.0, -1.0], [1.0, 1.0]]]

    Reference:
      Wu and He 2018, "Group normalization".
    """
    x = jnp.asarray(x)
    shapes.check_floating(x, "x")
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"x must be [B, ..., C] with no empty dimension, got shape {x.shape}")
    channels = x.shape[-1]
    (groups,) = shapes.ints(groups, 1, "groups")
    if channels % groups:
        raise ValueError(f"groups must divide the channels of x ({channels}), got {groups}")
    for name, vector in (("scale", scale), ("bias", bias)):
        if vector is not None:
            shapes.check_bias(vector, channels, name)
    if not isinstance(epsilon, jax.Array) and not epsilon > 0:
        raise ValueError(f"epsilon must be > 0, got {epsilon!r}")

    values = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    values = values.reshape(*x.shape[:-1], groups, channels // groups)
    axes = (*range(1, values.ndim - 2), values.ndim - 1)
    mean = jnp.mean(values, axes, keepdims=True)
    var = jnp.mean(lax.square(values - mean), axes, keepdims=True)
    y = ((values - mean) * lax.rsqrt(var + epsilon)).reshape(x.shape)
    lead = range(x.ndim - 1)
    if scale is not None:
        y = y * jnp.expand_dims(scale, lead)
    if bias is not None:
        y = y + jnp.expand_dims(bias, lead)
    return y.astype(x.dtype)
