"""Dropout ops and `gaussian_noise`: keys, moments, distributions and gradients."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcnn import ops
from jaxcnn.ops.random_bits import random_words

SHAPE = (3, 4, 2)
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
RANDOM = {"dropout": ops.dropout, "gaussian_noise": ops.gaussian_noise}
every_op = pytest.mark.parametrize("op", RANDOM.values(), ids=RANDOM)
# Ops that drop whole units, and the number of trailing axes that do not share a decision.
UNITS = {"spatial_dropout": (ops.spatial_dropout, 1), "drop_path": (ops.drop_path, 0)}
every_unit = pytest.mark.parametrize(("op", "own"), UNITS.values(), ids=UNITS)
ALL = RANDOM | {name: op for name, (op, _) in UNITS.items()}
really_every_op = pytest.mark.parametrize("op", ALL.values(), ids=ALL)
every_dtype = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])


@every_op
@settings(max_examples=10)
@given(shape=SHAPES, dtype=st.sampled_from([jnp.float32, jnp.bfloat16, jnp.float16]))
def test_output_has_the_shape_and_dtype_of_x(op, shape, dtype):
    output = jax.eval_shape(op, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype), 0.5)
    chex.assert_shape(output, shape)
    chex.assert_type(output, dtype)


@really_every_op
@every_dtype
def test_amounts_in_arrays_keep_the_dtype(op, dtype, key):
    x, amount = jnp.ones(SHAPE, dtype), jnp.float32(0.5)
    chex.assert_type(jax.eval_shape(op, key, x, amount), dtype)


@every_op
def test_the_key_determines_the_output(op, key):
    x = jnp.ones(SHAPE)
    draw = jax.jit(lambda key: op(key, x, 0.5))
    first, second = map(np.asarray, (draw(key), draw(jax.random.fold_in(key, 1))))
    np.testing.assert_array_equal(first, draw(key))
    assert np.mean(first != second) > 0.3  # two masks with rate 0.5 differ in half of the positions
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[..., 0], first[..., 1])


@really_every_op
def test_eager_matches_jit_and_vmap_matches_a_loop(op, key):
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    keys = jax.random.split(key, 3)
    # Division by a constant may become multiplication, and noise may be fused: 1 or 2 roundings.
    tolerance = {"rtol": 2**-22, "atol": 2**-22}
    chex.assert_trees_all_close(op(key, x, 0.25), jax.jit(op)(key, x, 0.25), **tolerance)
    loop = jnp.stack([op(*arguments, 0.25) for arguments in zip(keys, x, strict=True)])
    mapped = jax.jit(jax.vmap(lambda key, x: op(key, x, 0.25)))(keys, x)
    chex.assert_trees_all_close(mapped, loop, **tolerance)


@really_every_op
@pytest.mark.parametrize(("zero", "dtype"), [(0.0, jnp.bfloat16), (0, jnp.float32)])
def test_amounts_of_zero_are_the_identity(op, dtype, zero, key):
    x = jnp.arange(24, dtype=dtype).reshape(SHAPE)
    chex.assert_trees_all_equal(op(key, x, zero), x)


@every_dtype
@pytest.mark.parametrize("rate", [0.1, 0.9])
def test_dropout_keeps_a_binomial_share_and_scales_it(rate, dtype, key):
    count = 20_000
    values = np.unique(np.asarray(ops.dropout(key, jnp.ones(count, dtype), rate), np.float32))
    # The division rounds once, to a mantissa of 8 or 24 bits.
    rounding = 2**-8 if dtype == jnp.bfloat16 else 2**-23
    np.testing.assert_allclose(values, [0, 1 / (1 - rate)], rtol=rounding)
    kept = int(jnp.sum(ops.dropout(key, jnp.ones(count, dtype), rate) > 0))
    low, high = scipy.stats.binom.interval(0.9999, count, 1 - rate)
    assert low <= kept <= high


def test_dropout_keeps_the_expectation(key):
    x = jnp.array([-3.0, 0.5, 0.0, 2.0])
    keys = jax.random.split(key, 10_000)
    mean = jnp.mean(jax.jit(jax.vmap(lambda key: ops.dropout(key, x, 0.2)))(keys), 0)
    # A value is x / 0.8 or 0, with standard deviation |x| / 2; allow 4 standard errors of the mean.
    assert jnp.all(jnp.abs(mean - x) <= 4 * 0.5 * jnp.abs(x) / 100)


def test_dropout_masks_are_independent(key):
    masks = jax.vmap(lambda key: ops.dropout(key, jnp.ones(4), 0.5) > 0)(
        jax.random.split(key, 8000)
    )
    # 16 equally likely patterns; correct code fails this test for one key in 10,000.
    pattern = np.asarray(masks) @ [1, 2, 4, 8]
    assert scipy.stats.chisquare(np.bincount(pattern, minlength=16)).pvalue > 1e-4


def test_dropout_gradient_is_the_mask(key):
    x = 1 + jnp.arange(24.0).reshape(SHAPE)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(ops.dropout(key, x, 0.25))))(x)
    mask = ops.dropout(key, x, 0.25) > 0
    assert 0 < jnp.sum(mask) < mask.size
    chex.assert_trees_all_close(gradient, mask / 0.75, rtol=2**-23)


def test_dropped_values_do_not_affect_the_output(key):
    # Dropped values do not affect the output, not even NaN.
    x = jnp.ones(SHAPE)
    dropped = ops.dropout(key, x, 0.5) == 0
    output = ops.dropout(key, jnp.where(dropped, jnp.nan, x), 0.5)
    chex.assert_trees_all_equal(output, jnp.where(dropped, 0.0, 2.0))


@every_unit
@settings(max_examples=6)
@given(
    shape=st.lists(st.integers(1, 4), min_size=3, max_size=5).map(tuple),
    rate=st.sampled_from([0.25, 0.5, 0.75]),
    dtype=st.sampled_from([jnp.float32, jnp.bfloat16, jnp.float16]),
    seed=st.integers(0, 2**32 - 1),
)
def test_units_are_kept_or_dropped_as_a_whole(op, own, shape, rate, dtype, seed):
    x = np.random.default_rng(0).uniform(1, 2, shape).astype(dtype)
    y = jax.jit(op, static_argnums=2)(jax.random.key(seed), x, rate)
    chex.assert_shape(y, shape)
    chex.assert_type(y, dtype)
    kept, shared = np.asarray(y != 0), tuple(range(1, len(shape) - own))
    np.testing.assert_array_equal(kept.any(shared), kept.all(shared))
    # x and 1 - rate are exact, so only the division rounds.
    scaled = np.where(kept, x.astype(np.float64) / (1 - rate), 0)
    np.testing.assert_allclose(np.asarray(y, np.float64), scaled, rtol=jnp.finfo(dtype).eps)


@every_unit
@pytest.mark.parametrize("spatial", [pytest.param((3,), marks=pytest.mark.slow), (3, 2), (2, 1, 3)])
def test_decisions_for_units_differ(op, own, spatial, key):
    kept = op(key, jnp.ones((64, *spatial, 8)), 0.5) > 0
    kept = np.asarray(kept[:, *(0,) * len(spatial)])
    # 64 or 512 decisions, neither all equal nor the same for all examples or channels.
    assert 0 < kept[:, 0].sum() < 64
    assert (kept != kept[:1]).any()
    assert (kept != kept[:, :1]).any() == (own == 1)


@every_unit
@every_dtype
@pytest.mark.parametrize("rate", [0.1, 0.9])
def test_a_binomial_share_of_units_is_kept(op, own, rate, dtype, key):
    shape = (100, 3, 200) if own else (20_000, 3)
    y = np.asarray(op(key, jnp.ones(shape, dtype), rate), np.float32)
    # The division rounds once, to a mantissa of 8 or 24 bits.
    rounding = 2**-8 if dtype == jnp.bfloat16 else 2**-23
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - rate)], rtol=rounding)
    low, high = scipy.stats.binom.interval(0.9999, 20_000, 1 - rate)
    assert low <= np.count_nonzero(y) / 3 <= high


@every_unit
def test_unit_decisions_are_independent(op, own, key):
    shape = (2, 1, 2) if own else (4, 1)
    keys = jax.random.split(key, 8000)
    masks = jax.vmap(lambda key: op(key, jnp.ones(shape), 0.5).ravel() > 0)(keys)
    # 16 equally likely patterns; correct code fails this test for one key in 10,000.
    pattern = np.asarray(masks) @ [1, 2, 4, 8]
    assert scipy.stats.chisquare(np.bincount(pattern, minlength=16)).pvalue > 1e-4


@every_unit
def test_dropping_units_keeps_the_expectation(op, own, key):
    x = jnp.arange(-11.0, 13.0).reshape(SHAPE)
    keys = jax.random.split(key, 10_000)
    mean = jnp.mean(jax.jit(jax.vmap(lambda key: op(key, x, 0.2)))(keys), 0)
    # A value is x / 0.8 or 0, with standard deviation |x| / 2; allow 4 standard errors of the mean.
    assert jnp.all(jnp.abs(mean - x) <= 4 * 0.5 * jnp.abs(x) / 100)


@every_unit
def test_the_same_key_drops_the_same_units(op, own, key):
    x = jnp.ones((64, 3, 8))
    first = op(key, x, 0.5)
    chex.assert_trees_all_equal(first, op(key, x, 0.5))
    assert jnp.mean(first != op(jax.random.fold_in(key, 1), x, 0.5)) > 0.2


@every_unit
def test_dropped_units_have_no_gradient_and_no_effect(op, own, key):
    x = 1 + jnp.arange(768.0).reshape(32, 4, 6)
    mask = op(key, x, 0.25) > 0
    assert 0 < jnp.sum(mask) < mask.size
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(op(key, x, 0.25))))(x)
    chex.assert_trees_all_close(gradient, mask / 0.75, rtol=2**-23)
    # Dropped values do not affect the output, not even NaN.
    spoiled = op(key, jnp.where(mask, 3.0, jnp.nan), 0.25)
    chex.assert_trees_all_close(spoiled, jnp.where(mask, 4.0, 0.0), rtol=2**-23)


def test_drop_path_accepts_any_rank(key):
    for shape in ((6,), (6, 1, 2, 3, 4)):
        y = np.asarray(ops.drop_path(key, np.ones(shape, np.float32), 0.5))
        np.testing.assert_array_equal(y, np.broadcast_to(y[:, *[slice(1)] * (y.ndim - 1)], shape))


@every_dtype
def test_gaussian_noise_is_normal(dtype, key):
    count, stddev = 20_000, 0.5
    noise = ops.gaussian_noise(key, jnp.zeros(count, dtype), stddev)
    noise = np.asarray(noise, np.float64)
    # 4 standard errors of the mean and of the standard deviation; rounding bfloat16 noise to 8 bits
    # is unbiased and changes the moments by much less.
    assert abs(noise.mean()) <= 4 * stddev / count**0.5
    assert abs(noise.std() - stddev) <= 4 * stddev / (2 * count) ** 0.5
    if dtype == jnp.float32:
        assert scipy.stats.kstest(noise / stddev, "norm").pvalue > 1e-4
        neighbors = np.corrcoef(noise[1:], noise[:-1])[0, 1]
        assert abs(neighbors) <= 4 / count**0.5


def test_gaussian_noise_is_added_and_scales_with_stddev(key):
    x = jnp.arange(24.0).reshape(SHAPE)
    noise = ops.gaussian_noise(key, jnp.zeros(SHAPE), 1.0)
    # One product and one sum of values up to 24.
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
        (ops.spatial_dropout, jnp.ones((2, 3), int), 0.5, r"x must be floating point, got int"),
        (ops.spatial_dropout, jnp.ones((2, 3)), 1.0, r"rate must be in \[0, 1\), got 1\.0"),
        (ops.spatial_dropout, jnp.ones((2, 3)), -0.5, r"rate must be in \[0, 1\), got -0\.5"),
        (ops.spatial_dropout, jnp.ones(3), 0.5, r"x must be .*\(3,\)"),
        (ops.drop_path, jnp.ones((2, 3), int), 0.5, r"x must be floating point, got int"),
        (ops.drop_path, jnp.ones((2, 3)), 1.0, r"rate must be in \[0, 1\), got 1\.0"),
        (ops.drop_path, jnp.ones((2, 3)), float("nan"), r"rate must be in \[0, 1\), got nan"),
        (ops.drop_path, jnp.ones(()), 0.5, r"x must be .*\(\)"),
        (ops.gaussian_noise, jnp.ones(3, int), 0.5, r"x must be floating point, got int"),
        (ops.gaussian_noise, jnp.ones(3), -0.5, r"stddev must be finite and >= 0, got -0\.5"),
        (ops.gaussian_noise, jnp.ones(3), float("inf"), r"stddev must be finite .*got inf"),
        (ops.gaussian_noise, jnp.ones(3), float("nan"), r"stddev must be finite .*got nan"),
        (ops.gaussian_noise, jnp.ones(3), np.float32(-1), r"stddev must be finite .*got .*-1"),
    ],
)
def test_bad_input_is_rejected_by_name(op, x, amount, message, key):
    with pytest.raises(ValueError, match=message):
        op(key, x, amount)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_random_words_look_independent(implementation):
    """Check bits, neighbors and neighboring keys to within five standard deviations of chance."""
    count = 1 << 14
    keys = [jax.random.key(seed, impl=implementation) for seed in range(4)]
    signs = []
    for key in keys:
        words = np.asarray(random_words(key, (count,)))
        assert words.dtype == np.uint32
        bits = (words[:, None] >> np.arange(32, dtype=np.uint32)) & 1
        signs.append(2.0 * bits - 1)
    for own, other in itertools.pairwise(signs):
        assert np.abs(own.mean(0)).max() * count**0.5 < 5
        for lag in (1, 2, 32, 1000):
            assert np.abs((own[lag:] * own[:-lag]).mean(0)).max() * count**0.5 < 5
        assert np.abs((own[:, 1:] * own[:, :-1]).mean(0)).max() * count**0.5 < 5
        assert np.abs((own * other).mean(0)).max() * count**0.5 < 5


def test_random_words_depend_on_key_and_position_only(key):
    words = random_words(key, (6, 4))
    chex.assert_trees_all_equal(words.ravel()[:12], random_words(key, (12,)))
    chex.assert_trees_all_equal(words, jax.jit(random_words, static_argnums=1)(key, (6, 4)))
    chex.assert_shape(random_words(key, ()), ())


def test_first_words_of_small_seeds_are_uniform():
    """Seed 0 is common, and the hash of 0 is 0."""
    draw = jax.jit(jax.vmap(lambda seed: random_words(jax.random.key(seed), (4,))))
    words = np.asarray(draw(np.arange(500)))
    for place in range(4):
        result = scipy.stats.kstest(words[:, place] / 2**32, "uniform")
        assert result.pvalue > 1e-3
    assert words.min() > 0 and len(np.unique(words)) == words.size
    assert abs(float(ops.gaussian_noise(jax.random.key(0), jnp.zeros(1), 1.0)[0])) < 4


@every_op
def test_xla_draws_with_jax_random(op, key):
    x = np.ones((400, 3, 8), np.float32)

    @jax.jit
    def both(key, x):
        return op(key, x, 0.5), op(key, x, 0.5, implementation="xla")

    tuned, plain = map(np.asarray, both(key, x))
    assert (tuned != plain).mean() > 0.3
    assert abs(plain.mean() - 1) < 0.1
    with ops.plain_xla():  # a network's random draws stay the same
        np.testing.assert_array_equal(both(key, x)[0], tuned)
    with pytest.raises(ValueError, match="implementation must be 'auto' or 'xla', got 'fast'"):
        op(key, x, 0.5, implementation="fast")
