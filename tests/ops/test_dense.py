"""`dense` and `flatten` against NumPy, hand-computed values and equivalent convolutions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxcnn import ops

LEADING = st.lists(st.integers(0, 3), max_size=3).map(tuple)


def reals(*shapes, dtype=np.float32):
    """Return arrays of normally distributed values, one per shape."""
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


@settings(max_examples=8)
@given(LEADING, st.integers(1, 9), st.integers(1, 5), st.sampled_from([jnp.float32, jnp.bfloat16]))
def test_dense_matches_the_matrix_product(leading, channels, features, dtype):
    shapes = (*leading, channels), (channels, features), (features,)
    arrays = reals(*shapes, dtype=dtype)
    output = jax.jit(ops.dense)(*arrays)
    chex.assert_shape(output, (*leading, features))
    chex.assert_type(output, dtype)
    x, kernel, bias = (np.asarray(array, np.float64) for array in arrays)
    # The error of a float32 sum of n products is at most n * 2^-24 times their magnitudes; bfloat16
    # has an 8-bit mantissa and rounds twice more: the sum, and the sum plus the bias.
    unit = (channels + 2) * 2**-24 + (2 * 2**-8 if dtype == jnp.bfloat16 else 0)
    bound = unit * (np.abs(x) @ np.abs(kernel) + np.abs(bias))
    assert np.all(np.abs(np.asarray(output, np.float64) - (x @ kernel + bias)) <= bound)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_dense_eager_vmap_and_gradients(leading):
    rng = np.random.default_rng(0)
    # With integers, every sum is exact in any order.
    shapes = (*leading, 4), (4, 5), (5,)
    x, kernel, bias = (rng.integers(-9, 10, shape).astype(np.float32) for shape in shapes)
    output, pullback = jax.vjp(jax.jit(ops.dense), x, kernel, bias)
    chex.assert_trees_all_equal(ops.dense(x, kernel, bias), output)
    chex.assert_trees_all_equal(ops.dense(x, kernel), output - np.broadcast_to(bias, output.shape))
    stack = np.stack([x, 2 * x])
    loop = jnp.stack([ops.dense(rows, kernel, bias) for rows in stack])
    mapped = jax.jit(jax.vmap(ops.dense, (0, None, None)))(stack, kernel, bias)
    chex.assert_trees_all_equal(mapped, loop)
    rows, cotangents = x.reshape(-1, 4), np.asarray(output).reshape(-1, 5)
    expected = (output @ kernel.T, rows.T @ cotangents, cotangents.sum(0))
    chex.assert_trees_all_equal(pullback(output), tuple(map(jnp.asarray, expected)))


def test_dense_numerical_derivatives():
    with jax.enable_x64(True):
        arrays = reals((2, 3, 4), (4, 5), (5,), dtype=np.float64)
        # Linear in each argument, so central differences are exact for any step size.
        check_grads(jax.jit(ops.dense), arrays, 1, modes=["rev"], eps=1.0, atol=1e-11, rtol=1e-11)


def test_dense_by_hand():
    x = jnp.array([[1.0, 2.0, 3.0], [0.0, -1.0, 0.0]])
    kernel = jnp.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    bias = jnp.array([0.5, -0.5])
    assert ops.dense(x, kernel, bias).tolist() == [[14.5, 139.5], [-1.5, -20.5]]
    assert ops.dense(x[0], kernel).tolist() == [14.0, 140.0]


def test_flatten_by_hand():
    # Channels vary fastest, then columns, then rows.
    image = jnp.arange(12.0).reshape(1, 2, 3, 2)
    pixels = [image[0, y, x, c].item() for y in range(2) for x in range(3) for c in range(2)]
    assert ops.flatten(image)[0].tolist() == pixels == list(range(12))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple))
def test_flatten_keeps_the_batch_and_every_value(shape):
    images = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    output = jax.eval_shape(ops.flatten, images)
    chex.assert_shape(output, (shape[0], int(np.prod(shape[1:]))))
    chex.assert_type(output, jnp.bfloat16)


def test_flatten_gradient_and_vmap():
    images, weights = reals((2, 3, 2, 2), (2, 12))
    gradient = jax.grad(lambda images: jnp.sum(ops.flatten(images) * weights))(images)
    chex.assert_trees_all_equal(gradient, jnp.asarray(weights.reshape(images.shape)))
    mapped = jax.jit(jax.vmap(ops.flatten))(images[None])
    chex.assert_trees_all_equal(mapped[0], ops.flatten(images))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_kernel_as_large_as_the_image_is_a_dense_layer(rank):
    # The deck: "if the patch size is the same as that of the image it will be a regular network".
    size = (4, 3, 2)[:rank]
    rng = np.random.default_rng(rank)
    shapes = (2, *size, 3), (*size, 3, 5), (5,)
    images, kernel, bias = (rng.integers(-9, 10, shape).astype(np.float32) for shape in shapes)
    patch = ops.conv(images, kernel, bias, padding="VALID")
    regular = ops.dense(ops.flatten(images), kernel.reshape(-1, 5), bias)
    chex.assert_trees_all_equal(ops.flatten(patch), regular)


def test_a_kernel_of_one_pixel_is_a_dense_layer():
    rng = np.random.default_rng(0)
    shapes = (2, 3, 4, 3), (3, 5), (5,)
    images, kernel, bias = (rng.integers(-9, 10, shape).astype(np.float32) for shape in shapes)
    chex.assert_trees_all_equal(
        ops.conv(images, kernel[None, None], bias), ops.dense(images, kernel, bias)
    )


FLOAT, HALF = jnp.float32, jnp.bfloat16


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([((2, 3), jnp.int32), ((3, 4), FLOAT)], r"x must be floating point, got int32"),
        ([((2, 3), FLOAT), ((3, 4), HALF)], r"kernel must have the same dtype as x \(float32\)"),
        ([((), FLOAT), ((1, 4), FLOAT)], r"kernel must .*last dimension of x \(\)"),
        ([((2, 3), FLOAT), ((2, 4), FLOAT)], r"kernel must .*x \(2, 3\), got shape \(2, 4\)"),
        ([((2, 3), FLOAT), ((3,), FLOAT)], r"kernel must be \[in, out\].*\(3,\)"),
        ([((2, 3), FLOAT), ((3, 1, 4), FLOAT)], r"kernel must be \[in, out\].*\(3, 1, 4\)"),
        ([((2, 3), FLOAT), ((3, 4), FLOAT), ((3,), FLOAT)], r"bias must have shape \(4,\)"),
        ([((2, 3), FLOAT), ((3, 4), FLOAT), ((1, 4), FLOAT)], r"bias must .*got \(1, 4\)"),
        (
            [((2, 3), FLOAT), ((3, 4), FLOAT), ((4,), HALF)],
            r"bias must have the same dtype as .*float32",
        ),
    ],
)
def test_dense_rejects_bad_input_while_tracing(arrays, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(ops.dense, *(jax.ShapeDtypeStruct(*array) for array in arrays))


def test_flatten_rejects_a_scalar():
    with pytest.raises(ValueError, match=r"images must be \[B, \.\.\.\], got a scalar"):
        ops.flatten(jnp.zeros(()))
