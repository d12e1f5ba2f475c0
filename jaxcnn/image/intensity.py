"""Per-image intensity scaling, thresholding and histogram equalization."""

import functools

import jax
import jax.numpy as jnp

from jaxcnn import shapes
from jaxcnn.image.dtypes import check_floating_images, check_images

_BINS = 256


def min_max_scale(images: jax.Array, *, low: float = 0.0, high: float = 1.0) -> jax.Array:
    """Scale each image linearly so that its values range from ``low`` to ``high``.

    Args:
      images: ``[B, H, W, C]``, floating point; a constant image becomes ``low``.
      low: smallest value of the result.
      high: largest value of the result, above ``low``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` floating point, or ``high`` is not above
        ``low``.

    Example:
      >>> min_max_scale(jnp.array([3.0, 4.0, 5.0]).reshape(1, 1, 3, 1)).ravel().tolist()
      [0.0, 0.5, 1.0]

    Reference:
      OpenCV's ``normalize`` with ``NORM_MINMAX``.
    """
    check_floating_images(images)
    if not isinstance(low, jax.Array) and not isinstance(high, jax.Array) and not low < high:
        raise ValueError(f"high must be above low, got {low!r} and {high!r}")
    axes = (1, 2, 3)
    least, most = (f(images, axes, keepdims=True) for f in (jnp.min, jnp.max))
    extent = jnp.where(most > least, most - least, 1)
    return (images - least) / extent * (high - low) + low


def standardize(images: jax.Array) -> jax.Array:
    """Subtract the mean of each image and divide by its standard deviation.

    Args:
      images: ``[B, H, W, C]``, floating point. The standard deviation is clamped to at least
        ``1 / sqrt(H * W * C)``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` floating point.

    Example:
      >>> standardize(jnp.array([0.0, 2.0]).reshape(1, 1, 2, 1)).ravel().tolist()
      [-1.0, 1.0]

    Reference:
      TensorFlow's ``per_image_standardization``.
    """
    check_floating_images(images)
    axes = (1, 2, 3)
    centered = images - jnp.mean(images, axes, keepdims=True)
    variance = jnp.mean(jnp.square(centered), axes, keepdims=True)
    least = 1 / (images.shape[1] * images.shape[2] * images.shape[3])
    # Take the maximum before the square root, whose derivative at 0 is infinite.
    return centered / jnp.sqrt(jnp.maximum(variance, jnp.asarray(least, images.dtype)))


def threshold(images: jax.Array, value: float | jax.Array) -> jax.Array:
    """Return a mask of the values above a threshold.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8.
      value: a number, or one per image and channel, ``[B, 1, 1, C]``, as returned by
        `otsu`; may be traced.

    Returns:
      ``[B, H, W, C]`` bool.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]``, or ``value`` is neither a number nor
        4-dimensional.

    Example:
      >>> threshold(jnp.array([3, 4, 5], jnp.uint8).reshape(1, 1, 3, 1), 4).ravel().tolist()
      [False, False, True]

    Reference:
      OpenCV's ``threshold`` with ``THRESH_BINARY``.
    """
    check_images(images)
    value = jnp.asarray(value)
    if value.ndim not in (0, 4):
        raise ValueError(f"value must be a number or [B, 1, 1, C], got shape {value.shape}")
    return images > value


def otsu(images: jax.Array) -> jax.Array:
    """Compute Otsu's threshold between dark and bright pixels for each channel of each image.

    The threshold maximizes the variance between the two classes.

    Args:
      images: ``[B, H, W, C]``, uint8 or floating point. Floating-point values are sorted into
        256 bins from the smallest to the largest value of each channel of each image.

    Returns:
      ``[B, 1, 1, C]`` with the dtype of ``images``: the largest value of the dark class
      (uint8), or the upper edge of the bin that contains it (floating point).

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]``.

    Example:
      >>> pixels = jnp.array([10, 12, 200, 202], jnp.uint8).reshape(1, 2, 2, 1)
      >>> otsu(pixels).item()
      12

    Reference:
      Otsu 1979, "A threshold selection method from gray-level histograms"; OpenCV's
      ``THRESH_OTSU``, scikit-image's ``threshold_otsu``.
    """
    check_images(images)
    return _otsu(images)


@functools.partial(jax.jit, inline=True)
def _otsu(images: jax.Array) -> jax.Array:
    planes = jnp.moveaxis(images, -1, 1).reshape(-1, images.shape[1] * images.shape[2])
    if images.dtype == jnp.uint8:
        found = jax.vmap(_otsu_bin)(planes.astype(jnp.int32)).astype(images.dtype)
    else:
        values = shapes.at_least_float32(planes)
        least, most = values.min(1, keepdims=True), values.max(1, keepdims=True)
        width = jnp.where(most > least, most - least, 1) / _BINS
        bins = jnp.clip(jnp.floor((values - least) / width), 0, _BINS - 1).astype(jnp.int32)
        found = least[:, 0] + (jax.vmap(_otsu_bin)(bins) + 1) * width[:, 0]
    return found.reshape(len(images), 1, 1, images.shape[-1]).astype(images.dtype)


def _otsu_bin(bins: jax.Array) -> jax.Array:
    """Return the last bin of the dark class."""
    counts = jnp.zeros(_BINS, jnp.float32).at[bins].add(1)
    dark = jnp.cumsum(counts)
    bright = dark[-1] - dark
    sums = jnp.cumsum(counts * jnp.arange(_BINS, dtype=jnp.float32))
    means = sums / jnp.maximum(dark, 1), (sums[-1] - sums) / jnp.maximum(bright, 1)
    return jnp.argmax(dark * bright * (means[1] - means[0]) ** 2)


def autocontrast(images: jax.Array) -> jax.Array:
    """Stretch each channel of each image to [0, 1]; constant channels are left unchanged.

    Args:
      images: ``[B, H, W, C]``, floating point in [0, 1].

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` floating point.

    Example:
      >>> autocontrast(jnp.array([0.25, 0.375, 0.5]).reshape(1, 1, 3, 1)).ravel().tolist()
      [0.0, 0.5, 1.0]

    Reference:
      Pillow's ``ImageOps.autocontrast``; `min_max_scale` scales all channels together.
    """
    check_floating_images(images)
    least, most = (f(images, (1, 2), keepdims=True) for f in (jnp.min, jnp.max))
    varied = most > least
    return jnp.where(varied, (images - least) / jnp.where(varied, most - least, 1), images)


def equalize(images: jax.Array) -> jax.Array:
    """Equalize the histogram of each channel of each image.

    Args:
      images: ``[B, H, W, C]``, floating point in [0, 1]; values are rounded to 256 levels.

    Returns:
      Array with the shape and dtype of ``images``; its gradient is 0.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` floating point.

    Example:
      >>> pixels = jnp.array([0.0, 0.1, 0.1, 0.2]).reshape(1, 1, 4, 1).repeat(128, 1)
      >>> equalize(pixels)[0, 0].ravel().round(2).tolist()
      [0.0, 0.5, 0.5, 1.0]

    Reference:
      Pillow's ``ImageOps.equalize``.
    """
    check_floating_images(images)
    return _equalized(images)


@functools.partial(jax.jit, inline=True)
def _equalized(images: jax.Array) -> jax.Array:
    levels = jnp.round(jnp.clip(images, 0, 1) * (_BINS - 1)).astype(jnp.int32)
    planes = jnp.moveaxis(levels, -1, 1).reshape(-1, images.shape[1] * images.shape[2])

    def spread(plane: jax.Array) -> jax.Array:
        counts = jnp.zeros(_BINS, jnp.int32).at[plane].add(1)
        # Pillow's integer arithmetic, which excludes the brightest level.
        step = (plane.size - counts[plane.max()]) // (_BINS - 1)
        below = jnp.cumsum(counts) - counts
        table = jnp.minimum((below + step // 2) // jnp.maximum(step, 1), _BINS - 1)
        return jnp.where(step > 0, table, jnp.arange(_BINS))[plane]

    spread_planes = jax.vmap(spread)(planes) / (_BINS - 1)
    batch, height, width, channels = images.shape
    result = jnp.moveaxis(spread_planes.reshape(batch, channels, height, width), 1, -1)
    return result.astype(images.dtype)
