"""Random geometric transforms, drawn anew for each image of a batch ``[B, H, W, C]``.

``key`` is one JAX random key, which becomes ``fold_in(key, i)`` for row i, or one key per row
``[B]``. The same key moves a mask as it moved the image (with ``interpolation="nearest"``).
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import shapes
from jaxcnn.image.borders import Border, pad
from jaxcnn.image.dtypes import check_images
from jaxcnn.image.geometry import flip_left_right, flip_up_down, translate
from jaxcnn.image.randomness import chances, extent, interval, row_keys, uniform
from jaxcnn.image.warp import Interpolation, affine_matrix, warp

Range = float | tuple[float, float]


def random_flip_left_right(
    key: jax.Array, images: jax.Array, *, probability: float = 0.5
) -> jax.Array:
    """Mirror each image with a probability.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, any dtype.
      probability: in [0, 1].

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> images = jnp.arange(6.0).reshape(2, 1, 3, 1)
      >>> random_flip_left_right(jax.random.key(0), images, probability=1.0).ravel().tolist()
      [2.0, 1.0, 0.0, 5.0, 4.0, 3.0]
    """
    check_images(images, any_dtype=True)
    flipped = chances(key, len(images), probability)
    return jnp.where(flipped, flip_left_right(images), images)


def random_flip_up_down(
    key: jax.Array, images: jax.Array, *, probability: float = 0.5
) -> jax.Array:
    """Turn each image upside down with a probability.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, any dtype.
      probability: in [0, 1].

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> images = jnp.arange(3.0).reshape(1, 3, 1, 1)
      >>> random_flip_up_down(jax.random.key(0), images, probability=1.0).ravel().tolist()
      [2.0, 1.0, 0.0]
    """
    check_images(images, any_dtype=True)
    flipped = chances(key, len(images), probability)
    return jnp.where(flipped, flip_up_down(images), images)


def random_translate(
    key: jax.Array,
    images: jax.Array,
    *,
    max_shift: int,
    border: Border = "constant",
    value: float = 0.0,
) -> jax.Array:
    """Move each image by up to ``max_shift`` whole pixels up or down, and left or right.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, any dtype.
      max_shift: pixels, >= 1; every shift from -max_shift to max_shift is equally likely.
      border: what comes in from outside (see `jaxcnn.image.pad`).
      value: what comes in for ``"constant"``.

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> images = jnp.ones((1, 8, 8, 1))
      >>> random_translate(jax.random.key(0), images, max_shift=2).shape
      (1, 8, 8, 1)
    """
    (max_shift,) = shapes.ints(max_shift, 1, "max_shift")
    draw = jax.vmap(lambda k: jax.random.randint(k, (2,), -max_shift, max_shift + 1))
    shifts = draw(row_keys(key, len(images)))
    return translate(images, shifts, border=border, value=value)


def draw_affine(
    key: jax.Array,
    rows: int,
    size: Sequence[int],
    *,
    max_angle: float = 0.0,
    max_shear: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    max_shift: Range = 0.0,
) -> jax.Array:
    """The matrices that `random_affine` draws, to be used for more than one image.

    Args:
      key: one key, or ``[rows]`` keys.
      rows: number of matrices.
      size: (height, width) of the images.
      max_angle: degrees either way.
      max_shear: degrees either way, at most 89.
      scale: smallest and largest factor, > 0, equally likely on a logarithmic scale.
      max_shift: share of the height and width either way: a number, or (down, right).

    Returns:
      ``[rows, 3, 3]`` for `jaxcnn.image.warp`.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> draw_affine(jax.random.key(0), 4, (28, 28), max_angle=10).shape
      (4, 3, 3)
    """
    low, high = interval(scale, "scale", positive=True)
    shares = max_shift if isinstance(max_shift, tuple) else (max_shift, max_shift)
    down, right = (
        extent(share, "max_shift") * count for share, count in zip(shares, size, strict=True)
    )
    most = np.array(
        [extent(max_angle, "max_angle"), extent(max_shear, "max_shear", most=89), down, right]
    )
    bounds = np.append(-most, math.log(low)), np.append(most, math.log(high))
    angles, shears, down, right, logs = jnp.moveaxis(uniform(key, rows, *bounds), 1, 0)
    return affine_matrix(
        angles=angles, shears=shears, scales=jnp.exp(logs), shifts=jnp.stack([down, right], 1)
    )


def random_affine(
    key: jax.Array,
    images: jax.Array,
    *,
    max_angle: float = 0.0,
    max_shear: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    max_shift: Range = 0.0,
    interpolation: Interpolation = "bilinear",
    border: Border = "constant",
    value: float = 0.0,
) -> jax.Array:
    """Scale, shear, turn and move each image, sampling it once.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]`` (see `jaxcnn.image.warp`).
      max_angle: degrees either way.
      max_shear: degrees either way, at most 89.
      scale: smallest and largest factor, > 0, equally likely on a logarithmic scale.
      max_shift: share of the height and width either way: a number, or (down, right).
      interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.
      border: what lies outside (see `jaxcnn.image.pad`).
      value: what lies outside for ``"constant"``.

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> images = jnp.ones((2, 8, 8, 1))
      >>> random_affine(jax.random.key(0), images, max_angle=30).shape
      (2, 8, 8, 1)

    Reference:
      torchvision's ``RandomAffine``.
    """
    check_images(images, any_dtype=interpolation == "nearest")
    matrices = draw_affine(
        key,
        len(images),
        images.shape[1:3],
        max_angle=max_angle,
        max_shear=max_shear,
        scale=scale,
        max_shift=max_shift,
    )
    return warp(images, matrices, interpolation=interpolation, border=border, value=value)


def random_rotation(
    key: jax.Array,
    images: jax.Array,
    *,
    max_angle: float,
    interpolation: Interpolation = "bilinear",
    border: Border = "constant",
    value: float = 0.0,
) -> jax.Array:
    """Turn each image about its middle, by up to an angle either way.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]`` (see `jaxcnn.image.warp`).
      max_angle: degrees either way.
      interpolation: as for `random_affine`.
      border: as for `random_affine`.
      value: as for `random_affine`.

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> images = jnp.ones((2, 8, 8, 1))
      >>> random_rotation(jax.random.key(0), images, max_angle=10).shape
      (2, 8, 8, 1)
    """
    return random_affine(
        key, images, max_angle=max_angle, interpolation=interpolation, border=border, value=value
    )


def random_crop(
    key: jax.Array,
    images: jax.Array,
    size: shapes.IntOrInts,
    *,
    padding: int | shapes.Pairs = 0,
    border: Border = "constant",
    value: float = 0.0,
) -> jax.Array:
    """A part of each image, from anywhere in it.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, any dtype.
      size: (height, width) of the part, or one number for both.
      padding: pixels that are added first (see `jaxcnn.image.pad`): 4 is usual for 32 x 32.
      border: what they are.
      value: what they are for ``"constant"``.

    Returns:
      ``[B, *size, C]`` of the dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described, or the padded images are smaller than that.

    Example:
      >>> random_crop(jax.random.key(0), jnp.ones((2, 32, 32, 3)), 32, padding=4).shape
      (2, 32, 32, 3)

    Reference:
      torchvision's ``RandomCrop``.
    """
    sizes = shapes.ints(size, 2, "size")
    padded = pad(images, padding, border=border, value=value)
    free = [old - new for old, new in zip(padded.shape[1:3], sizes, strict=True)]
    if min(free) < 0:
        raise ValueError(f"size must be at most {padded.shape[1:3]}, got {size!r}")

    def crop(key: jax.Array, image: jax.Array) -> jax.Array:
        starts = jax.random.randint(key, (2,), 0, jnp.array(free) + 1)
        return jax.lax.dynamic_slice(image, (*starts, 0), (*sizes, image.shape[-1]))

    return jax.vmap(crop)(row_keys(key, len(images)), padded)


def random_resized_crop(
    key: jax.Array,
    images: jax.Array,
    size: shapes.IntOrInts,
    *,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    interpolation: Interpolation = "bilinear",
) -> jax.Array:
    """A part of each image of random area and shape, resized: what ImageNet is trained with.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]`` (see `jaxcnn.image.warp`).
      size: (height, width) of the result, or one number for both.
      area: smallest and largest share of the image.
      ratio: smallest and largest width by height, equally likely on a logarithmic scale; a part
        that would not fit is cut to the image's height or width.
      interpolation: as for `random_affine`; it does not widen where images get smaller.

    Returns:
      ``[B, *size, C]`` of the dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> random_resized_crop(jax.random.key(0), jnp.ones((2, 40, 50, 3)), 32).shape
      (2, 32, 32, 3)

    Reference:
      Szegedy et al. 2015, "Going deeper with convolutions"; torchvision's ``RandomResizedCrop``.
    """
    check_images(images, any_dtype=interpolation == "nearest")
    height, width = shapes.ints(size, 2, "size")
    least, most = interval(area, "area", positive=True)
    if most > 1:
        raise ValueError(f"area must be at most 1, got {area!r}")
    ratios = np.log(interval(ratio, "ratio", positive=True))
    lows, highs = np.array([least, ratios[0], 0, 0]), np.array([most, ratios[1], 1, 1])
    share, log, down, right = jnp.moveaxis(uniform(key, len(images), lows, highs), 1, 0)
    whole = images.shape[1:3]
    root = jnp.sqrt(share * math.prod(whole))
    tall = jnp.minimum(root * jnp.exp(-log / 2), whole[0])
    wide = jnp.minimum(root * jnp.exp(log / 2), whole[1])
    # The part's middle, from that of the image, goes to the middle of the result.
    middles = (down - 0.5) * (whole[0] - tall), (right - 0.5) * (whole[1] - wide)
    scales = jnp.stack([height / tall, width / wide], 1)
    move = affine_matrix(shifts=-jnp.stack(middles, 1))
    matrices = affine_matrix(scales=scales) @ move
    return warp(
        images, matrices, size=(height, width), interpolation=interpolation, border="replicate"
    )
