"""Random brightness, color and sharpness, drawn for each ``[H, W, C]`` image in a batch.

``key`` is either a single JAX random key, used as ``fold_in(key, i)`` for row i, or ``[B]`` keys,
one per row. Images and results have values in [0, 1].
"""

import jax
import jax.numpy as jnp

from jaxcnn import shapes
from jaxcnn.image.adjust import (
    adjust_brightness,
    adjust_contrast,
    adjust_gamma,
    adjust_hue,
    adjust_saturation,
    posterize,
    solarize,
)
from jaxcnn.image.color import to_grayscale
from jaxcnn.image.filters import gaussian_blur, laplacian
from jaxcnn.image.randomness import chances, extent, interval, row_keys, uniform


def random_brightness(key: jax.Array, images: jax.Array, *, max_delta: float) -> jax.Array:
    """Shift the brightness of each image by a random amount in [-max_delta, max_delta].

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, floating point in [0, 1].
      max_delta: largest shift, >= 0.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``max_delta`` is negative or not finite.

    Example:
      >>> random_brightness(jax.random.key(0), jnp.full((2, 4, 4, 3), 0.5), max_delta=0.2).shape
      (2, 4, 4, 3)
    """
    most = extent(max_delta, "max_delta")
    return adjust_brightness(images, uniform(key, len(images), -most, most))


def random_contrast(
    key: jax.Array, images: jax.Array, *, factors: tuple[float, float]
) -> jax.Array:
    """Scale the contrast of each image by a random factor.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, floating point in [0, 1].
      factors: (low, high) bounds of the factor, >= 0 (see `jaxcnn.image.adjust_contrast`).

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``factors`` is not a pair with 0 <= low <= high.

    Example:
      >>> images = jnp.full((2, 4, 4, 3), 0.5)
      >>> random_contrast(jax.random.key(0), images, factors=(0.8, 1.2)).max().item()
      0.5
    """
    bounds = interval(factors, "factors", least=0)
    return adjust_contrast(images, uniform(key, len(images), *bounds))


def random_gamma(key: jax.Array, images: jax.Array, *, gammas: tuple[float, float]) -> jax.Array:
    """Raise the values of each image to a random power.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, floating point in [0, 1].
      gammas: (low, high) bounds of the power, > 0.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``gammas`` is not a pair with 0 < low <= high.

    Example:
      >>> random_gamma(jax.random.key(0), jnp.ones((2, 4, 4, 3)), gammas=(0.8, 1.2)).min().item()
      1.0
    """
    bounds = interval(gammas, "gammas", positive=True)
    return adjust_gamma(images, uniform(key, len(images), *bounds))


def random_hue(key: jax.Array, images: jax.Array, *, max_delta: float) -> jax.Array:
    """Rotate the hue of each image by a random fraction of a turn.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, 3]``, RGB, floating point in [0, 1].
      max_delta: largest rotation in either direction, in turns, in [0, 0.5].

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``max_delta`` is outside [0, 0.5], or ``images`` does not have 3 channels.

    Example:
      >>> random_hue(jax.random.key(0), jnp.ones((2, 4, 4, 3)), max_delta=0.1).min().item()
      1.0
    """
    most = extent(max_delta, "max_delta", most=0.5)
    return adjust_hue(images, uniform(key, len(images), -most, most))


def random_saturation(
    key: jax.Array, images: jax.Array, *, factors: tuple[float, float]
) -> jax.Array:
    """Scale the saturation of each image by a random factor.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, 3]``, RGB, floating point in [0, 1].
      factors: (low, high) bounds of the factor, >= 0 (see `jaxcnn.image.adjust_saturation`).

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``factors`` is not a pair with 0 <= low <= high, or ``images`` does not have
        3 channels.

    Example:
      >>> images = jnp.ones((2, 4, 4, 3))
      >>> random_saturation(jax.random.key(0), images, factors=(0.8, 1.2)).min().item()
      1.0
    """
    bounds = interval(factors, "factors", least=0)
    return adjust_saturation(images, uniform(key, len(images), *bounds))


def random_grayscale(key: jax.Array, images: jax.Array, *, probability: float = 0.1) -> jax.Array:
    """Convert some images to grayscale.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, 3]``, RGB, floating point or uint8.
      probability: probability of converting each image, in [0, 1].

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``probability`` is outside [0, 1], or ``images`` does not have 3 channels.

    Example:
      >>> red = jnp.zeros((1, 1, 1, 3)).at[..., 0].set(1.0)
      >>> gray = random_grayscale(jax.random.key(0), red, probability=1.0)
      >>> [round(value, 3) for value in gray.ravel().tolist()]
      [0.299, 0.299, 0.299]
    """
    gray = to_grayscale(images, channels=3)
    return jnp.where(chances(key, len(images), probability), gray, images)


def random_blur(
    key: jax.Array,
    images: jax.Array,
    *,
    sigmas: tuple[float, float],
    window: shapes.IntOrInts = 5,
) -> jax.Array:
    """Blur each image with a Gaussian of random width.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, floating point or uint8.
      sigmas: (low, high) bounds of the standard deviation in pixels, >= 0.
      window: kernel size, an odd integer or a (height, width) pair.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``sigmas`` is not a pair with 0 <= low <= high, or ``window`` is even.

    Example:
      >>> random_blur(jax.random.key(0), jnp.ones((2, 8, 8, 3)), sigmas=(0.1, 2)).shape
      (2, 8, 8, 3)

    Reference:
      torchvision's ``GaussianBlur``.
    """
    drawn = uniform(key, len(images), *interval(sigmas, "sigmas", least=0))
    blur = jax.vmap(lambda x, sigma: gaussian_blur(x[None], sigma, window=window)[0])
    return blur(images, drawn)


def random_sharpness(
    key: jax.Array, images: jax.Array, *, amounts: tuple[float, float]
) -> jax.Array:
    """Sharpen or soften each image by subtracting a random multiple of its Laplacian.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, floating point in [0, 1].
      amounts: (low, high) bounds of the multiple of `jaxcnn.image.laplacian`; 1 is equivalent to
        `jaxcnn.image.sharpen`, and -0.125 softens the most without inverting fine detail.

    Returns:
      Array with the shape and dtype of ``images``, clipped to [0, 1].

    Raises:
      ValueError: if ``amounts`` is not a pair with low <= high.

    Example:
      >>> random_sharpness(jax.random.key(0), jnp.ones((2, 8, 8, 3)), amounts=(0, 1)).min().item()
      1.0
    """
    shapes.check_floating(images, "images")
    drawn = uniform(key, len(images), *interval(amounts, "amounts")).astype(images.dtype)
    edges = laplacian(images).astype(images.dtype)
    return jnp.clip(images - drawn[:, None, None, None] * edges, 0, 1)


def random_solarize(
    key: jax.Array, images: jax.Array, *, thresholds: tuple[float, float] = (0.0, 1.0)
) -> jax.Array:
    """Invert the values of each image that are at or above a random threshold.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, floating point in [0, 1].
      thresholds: (low, high) bounds of the threshold.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``thresholds`` is not a pair with low <= high.

    Example:
      >>> images = jnp.ones((2, 4, 4, 3))
      >>> random_solarize(jax.random.key(0), images, thresholds=(0.5, 0.9)).max().item()
      0.0
    """
    bounds = interval(thresholds, "thresholds")
    return solarize(images, uniform(key, len(images), *bounds))


def random_posterize(
    key: jax.Array, images: jax.Array, *, bits: tuple[int, int] = (4, 8)
) -> jax.Array:
    """Keep a random number of the highest bits of each image's values.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, floating point in [0, 1].
      bits: (low, high) bounds of the number of bits, integers in [0, 8], both inclusive; all
        values are equally likely.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``bits`` is not a pair of integers with 0 <= low <= high <= 8.

    Example:
      >>> images = jnp.full((2, 4, 4, 3), 0.4)
      >>> random_posterize(jax.random.key(0), images, bits=(1, 1)).max().item()
      0.0
    """
    low, high = interval(bits, "bits", least=0)
    if high > 8 or low != int(low) or high != int(high):
        raise ValueError(f"bits must be integers from 0 to 8, got {bits!r}")
    draw = jax.vmap(lambda k: jax.random.randint(k, (), int(low), int(high) + 1))
    return posterize(images, draw(row_keys(key, len(images))))
