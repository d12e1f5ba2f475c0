"""Linear filters: each pixel becomes a weighted sum of its neighborhood.

Kernels are not flipped (cross-correlation), as in OpenCV's ``filter2D`` and `jaxcnn.ops.conv`.
uint8 images are filtered in float32, rounded to the nearest integer and clipped.
"""

import functools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn import ops, shapes
from jaxcnn.image.borders import Border, odd_window, pad, reach
from jaxcnn.image.dtypes import back, check_images, in_float
from jaxcnn.ops.barriers import materialize

_LAPLACIANS = {4: ((0, 1, 0), (1, -4, 1), (0, 1, 0)), 8: ((1, 1, 1), (1, -8, 1), (1, 1, 1))}


def filter2d(
    images: jax.Array,
    kernel: jax.Array | np.ndarray | Sequence[Sequence[float]],
    *,
    border: Border = "reflect101",
    value: float = 0.0,
) -> jax.Array:
    """Filter every channel with the same kernel.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8.
      kernel: ``[height, width]``; may be traced. A kernel with an even size is centered on the
        pixel just past its midpoint.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` or ``kernel`` has the wrong shape or dtype, or ``border`` is
        unknown.

    Example:
      >>> edges = filter2d(jnp.arange(4.0).reshape(1, 1, 4, 1) ** 2, [[-1, 0, 1]])
      >>> edges.ravel().tolist()
      [0.0, 4.0, 8.0, 0.0]

    Reference:
      OpenCV's ``filter2D``.
    """
    kernel = jnp.asarray(kernel)
    if kernel.ndim != 2 or 0 in kernel.shape:
        raise ValueError(f"kernel must be [height, width], got shape {kernel.shape}")
    return in_float(images, lambda x: _correlate(x, kernel, border, value))


def box_blur(
    images: jax.Array,
    window: shapes.IntOrInts,
    *,
    border: Border = "reflect101",
    value: float = 0.0,
) -> jax.Array:
    """Replace each pixel with the mean of its neighborhood.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8.
      window: size of the neighborhood, an integer or (height, width).
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]``, ``window`` is not positive, or ``border``
        is unknown.

    Example:
      >>> box_blur(jnp.arange(9.0).reshape(1, 3, 3, 1), 3)[0, 1, 1, 0].item()
      4.0

    Reference:
      OpenCV's ``blur``.
    """
    sizes = shapes.ints(window, 2, "window")
    rows, columns = (np.full(size, 1 / size) for size in sizes)
    return _separable(images, rows, columns, border, value, images.dtype)


def gaussian_blur(
    images: jax.Array,
    sigma: float | jax.Array,
    *,
    window: shapes.IntOrInts | None = None,
    border: Border = "reflect101",
    value: float = 0.0,
) -> jax.Array:
    """Blur with a Gaussian kernel.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8.
      sigma: standard deviation in pixels, >= 0; may be traced.
      window: kernel size, an odd integer or a (height, width) pair; None covers
        four standard deviations and requires ``sigma`` to be a Python number.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``sigma`` is negative or not finite, ``border`` is unknown, ``window`` is even,
        or ``window`` is None and ``sigma`` is a JAX array.

    Example:
      >>> image = jnp.zeros((1, 9, 9, 1)).at[0, 4, 4, 0].set(1.0)
      >>> round(gaussian_blur(image, 1.0)[0, 4, 4, 0].item(), 3)
      0.159

    Reference:
      OpenCV's ``GaussianBlur`` with the same window; SciPy's ``gaussian_filter`` if ``window`` is
      None.
    """
    if not isinstance(sigma, jax.Array) and not 0 <= sigma < math.inf:
        raise ValueError(f"sigma must be finite and >= 0, got {sigma!r}")
    if window is None:
        if isinstance(sigma, jax.Array):
            raise ValueError("window must be given when sigma is a JAX array")
        window = 2 * round(4 * sigma) + 1
    rows, columns = (_normal_weights(sigma, size) for size in odd_window(window))
    return _separable(images, rows, columns, border, value, images.dtype)


def sobel(
    images: jax.Array,
    *,
    window: int = 3,
    border: Border = "reflect101",
    value: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Compute the vertical and horizontal derivatives with Sobel kernels.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8.
      window: kernel size: 3, 5 or 7.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      (vertical, horizontal) floating-point derivatives with the shape of ``images``, on the scale
      of the integer kernels: a slope of 1 per pixel yields 8 for a window of 3.

    Raises:
      ValueError: if ``window`` is not 3, 5 or 7, or ``border`` is unknown.

    Example:
      >>> down, right = sobel(jnp.arange(9.0).reshape(1, 3, 3, 1))
      >>> down[0, 1, 1, 0].item(), right[0, 1, 1, 0].item()
      (24.0, 8.0)

    Reference:
      OpenCV's ``Sobel``: (dx=0, dy=1) and (dx=1, dy=0).
    """
    if window not in (3, 5, 7):
        raise ValueError(f"window must be 3, 5 or 7, got {window!r}")
    smooth, slope = np.array([1.0]), np.array([-1.0, 0.0, 1.0])
    for _ in range(window - 3):
        smooth, slope = np.convolve(smooth, [1, 1]), np.convolve(slope, [1, 1])
    smooth = np.convolve(smooth, [1, 2, 1])
    return _slopes(images, smooth, slope, border, value)


def scharr(
    images: jax.Array, *, border: Border = "reflect101", value: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """Compute derivatives with 3 x 3 Scharr kernels, more rotation-invariant than `sobel`.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      (vertical, horizontal) floating-point derivatives with the shape of ``images``; a slope of 1
      per pixel yields 32.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` or ``border`` is unknown.

    Example:
      >>> down, right = scharr(jnp.arange(9.0).reshape(1, 3, 3, 1))
      >>> down[0, 1, 1, 0].item(), right[0, 1, 1, 0].item()
      (96.0, 32.0)

    Reference:
      OpenCV's ``Scharr``.
    """
    smooth, slope = np.array([3.0, 10.0, 3.0]), np.array([-1.0, 0.0, 1.0])
    return _slopes(images, smooth, slope, border, value)


def laplacian(
    images: jax.Array,
    *,
    neighbors: int = 4,
    border: Border = "reflect101",
    value: float = 0.0,
) -> jax.Array:
    """Compute the discrete Laplacian, which highlights edges and spots.

    Each result is the sum of the pixel's neighbors minus the number of neighbors times the pixel.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8.
      neighbors: number of neighbors: 4, or 8 to include the diagonals.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Floating-point array with the shape of ``images``.

    Raises:
      ValueError: if ``neighbors`` is neither 4 nor 8, or ``border`` is unknown.

    Example:
      >>> image = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(1.0)
      >>> laplacian(image)[0, 2, :, 0].tolist()
      [0.0, 1.0, -4.0, 1.0, 0.0]

    Reference:
      OpenCV's ``Laplacian`` with ``ksize=1``.
    """
    if neighbors not in _LAPLACIANS:
        raise ValueError(f"neighbors must be 4 or 8, got {neighbors!r}")
    check_images(images)
    kernel = jnp.array(_LAPLACIANS[neighbors], jnp.float32)
    return _correlate(shapes.at_least_float32(images), kernel, border, value)


def sharpen(
    images: jax.Array,
    *,
    amount: float | jax.Array = 1.0,
    border: Border = "reflect101",
    value: float = 0.0,
) -> jax.Array:
    """Sharpen images by subtracting the `laplacian`.

    With ``amount=1``, the kernel is ``[[0, -1, 0], [-1, 5, -1], [0, -1, 0]]``.

    Args:
      images: ``[B, H, W, C]``, floating point (not clipped) or uint8.
      amount: strength of the sharpening; may be traced.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]`` or ``border`` is unknown.

    Example:
      >>> image = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(1.0)
      >>> sharpen(image)[0, 2, :, 0].tolist()
      [0.0, -1.0, 5.0, -1.0, 0.0]
    """
    kernel = jnp.array(_LAPLACIANS[4], jnp.float32)
    return in_float(images, lambda x: x - amount * _correlate(x, kernel, border, value))


def unsharp_mask(
    images: jax.Array,
    sigma: float | jax.Array,
    *,
    amount: float | jax.Array = 1.0,
    window: shapes.IntOrInts | None = None,
    border: Border = "reflect101",
    value: float = 0.0,
) -> jax.Array:
    """Add the detail that a Gaussian blur removes: ``images + amount * (images - blurred)``.

    Args:
      images: ``[B, H, W, C]``, floating point (not clipped) or uint8.
      sigma: standard deviation of the blur in pixels, >= 0; may be traced.
      amount: strength of the sharpening; may be traced.
      window: kernel size, an odd integer or a (height, width) pair; None covers
        four standard deviations and requires ``sigma`` to be a Python number.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``sigma`` is negative or not finite, ``border`` is unknown, ``window`` is even,
        or ``window`` is None and ``sigma`` is a JAX array.

    Example:
      >>> image = jnp.arange(5.0).reshape(1, 1, 5, 1) ** 2
      >>> bool(unsharp_mask(image, 1.0)[0, 0, 2, 0] < image[0, 0, 2, 0])
      True

    Reference:
      scikit-image's ``unsharp_mask`` without clipping.
    """

    def function(x: jax.Array) -> jax.Array:
        blurred = gaussian_blur(x, sigma, window=window, border=border, value=value)
        return x + amount * (x - blurred)

    return in_float(images, function)


@functools.partial(jax.jit, static_argnums=1, inline=True)
def _normal_weights(sigma: float | jax.Array, size: int) -> jax.Array:
    places = jnp.arange(size, dtype=jnp.float32) - size // 2
    # If sigma is 0, the middle pixel gets all the weight.
    exponents = -0.5 * (places / jnp.maximum(sigma, 1e-3)) ** 2
    return jax.nn.softmax(exponents)


def _slopes(
    images: jax.Array, smooth: np.ndarray, slope: np.ndarray, border: Border, value: float
) -> tuple[jax.Array, jax.Array]:
    check_images(images)
    dtype = jnp.promote_types(images.dtype, jnp.float32)
    down = _separable(images, slope, smooth, border, value, dtype)
    return down, _separable(images, smooth, slope, border, value, dtype)


@functools.partial(jax.jit, static_argnums=(3, 5), inline=True)
def _separable(
    images: jax.Array,
    rows: jax.Array | np.ndarray,
    columns: jax.Array | np.ndarray,
    border: Border,
    value: float | jax.Array,
    dtype: jnp.dtype,
) -> jax.Array:
    """Correlate along the height with ``rows``, then along the width with ``columns``."""
    check_images(images)
    if border == "constant":
        images = shapes.at_least_float32(images)  # a fill value need not fit in uint8
    padded = pad(images, reach((len(rows), len(columns))), border=border, value=value)
    # XLA for CPU vectorizes each pass only over flat rows that are read from and written to memory.
    flat = materialize(padded.reshape(*padded.shape[:2], padded.shape[2] * padded.shape[3]))
    flat = materialize(_along(flat, jnp.asarray(rows), 1, 1))
    flat = back(_along(flat, jnp.asarray(columns), 2, images.shape[3]), dtype)
    return materialize(flat).reshape(images.shape)


def _along(x: jax.Array, weights: jax.Array, axis: int, step: int) -> jax.Array:
    """Return weighted sums of values ``step`` apart along ``axis``, in at least float32."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    count = x.shape[axis] - (len(weights) - 1) * step
    parts = (
        lax.slice_in_dim(x, i * step, i * step + count, axis=axis).astype(dtype) * weight
        for i, weight in enumerate(weights.astype(dtype))
    )
    return functools.reduce(operator.add, parts)


@functools.partial(jax.jit, static_argnums=2, inline=True)
def _correlate(
    x: jax.Array, kernel: jax.Array, border: Border, value: float | jax.Array
) -> jax.Array:
    kernels = jnp.broadcast_to(kernel[..., None, None], (*kernel.shape, 1, x.shape[-1]))
    extended = pad(x, reach(kernel.shape), border=border, value=value)
    return ops.depthwise_conv(extended, kernels.astype(x.dtype), padding="VALID")
