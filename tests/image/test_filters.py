"""Linear filters against SciPy for several borders, dtypes and sizes; invariants; bad input."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcnn import image

SCIPY_MODES = {
    "reflect101": "mirror",
    "reflect": "reflect",
    "replicate": "nearest",
    "wrap": "grid-wrap",
    "constant": "grid-constant",
}
SHAPE, TINY = (2, 9, 8, 4), [(1, 1, 1, 1), (2, 1, 7, 3)]
FILTERS = {
    "filter2d": functools.partial(image.filter2d, kernel=np.arange(6.0).reshape(2, 3) - 2),
    "box_blur": functools.partial(image.box_blur, window=(3, 2)),
    "gaussian_blur": functools.partial(image.gaussian_blur, sigma=0.8),
    "sobel": image.sobel,
    "scharr": image.scharr,
    "laplacian": image.laplacian,
    "sharpen": image.sharpen,
    "unsharp_mask": functools.partial(image.unsharp_mask, sigma=1.0),
}


def make_images(shape, dtype=np.float32, seed=0):
    values = np.random.default_rng(seed).random(shape)
    return (values * 255).astype(np.uint8) if dtype == np.uint8 else values.astype(dtype)


def correlated(images, kernel, border, value=0.0):
    """Correlate with SciPy, which also centers even-sized kernels just past the midpoint."""
    return np.stack(
        [
            np.stack(
                [
                    scipy.ndimage.correlate(
                        plane.astype(np.float64), kernel, mode=SCIPY_MODES[border], cval=value
                    )
                    for plane in np.moveaxis(one, -1, 0)
                ],
                -1,
            )
            for one in images
        ]
    )


@pytest.mark.parametrize(
    ("shape", "border"),
    [(SHAPE, "reflect101"), (SHAPE, "constant"), (TINY[1], "reflect101")]
    + [
        pytest.param(shape, border, marks=pytest.mark.slow)
        for shape, border in (
            *((SHAPE, border) for border in ("reflect", "replicate", "wrap")),
            *((shape, "reflect") for shape in TINY),
            (TINY[0], "reflect101"),
        )
    ],
)
def test_filters_are_correlations(shape, border):
    images, options = make_images(shape), {"border": border, "value": 0.3}
    kernel = np.random.default_rng(1).normal(size=(3, 4))
    sobel5 = np.outer([1, 4, 6, 4, 1], [-1, -2, 0, 2, 1])
    places = np.arange(-3, 4)
    normal = np.exp(-0.5 * (places / 1.3) ** 2)
    normal /= normal.sum()
    identity = np.zeros((3, 3))
    identity[1, 1] = 1
    cross = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    for found, weights in (
        (image.filter2d(images, kernel, **options), kernel),
        (image.box_blur(images, (2, 5), **options), np.full((2, 5), 0.1)),
        (image.gaussian_blur(images, 1.3, window=7, **options), np.outer(normal, normal)),
        (image.sobel(images, window=5, **options)[0], sobel5.T),
        (image.sobel(images, window=5, **options)[1], sobel5),
        (image.scharr(images, **options)[1], np.outer([3, 10, 3], [-1, 0, 1])),
        (image.laplacian(images, **options), cross),
        (image.laplacian(images, neighbors=8, **options), np.ones((3, 3)) - 9 * identity),
        (image.sharpen(images, amount=0.5, **options), identity - 0.5 * cross),
    ):
        chex.assert_shape(found, shape)
        expected = correlated(images, weights, border, 0.3)
        np.testing.assert_allclose(found, expected, atol=2e-6 * (1 + np.abs(weights).sum()))


@settings(max_examples=15)
@given(
    st.tuples(*[st.integers(1, 6)] * 2),
    st.tuples(*[st.integers(0, 14)] * 4),
    st.sampled_from([*SCIPY_MODES]),
)
def test_pad_equals_numpy_for_any_width(size, widths, border):
    modes = dict(
        zip(SCIPY_MODES, ("reflect", "symmetric", "edge", "wrap", "constant"), strict=True)
    )
    images = make_images((1, *size, 2))
    pairs = (widths[:2], widths[2:])
    expected = np.pad(images, ((0, 0), *pairs, (0, 0)), mode=modes[border])
    chex.assert_trees_all_equal(image.pad(images, pairs, border=border), expected)


def test_gaussian_blur_without_window_equals_scipy():
    images = make_images((2, 30, 40, 3))
    expected = scipy.ndimage.gaussian_filter(
        images.astype(np.float64), (0, 1.7, 1.7, 0), mode="mirror", radius=(0, 7, 7, 0)
    )
    np.testing.assert_allclose(image.gaussian_blur(images, 1.7), expected, atol=1e-6)
    chex.assert_trees_all_equal(image.gaussian_blur(images, 0.0), images)


def test_bytes_are_rounded_and_clipped():
    images = make_images((2, 7, 9, 3), np.uint8)
    sharp = image.sharpen(images, amount=2.0)
    chex.assert_type(sharp, np.uint8)
    exact = image.sharpen(images.astype(np.float32), amount=2.0)
    chex.assert_trees_all_equal(sharp, jnp.clip(jnp.round(exact), 0, 255).astype(np.uint8))
    for slopes in (image.sobel(images), (image.laplacian(images),)):
        chex.assert_type([*slopes], np.float32)


# One filter per implementation; the other filters differ only in their kernels.
QUICK = {"filter2d", "gaussian_blur", "sobel"}
each_filter = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in FILTERS],
)


@each_filter
def test_under_jit_vmap_and_in_half_precision(name):
    function = FILTERS[name]
    images = jnp.asarray(make_images((3, 6, 7, 2)))
    result = function(images)
    chex.assert_trees_all_close(jax.jit(function)(images), result, atol=1e-5)
    alone = jax.vmap(lambda x: function(x[None]))(images)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[:, 0], alone), result, atol=1e-5)
    half = function(images.astype(jnp.bfloat16))
    if name not in ("sobel", "scharr", "laplacian"):
        chex.assert_type(half, jnp.bfloat16)
    chex.assert_trees_all_close(half, result, atol=0.3, custom_message=name)


@each_filter
def test_gradients_of_linear_filters(name):
    images = jnp.asarray(make_images((1, 4, 5, 2)))
    weights = make_images(images.shape, seed=5)

    def weighted(images):
        return sum(jnp.vdot(x, weights) for x in jax.tree.leaves(FILTERS[name](images)))

    value, gradient = jax.jit(jax.value_and_grad(weighted))(images)
    np.testing.assert_allclose(jnp.vdot(images, gradient), value, rtol=1e-4, atol=1e-4)


def test_traced_parameters_compile_once():
    count = 0

    @jax.jit
    def everything(images, sigma, amount, kernel):
        nonlocal count
        count += 1
        x = image.gaussian_blur(images, sigma, window=5)
        x = image.unsharp_mask(image.sharpen(x, amount=amount), sigma, amount=amount, window=5)
        return image.filter2d(x, kernel)

    images = make_images((1, 5, 5, 1))
    for scale in (0.5, 1.0):
        everything(images, scale, scale, jnp.full((3, 3), scale))
    assert count == 1
    middle = jax.jit(lambda sigma: image.gaussian_blur(images, sigma, window=5)[0, 2, 2, 0])
    slope = jax.grad(middle)(1.0)
    assert jnp.isfinite(slope) and slope != 0


GRAY = np.zeros((1, 4, 4, 1), np.float32)
BAD = {
    "images must be [B, H, W, C] with no empty images, got (4, 4, 1)": lambda: image.sobel(GRAY[0]),
    "images must be [B, H, W, C] with no empty images, got (1, 0, 4, 1)": (
        lambda: image.sharpen(GRAY[:, :0])
    ),
    "images must be floating point or uint8, got int32": (
        lambda: image.box_blur(GRAY.astype(np.int32), 3)
    ),
    "kernel must be [height, width], got shape (3,)": lambda: image.filter2d(GRAY, [1, 2, 3]),
    "kernel must be [height, width], got shape (0, 3)": (
        lambda: image.filter2d(GRAY, np.zeros((0, 3)))
    ),
    "border must be a valid mode, got 'mirror'. Accepted": lambda: image.sobel(
        GRAY, border="mirror"
    ),
    "border must be a valid mode, got 'reflect110'. Did you mean 'reflect101'?": (
        lambda: image.pad(GRAY, ((1, 1), (1, 1)), border="reflect110")
    ),
    "window must be a positive integer or 2 such integers, got 0": lambda: image.box_blur(GRAY, 0),
    "window must be odd, got 4": lambda: image.gaussian_blur(GRAY, 1.0, window=4),
    "window must be 3, 5 or 7, got 9": lambda: image.sobel(GRAY, window=9),
    "sigma must be finite and >= 0, got -1": lambda: image.gaussian_blur(GRAY, -1),
    "sigma must be finite and >= 0, got nan": lambda: image.unsharp_mask(GRAY, float("nan")),
    "window must be given when sigma is a JAX array": (
        lambda: image.gaussian_blur(GRAY, jnp.float32(1))
    ),
    "neighbors must be 4 or 8, got 6": lambda: image.laplacian(GRAY, neighbors=6),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: image.gaussian_blur(x, 1.0),
        lambda x: image.sobel(x)[0],
        lambda x: image.median_blur(x, 3),
        lambda x: image.filter2d(x, np.ones((3, 3))),
        lambda x: image.threshold(x, image.otsu(x)),
    ],
)
def test_empty_batches(function):
    assert function(jnp.zeros((0, 5, 4, 3))).shape == (0, 5, 4, 3)
