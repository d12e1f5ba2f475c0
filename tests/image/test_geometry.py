"""Warps: exact for quarter turns and integer shifts, else against SciPy; invariants; bad input."""

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
SHAPES = [(2, 9, 8, 3), (1, 1, 1, 1), (2, 1, 6, 2), (1, 7, 1, 1)]


def make_images(shape, dtype=np.float32, seed=0):
    values = np.random.default_rng(seed).random(shape)
    return (values * 255).astype(np.uint8) if dtype == np.uint8 else values.astype(dtype)


def some_matrices(count, seed=1):
    rng = np.random.default_rng(seed)
    return image.affine_matrix(
        angles=rng.uniform(-180, 180, count),
        shears=rng.uniform(-30, 30, (count, 2)),
        scales=rng.uniform(0.5, 2, (count, 2)),
        shifts=rng.uniform(-3, 3, (count, 2)),
    )


def warped_by_scipy(images, matrices, order, border, size):
    """Warp each plane with SciPy in float64, using the inverse of each matrix."""
    result = np.empty((*images.shape[:1], *size, images.shape[-1]))
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])  # (right, down) to (row, column)
    for row, matrix in enumerate(np.asarray(matrices, np.float64)):
        inverse = swap @ np.linalg.inv(matrix) @ swap
        middle, old = (np.array(size) - 1) / 2, (np.array(images.shape[1:3]) - 1) / 2
        offset = inverse[:2, 2] + old - inverse[:2, :2] @ middle
        for channel in range(images.shape[-1]):
            result[row, ..., channel] = scipy.ndimage.affine_transform(
                images[row, ..., channel].astype(np.float64),
                inverse[:2, :2],
                offset,
                size,
                order=order,
                mode=SCIPY_MODES[border],
                cval=0.3,
                prefilter=False,
            )
    return result


# Numbers of shapes, with the borders that the quick suite tests them with.
QUICK_WARPS = ((0, "constant"), (0, "reflect101"), (2, "reflect"))


@pytest.mark.parametrize(
    ("shape", "border"),
    [
        pytest.param(shape, border, marks=[pytest.mark.slow] * ((n, border) not in QUICK_WARPS))
        for n, shape in enumerate(SHAPES)
        for border in SCIPY_MODES
    ],
)
def test_warp_equals_scipy(shape, border):
    images, matrices = make_images(shape), some_matrices(shape[0])
    for interpolation, order in (("nearest", 0), ("bilinear", 1)):
        for size in (shape[1:3], (5, 12)):
            found = image.warp(
                images,
                matrices,
                size=size,
                interpolation=interpolation,
                border=border,
                value=0.3,
            )
            expected = warped_by_scipy(images, matrices, order, border, size)
            np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(
    "border",
    [
        pytest.param(border, marks=[pytest.mark.slow] * (border not in ("reflect101", "constant")))
        for border in SCIPY_MODES
    ],
)
def test_bicubic_interpolation_by_its_definition(border):
    images, angle = make_images((1, 6, 5, 1)), 23.0
    found = image.rotate(images, angle, interpolation="bicubic", border=border, value=0.3)
    wide = np.asarray(image.pad(images, 8, border=border, value=0.3))[0, :, :, 0]
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))

    def kernel(x, a=-0.75):
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    for row in range(6):
        for column in range(5):
            x, y = column - 2, row - 2.5
            source = -(-sine * x - cosine * y) + 2.5 + 8, cosine * x - sine * y + 2 + 8
            expected = sum(
                wide[i, j] * kernel(source[0] - i) * kernel(source[1] - j)
                for i in range(int(source[0]) - 1, int(source[0]) + 3)
                for j in range(int(source[1]) - 1, int(source[1]) + 3)
            )
            np.testing.assert_allclose(found[0, row, column, 0], expected, atol=2e-5)


@pytest.mark.parametrize(
    ("interpolation", "dtype"),
    [
        ("nearest", np.uint8),
        ("bilinear", np.float32),
        ("bilinear", np.uint8),
        ("bicubic", jnp.bfloat16),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("nearest", np.float32),
                ("nearest", jnp.bfloat16),
                ("bilinear", jnp.bfloat16),
                ("bicubic", np.float32),
                ("bicubic", np.uint8),
            )
        ),
    ],
)
def test_rotations_by_multiples_of_90_degrees_are_exact(interpolation, dtype):
    images = jnp.asarray(make_images((4, 7, 7, 2), dtype))
    turned = image.rotate(images, jnp.array([0, 90, -180, 630]), interpolation=interpolation)
    for row, times in enumerate((0, 1, 2, 3)):
        chex.assert_trees_all_equal(turned[row], image.rot90(images[row], times=times))


def test_integer_shifts_are_exact_in_every_dtype():
    labels = np.random.default_rng(0).integers(-5, 5, (3, 4, 6, 1))
    shifts = np.array([[0, 0], [1, -2], [-3, 4]])
    for dtype in (np.int32, bool, np.uint8, np.float32):
        images = labels.astype(dtype)
        found = image.translate(images, shifts, border="wrap")
        expected = [np.roll(one, shift, (0, 1)) for one, shift in zip(images, shifts, strict=True)]
        chex.assert_trees_all_equal(np.asarray(found), np.array(expected))


def test_flips_and_rot90_equal_numpy():
    images = make_images((2, 3, 4, 2))
    chex.assert_trees_all_equal(image.flip_up_down(images), jnp.asarray(images[:, ::-1]))
    for times in range(-3, 5):
        expected = np.rot90(images, times, (1, 2))
        chex.assert_trees_all_equal(image.rot90(images, times=times), jnp.asarray(expected))


@settings(max_examples=30)
@given(*[st.floats(-180, 180, width=32)] * 2, st.floats(0.25, 4, width=32))
def test_matrices_compose(first, second, factor):
    turn = functools.partial(image.affine_matrix, scales=1.0)
    both = turn(angles=second) @ turn(angles=first)
    np.testing.assert_allclose(both, turn(angles=first + second), atol=1e-5)
    larger, smaller = (image.affine_matrix(scales=f) for f in (factor, 1 / factor))
    np.testing.assert_allclose(smaller @ larger, np.eye(3), atol=1e-6)
    whole = image.affine_matrix(angles=first, shears=10.0, scales=factor, shifts=second)
    parts = (
        image.affine_matrix(shifts=second)
        @ image.affine_matrix(angles=first)
        @ image.affine_matrix(shears=10.0)
        @ image.affine_matrix(scales=factor)
    )
    np.testing.assert_allclose(whole, parts, atol=1e-4)


def test_nearest_warps_a_mask_as_its_image():
    images = make_images((2, 8, 8, 1))
    mask = images > 0.5
    matrices = some_matrices(2)
    moved = image.warp(mask, matrices, interpolation="nearest")
    assert moved.dtype == bool
    kept = image.warp(images, matrices, interpolation="nearest")
    chex.assert_trees_all_equal(moved, kept > 0.5)


@pytest.mark.slow
def test_transforms_are_warps_by_their_matrices():
    images = make_images((3, 6, 7, 2))
    numbers = np.array([5.0, -20.0, 33.0])
    options = {"border": "reflect", "interpolation": "bicubic"}
    for found, matrices in (
        (image.rotate(images, numbers, **options), image.affine_matrix(angles=numbers)),
        (image.shear(images, numbers, **options), image.affine_matrix(shears=numbers)),
        (image.scale(images, numbers, **options), image.affine_matrix(scales=numbers)),
        (image.translate(images, numbers, **options), image.affine_matrix(shifts=numbers)),
        (
            image.affine(images, angles=numbers, scales=2.0, **options),
            image.affine_matrix(angles=numbers, scales=2.0),
        ),
    ):
        chex.assert_trees_all_equal(found, image.warp(images, matrices, **options))


@pytest.mark.parametrize(
    "interpolation", ["bilinear", pytest.param("bicubic", marks=pytest.mark.slow)]
)
def test_gradients(interpolation):
    images = jnp.asarray(make_images((2, 6, 5, 1)))

    @jax.jit
    def total(images, angles, factors):
        moved = image.affine(
            images, angles=angles, scales=factors, interpolation=interpolation, border="reflect"
        )
        return jnp.sum(moved * jnp.arange(60.0).reshape(moved.shape) / 60)

    arguments = images, jnp.array([11.0, -37.0]), jnp.array([1.3, 0.8])
    chex.assert_numerical_grads(total, arguments, order=1, atol=2e-2, rtol=2e-2)
    with jax.numpy_dtype_promotion("standard"):
        chex.assert_tree_all_finite(jax.grad(total, (0, 1, 2))(*arguments))


def test_one_compilation_vmap_and_half_precision():
    images = jnp.asarray(make_images((3, 6, 5, 2)))

    @jax.jit
    @chex.assert_max_traces(1)
    def turned(images, angle):
        return image.rotate(images, angle)

    angles = jnp.array([10.0, 80.0, -33.0])
    whole = turned(images, angles)
    chex.assert_trees_all_close(whole, turned(images, angles + 360), atol=1e-4)
    alone = jax.vmap(lambda x, angle: image.rotate(x[None], angle)[0])(images, angles)
    chex.assert_trees_all_close(alone, whole, atol=1e-6)
    half = image.rotate(images.astype(jnp.bfloat16), angles)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), whole, atol=1e-2)


GRAY = np.zeros((2, 4, 4, 1), np.float32)
BAD = {
    "images must be [B, H, W, C] with no empty images, got (4, 4, 1)": (
        lambda: image.rotate(GRAY[0], 3)
    ),
    "images must be [B, H, W, C] with no empty images, got (2, 0, 4, 1)": (
        lambda: image.scale(GRAY[:, :0], 3)
    ),
    "images must be floating point or uint8, got int32": (
        lambda: image.rotate(GRAY.astype(np.int32), 3)
    ),
    "matrices must be [3, 3] or [2, 3, 3], got shape (2, 3)": (
        lambda: image.warp(GRAY, np.ones((2, 3)))
    ),
    "matrices must be [3, 3] or [2, 3, 3], got shape (3, 3, 3)": (
        lambda: image.rotate(GRAY, np.arange(3.0))
    ),
    "interpolation must be a valid name, got 'linear'. Did you mean 'bilinear'?": (
        lambda: image.rotate(GRAY, 3, interpolation="linear")
    ),
    "border must be a valid mode, got 'edge'": lambda: image.rotate(GRAY, 3, border="edge"),
    "size must be a positive integer or 2 such integers, got 0": (
        lambda: image.warp(GRAY, np.eye(3), size=0)
    ),
    "angles must be a number or [B], got shape (2, 2)": lambda: image.rotate(GRAY, np.eye(2)),
    "shifts must be a number, [B] or [B, 2], got shape (2, 3)": (
        lambda: image.translate(GRAY, np.zeros((2, 3)))
    ),
    "scales must not be 0, got 0": lambda: image.scale(GRAY, 0),
    "angles, shears, scales and shifts must have matching batch sizes, got ((2,), (), (3,), ())": (
        lambda: image.affine(GRAY, angles=np.ones(2), scales=np.ones(3))
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert str(error.value).startswith(message)
