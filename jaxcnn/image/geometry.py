"""Geometric transforms for batches of images ``[B, H, W, C]``.

Flips and quarter turns only move pixels. All other transforms call `jaxcnn.image.warp` about the
center of each image; to chain them, multiply matrices from `jaxcnn.image.affine_matrix` and warp
once.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.image.borders import Border
from jaxcnn.image.warp import Interpolation, Numbers, affine_matrix, warp


def flip_left_right(images: jax.Array) -> jax.Array:
    """Mirror each image horizontally.

    Args:
      images: ``[..., H, W, C]``, any dtype.

    Example:
      >>> flip_left_right(jnp.arange(3).reshape(1, 1, 3, 1)).ravel().tolist()
      [2, 1, 0]
    """
    return jnp.flip(images, -2)


def flip_up_down(images: jax.Array) -> jax.Array:
    """Mirror each image vertically.

    Args:
      images: ``[..., H, W, C]``, any dtype.

    Example:
      >>> flip_up_down(jnp.arange(3).reshape(1, 3, 1, 1)).ravel().tolist()
      [2, 1, 0]
    """
    return jnp.flip(images, -3)


def rot90(images: jax.Array, *, times: int = 1) -> jax.Array:
    """Rotate each image counterclockwise by a multiple of 90 degrees.

    Args:
      images: ``[..., H, W, C]``, any dtype.
      times: number of quarter turns; negative values rotate clockwise.

    Returns:
      ``[..., H, W, C]``, or ``[..., W, H, C]`` for an odd number of quarter turns.

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
    """Rotate each image counterclockwise about its center.

    Args:
      images: ``[B, H, W, C]`` (see `jaxcnn.image.warp`).
      angles: degrees, a number or ``[B]``; may be traced. Multiples of 90 are exact.
      interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``; corners rotated out of the frame are cut off.

    Raises:
      ValueError: if ``angles`` is neither a number nor ``[B]``, or an option is unknown.

    Example:
      >>> rotate(jnp.arange(4.0).reshape(1, 2, 2, 1), 90)[0, :, :, 0].tolist()
      [[1.0, 3.0], [0.0, 2.0]]

    Reference:
      OpenCV's ``getRotationMatrix2D`` with the image center.
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
    """Shear each image: rows move right in proportion to their distance below the center.

    Args:
      images: ``[B, H, W, C]`` (see `jaxcnn.image.warp`).
      angles: degrees from the vertical, between -90 and 90: a number, ``[B]``, or ``[B, 2]`` as
        (down, right), where ``down`` moves columns down; may be traced.
      interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``angles`` has the wrong shape, or an option is unknown.

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
    """Enlarge or shrink the content of each image about its center, keeping the image size.

    Args:
      images: ``[B, H, W, C]`` (see `jaxcnn.image.warp`).
      factors: a number, ``[B]``, or ``[B, 2]`` as (down, right); must not be 0; values below 1
        shrink; may be traced.
      interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``factors`` has the wrong shape or is 0, or an option is unknown.

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
      images: ``[B, H, W, C]``; any dtype for integer shifts.
      shifts: pixels, a number or ``[B]`` for both axes, or ``[B, 2]`` as (down, right); negative
        values move up and left; may be traced. Integer shifts are exact.
      interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``; ignored for integer shifts.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``shifts`` has the wrong shape, or an option is unknown.

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
    """Scale, shear, rotate and translate each image, in that order, with a single resampling.

    Args:
      images: ``[B, H, W, C]`` (see `jaxcnn.image.warp`).
      angles: degrees counterclockwise, a number or ``[B]``.
      shears: degrees, a number, ``[B]`` or ``[B, 2]`` (see `shear`).
      scales: scale factors, a number, ``[B]`` or ``[B, 2]`` (see `scale`).
      shifts: pixels, a number, ``[B]`` or ``[B, 2]`` (see `translate`); always interpolated.
      interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if the shapes do not match a single batch size, a scale is 0, or an option is
        unknown.

    Example:
      >>> images = jnp.arange(9.0).reshape(1, 3, 3, 1)
      >>> affine(images, angles=180, shifts=jnp.array([[1, 0]]))[0, :, :, 0].tolist()
      [[0.0, 0.0, 0.0], [8.0, 7.0, 6.0], [5.0, 4.0, 3.0]]

    Reference:
      torchvision's ``affine``, whose shears have the opposite sign.
    """
    matrices = affine_matrix(angles=angles, shears=shears, scales=scales, shifts=shifts)
    return warp(images, matrices, interpolation=interpolation, border=border, value=value)
