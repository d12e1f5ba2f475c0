"""Pooling over 1, 2 or 3 spatial dimensions: maximum, average, sum.

Images are ``[B, *spatial, C]``. ``strides`` defaults to the window, so windows tile the image.
Padding never contributes a value: it is minus infinity to a maximum and nothing to a sum.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn import shapes
from jaxcnn.shapes import IntOrInts, Padding, Pairs


def max_pool(
    images: jax.Array,
    window: IntOrInts,
    *,
    strides: IntOrInts | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Largest value in each window. Among equal values the first one gets the gradient.

    Args:
      images: ``[B, *spatial, C]``, floating point.
      window: extent of the window, one integer or one per spatial dimension.
      strides: step between windows; None means the window.
      padding: ``"SAME"``, ``"VALID"``, an integer, or one ``(low, high)`` pair per dimension,
        each smaller than the window.

    Returns:
      ``[B, *output, C]`` in the dtype of ``images``.

    Raises:
      ValueError: if rank, dtype or geometry do not fit together.

    Example:
      >>> image = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
      >>> max_pool(image, 2).item()
      4.0

    Reference:
      ``torch.nn.functional.max_pool2d``, Keras's ``MaxPooling2D``.
    """
    sizes, steps, pairs = _geometry(images, window, strides, padding)
    return _reduce_window(images, -jnp.inf, lax.max, sizes, steps, pairs)


def sum_pool(
    images: jax.Array,
    window: IntOrInts,
    *,
    strides: IntOrInts | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Sum of the values in each window; arguments and errors as in `max_pool`.

    Returns:
      ``[B, *output, C]`` in the dtype of ``images``.

    Example:
      >>> image = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
      >>> sum_pool(image, 2).item()
      10.0
    """
    sizes, steps, pairs = _geometry(images, window, strides, padding)
    return _reduce_window(images, 0, lax.add, sizes, steps, pairs)


def avg_pool(
    images: jax.Array,
    window: IntOrInts,
    *,
    strides: IntOrInts | None = None,
    padding: Padding = "VALID",
    count_padding: bool = False,
) -> jax.Array:
    """Mean of the values in each window.

    Args:
      images: as in `max_pool`.
      window: as in `max_pool`.
      strides: as in `max_pool`.
      padding: as in `max_pool`.
      count_padding: divide by the whole window (torch's default) instead of by the pixels of
        the image under it (Keras's rule, and the default).

    Returns:
      ``[B, *output, C]`` in the dtype of ``images``.

    Raises:
      ValueError: if rank, dtype or geometry do not fit together.

    Example:
      >>> image = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
      >>> avg_pool(image, 2).item()
      2.5
      >>> avg_pool(image, 2, strides=1, padding="SAME").ravel().tolist()
      [2.5, 3.0, 3.5, 4.0]
    """
    sizes, steps, pairs = _geometry(images, window, strides, padding)
    total = _reduce_window(images, 0, lax.add, sizes, steps, pairs)
    if count_padding:
        return total / math.prod(sizes)
    counts = shapes.window_sizes(images.shape[1:-1], sizes, steps, pairs)
    return total / jnp.asarray(counts[None, ..., None], images.dtype)


def global_max_pool(images: jax.Array) -> jax.Array:
    """Largest value of each channel: ``[B, *spatial, C]`` to ``[B, C]``.

    Example:
      >>> global_max_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)).tolist()
      [[6.0, 7.0]]
    """
    rank = shapes.spatial_rank(images)
    return jnp.max(images, axis=tuple(range(1, rank + 1)))


def global_avg_pool(images: jax.Array) -> jax.Array:
    """Mean of each channel: ``[B, *spatial, C]`` to ``[B, C]``.

    Example:
      >>> global_avg_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)).tolist()
      [[3.0, 4.0]]

    Reference:
      Lin et al. 2013, "Network in network", section 3.2.
    """
    rank = shapes.spatial_rank(images)
    return jnp.mean(images, axis=tuple(range(1, rank + 1)))


def _geometry(
    images: jax.Array, window: IntOrInts, strides: IntOrInts | None, padding: Padding
) -> tuple[tuple[int, ...], tuple[int, ...], Pairs]:
    rank = shapes.spatial_rank(images)
    sizes = shapes.ints(window, rank, "window")
    steps = sizes if strides is None else shapes.ints(strides, rank, "strides")
    pairs = shapes.pairs(padding, images.shape[1:-1], sizes, steps)
    if any(max(pair) >= size for pair, size in zip(pairs, sizes, strict=True)):
        raise ValueError(
            f"padding must be smaller than the window {sizes}, or a window would see no pixel; "
            f"got {padding!r}"
        )
    return sizes, steps, pairs


def _reduce_window(
    images: jax.Array,
    initial: float,
    combine: object,
    sizes: tuple[int, ...],
    steps: tuple[int, ...],
    pairs: Pairs,
) -> jax.Array:
    return lax.reduce_window(
        images,
        # A NumPy scalar: lax recognises the monoid, and so its gradient, by a concrete value.
        np.asarray(initial, images.dtype),
        combine,
        window_dimensions=(1, *sizes, 1),
        window_strides=(1, *steps, 1),
        padding=((0, 0), *pairs, (0, 0)),
    )
