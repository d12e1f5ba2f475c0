"""Random geometry: draws stay within bounds, masks move like images; bad input."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import image


def make_images(shape, seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def test_shifts_are_drawn_uniformly(key):
    images = jnp.zeros((2000, 5, 5, 1)).at[:, 2, 2].set(1)
    moved = np.asarray(image.random_translate(key, images, max_shift=2)).sum(0)[..., 0]
    # The expected count of each of the 25 cells is 80, with a standard deviation of 9.
    assert moved.sum() == 2000
    assert (np.abs(moved - 80) < 45).all()


@pytest.mark.parametrize(
    ("flip", "axis"), [(image.random_flip_left_right, 2), (image.random_flip_up_down, 1)]
)
def test_flips_follow_their_probability(flip, axis, key):
    images = make_images((2000, 2, 2, 1))
    changed = np.asarray(flip(key, images, probability=0.3) != images).all((1, 2, 3))
    assert abs(changed.mean() - 0.3) < 0.05
    np.testing.assert_array_equal(flip(key, images, probability=0.0), images)
    np.testing.assert_array_equal(flip(key, images, probability=1.0), np.flip(images, axis))


@pytest.mark.slow
def test_draw_affine_stays_within_its_bounds(key):
    draw = functools.partial(image.draw_affine, key, 3000, (10, 20))
    angles = np.rad2deg(np.arctan2(*draw(max_angle=30)[:, 0, 1::-1].T))
    assert 29 < angles.max() <= 30.001 and -30.001 <= angles.min() < -29
    assert abs(angles.mean()) < 2
    slants = np.rad2deg(np.arctan(draw(max_shear=15)[:, 0, 1]))
    assert 14.5 < slants.max() <= 15.001 and -15.001 <= slants.min() < -14.5
    factors = draw(scale=(0.5, 2.0))[:, 0, 0]
    assert 0.4999 <= factors.min() < 0.51 and 1.96 < factors.max() <= 2.0001
    assert abs(np.log(factors).mean()) < 0.05  # enlarges as often as it shrinks
    shifts = draw(max_shift=(0.1, 0.2))[:, :2, 2]
    assert 0.98 < shifts[:, 1].max() <= 1 and 3.9 < shifts[:, 0].max() <= 4
    np.testing.assert_array_equal(draw(), np.broadcast_to(np.eye(3), (3000, 3, 3)))


def test_random_affine_is_the_warp_by_its_matrices(key):
    images = make_images((4, 9, 12, 2))
    options = {"max_angle": 25, "max_shear": 5, "scale": (0.7, 1.1), "max_shift": 0.2}
    matrices = image.draw_affine(key, 4, (9, 12), **options)
    np.testing.assert_array_equal(
        image.random_affine(key, images, **options), image.warp(images, matrices)
    )
    mask = images[..., :1] > 0.5
    moved = image.random_affine(key, mask, interpolation="nearest", **options)
    np.testing.assert_array_equal(moved, image.warp(mask, matrices, interpolation="nearest"))
    np.testing.assert_array_equal(image.random_affine(key, images), images)


def test_random_crops_come_from_everywhere(key):
    places = jnp.arange(30).reshape(1, 5, 6, 1).repeat(500, 0)
    crops = np.asarray(image.random_crop(key, places, (4, 3)))
    assert crops.shape == (500, 4, 3, 1)
    corners = np.unique(crops[:, 0, 0, 0])
    np.testing.assert_array_equal(corners, [0, 1, 2, 3, 6, 7, 8, 9])
    np.testing.assert_array_equal(np.diff(crops[..., 0], axis=2), 1)
    np.testing.assert_array_equal(np.diff(crops[..., 0], axis=1), 6)
    padded = image.random_crop(key, places + 1, (5, 6), padding=1)
    assert 0 < (padded == 0).mean() < 0.3


@pytest.mark.slow
def test_random_resized_crops_stay_within_their_bounds(key):
    rows, columns = np.indices((40, 60)).astype(np.float32)
    places = np.broadcast_to(np.stack([rows, columns], -1), (800, 40, 60, 2))
    found = np.asarray(image.random_resized_crop(key, places, (8, 8), area=(0.1, 0.5)))
    # The distance from the first to the last of 8 pixel centers is 7/8 of the crop.
    tall, wide = (np.ptp(found[..., i], (1, 2)) * 8 / 7 for i in (0, 1))
    shares = tall * wide / 2400
    assert shares.min() > 0.095 and shares.max() < 0.505
    assert shares.max() > 0.48 and shares.min() < 0.12
    ratios = wide / tall
    assert 0.74 < ratios.min() < 0.78 and 1.29 < ratios.max() < 1.34
    assert found[..., 0].min() < 1.5 and found[..., 1].max() > 57
    whole = image.random_resized_crop(key, places[:1], (40, 60), area=(1, 1), ratio=(1.5, 1.5))
    np.testing.assert_allclose(whole[0], places[0], atol=1e-3)


IMAGES = np.zeros((2, 4, 4, 1), np.float32)
BAD = {
    "max_shift must be an integer >= 1, got 0": lambda k: image.random_translate(
        k, IMAGES, max_shift=0
    ),
    "probability must be in [0, 1], got 2": (
        lambda k: image.random_flip_up_down(k, IMAGES, probability=2)
    ),
    "max_angle must be finite and >= 0, got -5": (
        lambda k: image.random_rotation(k, IMAGES, max_angle=-5)
    ),
    "max_shear must be in [0, 89], got inf": (
        lambda k: image.random_affine(k, IMAGES, max_shear=float("inf"))
    ),
    "scale must be (low, high) > 0, got (0, 1)": (
        lambda k: image.random_affine(k, IMAGES, scale=(0, 1))
    ),
    "scale must be (low, high) > 0, got 2": lambda k: image.random_affine(k, IMAGES, scale=2),
    "max_shift must be finite and >= 0, got -0.1": (
        lambda k: image.random_affine(k, IMAGES, max_shift=(0, -0.1))
    ),
    "size must be at most (6, 6), got 7": (lambda k: image.random_crop(k, IMAGES, 7, padding=1)),
    "area must be at most 1, got (0.1, 1.5)": (
        lambda k: image.random_resized_crop(k, IMAGES, 3, area=(0.1, 1.5))
    ),
    "ratio must be (low, high) > 0, got (2, 1)": (
        lambda k: image.random_resized_crop(k, IMAGES, 3, ratio=(2, 1))
    ),
    "images must be floating point or uint8, got int64": (
        lambda k: image.random_affine(k, IMAGES.astype(np.int64), max_angle=3)
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message, key):
    with pytest.raises(ValueError) as error:
        BAD[message](key)
    assert str(error.value).startswith(message)
