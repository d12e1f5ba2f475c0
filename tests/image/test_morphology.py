"""Rank filters against SciPy and NumPy in every dtype; invariants; bad input."""

import itertools
from typing import get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcnn import image
from jaxcnn.image import borders

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
CORNER = np.array([[1, 1, 0], [1, 0, 0]], bool)


def make_images(shape, dtype, seed=0):
    """Return images with few distinct values, so that there are many ties."""
    values = np.random.default_rng(seed).integers(0, 20, shape)
    return values.astype(dtype) if dtype == np.uint8 else values.astype(dtype) / 4 - 2


def each_plane(function, images):
    planes = np.moveaxis(images, -1, 1)
    found = [[function(plane) for plane in one] for one in planes]
    return np.moveaxis(np.array(found, images.dtype), 1, -1)


WINDOWS = {"2": 2, "3": 3, "1 x 6": (1, 6), "7 x 4": (7, 4), "cross": CROSS, "corner": CORNER}
TINY, USUAL = (1, 1, 1, 1), (2, 6, 9, 3)
QUICK = {
    (USUAL, "2", np.float32),
    (USUAL, "1 x 6", np.uint8),
    (USUAL, "7 x 4", np.float32),
    (USUAL, "corner", np.float32),
    (USUAL, "corner", np.uint8),
    (TINY, "7 x 4", np.uint8),
    (TINY, "cross", np.float32),
}


@pytest.mark.parametrize(
    ("shape", "window", "dtype"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] * (case not in QUICK))
        for case in itertools.product((TINY, USUAL), WINDOWS, (np.float32, np.uint8))
    ],
    ids=str,
)
def test_erode_and_dilate_equal_scipy(shape, window, dtype):
    images, window = make_images(shape, dtype), WINDOWS[window]
    if isinstance(window, np.ndarray):
        footprint = window
    else:
        footprint = np.ones(np.broadcast_to(window, 2), bool)
    for own, theirs, last in (
        (image.erode, scipy.ndimage.minimum_filter, np.inf if dtype == np.float32 else 255),
        (image.dilate, scipy.ndimage.maximum_filter, -np.inf if dtype == np.float32 else 0),
    ):
        for border, mode, value in (
            (None, "constant", last),
            ("reflect", "reflect", 0),
            ("constant", "constant", 1),
        ):

            def expected(plane, theirs=theirs, mode=mode, value=value):
                return theirs(plane, footprint=footprint, mode=mode, cval=value)

            found = jax.jit(
                lambda x, own=own, b=border, v=value: own(x, window, border=b, value=v)
            )(images)
            chex.assert_trees_all_equal(found, each_plane(expected, images))


@pytest.mark.parametrize(
    ("window", "border"),
    [
        # A border only changes the padding, so the quick suite tests one window per border.
        pytest.param(*case, marks=[pytest.mark.slow] * (case[0] != 3 and case[1] != "replicate"))
        for case in itertools.product((1, 3, 5, (3, 7), (1, 9)), get_args(borders.Border))
    ],
    ids=str,
)
def test_median_blur_equals_numpy(window, border):
    height, width = np.broadcast_to(window, 2)
    pairs = ((height // 2,) * 2, (width // 2,) * 2)
    for dtype, shape in ((np.float32, (2, 8, 9, 2)), (np.uint8, (1, 5, 1, 1))):
        images = make_images(shape, dtype)
        extended = image.pad(images, pairs, border=border, value=1)
        windows = np.lib.stride_tricks.sliding_window_view(extended, (height, width), (1, 2))
        expected = np.median(windows, (-2, -1)).astype(dtype)
        found = jax.jit(lambda x: image.median_blur(x, window, border=border, value=1))(images)
        chex.assert_trees_all_equal(found, expected)


@pytest.mark.slow
@settings(max_examples=15)
@given(st.sampled_from([(1, 5), (7, 6)]), st.sampled_from([2, 3, (3, 1)]), st.integers(0, 99))
def test_laws(size, window, seed):
    images = jnp.asarray(make_images((1, *size, 2), np.float32, seed))
    opened, closed = image.opening(images, window), image.closing(images, window)
    if window != 2:  # an even window shifts the image
        assert (opened <= images).all() and (closed >= images).all()
        chex.assert_trees_all_equal(image.opening(opened, window), opened)
        chex.assert_trees_all_equal(image.closing(closed, window), closed)
    chex.assert_trees_all_equal(image.erode(-images, window), -image.dilate(images, window))
    assert (image.morphological_gradient(images, window) >= 0).all()


@pytest.mark.slow
def test_gradients_go_to_the_selected_values():
    images = jnp.asarray(np.random.default_rng(0).permutation(42).reshape(1, 6, 7, 1), jnp.float32)
    for function in (image.erode, image.dilate, image.median_blur):
        total = jax.jit(lambda x, function=function: jnp.sum(function(x, 3)))
        gradient = jax.jit(jax.grad(total))(images)
        assert gradient.sum() == 42 and (gradient >= 0).all()
        values, counts = np.unique(
            jax.jit(function, static_argnums=1)(images, 3), return_counts=True
        )
        chex.assert_trees_all_equal(
            gradient.ravel()[np.argsort(images.ravel())][values.astype(int)],
            counts.astype(np.float32),
        )


@pytest.mark.parametrize("function", [image.erode, image.dilate, image.median_blur])
def test_vmap_and_half_precision(function):
    images = jnp.asarray(make_images((3, 5, 6, 1), np.float32))
    alone = jax.vmap(lambda x: function(x[None], 3)[0])(images)
    chex.assert_trees_all_equal(alone, function(images, 3))
    half = function(images.astype(jnp.bfloat16), 3)
    chex.assert_trees_all_equal(half, function(images, 3).astype(jnp.bfloat16))


GRAY = np.zeros((1, 4, 4, 1), np.float32)
BAD = {
    "window must be odd, got 4": lambda: image.median_blur(GRAY, 4),
    "window must be odd, got (3, 2)": lambda: image.median_blur(GRAY, (3, 2)),
    "window must be a positive integer or 2 such integers, got 0": lambda: image.erode(GRAY, 0),
    "window must be a boolean array [height, width] with at least one True, got bool of": (
        lambda: image.dilate(GRAY, np.zeros((1, 1), bool))
    ),
    "window must be a boolean array [height, width] with at least one True, got bool": (
        lambda: image.opening(GRAY, np.ones(1, bool))
    ),
    "window must be a boolean array [height, width] with at least one True, got int64": (
        lambda: image.erode(GRAY, np.ones((3, 3), np.int64))
    ),
    "images must be [B, H, W, C] with no empty images, got (4, 4, 1)": (
        lambda: image.median_blur(GRAY[0], 3)
    ),
    "images must be floating point or uint8, got int32": (
        lambda: image.closing(GRAY.astype(np.int32), 3)
    ),
    "border must be a valid mode, got 'edge'": lambda: image.median_blur(GRAY, 3, border="edge"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert str(error.value).startswith(message)
