"""Geometric transforms of batches of images ``[B, H, W, C]``.

Flips and quarter turns move pixels; everything else is a `jaxcnn.image.warp` about the middle of
each image, where a chain of transforms is better done at once (`jaxcnn.image.affine_matrix`).
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.image.borders import Border
from jaxcnn.image.warp import Interpolation, Numbers, affine_matrix, warp


def flip_left_right(images: jax.Array) -> jax.Array:
    """Mirror each image: its left becomes its right.

    Args:
      images: ``[..., H, W, C]``, any dtype.

    Example:
      >>> flip_left_right(jnp.arange(3).reshape(1, 1, 3, 1)).ravel().tolist()
      [2, 1, 0]
    """
    return jnp.flip(images, -2)


def flip_up_down(images: jax.Array) -> jax.Array:
    """Turn each image upside down, as in a lake: its top becomes its bottom.

    Args:
      images: ``[..., H, W, C]``, any dtype.

    Example:
      >>> flip_up_down(jnp.arange(3).reshape(1, 3, 1, 1)).ravel().tolist()
      [2, 1, 0]
    """
    return jnp.flip(images, -3)


def rot90(images: jax.Array, *, times: int = 1) -> jax.Array:
    """Turn each image by a quarter, counter-clockwise, a number of times.

    Args:
      images: ``[..., H, W, C]``, any dtype.
      times: any integer; negative is clockwise.

    Returns:
      ``[..., H, W, C]``, or ``[..., W, H, C]`` for an odd number of quarters.

    Example:
      >>> rot90(jnp.arange(4).reshape(1, 2, 2, 1))[0, :, :, 0].tolist()
      [[1, 3], [0, 2]]

    Reference:
      NumPy's ``rot90``.
    """
    return jnp.rot90(images, times, (-3, -2))


def rotate(
    images: jax.Array,
    angles: Numbers,
    *,
    interpolation: Interpolation = "bilinear",
    border: Border = "constant",
    value: float = 0.0,
) -> jax.Array:
    """Turn each image about its middle, counter-clockwise.

    Args:
      images: ``[B, H, W, C]`` (see `jaxcnn.image.warp`).
      angles: degrees, a number or ``[B]``; may be traced. Multiples of 90 are exact.
      interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.
      border: what lies outside (see `jaxcnn.image.pad`).
      value: what lies outside for ``"constant"``.

    Returns:
      The shape and dtype of ``images``: corners are lost.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> rotate(jnp.arange(4.0).reshape(1, 2, 2, 1), 90)[0, :, :, 0].tolist()
      [[1.0, 3.0], [0.0, 2.0]]

    Reference:
      OpenCV's ``getRotationMatrix2D`` about the middle.
    """
    matrices = affine_matrix(angles=angles)
    return warp(images, matrices, interpolation=interpolation, border=border, value=value)


def shear(
    images: jax.Array,
    angles: Numbers,
    *,
    interpolation: Interpolation = "bilinear",
    border: Border = "constant",
    value: float = 0.0,
) -> jax.Array:
    """Slant each image: its rows move right, the more the farther down from the middle.

    Args:
      images: ``[B, H, W, C]`` (see `jaxcnn.image.warp`).
      angles: degrees within -90 and 90 from the vertical: a number, ``[B]``, or ``[B, 2]``, of
        which the first moves columns down; may be traced.
      interpolation: as for `rotate`.
      border: as for `rotate`.
      value: as for `rotate`.

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> shear(jnp.arange(9.0).reshape(1, 3, 3, 1), 45).round(5)[0, :, :, 0].tolist()
      [[1.0, 2.0, 0.0], [3.0, 4.0, 5.0], [0.0, 6.0, 7.0]]
    """
    matrices = affine_matrix(shears=angles)
    return warp(images, matrices, interpolation=interpolation, border=border, value=value)


def scale(
    images: jax.Array,
    factors: Numbers,
    *,
    interpolation: Interpolation = "bilinear",
    border: Border = "constant",
    value: float = 0.0,
) -> jax.Array:
    """Enlarge what is in each image about its middle; the image stays as large as it is.

    Args:
      images: ``[B, H, W, C]`` (see `jaxcnn.image.warp`).
      factors: not 0, below 1 to make smaller: a number, ``[B]``, or ``[B, 2]``, (down, right); may
        be traced.
      interpolation: as for `rotate`.
      border: as for `rotate`.
      value: as for `rotate`.

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> scale(jnp.arange(5.0).reshape(1, 1, 5, 1), 2).ravel().tolist()
      [1.0, 1.5, 2.0, 2.5, 3.0]
    """
    matrices = affine_matrix(scales=factors)
    return warp(images, matrices, interpolation=interpolation, border=border, value=value)


def translate(
    images: jax.Array,
    shifts: Numbers,
    *,
    interpolation: Interpolation = "bilinear",
    border: Border = "constant",
    value: float = 0.0,
) -> jax.Array:
    """Move each image down and to the right.

    Args:
      images: ``[B, H, W, C]``; for integer shifts of any dtype.
      shifts: pixels: a number or ``[B]`` for both axes, or ``[B, 2]``, (down, right); negative for
        up and left; may be traced. Integers move whole pixels, exactly.
      interpolation: as for `rotate`; integers need none.
      border: as for `rotate`.
      value: as for `rotate`.

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> images = jnp.arange(1, 4).reshape(1, 1, 3, 1)
      >>> translate(images, jnp.array([[0, 1]])).ravel().tolist()
      [0, 1, 2]
    """
    if jnp.issubdtype(jnp.result_type(shifts), np.integer):
        interpolation = "nearest"
    matrices = affine_matrix(shifts=shifts)
    return warp(images, matrices, interpolation=interpolation, border=border, value=value)


def affine(
    images: jax.Array,
    *,
    angles: Numbers = 0.0,
    shears: Numbers = 0.0,
    scales: Numbers = 1.0,
    shifts: Numbers = 0.0,
    interpolation: Interpolation = "bilinear",
    border: Border = "constant",
    value: float = 0.0,
) -> jax.Array:
    """Scale, shear, turn and move each image, in this order, by sampling it once.

    Args:
      images: ``[B, H, W, C]`` (see `jaxcnn.image.warp`).
      angles: as for `rotate`.
      shears: as for `shear`.
      scales: as for `scale`.
      shifts: as for `translate`; always interpolated.
      interpolation: as for `rotate`.
      border: as for `rotate`.
      value: as for `rotate`.

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> images = jnp.arange(9.0).reshape(1, 3, 3, 1)
      >>> affine(images, angles=180, shifts=jnp.array([[1, 0]]))[0, :, :, 0].tolist()
      [[0.0, 0.0, 0.0], [8.0, 7.0, 6.0], [5.0, 4.0, 3.0]]

    Reference:
      torchvision's ``affine``, in which shears have the opposite sign.
    """
    matrices = affine_matrix(angles=angles, shears=shears, scales=scales, shifts=shifts)
    return warp(images, matrices, interpolation=interpolation, border=border, value=value)
