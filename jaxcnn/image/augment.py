"""Combinations of random transforms, and random erasing.

A random transform is a function ``(key, images) -> images``. ``key`` is either a single JAX
random key, used as ``fold_in(key, i)`` for row i, or ``[B]`` keys, one per row.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.image.dtypes import back, check_images
from jaxcnn.image.randomness import chances, interval, row_keys, uniform

RandomTransform = Callable[[jax.Array, jax.Array], jax.Array]


def compose(*transforms: RandomTransform) -> RandomTransform:
    """Apply random transforms in sequence, each with independent randomness.

    Args:
      *transforms: functions ``(key, images) -> images``.

    Returns:
      A random transform.

    Example:
      >>> import functools
      >>> from jaxcnn import image
      >>> shift = functools.partial(image.random_translate, max_shift=1)
      >>> both = compose(image.random_flip_left_right, shift)
      >>> both(jax.random.key(0), jnp.ones((2, 4, 4, 1))).shape
      (2, 4, 4, 1)
    """

    def composed(key: jax.Array, images: jax.Array) -> jax.Array:
        for number, transform in enumerate(transforms):
            images = transform(_folded(key, len(images), number), images)
        return images

    return composed


def sometimes(transform: RandomTransform, probability: float) -> RandomTransform:
    """Apply a random transform to some of the images.

    Args:
      transform: a function ``(key, images) -> images`` that preserves the image size.
      probability: probability of transforming each image, in [0, 1].

    Returns:
      A random transform.

    Raises:
      ValueError: when the transform is called, if ``probability`` is outside [0, 1].

    Example:
      >>> from jaxcnn import image
      >>> flip = sometimes(image.random_flip_left_right, 0.5)
      >>> flip(jax.random.key(0), jnp.ones((2, 4, 4, 1))).shape
      (2, 4, 4, 1)
    """

    def applied(key: jax.Array, images: jax.Array) -> jax.Array:
        rows = len(images)
        changed = transform(_folded(key, rows, 0), images)
        return jnp.where(chances(_folded(key, rows, 1), rows, probability), changed, images)

    return applied


def one_of(*transforms: RandomTransform) -> RandomTransform:
    """Apply one of several random transforms, all equally likely, to each image.

    Every transform is computed for every image, because a device cannot branch per image.

    Args:
      *transforms: functions ``(key, images) -> images`` that preserve the image size.

    Returns:
      A random transform.

    Raises:
      ValueError: if no transform is given.

    Example:
      >>> from jaxcnn import image
      >>> flip = one_of(image.random_flip_left_right, image.random_flip_up_down)
      >>> flip(jax.random.key(0), jnp.ones((2, 4, 4, 1))).shape
      (2, 4, 4, 1)
    """
    if not transforms:
        raise ValueError("transforms must contain at least one function, got none")

    def applied(key: jax.Array, images: jax.Array) -> jax.Array:
        rows = len(images)
        draw = jax.vmap(lambda k: jax.random.randint(k, (), 0, len(transforms)))
        chosen = draw(_folded(key, rows, len(transforms)))
        results = [
            transform(_folded(key, rows, number), images)
            for number, transform in enumerate(transforms)
        ]
        which = jnp.broadcast_to(chosen[:, None, None, None], images.shape)
        return lax.select_n(which, *results)

    return applied


def random_erasing(
    key: jax.Array,
    images: jax.Array,
    *,
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.33),
    ratio: tuple[float, float] = (0.3, 3.3),
    value: float = 0.0,
) -> jax.Array:
    """Erase a random rectangle in some images, so that predictions do not rely on a single detail.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, any dtype.
      probability: probability of erasing part of each image, in [0, 1].
      area: (low, high) fraction of the image's area; equal values with ``ratio=(1, 1)`` and
        ``probability=1`` amount to cutout.
      ratio: (low, high) height / width, drawn log-uniformly; rectangles that do not fit are clipped
        to the image's height or width.
      value: value assigned to the erased pixels.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]``, ``probability`` is outside [0, 1], or
        ``area`` or ``ratio`` is not a valid (low, high) pair.

    Example:
      >>> images = jnp.ones((1, 10, 10, 1))
      >>> erased = random_erasing(
      ...     jax.random.key(0), images, probability=1.0, area=(0.25, 0.25), ratio=(1, 1)
      ... )
      >>> erased.sum().item()
      75.0

    Reference:
      Zhong et al. 2020, "Random erasing data augmentation"; DeVries and Taylor 2017, "Improved
      regularization of convolutional neural networks with cutout".
    """
    check_images(images, any_dtype=True)
    least, most = interval(area, "area", least=0)
    if most > 1:
        raise ValueError(f"area must be at most 1, got {area!r}")
    ratios = np.log(interval(ratio, "ratio", positive=True))
    rows = len(images)
    lows, highs = np.array([least, ratios[0], 0, 0]), np.array([most, ratios[1], 1, 1])
    drawn = uniform(_folded(key, rows, 0), rows, lows, highs)
    return _blanked(images, drawn, chances(_folded(key, rows, 1), rows, probability), value)


@functools.partial(jax.jit, inline=True)
def _blanked(
    images: jax.Array, drawn: jax.Array, chosen: jax.Array, value: float | jax.Array
) -> jax.Array:
    rows, height, width, _ = images.shape
    share, log, down, right = jnp.moveaxis(drawn, 1, 0)
    root = jnp.sqrt(share * height * width)
    inside = jnp.ones((rows, height, width), bool)
    for axis, (count, size, place) in enumerate(
        ((height, root * jnp.exp(log / 2), down), (width, root * jnp.exp(-log / 2), right)), start=1
    ):
        length = jnp.clip(jnp.round(size), 0, count)
        first = jnp.floor(place * (count - length + 1))
        places = lax.broadcasted_iota(jnp.float32, (rows, height, width), axis)
        bounds = (x[:, None, None] for x in (first, first + length))
        inside &= (places >= next(bounds)) & (places < next(bounds))
    return jnp.where(inside[..., None] & chosen, back(jnp.asarray(value), images.dtype), images)


def _folded(key: jax.Array, rows: int, number: int) -> jax.Array:
    """Return one key per row, folded with ``number``."""
    return jax.vmap(jax.random.fold_in, (0, None))(row_keys(key, rows), number)
