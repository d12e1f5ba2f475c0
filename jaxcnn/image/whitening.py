"""Channel statistics and ZCA whitening for a dataset."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.image.preprocess import to_float


class Whitening(NamedTuple):
    """A fitted whitening transform for images with ``D`` values each.

    Attributes:
      mean: ``[H, W, C]``, subtracted from each image.
      matrix: ``[D, D]``, symmetric; multiplies each flattened image.
    """

    mean: jax.Array
    matrix: jax.Array


def channel_statistics(images: np.ndarray | jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean and standard deviation of each channel, for `normalize` or `Preprocess`.

    Args:
      images: ``[N, H, W, C]``, uint8 or floating point in [0, 1].

    Returns:
      (mean, std), two ``[C]`` float64 arrays, on the [0, 1] scale.

    Raises:
      ValueError: if ``images`` is not ``[N, H, W, C]`` uint8 or finite floating point, or is empty.

    Example:
      >>> mean, std = channel_statistics(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1))
      >>> mean.tolist(), std.tolist()
      ([0.5], [0.5])
    """
    flat = _flat(images).reshape(-1, images.shape[-1])
    return flat.mean(0), flat.std(0)


def fit_whitening(images: np.ndarray | jax.Array, *, epsilon: float = 1e-6) -> Whitening:
    """Fit a ZCA whitening transform that decorrelates the values of a dataset's images.

    Of all whitening transforms, ZCA changes the images the least. The fit is computed in float64.

    Args:
      images: ``[N, H, W, C]``, uint8 or floating point in [0, 1].
      epsilon: added to the variances, > 0, to limit the amplification of low-variance directions.

    Returns:
      `Whitening` for `whiten`, in float32.

    Raises:
      ValueError: if ``images`` is not ``[N, H, W, C]`` uint8 or finite floating point, or is empty,
        or ``epsilon`` is not > 0.

    Example:
      >>> pixels = np.random.default_rng(0).random((100, 2, 2, 1))
      >>> white = whiten(pixels, fit_whitening(pixels))
      >>> bool(np.allclose(np.cov(white.reshape(100, 4).T, bias=True), np.eye(4), atol=1e-3))
      True

    Reference:
      Krizhevsky 2009, "Learning multiple layers of features from tiny images"; Keras's
      ``zca_whitening``.
    """
    if not 0 < epsilon < np.inf:
        raise ValueError(f"epsilon must be > 0, got {epsilon!r}")
    flat = _flat(images).reshape(len(images), -1)
    mean = flat.mean(0)
    flat = flat - mean
    variances, directions = np.linalg.eigh(flat.T @ flat / len(flat))
    factors = (np.maximum(variances, 0) + epsilon) ** -0.5
    matrix = (directions * factors) @ directions.T
    mean = mean.reshape(images.shape[1:])
    return Whitening(jnp.asarray(mean, jnp.float32), jnp.asarray(matrix, jnp.float32))


def whiten(images: jax.Array | np.ndarray, whitening: Whitening) -> jax.Array:
    """Whiten images with a fitted transform.

    Args:
      images: ``[B, H, W, C]``, uint8 or floating point in [0, 1], with the fitted image shape.
      whitening: from `fit_whitening`.

    Returns:
      float32 array with the shape of ``images``.

    Raises:
      ValueError: if the images do not have the fitted shape.

    Example:
      >>> pixels = np.ones((4, 2, 2, 1), np.float32)
      >>> float(whiten(pixels, fit_whitening(pixels)).max())
      0.0
    """
    if images.shape[1:] != whitening.mean.shape:
        shape = ", ".join(map(str, whitening.mean.shape))
        raise ValueError(f"images must be [B, {shape}], got shape {images.shape}")
    centered = to_float(images) - whitening.mean[None]
    flat = centered.reshape(len(images), len(whitening.matrix))
    return jnp.dot(flat, whitening.matrix, precision="highest").reshape(images.shape)


def _flat(images: np.ndarray | jax.Array) -> np.ndarray:
    """Check images and return them as float64 in [0, 1]."""
    values = np.asarray(images)
    if values.ndim != 4 or 0 in values.shape:
        raise ValueError(f"images must be [N, H, W, C] and not empty, got shape {values.shape}")
    if values.dtype == np.uint8:
        return values / 255
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"images must be uint8 or floating point, got {values.dtype}")
    if not np.isfinite(values).all():
        raise ValueError(
            f"images must be finite, got {np.sum(~np.isfinite(values))} non-finite values"
        )
    return values.astype(np.float64)
