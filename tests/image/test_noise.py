"""Noise: moments, addressing by row, bad input."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxcnn import image

NOISES = {
    "gaussian": functools.partial(image.add_gaussian_noise, stddev=0.2),
    "speckle": functools.partial(image.add_speckle_noise, stddev=0.2),
    "salt and pepper": functools.partial(image.add_salt_pepper, amount=0.3, salt=0.25),
}
KEY = jax.random.key(3)
IMAGES = jnp.asarray(np.random.default_rng(0).random((4, 20, 30, 3)), jnp.float32)


@pytest.mark.parametrize("name", NOISES)
def test_each_row_has_noise_of_its_own_whatever_the_batch(name):
    noise = NOISES[name]
    noisy = noise(KEY, IMAGES)
    keys = image.row_keys(KEY, 4)
    chex.assert_trees_all_close(noise(keys[2:], IMAGES[2:]), noisy[2:], atol=1e-6)
    chex.assert_trees_all_close(jax.jit(noise)(KEY, IMAGES), noisy, atol=1e-6)
    same = noise(KEY, jnp.broadcast_to(IMAGES[:1], IMAGES.shape))
    assert not (same[0] == same[1]).all()
    chex.assert_type(noise(KEY, IMAGES.astype(jnp.bfloat16)), jnp.bfloat16)


def test_normal_noise_is_normal_and_speckle_is_in_proportion():
    noise = np.asarray(image.add_gaussian_noise(KEY, IMAGES, 0.2) - IMAGES).ravel()
    assert scipy.stats.kstest(noise / 0.2, "norm").pvalue > 1e-3
    speckle = image.add_speckle_noise(KEY, IMAGES, 0.2) - IMAGES
    chex.assert_trees_all_close(speckle.ravel(), noise * IMAGES.ravel(), atol=1e-6)


@pytest.mark.parametrize(("amount", "salt"), [(0.0, 0.5), (0.3, 0.25), (1.0, 1.0), (1.0, 0.0)])
def test_salt_and_pepper_hit_as_often_as_asked(amount, salt):
    images = jnp.full((8, 50, 50, 3), 0.5)
    noisy = np.asarray(image.add_salt_pepper(KEY, images, amount, salt=salt))
    assert (noisy == noisy[..., :1]).all()  # whole pixels
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
    "images must be [B, H, W, C] with no empty image, got (20, 30, 3)": (
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
