"""Resizing against Pillow, area means, exact crops; bad input."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from jaxcnn import image

PILLOW = {
    "nearest": PIL.Image.Resampling.NEAREST,
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
    "area": PIL.Image.Resampling.BOX,
}


def make_images(shape, dtype=np.float32, seed=0):
    values = np.random.default_rng(seed).random(shape)
    return (values * 255).astype(np.uint8) if dtype == np.uint8 else values.astype(dtype)


@pytest.mark.parametrize("method", PILLOW)
@pytest.mark.parametrize(
    "size",
    [
        (20, 5),
        (3, 4),
        *(pytest.param(s, marks=pytest.mark.slow) for s in ((9, 12), (1, 1), (31, 30))),
    ],
    ids=str,
)
def test_resize_equals_pillow(method, size):
    images = make_images((2, 10, 15, 2))
    if method == "area" and (10 % size[0] or 15 % size[1]):
        size = (5, 3)  # Pillow's box filter counts whole pixels, not fractions
    found = image.resize(images, size, method=method)
    for row in range(2):
        for channel in range(2):
            plane = PIL.Image.fromarray(images[row, :, :, channel])
            expected = plane.resize(size[::-1], PILLOW[method])
            np.testing.assert_allclose(found[row, ..., channel], expected, atol=2e-6)


def test_area_counts_fractions_of_pixels():
    row = jnp.arange(3.0).reshape(1, 1, 3, 1)
    found = image.resize(row, (1, 2), method="area")
    np.testing.assert_allclose(found.ravel(), [(0 + 0.5) / 1.5, (0.5 + 2) / 1.5], rtol=1e-6)
    images = make_images((1, 7, 9, 3))
    found = image.resize(images, (4, 5), method="area")
    np.testing.assert_allclose(found.mean((1, 2)), images.mean((1, 2)), rtol=1e-5)


# "bicubic" and "lanczos" differ from "bilinear" only in the kernel.
each_method = pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=[pytest.mark.slow] * (method in ("bicubic", "lanczos")))
        for method in PILLOW
    ],
)


@each_method
def test_bytes_are_rounded_and_clipped(method):
    images = make_images((1, 9, 7, 3), np.uint8)
    found = image.resize(images, (6, 5), method=method)
    assert found.dtype == np.uint8
    exact = image.resize(images.astype(np.float32), (6, 5), method=method)
    chex.assert_trees_all_equal(found, jnp.clip(jnp.round(exact), 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("factors", "size"),
    [
        ({"fx": 0.1, "fy": 0.1}, (2, 3)),
        ({"fx": 2}, (40, 60)),
        ({"fy": 0.5}, (10, 15)),
        ({"fx": 0.001, "fy": 1}, (20, 1)),
    ],
    ids=str,
)
def test_factors(factors, size):
    images = make_images((1, 20, 30, 1))
    chex.assert_trees_all_equal(image.resize(images, **factors), image.resize(images, size))


def test_without_antialiasing_pixels_are_skipped():
    row = jnp.zeros((1, 1, 8, 1)).at[0, 0, 0, 0].set(1)
    assert image.resize(row, (1, 2), antialias=False).max() == 0
    assert image.resize(row, (1, 2)).max() > 0


def test_center_crop_and_crop_to_square():
    images = make_images((1, 5, 8, 1))
    chex.assert_trees_all_equal(image.center_crop(images, (2, 5)), images[:, 1:3, 1:6])
    chex.assert_trees_all_equal(image.crop_to_square(images), images[:, :, 1:6])
    assert image.is_square(image.crop_to_square(images)) and not image.is_square(images)


@pytest.mark.parametrize("size", [(12, 6), (7, 30), (4, 4)], ids=str)
def test_resize_with_pad_keeps_the_aspect_ratio(size):
    images = make_images((2, 6, 9, 1)) + 1
    found = image.resize_with_pad(images, size)
    chex.assert_shape(found, (2, *size, 1))
    height, width = np.any(found[0, ..., 0] > 0.5, 1).sum(), np.any(found[0] > 0.5, 0).sum()
    assert height == size[0] or width == size[1]
    assert abs(height / width - 6 / 9) < 0.15


@each_method
def test_under_jit_vmap_half_precision_and_gradients(method):
    images = jnp.asarray(make_images((3, 6, 5, 2)))
    resized = jax.jit(lambda x: image.resize(x, (4, 7), method=method))
    whole = resized(images)
    alone = jax.vmap(lambda x: resized(x[None])[0])(images)
    chex.assert_trees_all_close(alone, whole, atol=1e-6)
    half = resized(images.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), whole, atol=2e-2)
    gradient = jax.jit(jax.grad(lambda x: resized(x).sum()))(images)
    # Resizing is linear, so a pixel's gradient is the output sum for that pixel alone.
    pixel = jnp.zeros_like(images).at[1, 2, 3, 0].set(1)
    np.testing.assert_allclose(resized(pixel).sum(), gradient[1, 2, 3, 0], atol=1e-5)


GRAY = np.zeros((2, 4, 4, 1), np.float32)
BAD = {
    "give either size, or at least one of fx and fy; got None": lambda: image.resize(GRAY),
    "give either size, or at least one of fx and fy; got 3": lambda: image.resize(GRAY, 3, fx=2),
    "fx must be > 0, got -1": lambda: image.resize(GRAY, fx=-1, fy=1),
    "fy must be > 0, got 0": lambda: image.resize(GRAY, fy=0),
    "size must be a positive integer or 2 such integers, got (0, 3)": (
        lambda: image.resize(GRAY, (0, 3))
    ),
    "method must be a valid name, got 'linear'. Did you mean 'bilinear'?": (
        lambda: image.resize(GRAY, 3, method="linear")
    ),
    "images must be [B, H, W, C] with no empty images, got (2, 0, 4, 1)": (
        lambda: image.resize(GRAY[:, :0], 3)
    ),
    "size must be at most (4, 4), got 5": lambda: image.center_crop(GRAY, 5),
    "padding must be 'SAME', 'VALID'": lambda: image.pad(GRAY, -1),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert str(error.value).startswith(message)
