"""Normalization as pure functions: batch norm takes running statistics and returns updated ones."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn import shapes
from jaxcnn.ops.implementation import Implementation, is_tuned
from jaxcnn.shapes import at_least_float32


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
    implementation: Implementation = "auto",
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Normalize each channel to zero mean and unit variance, then scale and shift it.

    ``y = (x - m) / sqrt(v + epsilon) * scale + bias``, where ``m`` and ``v`` are the mean and
    (biased) variance of the batch during training, and the running statistics otherwise. Statistics
    are computed in float32, or in float64 for float64 input.

    Args:
      x: ``[B, ..., C]``, floating point; the statistics are taken over all axes but the last.
      scale: ``[C]``; None means 1.
      bias: ``[C]``; None means 0.
      mean: running mean ``[C]``.
      var: running variance ``[C]``.
      train: use the batch statistics, and move the running statistics toward them.
      momentum: fraction of the running statistics to keep at each step, in [0, 1].
      epsilon: added to the variance, > 0.
      implementation: ``"auto"`` uses a custom gradient, computed with two sums and a single pass;
        ``"xla"`` uses JAX's gradient and supports forward mode (``jvp``).

    Returns:
      ``y`` with the shape and dtype of ``x``, and the new running ``(mean, var)``: unchanged if
      ``train`` is False, ``momentum * running + (1 - momentum) * batch`` otherwise.

    Raises:
      ValueError: if shapes are incompatible, or ``momentum`` or ``epsilon`` is out of range.

    Example:
      >>> x = jnp.array([[1.0], [3.0]])
      >>> zero, one = jnp.zeros(1), jnp.ones(1)
      >>> y, (mean, var) = batch_norm(x, one, zero, zero, one, train=True, epsilon=1e-9)
      >>> y.ravel().tolist(), round(mean.item(), 6)
      ([-1.0, 1.0], 0.2)

    Reference:
      Ioffe and Szegedy 2015, "Batch normalization". The running variance follows Keras and Flax
      (biased); torch uses the unbiased estimate.
    """
    x = jnp.asarray(x)
    _check(x, {"scale": scale, "bias": bias, "mean": mean, "var": var}, epsilon)
    if not isinstance(momentum, jax.Array) and not 0 <= momentum <= 1:
        raise ValueError(f"momentum must be in [0, 1], got {momentum!r}")
    if not train:
        return _normalize(x, scale, bias, mean, var, epsilon), (mean, var)
    if is_tuned(implementation):
        y, *batch = _tuned_batch_norm(x, scale, bias, epsilon)
    else:
        y, *batch = _batch_norm_xla(x, scale, bias, epsilon)
    running = [
        momentum * old + (1 - momentum) * new for old, new in zip((mean, var), batch, strict=True)
    ]
    return y, (running[0], running[1])


def _normalize(
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    mean: jax.Array,
    var: jax.Array,
    epsilon: float | jax.Array,
) -> jax.Array:
    factor = lax.rsqrt(var + epsilon)
    if scale is not None:
        factor = factor * scale
    y = _centered(x, mean) * _wide(factor, x)
    if bias is not None:
        y = y + _wide(bias, x)
    return y.astype(x.dtype)


def _batch_norm_xla(
    x: jax.Array, scale: jax.Array | None, bias: jax.Array | None, epsilon: float | jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the normalized batch, its mean and its variance."""
    count = math.prod(x.shape[:-1])
    mean = _channel_sums(at_least_float32(x)) / count
    # Use two passes: E[x^2] - E[x]^2 loses precision for values far from zero.
    var = _channel_sums(lax.square(_centered(x, mean))) / count
    return _normalize(x, scale, bias, mean, var, epsilon), mean, var


_tuned_batch_norm = jax.custom_vjp(_batch_norm_xla)


def _batch_norm_forward(
    x: jax.Array, scale: jax.Array | None, bias: jax.Array | None, epsilon: float | jax.Array
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple]:
    y, mean, var = _batch_norm_xla(x, scale, bias, epsilon)
    return (y, mean, var), (x, scale, bias, mean, var, epsilon)


def _batch_norm_backward(residuals: tuple, cotangents: tuple[jax.Array, ...]) -> tuple:
    """Compute two channel sums, then the gradient in one pass that XLA can fuse with other ops."""
    x, scale, bias, mean, var, epsilon = residuals
    dy, dmean, dvar = cotangents
    count = math.prod(x.shape[:-1])
    inverse = lax.rsqrt(var + epsilon)
    factor = inverse if scale is None else inverse * scale
    sums = _channel_sums(at_least_float32(dy))
    products = _channel_sums(at_least_float32(dy) * _centered(x, mean))
    slope = (2 * dvar - factor * lax.square(inverse) * products) / count
    dx = at_least_float32(dy) * _wide(factor, x) + _centered(x, mean) * _wide(slope, x)
    dx = dx + _wide((dmean - factor * sums) / count, x)
    depsilon = -0.5 * jnp.sum(factor * lax.square(inverse) * products)
    return (
        dx.astype(x.dtype),
        None if scale is None else (products * inverse).astype(scale.dtype),
        None if bias is None else sums.astype(bias.dtype),
        depsilon.astype(jnp.result_type(epsilon)),
    )


_tuned_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def _centered(x: jax.Array, mean: jax.Array) -> jax.Array:
    return at_least_float32(x) - _wide(mean, x)


def _wide(vector: jax.Array, x: jax.Array) -> jax.Array:
    """Expand ``[C]`` so that it broadcasts to ``[B, ..., C]``."""
    return jnp.expand_dims(vector, range(x.ndim - 1))


def _channel_sums(x: jax.Array) -> jax.Array:
    """Sum over all axes but the last, first within each example.

    XLA spreads the per-example sums across cores.
    """
    return jnp.sum(jnp.sum(x, range(1, x.ndim - 1)), 0)


def group_norm(
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    *,
    groups: int,
    epsilon: float = 1e-5,
) -> jax.Array:
    """Normalize each example's groups of channels to zero mean and unit variance.

    Each example's result does not depend on the other examples, so it is the same in training and
    evaluation, and for any batch size. Statistics are computed in float32, or in float64 for
    float64 input.

    Args:
      x: ``[B, ..., C]``, floating point.
      scale: ``[C]``; None means 1.
      bias: ``[C]``; None means 0.
      groups: number of groups of adjacent channels, a divisor of ``C``; 1 is layer norm over
        positions and channels, ``C`` is instance norm.
      epsilon: added to the variance, > 0.

    Returns:
      An array with the shape and dtype of ``x``.

    Raises:
      ValueError: if shapes are incompatible, ``groups`` does not divide ``C``, or ``epsilon`` <= 0.

    Example:
      >>> x = jnp.array([[[1.0, 10.0], [3.0, 30.0]]])
      >>> group_norm(x, None, None, groups=2, epsilon=1e-9).tolist()
      [[[-1.0, -1.0], [1.0, 1.0]]]

    Reference:
      Wu and He 2018, "Group normalization".
    """
    x = jnp.asarray(x)
    _check(x, {"scale": scale, "bias": bias}, epsilon)
    channels = x.shape[-1]
    (groups,) = shapes.ints(groups, 1, "groups")
    if channels % groups:
        raise ValueError(
            f"groups must divide the number of channels of x ({channels}), got {groups}"
        )
    values = at_least_float32(x).reshape(*x.shape[:-1], groups, channels // groups)
    axes = (*range(1, values.ndim - 2), values.ndim - 1)
    mean = jnp.mean(values, axes, keepdims=True)
    var = jnp.mean(lax.square(values - mean), axes, keepdims=True)
    y = ((values - mean) * lax.rsqrt(var + epsilon)).reshape(x.shape)
    if scale is not None:
        y = y * _wide(scale, x)
    if bias is not None:
        y = y + _wide(bias, x)
    return y.astype(x.dtype)


def _check(x: jax.Array, vectors: dict[str, jax.Array | None], epsilon: float | jax.Array) -> None:
    shapes.check_floating(x, "x")
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"x must be [B, ..., C] with no empty dimension, got shape {x.shape}")
    for name, vector in vectors.items():
        if vector is not None:
            shapes.check_bias(vector, x.shape[-1], name)
    if not isinstance(epsilon, jax.Array) and not epsilon > 0:
        raise ValueError(f"epsilon must be > 0, got {epsilon!r}")
