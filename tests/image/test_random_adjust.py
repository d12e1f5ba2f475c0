"""Random brightness and color: uniform draws within their bounds; bad input."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import image

ROWS = 2000
GRAY = np.full((ROWS, 1, 1, 3), 0.5, np.float32)


def check_uniform(values, low, high):
    """Check that values lie within the bounds, come close to both, and average to the midpoint."""
    values, width = np.asarray(values), high - low
    assert low - 1e-5 <= values.min() < low + width / 50
    assert high - width / 50 < values.max() <= high + 1e-5
    assert abs(values.mean() - (low + high) / 2) < width / 20


@pytest.mark.slow
def test_amounts_are_drawn_uniformly(key):
    check_uniform(image.random_brightness(key, GRAY, max_delta=0.2)[:, 0, 0, 0], 0.3, 0.7)
    stripes = np.stack([GRAY[:, 0] - 0.1, GRAY[:, 0] + 0.1], 1)
    contrast = image.random_contrast(key, stripes, factors=(0.5, 2.0))
    check_uniform(contrast[:, 1, 0, 0] - contrast[:, 0, 0, 0], 0.1, 0.4)
    gamma = jnp.log(image.random_gamma(key, GRAY, gammas=(0.5, 3))[:, 0, 0, 0]) / np.log(0.5)
    check_uniform(gamma, 0.5, 3)
    pink = GRAY + np.array([0.5, 0, 0], np.float32)
    faded = image.random_saturation(key, pink, factors=(0, 1))
    check_uniform(1 - faded[:, 0, 0, 1], 0, 0.5)
    threshold = image.random_solarize(key, GRAY, thresholds=(0.4, 0.8))
    assert (np.asarray(threshold) == 0.5).all()  # 0.5 is its own inverse
    bright = image.random_solarize(key, GRAY + 0.1, thresholds=(0.4, 0.8))
    assert abs((bright < 0.5).mean() - 0.5) < 0.05


def test_bits_are_drawn_uniformly(key):
    ramp = np.tile(np.linspace(0, 1, 256, dtype=np.float32)[None, None, :, None], (900, 1, 1, 1))
    found = np.asarray(image.random_posterize(key, ramp, bits=(2, 4)))
    levels = np.array([len(np.unique(one)) for one in found])
    values, counts = np.unique(levels, return_counts=True)
    np.testing.assert_array_equal(values, [4, 8, 16])
    assert (np.abs(counts - 300) < 80).all()


def test_grayscale_follows_its_probability_and_hue_its_bounds(key):
    red = np.zeros((ROWS, 1, 1, 3), np.float32) + np.array([1, 0, 0], np.float32)
    gray = image.random_grayscale(key, red, probability=0.2)
    assert abs((gray[:, 0, 0, 1] > 0).mean() - 0.2) < 0.04
    turned = image.random_hue(key, red, max_delta=1 / 6)
    assert (turned.max((1, 2, 3)) == 1).all() and (turned.min((1, 2, 3)) < 1e-6).all()
    assert turned[:, 0, 0, 1].max() > 0.95 and turned[:, 0, 0, 2].max() > 0.95


def test_blur_and_sharpness_of_fixed_amounts(key):
    images = np.random.default_rng(0).random((4, 6, 7, 2)).astype(np.float32)
    np.testing.assert_allclose(image.random_blur(key, images, sigmas=(0, 0)), images, atol=1e-6)
    np.testing.assert_allclose(
        image.random_sharpness(key, images, amounts=(0, 0)), images, atol=1e-6
    )
    sharp = image.random_sharpness(key, images, amounts=(1, 1))
    np.testing.assert_allclose(sharp, np.clip(image.sharpen(images), 0, 1), atol=1e-5)
    blurred = image.random_blur(key, images, sigmas=(1.2, 1.2), window=5)
    np.testing.assert_allclose(blurred, image.gaussian_blur(images, 1.2, window=5), atol=1e-5)


IMAGES = GRAY[:2]
BAD = {
    "max_delta must be finite and >= 0, got -1": (
        lambda k: image.random_brightness(k, IMAGES, max_delta=-1)
    ),
    "max_delta must be in [0, 0.5], got 0.6": (
        lambda k: image.random_hue(k, IMAGES, max_delta=0.6)
    ),
    "factors must be (low, high) >= 0, got (-1, 1)": (
        lambda k: image.random_contrast(k, IMAGES, factors=(-1, 1))
    ),
    "factors must be (low, high) >= 0, got 0.5": (
        lambda k: image.random_saturation(k, IMAGES, factors=0.5)
    ),
    "gammas must be (low, high) > 0, got (0, 1)": (
        lambda k: image.random_gamma(k, IMAGES, gammas=(0, 1))
    ),
    "sigmas must be (low, high) >= 0, got (2, 1)": (
        lambda k: image.random_blur(k, IMAGES, sigmas=(2, 1))
    ),
    "bits must be integers from 0 to 8, got (1, 9)": (
        lambda k: image.random_posterize(k, IMAGES, bits=(1, 9))
    ),
    "amounts must be (low, high), got (1, nan)": (
        lambda k: image.random_sharpness(k, IMAGES, amounts=(1, float("nan")))
    ),
    "probability must be in [0, 1], got 3": (
        lambda k: image.random_grayscale(k, IMAGES, probability=3)
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message, key):
    with pytest.raises(ValueError) as error:
        BAD[message](key)
    assert str(error.value).startswith(message)
