"""Per-image scaling; Otsu's threshold against its definition; bad input."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcnn import image


def make_images(shape, seed=0):
    return np.random.default_rng(seed).normal(3, 2, shape).astype(np.float32)


def otsu_by_definition(bins):
    """Find the threshold that maximizes the between-class variance, in float64."""
    best, where = -1.0, 0
    for value in range(256):
        dark, bright = bins[bins <= value], bins[bins > value]
        if dark.size and bright.size:
            between = dark.size * bright.size * (dark.mean() - bright.mean()) ** 2
            if between > best * (1 + 1e-12):
                best, where = between, value
    return where


def test_min_max_scale_gives_each_image_the_range():
    images = make_images((3, 5, 4, 2))
    scaled = np.asarray(image.min_max_scale(images, low=-1.0))
    np.testing.assert_allclose(scaled.min((1, 2, 3)), -1)
    np.testing.assert_allclose(scaled.max((1, 2, 3)), 1)
    order = np.argsort(images.reshape(3, -1), 1)
    assert (np.diff(np.take_along_axis(scaled.reshape(3, -1), order, 1), axis=1) >= 0).all()
    assert image.min_max_scale(np.full((1, 2, 2, 1), 7, np.float32)).max() == 0


def test_standardize_gives_mean_0_and_deviation_1():
    images = make_images((3, 6, 5, 2))
    found = np.asarray(image.standardize(images))
    expected = images - images.mean((1, 2, 3), keepdims=True)
    expected /= images.std((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    flat = np.full((1, 4, 4, 1), 0.3, np.float32)
    assert np.abs(image.standardize(flat)).max() < 1e-6
    gradient = jax.jit(jax.grad(lambda x: (image.standardize(x) ** 3).sum()))(images)
    chex.assert_tree_all_finite(gradient)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 256), st.sampled_from([1, 2, 7]))
def test_otsu_of_bytes_by_its_definition(seed, levels, size):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, levels)
    pixels = rng.choice(values, (2, size, size + 1, 1)).astype(np.uint8)
    found = np.asarray(image.otsu(pixels))
    chex.assert_shape(found, (2, 1, 1, 1))
    for row in range(2):
        chosen, best = (
            int(found[row, 0, 0, 0]),
            otsu_by_definition(pixels[row].astype(np.int64).ravel()),
        )
        # All thresholds between two levels are equivalent.
        dark = [set(pixels[row][pixels[row] <= value].tolist()) for value in (chosen, best)]
        assert dark[0] == dark[1]


def test_otsu_separates_two_clusters_at_any_scale():
    rng = np.random.default_rng(0)
    clusters = np.concatenate([rng.normal(-3, 0.2, 200), rng.normal(5, 0.3, 312)])
    images = rng.permutation(clusters).astype(np.float32).reshape(1, 16, 32, 1)
    images = np.concatenate([images, images * 1000], -1)
    mask = image.threshold(images, image.otsu(images))
    assert mask.dtype == bool
    chex.assert_trees_all_equal(np.asarray(mask), images > 0)


BYTES = np.zeros((2, 4, 4, 1), np.uint8)
BAD = {
    "images must be floating point, got uint8": lambda: image.standardize(BYTES),
    "high must be above low, got 2.0 and 1.0": (
        lambda: image.min_max_scale(BYTES.astype(np.float32), low=2.0)
    ),
    "value must be a number or [B, 1, 1, C], got shape (2,)": (
        lambda: image.threshold(BYTES, np.zeros(2))
    ),
    "images must be [B, H, W, C] with no empty images, got (4, 4)": (
        lambda: image.otsu(BYTES[0, ..., 0])
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert str(error.value).startswith(message)


def test_standardize_has_finite_gradients_for_constant_images():
    total = jax.jit(lambda x: jnp.sum(image.standardize(x) ** 2))
    slope = jax.grad(total)(jnp.full((1, 4, 4, 1), 0.3))
    assert np.isfinite(slope).all()
