"""Brightness and color adjustments against their formulas; Pillow's posterize; bad input."""

import colorsys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from jaxcnn import image

AMOUNTS = np.array([0.3, 1.0, 1.7], np.float32)


def make_images(shape=(3, 4, 5, 3), seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def per_image(function, images, amounts):
    return np.array([function(one, n) for one, n in zip(images, amounts, strict=True)])


def in_hsv(change):
    def function(pixels, amount):
        flat = [change(*colorsys.rgb_to_hsv(*pixel), amount) for pixel in pixels.reshape(-1, 3)]
        return np.array([colorsys.hsv_to_rgb(*hsv) for hsv in flat]).reshape(pixels.shape)

    return function


CASES = {
    "brightness": (image.adjust_brightness, lambda x, n: x + n),
    "contrast": (
        image.adjust_contrast,
        lambda x, n: n * (x - x.mean((0, 1))) + x.mean((0, 1)),
    ),
    "gamma": (image.adjust_gamma, lambda x, n: x**n),
    "hue": (image.adjust_hue, in_hsv(lambda h, s, v, n: ((h + n) % 1, s, v))),
    "saturation": (
        image.adjust_saturation,
        in_hsv(lambda h, s, v, n: (h, min(s * n, 1), v)),
    ),
    "solarize": (image.solarize, lambda x, n: np.where(x < n / 2, x, 1 - x)),
}


@pytest.mark.parametrize("name", CASES)
def test_formulas(name):
    adjust, formula = CASES[name]
    images = make_images()
    amounts = AMOUNTS / 2 if name == "solarize" else AMOUNTS
    expected = np.clip(per_image(formula, images, AMOUNTS), 0, 1)
    found = jax.jit(adjust)(images, amounts)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    alone = adjust(images[1:2], float(amounts[1]))
    np.testing.assert_allclose(alone, found[1:2], atol=1e-6)
    half = adjust(jnp.asarray(images, jnp.bfloat16), amounts)
    assert half.dtype == jnp.bfloat16
    chex.assert_tree_all_finite(jax.jit(jax.grad(lambda x: adjust(x, amounts).sum()))(images))


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_equals_pillow_on_bytes(bits):
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    expected = PIL.ImageOps.posterize(PIL.Image.fromarray(pixels[0, ..., 0]), bits)
    found = image.posterize(image.to_float(pixels), bits) * 255
    np.testing.assert_array_equal(np.round(found[0, ..., 0]), np.asarray(expected))


def test_hue_and_saturation_leave_gray_unchanged():
    gray = jnp.broadcast_to(make_images((2, 3, 3, 1)), (2, 3, 3, 3))
    np.testing.assert_allclose(image.adjust_hue(gray, 0.3), gray, atol=1e-6)
    np.testing.assert_allclose(image.adjust_saturation(gray, 5.0), gray, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: image.adjust_saturation(x, 2.0).sum()))(gray)
    chex.assert_tree_all_finite(gradient)


IMAGES = make_images((2, 4, 4, 3))
BAD = {
    "images must be floating point, got uint8": (
        lambda: image.adjust_brightness(np.zeros((1, 2, 2, 3), np.uint8), 1)
    ),
    "images must have 3 channels, got shape (2, 4, 4, 1)": (
        lambda: image.adjust_hue(IMAGES[..., :1], 0.1)
    ),
    "factors must be a number or [2], got shape (3,)": (
        lambda: image.adjust_contrast(IMAGES, np.ones(3))
    ),
    "deltas must be finite, got nan": lambda: image.adjust_brightness(IMAGES, float("nan")),
    "images must be [B, H, W, C] with no empty images, got (4, 4, 3)": (
        lambda: image.adjust_gamma(IMAGES[0], 2)
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert str(error.value).startswith(message)
