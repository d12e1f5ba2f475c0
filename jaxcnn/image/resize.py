"""Resizing, with and without padding, and center crops."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import shapes
from jaxcnn.image.borders import Border, pad
from jaxcnn.image.dtypes import check_images, in_float
from jaxcnn.messages import did_you_mean

Method = Literal["nearest", "bilinear", "bicubic", "lanczos", "area"]
_JAX_METHODS = {
    "bilinear": "linear",
    "bicubic": "cubic",
    "lanczos": "lanczos3",
}


def resize(
    images: jax.Array,
    size: shapes.IntOrInts | None = None,
    *,
    fx: float | None = None,
    fy: float | None = None,
    method: Method = "bilinear",
    antialias: bool = True,
) -> jax.Array:
    """Resize images to a size or by scale factors, as in ``cv2.resize(img, (0, 0), fx=0.1)``.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8; any dtype for ``"nearest"``.
      size: (height, width), or one number for both.
      fx: scale factor for the width, instead of ``size``; None uses ``fy``.
      fy: scale factor for the height, instead of ``size``; None uses ``fx``. The resulting size is
        rounded, and at least 1.
      method: ``"nearest"``, ``"bilinear"``, ``"bicubic"`` (Keys's kernel with a = -0.5),
        ``"lanczos"`` (three lobes), or ``"area"``, the mean over the area each new pixel covers.
      antialias: widen the kernel when shrinking, so that every pixel contributes.

    Returns:
      ``[B, *size, C]`` with the dtype of ``images``; floating-point values are not clipped.

    Raises:
      ValueError: if neither or both of ``size`` and the factors are given, any of them is not
        positive, or ``method`` is unknown.

    Example:
      >>> resize(jnp.arange(4.0).reshape(1, 1, 4, 1), fx=0.5, fy=1, method="area").ravel().tolist()
      [0.5, 2.5]

    Reference:
      Pillow's ``Image.resize``, which always widens the kernel; OpenCV's ``INTER_AREA``.
    """
    check_images(images, any_dtype=method == "nearest")
    height, width = _size(images, size, fx, fy)
    if method == "area":
        rows, columns = _overlaps(images.shape[1], height), _overlaps(images.shape[2], width)

        def function(x: jax.Array) -> jax.Array:
            weights = jnp.asarray(rows, x.dtype), jnp.asarray(columns, x.dtype)
            return jnp.einsum("bhwc,Hh,Ww->bHWc", x, *weights, precision="highest")

        return in_float(images, function)
    if method == "nearest":
        rows, columns = _nearest(images.shape[1], height), _nearest(images.shape[2], width)
        return jnp.take(jnp.take(images, rows, 1), columns, 2)
    if method not in _JAX_METHODS:
        hint = did_you_mean(str(method), [*_JAX_METHODS, "area", "nearest"])
        raise ValueError(f"method must be a valid name, got {method!r}. {hint}")
    shape = (len(images), height, width, images.shape[-1])
    kind = _JAX_METHODS[method]
    return in_float(
        images,
        lambda x: jax.image.resize(x, shape, kind, antialias=antialias, precision="highest"),
    )


def resize_with_pad(
    images: jax.Array,
    size: shapes.IntOrInts,
    *,
    method: Method = "bilinear",
    antialias: bool = True,
    border: Border = "constant",
    value: float = 0.0,
) -> jax.Array:
    """Resize images to fit inside a size, keeping their aspect ratio, and pad both sides equally.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8.
      size: (height, width), or one number for both.
      method: ``"nearest"``, ``"bilinear"``, ``"bicubic"``, ``"lanczos"`` or ``"area"``.
      antialias: widen the kernel when shrinking, so that every pixel contributes.
      border: border mode for the padding (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      ``[B, *size, C]`` with the dtype of ``images``.

    Raises:
      ValueError: if ``size`` is not positive, or ``method`` or ``border`` is unknown.

    Example:
      >>> resize_with_pad(jnp.ones((1, 2, 4, 1)), 4)[0, :, 0, 0].tolist()
      [0.0, 1.0, 1.0, 0.0]

    Reference:
      TensorFlow's ``resize_with_pad``.
    """
    check_images(images, any_dtype=method == "nearest")
    sizes = shapes.ints(size, 2, "size")
    factor = min(new / old for new, old in zip(sizes, images.shape[1:3], strict=True))
    inner = [max(1, round(old * factor)) for old in images.shape[1:3]]
    resized = resize(images, inner, method=method, antialias=antialias)
    missing = [new - old for new, old in zip(sizes, inner, strict=True)]
    widths = tuple((count // 2, count - count // 2) for count in missing)
    return pad(resized, widths, border=border, value=value)


def center_crop(images: jax.Array, size: shapes.IntOrInts) -> jax.Array:
    """Crop the center of each image.

    If the excess is odd, one more pixel is removed at the bottom or right.

    Args:
      images: ``[B, H, W, C]``, any dtype.
      size: (height, width), or one number for both, at most the size of the images.

    Returns:
      ``[B, *size, C]`` with the dtype of ``images``.

    Raises:
      ValueError: if ``size`` is larger than the images.

    Example:
      >>> center_crop(jnp.arange(5).reshape(1, 1, 5, 1), (1, 2)).ravel().tolist()
      [1, 2]
    """
    check_images(images, any_dtype=True)
    height, width = shapes.ints(size, 2, "size")
    if height > images.shape[1] or width > images.shape[2]:
        raise ValueError(f"size must be at most {images.shape[1:3]}, got {size!r}")
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top : top + height, left : left + width]


def is_square(images: jax.Array) -> bool:
    """Return whether ``[..., H, W, C]`` images are square.

    Example:
      >>> is_square(jnp.zeros((1, 4, 5, 3)))
      False
    """
    return images.shape[-3] == images.shape[-2]


def crop_to_square(images: jax.Array) -> jax.Array:
    """Crop the largest centered square of each image.

    Args:
      images: ``[B, H, W, C]``, any dtype.

    Returns:
      ``[B, S, S, C]`` with ``S = min(H, W)``.

    Example:
      >>> crop_to_square(jnp.zeros((1, 4, 6, 3))).shape
      (1, 4, 4, 3)
    """
    check_images(images, any_dtype=True)
    return center_crop(images, min(images.shape[1:3]))


def _size(
    images: jax.Array, size: shapes.IntOrInts | None, fx: float | None, fy: float | None
) -> tuple[int, ...]:
    if (size is None) == (fx is None and fy is None):
        raise ValueError(
            f"give either size, or at least one of fx and fy; got {size!r}, {fx!r}, {fy!r}"
        )
    if size is not None:
        return shapes.ints(size, 2, "size")
    for name, factor in (("fx", fx), ("fy", fy)):
        if factor is not None and not 0 < factor < np.inf:
            raise ValueError(f"{name} must be > 0, got {factor!r}")
    pairs = zip(images.shape[1:3], (fy or fx, fx or fy), strict=True)
    return tuple(max(1, round(count * float(factor or 1))) for count, factor in pairs)


def _nearest(old: int, new: int) -> np.ndarray:
    """Return the old pixel that contains each new pixel's center; on a tie, the later one."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def _overlaps(old: int, new: int) -> np.ndarray:
    """Return the fraction of each new pixel that each old pixel covers, ``[new, old]``."""
    edges = np.arange(new + 1) * (old / new)
    left, right = edges[:-1, None], edges[1:, None]
    places = np.arange(old)
    shared = np.minimum(right, places + 1) - np.maximum(left, places)
    return np.maximum(shared, 0) * (new / old)
