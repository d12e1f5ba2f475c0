"""`dropout` and `gaussian_noise`: keys, moments, distributions and gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcnn import ops

SHAPE = (3, 4, 2)
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
RANDOM = {"dropout": ops.dropout, "gaussian_noise": ops.gaussian_noise}
every_op = pytest.mark.parametrize("op", RANDOM.values(), ids=RANDOM)
every_dtype = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])


@every_op
@settings(max_examples=10)
@given(shape=SHAPES, dtype=st.sampled_from([jnp.float32, jnp.bfloat16, jnp.float16]))
def test_shape_and_dtype_are_those_of_x(op, shape, dtype):
    output = jax.eval_shape(op, jax.random.key(0), jnp.ones(shape, dtype), 0.5)
    chex.assert_shape(output, shape)
    chex.assert_type(output, dtype)


@every_op
@every_dtype
def test_an_array_as_amount_keeps_the_dtype(op, dtype, key):
    x, amount = jnp.ones(SHAPE, dtype), jnp.float32(0.5)
    chex.assert_type(jax.eval_shape(op, key, x, amount), dtype)


@every_op
def test_the_key_decides(op, key):
    x = jnp.ones(SHAPE)
    first, second = op(key, x, 0.5), op(jax.random.fold_in(key, 1), x, 0.5)
    chex.assert_trees_all_equal(first, op(key, x, 0.5))
    assert jnp.mean(first != second) > 0.3  # half of two masks of rate 0.5 differ
    assert not jnp.array_equal(first[0], first[1])
    assert not jnp.array_equal(first[..., 0], first[..., 1])


@every_op
def test_eager_equals_jit_and_vmap_equals_a_loop(op, key):
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    keys = jax.random.split(key, 3)
    # A division by a constant may become a product, and noise fused: a rounding or two.
    tolerance = {"rtol": 2**-22, "atol": 2**-22}
    chex.assert_trees_all_close(op(key, x, 0.25), jax.jit(op)(key, x, 0.25), **tolerance)
    loop = jnp.stack([op(*arguments, 0.25) for arguments in zip(keys, x, strict=True)])
    mapped = jax.jit(jax.vmap(lambda key, x: op(key, x, 0.25)))(keys, x)
    chex.assert_trees_all_close(mapped, loop, **tolerance)


@every_op
@every_dtype
@pytest.mark.parametrize("zero", [0.0, 0])
def test_nothing_is_the_identity(op, dtype, zero, key):
    x = jnp.arange(24, dtype=dtype).reshape(SHAPE)
    chex.assert_trees_all_equal(op(key, x, zero), x)


@every_dtype
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_dropout_keeps_a_binomial_share_and_scales_it(rate, dtype, key):
    count = 20_000
    values = np.unique(np.asarray(ops.dropout(key, jnp.ones(count, dtype), rate), np.float32))
    # Half a unit of the mantissa, 8 bits or 24, for the one division.
    rounding = 2**-8 if dtype == jnp.bfloat16 else 2**-23
    np.testing.assert_allclose(values, [0, 1 / (1 - rate)], rtol=rounding)
    kept = int(jnp.sum(ops.dropout(key, jnp.ones(count, dtype), rate) > 0))
    low, high = scipy.stats.binom.interval(0.9999, count, 1 - rate)
    assert low <= kept <= high


def test_dropout_keeps_the_expectation(key):
    x = jnp.array([-3.0, 0.5, 0.0, 2.0])
    keys = jax.random.split(key, 10_000)
    mean = jnp.mean(jax.jit(jax.vmap(lambda key: ops.dropout(key, x, 0.2)))(keys), 0)
    # One value is x / 0.8 or 0, of standard deviation |x| / 2; 4 of those of the mean of 10,000.
    assert jnp.all(jnp.abs(mean - x) <= 4 * 0.5 * jnp.abs(x) / 100)


def test_dropout_masks_are_independent(key):
    masks = jax.vmap(lambda key: ops.dropout(key, jnp.ones(4), 0.5) > 0)(
        jax.random.split(key, 8000)
    )
    # 16 equally likely patterns; a fair table fails this once in 10,000 keys.
    pattern = np.asarray(masks) @ [1, 2, 4, 8]
    assert scipy.stats.chisquare(np.bincount(pattern, minlength=16)).pvalue > 1e-4


def test_dropout_gradient_is_the_mask(key):
    x = 1 + jnp.arange(24.0).reshape(SHAPE)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(ops.dropout(key, x, 0.25))))(x)
    mask = ops.dropout(key, x, 0.25) > 0
    assert 0 < jnp.sum(mask) < mask.size
    chex.assert_trees_all_close(gradient, mask / 0.75, rtol=2**-23)


def test_dropped_values_leave_nothing_behind(key):
    # The values that are dropped cannot spoil the output, whatever they were.
    x = jnp.ones(SHAPE)
    dropped = ops.dropout(key, x, 0.5) == 0
    output = ops.dropout(key, jnp.where(dropped, jnp.nan, x), 0.5)
    chex.assert_trees_all_equal(output, jnp.where(dropped, 0.0, 2.0))


@every_dtype
def test_gaussian_noise_is_normal(dtype, key):
    count, stddev = 20_000, 0.5
    noise = ops.gaussian_noise(key, jnp.zeros(count, dtype), stddev)
    noise = np.asarray(noise, np.float64)
    # 4 standard errors of the mean and of the standard deviation; bfloat16 normal numbers are
    # rounded to 8 bits, unbiased, which moves the moments by much less.
    assert abs(noise.mean()) <= 4 * stddev / count**0.5
    assert abs(noise.std() - stddev) <= 4 * stddev / (2 * count) ** 0.5
    if dtype == jnp.float32:
        assert scipy.stats.kstest(noise / stddev, "norm").pvalue > 1e-4
        neighbours = np.corrcoef(noise[1:], noise[:-1])[0, 1]
        assert abs(neighbours) <= 4 / count**0.5


def test_gaussian_noise_is_added_and_scales_with_stddev(key):
    x = jnp.arange(24.0).reshape(SHAPE)
    noise = ops.gaussian_noise(key, jnp.zeros(SHAPE), 1.0)
    # One product and one sum of values to 24.
    chex.assert_trees_all_close(ops.gaussian_noise(key, x, 0.25), x + 0.25 * noise, atol=2e-6)


def test_gaussian_noise_gradients(key):
    x = jnp.arange(24.0).reshape(SHAPE)
    noise = ops.gaussian_noise(key, jnp.zeros(SHAPE), 1.0)
    gradients = jax.jit(jax.jacrev(ops.gaussian_noise, (1, 2)))(key, x, 0.25)
    chex.assert_trees_all_equal(gradients[0], jnp.eye(24).reshape(*SHAPE, *SHAPE))
    chex.assert_trees_all_close(gradients[1], noise, rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "x", "amount", "message"),
    [
        (ops.dropout, jnp.ones(3, jnp.uint8), 0.5, r"x must be floating point, got uint8"),
        (ops.dropout, jnp.ones(3), 1.0, r"rate must be in \[0, 1\), got 1\.0"),
        (ops.dropout, jnp.ones(3), 1, r"rate must be in \[0, 1\), got 1"),
        (ops.dropout, jnp.ones(3), -0.5, r"rate must be in \[0, 1\), got -0\.5"),
        (ops.dropout, jnp.ones(3), float("nan"), r"rate must be in \[0, 1\), got nan"),
        (ops.dropout, jnp.ones(3), np.float64(1.5), r"rate must be in \[0, 1\), got .*1\.5"),
        (ops.dropout, jnp.ones(3), np.float32(1.5), r"rate must be in \[0, 1\), got .*1\.5"),
        (ops.gaussian_noise, jnp.ones(3, int), 0.5, r"x must be floating point, got int"),
        (ops.gaussian_noise, jnp.ones(3), -0.5, r"stddev must be finite and >= 0, got -0\.5"),
        (ops.gaussian_noise, jnp.ones(3), float("inf"), r"stddev must be finite .*got inf"),
        (ops.gaussian_noise, jnp.ones(3), float("nan"), r"stddev must be finite .*got nan"),
        (ops.gaussian_noise, jnp.ones(3), np.float32(-1), r"stddev must be finite .*got .*-1"),
    ],
)
def test_bad_input_is_refused_by_name(op, x, amount, message, key):
    with pytest.raises(ValueError, match=message):
        op(key, x, amount)
