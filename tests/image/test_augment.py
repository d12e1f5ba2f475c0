"""Flips and shifts: exact, drawn per image, the same for the same key in any batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcnn import image


def pictures(count, height=5, width=7, channels=2):
    values = np.random.default_rng(0).integers(1, 256, (count, height, width, channels))
    return values.astype(np.uint8)


@given(st.integers(-6, 6), st.integers(-8, 8))
def test_translate_moves_whole_pixels(down, right):
    images = pictures(2)
    expected = np.zeros_like(images)
    for row in range(5):
        for column in range(7):
            if 0 <= row - down < 5 and 0 <= column - right < 7:
                expected[1, row, column] = images[1, row - down, column - right]
    moved = image.translate(images, jnp.array([[0, 0], [down, right]]))
    np.testing.assert_array_equal(moved[0], images[0])
    np.testing.assert_array_equal(moved[1], expected[1])
    assert moved.dtype == np.uint8


def test_flip():
    images = pictures(3)
    np.testing.assert_array_equal(image.flip_left_right(images), images[:, :, ::-1])
    np.testing.assert_array_equal(image.flip_left_right(image.flip_left_right(images)), images)


TRANSFORMS = {
    "flip": image.random_flip_left_right,
    "shift": functools.partial(image.random_translate, max_shift=2),
    "both": image.compose(
        image.random_flip_left_right, functools.partial(image.random_translate, max_shift=2)
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_row_depends_on_its_own_key_alone(name, key):
    images, transform = jnp.asarray(pictures(6)), TRANSFORMS[name]
    whole = transform(key, images)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(6))
    np.testing.assert_array_equal(transform(keys, images), whole)
    np.testing.assert_array_equal(transform(keys[2:4], images[2:4]), whole[2:4])
    np.testing.assert_array_equal(jax.jit(transform)(key, images), whole)


def test_every_shift_is_drawn_about_as_often(key):
    images = jnp.zeros((2000, 5, 5, 1)).at[:, 2, 2].set(1)
    moved = np.asarray(image.random_translate(key, images, max_shift=2)).sum(0)[..., 0]
    # 80 expected in each of 25 cells, with a deviation of 9.
    assert moved.sum() == 2000
    assert (np.abs(moved - 80) < 45).all()


def test_flips_follow_their_probability(key):
    images = jnp.zeros((2000, 1, 2, 1)).at[:, 0, 0].set(1)
    flipped = image.random_flip_left_right(key, images, probability=0.3)[:, 0, 1].mean()
    assert abs(flipped - 0.3) < 0.05
    np.testing.assert_array_equal(
        image.random_flip_left_right(key, images, probability=0.0), images
    )


def test_parts_of_a_composition_draw_apart(key):
    """The same transform twice is not twice the same draw."""
    once = functools.partial(image.random_translate, max_shift=2)
    images = jnp.zeros((64, 9, 9, 1)).at[:, 4, 4].set(1)
    moved = np.argwhere(np.asarray(image.compose(once, once)(key, images))[..., 0] == 1)[:, 1:] - 4
    assert (moved % 2 == 1).any(), "both parts drew the same"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k, x: image.random_translate(k, x, max_shift=0), "max_shift must be a positive"),
        (lambda k, x: image.random_flip_left_right(k, x, probability=2), "probability must be"),
        (
            lambda k, x: image.random_flip_left_right(jax.random.split(k, 3), x),
            "key must be one key or 2",
        ),
        (lambda k, x: image.translate(x, jnp.zeros((2, 2))), "shifts must be integers"),
        (lambda k, x: image.translate(x, jnp.zeros((1, 2), int)), r"of shape \(2, 2\)"),
        (
            lambda k, x: image.translate(x[0], jnp.zeros((5, 2), int)),
            r"images must be \[B, H, W, C\]",
        ),
    ],
)
def test_bad_arguments(call, message, key):
    with pytest.raises(ValueError, match=message):
        call(key, jnp.zeros((2, 5, 7, 1)))
