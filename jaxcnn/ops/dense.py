"""Fully connected layers, and flattening of feature maps."""

import math

import jax
import jax.numpy as jnp

from jaxcnn import shapes


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """Apply a fully connected layer: ``x @ kernel + bias`` over the last axis.

    Args:
      x: ``[..., in]``, floating point.
      kernel: ``[in, out]``, with the dtype of ``x``.
      bias: ``[out]`` or None.

    Returns:
      An array ``[..., out]`` with the dtype of ``x``.

    Raises:
      ValueError: if shapes or dtypes are incompatible.

    Example:
      >>> dense(jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]]), jnp.array([0.5])).item()
      11.5
    """
    shapes.check_floating(x, "x")
    shapes.check_same_dtype(x, kernel, "x", "kernel")
    if x.ndim == 0 or kernel.ndim != 2 or kernel.shape[0] != x.shape[-1]:
        raise ValueError(
            f"kernel must be [in, out], where in is the last dimension of x {x.shape}, "
            f"got shape {kernel.shape}"
        )
    output = jnp.dot(x, kernel)
    return output if bias is None else add_bias(output, bias)


def flatten(images: jax.Array) -> jax.Array:
    """Reshape ``[B, ...]`` to one vector per image, ``[B, prod(...)]``; channels vary fastest.

    Raises:
      ValueError: if ``images`` is a scalar.

    Example:
      >>> flatten(jnp.zeros((2, 4, 4, 3))).shape
      (2, 48)
    """
    if images.ndim == 0:
        raise ValueError("images must be [B, ...], got a scalar")
    return images.reshape(images.shape[0], math.prod(images.shape[1:]))


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Add a vector ``[C]`` to the last axis of ``[..., C]``.

    Raises:
      ValueError: if ``bias`` has the wrong shape or dtype.

    Example:
      >>> add_bias(jnp.zeros((1, 2)), jnp.array([1.0, 2.0])).tolist()
      [[1.0, 2.0]]
    """
    shapes.check_bias(bias, x.shape[-1])
    shapes.check_same_dtype(x, bias, "the output", "bias")
    return x + jnp.expand_dims(bias, range(x.ndim - 1))
