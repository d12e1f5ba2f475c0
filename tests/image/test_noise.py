"""Noise: distributions and frequencies; bad input."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxcnn import image

KEY = jax.random.key(3)
IMAGES = jnp.asarray(np.random.default_rng(0).random((4, 20, 30, 3)), jnp.float32)


def test_gaussian_noise_is_normal_and_speckle_is_proportional():
    noise = np.asarray(image.add_gaussian_noise(KEY, IMAGES, 0.2) - IMAGES).ravel()
    assert scipy.stats.kstest(noise / 0.2, "norm").pvalue > 1e-3
    speckle = image.add_speckle_noise(KEY, IMAGES, 0.2) - IMAGES
    chex.assert_trees_all_close(speckle.ravel(), noise * IMAGES.ravel(), atol=1e-6)


@pytest.mark.parametrize(("amount", "salt"), [(0.0, 0.5), (0.3, 0.25), (1.0, 1.0), (1.0, 0.0)])
def test_salt_and_pepper_follow_their_probabilities(amount, salt):
    images = jnp.full((8, 50, 50, 3), 0.5)
    noisy = np.asarray(image.add_salt_pepper(KEY, images, amount, salt=salt))
    assert (noisy == noisy[..., :1]).all()  # a pixel's channels change together
    pixels = noisy[..., 0]
    for value, expected in ((1, amount * salt), (0, amount * (1 - salt)), (0.5, 1 - amount)):
        spread = 4 * (expected * (1 - expected) / pixels.size) ** 0.5
        assert abs((pixels == value).mean() - expected) <= spread


BAD = {
    "stddev must be finite and >= 0, got -1": lambda: image.add_gaussian_noise(KEY, IMAGES, -1),
    "stddev must be finite and >= 0, got inf": (
        lambda: image.add_speckle_noise(KEY, IMAGES, float("inf"))
    ),
    "amount must be in [0, 1], got 1.5": lambda: image.add_salt_pepper(KEY, IMAGES, 1.5),
    "salt must be in [0, 1], got -0.1": lambda: image.add_salt_pepper(KEY, IMAGES, 1, salt=-0.1),
    "images must be [B, H, W, C] with no empty images, got (20, 30, 3)": (
        lambda: image.add_salt_pepper(KEY, IMAGES[0], 0.1)
    ),
    "images must be floating point, got uint8": (
        lambda: image.add_gaussian_noise(KEY, IMAGES.astype(jnp.uint8), 0.1)
    ),
    "key must be one key or 4 keys, got shape (3,)": (
        lambda: image.add_gaussian_noise(jax.random.split(KEY, 3), IMAGES, 0.1)
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert str(error.value).startswith(message)
