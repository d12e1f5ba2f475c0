"""Mixup and CutMix: mix pairs of examples along with their labels.

Partners are drawn from the whole batch, so each result depends on the composition of the batch.
``key`` is either a single key for the batch, or ``[B]`` keys, one per row; the first row's key
draws the partners.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn import shapes
from jaxcnn.image.dtypes import check_images
from jaxcnn.image.randomness import row_keys


def mixup(
    key: jax.Array, images: jax.Array, labels: jax.Array, *, alpha: float = 0.2
) -> tuple[jax.Array, jax.Array]:
    """Mix the image and label of each example with those of a partner from the same batch.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, floating point.
      labels: ``[B, K]``, floating point: one-hot labels or any other targets.
      alpha: parameter, > 0, of the Beta(alpha, alpha) distribution from which each example's own
        weight is drawn; the weight is at least 1/2, and is closer to 1/2 for larger alpha.

    Returns:
      The mixed images and labels, with the shapes and dtypes of the arguments.

    Raises:
      ValueError: if ``images`` is not floating point, ``labels`` is not ``[B, K]`` floating point,
        or ``alpha`` is not > 0.

    Example:
      >>> images, labels = jnp.eye(2).reshape(2, 1, 1, 2), jnp.eye(2)
      >>> mixed, targets = mixup(jax.random.key(0), images, labels)
      >>> bool(jnp.allclose(mixed.reshape(2, 2), targets)), targets.sum(1).tolist()
      (True, [1.0, 1.0])

    Reference:
      Zhang et al. 2018, "mixup: beyond empirical risk minimization".
    """
    _check(images, labels, alpha)
    shapes.check_floating(images, "images")
    return _mixup(row_keys(key, len(images)), images, labels, alpha)


@functools.partial(jax.jit, inline=True)
def _mixup(
    keys: jax.Array, images: jax.Array, labels: jax.Array, alpha: float | jax.Array
) -> tuple[jax.Array, jax.Array]:
    partners = _partners(keys)
    share = jax.vmap(lambda k: jax.random.beta(jax.random.fold_in(k, 1), alpha, alpha))(keys)
    share = jnp.maximum(share, 1 - share)
    mixed, targets = (_averaged(x, x[partners], share) for x in (images, labels))
    return mixed, targets


def cutmix(
    key: jax.Array, images: jax.Array, labels: jax.Array, *, alpha: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Paste a rectangle from a partner into each image; mix the labels in proportion to the area.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, any dtype.
      labels: ``[B, K]``, floating point: one-hot labels or any other targets.
      alpha: parameter of the Beta(alpha, alpha) distribution from which the fraction of the area
        that each image keeps is drawn, > 0.

    Returns:
      The mixed images and labels, with the shapes and dtypes of the arguments.

    Raises:
      ValueError: if ``labels`` is not ``[B, K]`` floating point, or ``alpha`` is not > 0.

    Example:
      >>> images, labels = jnp.zeros((2, 8, 8, 1)).at[1].set(1.0), jnp.eye(2)
      >>> mixed, targets = cutmix(jax.random.key(0), images, labels)
      >>> bool(jnp.allclose(mixed.mean((1, 2, 3)), targets[:, 1]))
      True

    Reference:
      Yun et al. 2019, "CutMix: regularization strategy to train strong classifiers with localizable
      features".
    """
    _check(images, labels, alpha)
    return _cutmix(row_keys(key, len(images)), images, labels, alpha)


@functools.partial(jax.jit, inline=True)
def _cutmix(
    keys: jax.Array, images: jax.Array, labels: jax.Array, alpha: float | jax.Array
) -> tuple[jax.Array, jax.Array]:
    partners = _partners(keys)
    rows, (height, width) = len(images), images.shape[1:3]

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        share, middle = (jax.random.fold_in(key, number) for number in (1, 2))
        return jax.random.beta(share, alpha, alpha), jax.random.uniform(middle, (2,))

    share, middles = jax.vmap(draw)(keys)
    inside = jnp.ones((rows, height, width), bool)
    for axis, (count, middle) in enumerate(zip((height, width), middles.T, strict=True), start=1):
        half = count * jnp.sqrt(1 - share) / 2
        low, high = (jnp.round(middle * count + sign * half)[:, None, None] for sign in (-1, 1))
        places = lax.broadcasted_iota(jnp.float32, (rows, height, width), axis)
        inside &= (places >= low) & (places < high)
    own = 1 - jnp.mean(inside, (1, 2), dtype=labels.dtype)
    mixed = jnp.where(inside[..., None], images[partners], images)
    return mixed, _averaged(labels, labels[partners], own)


def _check(images: jax.Array, labels: jax.Array, alpha: float) -> None:
    check_images(images, any_dtype=True)
    if labels.ndim != 2 or len(labels) != len(images):
        raise ValueError(f"labels must be [{len(images)}, K], got shape {labels.shape}")
    if not jnp.issubdtype(labels.dtype, jnp.floating):
        raise ValueError(
            f"labels must be floating point, got {labels.dtype}; use jax.nn.one_hot to "
            "convert class indices"
        )
    if not isinstance(alpha, jax.Array) and not 0 < alpha < float("inf"):
        raise ValueError(f"alpha must be > 0, got {alpha!r}")


def _partners(keys: jax.Array) -> jax.Array:
    return jax.random.permutation(jax.random.fold_in(keys[0], 0), len(keys))


def _averaged(own: jax.Array, other: jax.Array, share: jax.Array) -> jax.Array:
    share = share.astype(own.dtype).reshape(-1, *(1,) * (own.ndim - 1))
    return own * share + other * (1 - share)
