"""Random transforms, drawn anew for each image of a batch ``[B, H, W, C]``.

``key`` is one JAX random key, which becomes ``fold_in(key, i)`` for row i, or one key per row
``[B]``, as the training step's hook hands them out.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxcnn import shapes
from jaxcnn.image.geometry import flip_left_right, translate

RandomTransform = Callable[[jax.Array, jax.Array], jax.Array]


def random_flip_left_right(
    key: jax.Array, images: jax.Array, *, probability: float = 0.5
) -> jax.Array:
    """Mirror each image with a probability.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``.
      probability: in [0, 1].

    Returns:
      The shape and dtype of ``images``.

    Example:
      >>> images = jnp.arange(6.0).reshape(2, 1, 3, 1)
      >>> random_flip_left_right(jax.random.key(0), images, probability=1.0).ravel().tolist()
      [2.0, 1.0, 0.0, 5.0, 4.0, 3.0]
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be in [0, 1], got {probability!r}")
    flipped = jax.vmap(lambda k: jax.random.bernoulli(k, probability))(row_keys(key, len(images)))
    return jnp.where(flipped[:, None, None, None], flip_left_right(images), images)


def random_translate(key: jax.Array, images: jax.Array, *, max_shift: int) -> jax.Array:
    """Move each image by up to ``max_shift`` whole pixels up or down, and left or right.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``; what comes in from outside is 0.
      max_shift: pixels, >= 1; every shift from -max_shift to max_shift is equally likely.

    Returns:
      The shape and dtype of ``images``.

    Example:
      >>> images = jnp.ones((1, 8, 8, 1))
      >>> random_translate(jax.random.key(0), images, max_shift=2).shape
      (1, 8, 8, 1)
    """
    (max_shift,) = shapes.ints(max_shift, 1, "max_shift")
    draw = jax.vmap(lambda k: jax.random.randint(k, (2,), -max_shift, max_shift + 1))
    return translate(images, draw(row_keys(key, len(images))))


def compose(*transforms: RandomTransform) -> RandomTransform:
    """One random transform after the other, each with randomness of its own.

    Args:
      *transforms: functions ``(key, images) -> images``.

    Returns:
      A function of the same kind.

    Example:
      >>> import functools
      >>> both = compose(random_flip_left_right, functools.partial(random_translate, max_shift=1))
      >>> both(jax.random.key(0), jnp.ones((2, 4, 4, 1))).shape
      (2, 4, 4, 1)
    """

    def composed(key: jax.Array, images: jax.Array) -> jax.Array:
        keys = row_keys(key, len(images))
        for number, transform in enumerate(transforms):
            images = transform(jax.vmap(jax.random.fold_in, (0, None))(keys, number), images)
        return images

    return composed


def row_keys(key: jax.Array, rows: int) -> jax.Array:
    """One key per row: ``[rows]`` keys as they are, and one key folded with each row's number.

    Raises:
      ValueError: if there is another number of keys.

    Example:
      >>> row_keys(jax.random.key(0), 3).shape
      (3,)
    """
    if key.ndim == 0:
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(rows))
    if key.shape != (rows,):
        raise ValueError(f"key must be one key or {rows} keys, got shape {key.shape}")
    return key
