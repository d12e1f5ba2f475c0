"""Random geometric transforms, drawn for each image in a ``[B, H, W, C]`` batch.

``key`` is either a single JAX random key, used as ``fold_in(key, i)`` for row i, or ``[B]`` keys,
one per row. With the same key and ``interpolation="nearest"``, a mask is transformed in the same
way as its image.
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
    """Mirror some images horizontally.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, any dtype.
      probability: probability of mirroring each image, in [0, 1].

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]``, or ``probability`` is outside [0, 1].

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
    """Mirror some images vertically.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, any dtype.
      probability: probability of mirroring each image, in [0, 1].

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]``, or ``probability`` is outside [0, 1].

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
    """Translate each image by a random integer number of pixels along each axis.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, any dtype.
      max_shift: integer >= 1; shifts in [-max_shift, max_shift] are equally likely.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``max_shift`` is not an integer >= 1, or ``border`` is unknown.

    Example:
      >>> images = jnp.ones((1, 8, 8, 1))
      >>> random_translate(jax.random.key(0), images, max_shift=2).shape
      (1, 8, 8, 1)
    """
    max_shift = shapes.check_integer(max_shift, "max_shift", minimum=1)
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
    """Draw the matrices that `random_affine` uses, to apply them to several arrays.

    Args:
      key: one key, or ``[rows]`` keys.
      rows: number of matrices to draw.
      size: (height, width) of the images.
      max_angle: largest rotation in either direction, in degrees.
      max_shear: largest shear in either direction, in degrees, at most 89.
      scale: (low, high) bounds of the scale factor, > 0, drawn log-uniformly.
      max_shift: largest shift as a fraction of the height and width: a number, or (down, right).

    Returns:
      ``[rows, 3, 3]`` matrices for `jaxcnn.image.warp`.

    Raises:
      ValueError: if a bound is negative or not finite, or ``scale`` is not a pair with
        0 < low <= high.

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
    """Randomly scale, shear, rotate and translate each image, with a single resampling.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]`` (see `jaxcnn.image.warp`).
      max_angle: largest rotation in either direction, in degrees.
      max_shear: largest shear in either direction, in degrees, at most 89.
      scale: (low, high) bounds of the scale factor, > 0, drawn log-uniformly.
      max_shift: largest shift as a fraction of the height and width: a number, or (down, right).
      interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if a bound is negative or not finite, ``scale`` is not a pair with
        0 < low <= high, or an option is unknown.

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
    """Rotate each image about its center by a random angle.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]`` (see `jaxcnn.image.warp`).
      max_angle: largest rotation in either direction, in degrees.
      interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``max_angle`` is negative or not finite, or an option is unknown.

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
    """Crop a random part of each image.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, any dtype.
      size: (height, width) of the crop, or one number for both.
      padding: padding to add first (see `jaxcnn.image.pad`); 4 is typical for 32 x 32 images.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      ``[B, *size, C]`` with the dtype of ``images``.

    Raises:
      ValueError: if ``size`` is larger than the padded images, or ``border`` is unknown.

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
    """Crop a region of random area and aspect ratio and resize it, as is usual for ImageNet.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]`` (see `jaxcnn.image.warp`).
      size: (height, width) of the result, or one number for both.
      area: (low, high) fraction of the image's area, in (0, 1].
      ratio: (low, high) width / height, drawn log-uniformly; crops that do not fit are clipped to
        the image's height or width.
      interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``, without antialiasing.

    Returns:
      ``[B, *size, C]`` with the dtype of ``images``.

    Raises:
      ValueError: if ``area`` or ``ratio`` is not a pair with 0 < low <= high, ``area`` exceeds 1,
        or an option is unknown.

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
    # Move the center of the crop, relative to the image's center, to the center of the result.
    middles = (down - 0.5) * (whole[0] - tall), (right - 0.5) * (whole[1] - wide)
    scales = jnp.stack([height / tall, width / wide], 1)
    move = affine_matrix(shifts=-jnp.stack(middles, 1))
    matrices = affine_matrix(scales=scales) @ move
    return warp(
        images, matrices, size=(height, width), interpolation=interpolation, border="replicate"
    )
