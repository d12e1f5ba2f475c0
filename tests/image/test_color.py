"""Grayscale against its definition and Pillow; channel order; bad input."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from jaxcnn import image

WEIGHTS = {"rec601": (0.299, 0.587, 0.114), "rec709": (0.2126, 0.7152, 0.0722)}
RGB = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_grayscale_is_a_weighted_sum(weights):
    expected = (RGB.astype(np.float64) * WEIGHTS[weights]).sum(-1, keepdims=True)
    gray = image.to_grayscale(jnp.asarray(RGB), weights=weights)
    assert gray.dtype == np.uint8
    np.testing.assert_allclose(gray, expected, atol=0.5 + 1e-4)
    fraction = image.to_grayscale(image.to_float(RGB), weights=weights, channels=3)
    chex.assert_shape(fraction, RGB.shape)
    np.testing.assert_allclose(fraction, np.repeat(expected / 255, 3, -1), atol=1e-6)


def test_grayscale_of_bytes_equals_pillow_within_one_level():
    expected = [np.asarray(PIL.Image.fromarray(one).convert("L")) for one in RGB]
    found = np.asarray(image.to_grayscale(jnp.asarray(RGB)))[..., 0]
    assert np.abs(found.astype(int) - np.array(expected, int)).max() <= 1


def test_grayscale_keeps_white_and_its_gradients_are_the_weights():
    white = jnp.ones((1, 1, 1, 3))
    np.testing.assert_allclose(image.to_grayscale(white), 1, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: image.to_grayscale(x).sum()))(white)
    np.testing.assert_allclose(gradient.ravel(), WEIGHTS["rec601"])


def test_reverse_channels_twice_is_the_identity():
    chex.assert_trees_all_equal(np.asarray(image.reverse_channels(RGB)), RGB[..., ::-1])
    chex.assert_trees_all_equal(
        np.asarray(image.reverse_channels(image.reverse_channels(RGB))), RGB
    )


BAD = {
    "images must have 3 channels, got shape (2, 5, 7, 1)": (
        lambda: image.to_grayscale(RGB[..., :1])
    ),
    "weights must be a valid name, got 'rec600'. Did you mean 'rec601'?": (
        lambda: image.to_grayscale(RGB, weights="rec600")
    ),
    "channels must be 1 or 3, got 2": lambda: image.to_grayscale(RGB, channels=2),
    "images must be floating point or uint8, got int32": (
        lambda: image.to_grayscale(RGB.astype(np.int32))
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert str(error.value).startswith(message)
