"""Combined random transforms and random erasing: independent draws, frequencies; bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import image


@pytest.mark.slow
def test_compose_draws_independently_for_each_transform(key):
    once = functools.partial(image.random_translate, max_shift=2)
    images = jnp.zeros((64, 9, 9, 1)).at[:, 4, 4].set(1)
    moved = np.argwhere(np.asarray(image.compose(once, once)(key, images))[..., 0] == 1)[:, 1:] - 4
    assert (moved % 2 == 1).any(), "both transforms drew the same shift"


@pytest.mark.slow
def test_sometimes_follows_its_probability(key):
    invert = image.sometimes(lambda _, images: 1 - images, 0.3)
    changed = invert(key, jnp.zeros((2000, 1, 1, 1))).mean()
    assert abs(changed - 0.3) < 0.05
    never = image.sometimes(lambda _, images: 1 - images, 0.0)
    assert never(key, jnp.zeros((50, 1, 1, 1))).max() == 0


def test_one_of_draws_transforms_equally_often(key):
    parts = [lambda _, images, n=n: images + n for n in range(4)]
    drawn = image.one_of(*parts)(key, jnp.zeros((2000, 2, 1, 1)))
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])  # one transform per image
    counts = np.bincount(np.asarray(drawn[:, 0, 0, 0], int))
    # The expected count of each is 500, with a standard deviation of 19.
    assert len(counts) == 4 and (np.abs(counts - 500) < 100).all()


def test_random_erasing_fills_rectangles_within_its_bounds(key):
    images = jnp.ones((500, 20, 30, 2))
    found = np.asarray(
        image.random_erasing(key, images, probability=0.7, area=(0.1, 0.3), value=0.25)
    )
    blank = (found == 0.25).all(-1)
    assert ((found == 1) | (found == 0.25)).all() and (blank == (found == 0.25).any(-1)).all()
    hit = blank.any((1, 2))
    assert abs(hit.mean() - 0.7) < 0.1
    ratios = []
    for one in blank[hit]:
        rows, columns = one.any(1), one.any(0)
        assert one.sum() == rows.sum() * columns.sum()  # a filled rectangle
        height, width = (np.ptp(np.nonzero(line)) + 1 for line in (rows, columns))
        assert height * width == one.sum()
        ratios.append(height / width)
        assert 0.07 < one.mean() < 0.34
    assert 0.25 < min(ratios) < 0.6 and 1.7 < max(ratios) < 4


def test_random_erasing_reaches_every_pixel(key):
    erased = image.random_erasing(key, jnp.ones((2000, 8, 9, 1)), probability=1.0)
    assert (erased.min(0) == 0).all()


def test_random_erasing_as_cutout_and_of_entire_images(key):
    images = jnp.ones((40, 12, 12, 1), jnp.uint8)
    cut = image.random_erasing(key, images, probability=1.0, area=(0.25, 0.25), ratio=(1, 1))
    np.testing.assert_array_equal(cut.sum((1, 2, 3)), 144 - 36)
    assert cut.dtype == np.uint8
    everything = image.random_erasing(key, images, probability=1.0, area=(1, 1), ratio=(1, 1))
    assert everything.max() == 0


IMAGES = np.zeros((2, 4, 4, 3), np.float32)
BAD = {
    "transforms must contain at least one function, got none": lambda k: image.one_of(),
    "probability must be in [0, 1], got 2": (
        lambda k: image.sometimes(image.random_flip_left_right, 2)(k, IMAGES)
    ),
    "probability must be in [0, 1], got -1": (
        lambda k: image.random_erasing(k, IMAGES, probability=-1)
    ),
    "area must be (low, high) >= 0, got (0.5, 0.1)": (
        lambda k: image.random_erasing(k, IMAGES, area=(0.5, 0.1))
    ),
    "area must be at most 1, got (0.5, 2)": (
        lambda k: image.random_erasing(k, IMAGES, area=(0.5, 2))
    ),
    "ratio must be (low, high) > 0, got (0, 1)": (
        lambda k: image.random_erasing(k, IMAGES, ratio=(0, 1))
    ),
    "images must be [B, H, W, C] with no empty images": (
        lambda k: image.random_flip_up_down(k, IMAGES[0])
    ),
    "images must be [B, H, W, C] with no empty images, got": (
        lambda k: image.random_flip_left_right(k, IMAGES[0])
    ),
    "key must be made by jax.random.key, got uint32 of shape (2,)": (
        lambda k: image.random_flip_left_right(jax.random.key_data(k), IMAGES)
    ),
    "max_shear must be in [0, 89], got 90": (
        lambda k: image.random_affine(k, IMAGES, max_shear=90)
    ),
    "key must be one key or 2 keys, got shape (3,)": (
        lambda k: image.random_flip_left_right(jax.random.split(k, 3), IMAGES)
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message, key):
    with pytest.raises(ValueError) as error:
        BAD[message](key)
    assert str(error.value).startswith(message)


@pytest.mark.slow
def test_fill_values_are_rounded_and_clipped_for_uint8(key):
    bytes_ = jnp.zeros((1, 3, 3, 1), jnp.uint8)
    blank = image.random_erasing(key, bytes_, probability=1.0, area=(1, 1), value=127.6)
    assert blank.max() == 128
    edges = [image.pad(bytes_, 1, border="constant", value=v)[0, 0, 0, 0] for v in (300, -1, 9.6)]
    assert list(map(int, edges)) == [255, 0, 10]
