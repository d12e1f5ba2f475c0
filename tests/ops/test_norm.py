"""`batch_norm` and `group_norm` against float64 NumPy and by hand; invariants and statistics."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxcnn import ops

SHAPES = st.tuples(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 4)).map(
    lambda drawn: (*drawn[0], drawn[1])
)
SHAPE = (4, 3, 5, 2)


def inputs(shape, dtype=np.float32, seed=0):
    """Return `x`, scale, bias, running mean and running variance."""
    rng = np.random.default_rng(seed)
    channels = shape[-1]
    precise = np.promote_types(dtype, np.float32) if dtype != jnp.bfloat16 else np.float32
    scale, bias, mean = rng.standard_normal((3, channels)).astype(precise)
    x = (2 * rng.standard_normal(shape) + 1).astype(dtype)
    return x, scale, bias, mean, rng.uniform(0.5, 2, channels).astype(precise)


def reference(x, scale, bias, mean, var, *, train, momentum=0.9, epsilon=1e-5):
    """Compute the definition in float64."""
    x, mean, var = (np.asarray(array, np.float64) for array in (x, mean, var))
    running = mean, var
    if train:
        rows = x.reshape(-1, x.shape[-1])
        mean, var = rows.mean(0), rows.var(0)
        running = tuple(
            momentum * old + (1 - momentum) * new
            for old, new in zip(running, (mean, var), strict=True)
        )
    y = (x - mean) / np.sqrt(var + epsilon)
    return y * (1 if scale is None else scale) + (0 if bias is None else bias), running


@settings(max_examples=12)
@given(
    shape=SHAPES,
    train=st.booleans(),
    use_scale=st.booleans(),
    use_bias=st.booleans(),
    momentum=st.sampled_from([0, 0.5, 0.9, 1]),
    epsilon=st.sampled_from([1e-5, 1e-3]),
    dtype=st.sampled_from([jnp.float32, jnp.bfloat16]),
)
def test_batch_norm_matches_the_definition(
    shape, train, use_scale, use_bias, momentum, epsilon, dtype
):
    x, scale, bias, mean, var = inputs(shape, dtype)
    arrays = x, scale if use_scale else None, bias if use_bias else None, mean, var
    options = {"train": train, "momentum": momentum, "epsilon": epsilon}
    y, running = jax.jit(lambda arrays: ops.batch_norm(*arrays, **options))(arrays)
    expected, expected_running = reference(*arrays, **options)
    chex.assert_shape(y, shape)
    chex.assert_type(y, dtype)
    chex.assert_type(running, jnp.float32)
    # x and its mean are below 10, so their difference has an error of a few times 2^-24 * 10, which
    # is amplified by dividing by the deviation and multiplying by the scale. Other errors are
    # relative.
    variance = np.asarray(x, np.float64).reshape(-1, shape[-1]).var(0) if train else var
    gain = 10 / np.sqrt(variance + epsilon) * (np.abs(scale) if use_scale else 1)
    bound = 4 * 2**-24 * (gain + np.abs(expected) + np.abs(bias))
    if dtype == jnp.bfloat16:  # an 8-bit mantissa, rounded once
        bound = bound + 2**-8 * np.abs(expected)
    assert np.all(np.abs(np.asarray(y, np.float64) - expected) <= bound)
    for kept, wanted in zip(running, expected_running, strict=True):
        np.testing.assert_allclose(kept, wanted, rtol=1e-6, atol=1e-6)


def test_batch_norm_by_hand():
    # Channel 0 contains 1, 3, 5, 7: mean 4, variance 5. Channel 1 contains only 2: variance 0.
    x = jnp.array([[1.0, 2.0], [3.0, 2.0], [5.0, 2.0], [7.0, 2.0]]).reshape(2, 2, 2)
    scale, bias = jnp.array([10.0, 10.0]), jnp.array([1.0, -1.0])
    mean, var = jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0])
    y, (new_mean, new_var) = ops.batch_norm(
        x, scale, bias, mean, var, train=True, momentum=0.75, epsilon=4.0
    )
    # sqrt(5 + 4) = 3, so -3, -1, 1, 3 become -1, -1/3, 1/3, 1, times 10, plus 1.
    expected = jnp.array([[-9.0, -1.0], [-7 / 3, -1.0], [13 / 3, -1.0], [11.0, -1.0]])
    chex.assert_trees_all_close(y.reshape(4, 2), expected, rtol=1e-6)
    # A quarter of the way from the running statistics to the batch statistics.
    chex.assert_trees_all_equal(new_mean, jnp.array([1.0, 1.25]))
    chex.assert_trees_all_equal(new_var, jnp.array([2.0, 0.75]))


def test_eval_by_hand():
    x = jnp.array([[1.0], [4.0]])
    vectors = (jnp.array([value]) for value in (2.0, 0.5, -2.0, 5.0))
    y, running = ops.batch_norm(x, *vectors, train=False, epsilon=4.0)
    # (1 + 2) / sqrt(5 + 4) * 2 + 0.5 and (4 + 2) / 3 * 2 + 0.5
    chex.assert_trees_all_close(y, jnp.array([[2.5], [4.5]]), rtol=1e-6)
    chex.assert_trees_all_equal(running, (jnp.array([-2.0]), jnp.array([5.0])))


@pytest.mark.parametrize("shape", [(8, 3), SHAPE])
def test_train_output_has_zero_mean_and_unit_variance(shape):
    x, _, _, mean, var = inputs(shape)
    y, _ = ops.batch_norm(x, None, None, mean, var, train=True, epsilon=1e-9)
    rows = np.asarray(y, np.float64).reshape(-1, shape[-1])
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(rows.var(0), 1, rtol=1e-6)


def test_eval_is_affine_and_keeps_the_statistics():
    x, *vectors = inputs(SHAPE)
    other = inputs(SHAPE, seed=1)[0]

    def evaluate(x):
        y, running = ops.batch_norm(x, *vectors, train=False)
        chex.assert_trees_all_equal(running, tuple(map(jnp.asarray, vectors[2:])))
        return y

    between = evaluate(0.25 * x + 0.75 * other)
    # Values up to 20, each rounded a few times.
    chex.assert_trees_all_close(between, 0.25 * evaluate(x) + 0.75 * evaluate(other), atol=1e-5)
    # Elementwise: the other rows of the batch do not matter.
    chex.assert_trees_all_close(evaluate(x[:1]), evaluate(x)[:1], rtol=1e-6, atol=1e-6)


def test_statistics_approach_those_of_the_data():
    x, _, _, mean, var = inputs(SHAPE)
    rows = x.reshape(-1, SHAPE[-1]).astype(np.float64)
    step = jax.jit(lambda mean, var: ops.batch_norm(x, None, None, mean, var, train=True)[1])
    distance = np.abs(mean - rows.mean(0))
    for _ in range(20):
        mean, var = step(mean, var)
    # After 20 steps with momentum 0.9, 0.9^20 of the distance remains, up to float32 rounding.
    np.testing.assert_allclose(np.abs(mean - rows.mean(0)), 0.9**20 * distance, atol=2e-6)


def test_train_ignores_running_statistics_and_units_of_x():
    x, scale, bias, mean, var = inputs(SHAPE)
    x = np.round(x * 2**10) / 2**10  # so that adding 2^12 is exact

    def train(x, mean):
        return ops.batch_norm(x, scale, bias, mean, var, train=True, epsilon=1e-9)[0]

    y = train(x, mean)
    chex.assert_trees_all_equal(train(x, mean + 1), y)
    chex.assert_trees_all_close(train(4 * x, mean), y, atol=1e-6)
    # The mean of values near 2^12 is rounded to 2^-11 of a standard deviation of 2. A variance
    # computed as E[x^2] - E[x]^2 would have an error of 2^24 * 2^-24 = 1 here.
    chex.assert_trees_all_close(train(x + 2**12, mean), y, atol=2e-3)


def test_scale_and_bias_of_none_are_one_and_zero():
    x, _, _, mean, var = inputs(SHAPE)
    one, zero = np.ones_like(mean), np.zeros_like(mean)
    for train in (True, False):
        none = ops.batch_norm(x, None, None, mean, var, train=train)
        chex.assert_trees_all_equal(none, ops.batch_norm(x, one, zero, mean, var, train=train))


def test_a_constant_channel_becomes_the_bias():
    x = np.full((4, 3, 2), 3.0, np.float32)
    _, scale, bias, mean, var = inputs(x.shape)

    def train(x):
        return ops.batch_norm(x, scale, bias, mean, var, train=True)[0]

    chex.assert_trees_all_equal(train(x), jnp.broadcast_to(bias, x.shape))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(jnp.square(train(x)))))(x)
    chex.assert_tree_all_finite(gradient)


def test_bfloat16_keeps_float32_statistics():
    x, scale, bias, mean, var = inputs((8, 16, 16, 3), jnp.bfloat16)
    y, running = ops.batch_norm(x, scale, bias, mean, var, train=True, momentum=0)
    precise, expected = ops.batch_norm(
        x.astype(np.float32), scale, bias, mean, var, train=True, momentum=0
    )
    chex.assert_type([y, *running], [jnp.bfloat16, jnp.float32, jnp.float32])
    # The statistics are the same as for float32 x; y is rounded once to an 8-bit mantissa.
    chex.assert_trees_all_close(running, expected, rtol=1e-6)
    chex.assert_trees_all_close(y.astype(jnp.float32), precise, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("train", [True, False])
def test_eager_equals_jit_and_vmap_equals_a_loop(train):
    stack = [inputs(SHAPE, seed=seed) for seed in range(3)]

    def op(*arrays):
        return ops.batch_norm(*arrays, train=train)

    jitted = [jax.jit(op)(*arrays) for arrays in stack]
    # Fusion reorders sums of 60 values and contracts products: errors of a few times 2^-24 * 10.
    chex.assert_trees_all_close(jitted[0], op(*stack[0]), rtol=1e-6, atol=2e-6)
    mapped = jax.jit(jax.vmap(op))(*map(np.stack, zip(*stack, strict=True)))
    loop = jax.tree.map(lambda *leaves: jnp.stack(leaves), *jitted)
    chex.assert_trees_all_close(mapped, loop, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("shape", "train"),
    [((5, 2), True), ((3, 4, 2), False), ((2, 3, 2, 2), True), ((2, 2, 1, 3, 2), True)],
)
def test_numerical_derivatives(shape, train):
    with jax.enable_x64(True):
        x, scale, bias, mean, var = inputs(shape, np.float64)

        def op(x, scale, bias):
            return ops.batch_norm(x, scale, bias, mean, var, train=train)[0]

        check_grads(jax.jit(op), (x, scale, bias), 1, modes=["rev"], eps=1e-5, rtol=1e-7, atol=1e-7)


def test_float32_gradients():
    x, scale, bias, mean, var = inputs(SHAPE)
    weights = inputs(SHAPE, seed=1)[0]

    def loss(x, scale, bias):
        return jnp.sum(ops.batch_norm(x, scale, bias, mean, var, train=True)[0] * weights)

    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(x, scale, bias)
    rows, cotangent = (array.reshape(-1, 2).astype(np.float64) for array in (x, weights))
    deviation = np.sqrt(rows.var(0) + 1e-5)
    unit = (rows - rows.mean(0)) / deviation
    # Ioffe and Szegedy's chain rule, with terms collected.
    back = cotangent - cotangent.mean(0) - unit * (cotangent * unit).mean(0)
    expected = (
        (scale / deviation * back).reshape(SHAPE),
        (cotangent * unit).sum(0),
        cotangent.sum(0),
    )
    # Sums of 60 products of numbers up to 10.
    for gradient, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-5)


def test_gradient_leaves_the_mean_alone():
    # Shifting x does not change a train-mode output, so its gradient sums to zero; scaling x hardly
    # changes it, so the gradient is orthogonal to x.
    x, scale, bias, mean, var = inputs(SHAPE)
    weights = inputs(SHAPE, seed=1)[0]
    gradient = jax.grad(
        lambda x: jnp.sum(
            ops.batch_norm(x, scale, bias, mean, var, train=True, epsilon=1e-9)[0] * weights
        )
    )(x)
    zeros = jnp.zeros(2)
    chex.assert_trees_all_close(jnp.sum(gradient, (0, 1, 2)), zeros, atol=1e-5)
    chex.assert_trees_all_close(jnp.sum(gradient * x, (0, 1, 2)), zeros, atol=1e-4)


VECTOR = np.ones(2, np.float32)
REJECTED = {
    "integers": ({"x": np.ones((3, 2), np.int32)}, r"x must be floating point, got int32"),
    "no channels": ({"x": VECTOR}, r"x must be \[B, \.\.\., C\].*\(2,\)"),
    "empty batch": ({"x": np.ones((0, 2), np.float32)}, r"x must .*no empty.*\(0, 2\)"),
    "empty dimension": ({"x": np.ones((3, 0, 2), np.float32)}, r"x must .*no empty.*\(3, 0, 2\)"),
    "scale": ({"scale": VECTOR[:1]}, r"scale must have shape \(2,\), got \(1,\)"),
    "bias": ({"bias": VECTOR[None]}, r"bias must have shape \(2,\), got \(1, 2\)"),
    "mean": ({"mean": VECTOR[:0]}, r"mean must have shape \(2,\), got \(0,\)"),
    "var": ({"var": np.ones(3, np.float32)}, r"var must have shape \(2,\), got \(3,\)"),
    "large momentum": ({"momentum": 1.1}, r"momentum must be in \[0, 1\], got 1\.1"),
    "negative momentum": ({"momentum": -0.1}, r"momentum .*got -0\.1"),
    "NaN momentum": ({"momentum": float("nan")}, r"momentum .*got nan"),
    "zero epsilon": ({"epsilon": 0}, r"epsilon must be > 0, got 0"),
    "NaN epsilon": ({"epsilon": float("nan")}, r"epsilon .*got nan"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_bad_input_is_rejected_by_name(name):
    replaced, message = REJECTED[name]
    arguments = {"x": np.ones((3, 2), np.float32), "train": True}
    arguments |= dict.fromkeys(("scale", "bias", "mean", "var"), VECTOR)
    with pytest.raises(ValueError, match=message):
        ops.batch_norm(**arguments | replaced)


@st.composite
def grouped(draw):
    """Draw a shape and a divisor of its number of channels."""
    lead = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    groups = draw(st.integers(1, 4))
    return (*lead, groups * draw(st.integers(1, 3))), groups


def group_reference(x, scale, bias, groups, epsilon=1e-5):
    """Compute the definition in float64, and the variance of each value's group."""
    x = np.asarray(x, np.float64)
    parts = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    mean, var = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
    y = ((parts - mean) / np.sqrt(var + epsilon)).reshape(x.shape)
    y = y * (1 if scale is None else scale) + (0 if bias is None else bias)
    return y, np.broadcast_to(var, parts.shape).reshape(x.shape)


@settings(max_examples=12)
@given(
    case=grouped(),
    use_scale=st.booleans(),
    use_bias=st.booleans(),
    epsilon=st.sampled_from([1e-5, 1e-3]),
    dtype=st.sampled_from([jnp.float32, jnp.bfloat16]),
)
def test_group_norm_matches_the_definition(case, use_scale, use_bias, epsilon, dtype):
    shape, groups = case
    x, scale, bias, *_ = inputs(shape, dtype)
    vectors = scale if use_scale else None, bias if use_bias else None
    op = jax.jit(lambda x, *vectors: ops.group_norm(x, *vectors, groups=groups, epsilon=epsilon))
    y = op(x, *vectors)
    expected, variance = group_reference(x, *vectors, groups, epsilon)
    chex.assert_shape(y, shape)
    chex.assert_type(y, dtype)
    # As for batch_norm, the difference of x and its mean has an error of a few times 2^-24 * 10.
    gain = 10 / np.sqrt(variance + epsilon) * (np.abs(scale) if use_scale else 1)
    bound = 4 * 2**-24 * (gain + np.abs(expected) + np.abs(bias))
    if dtype == jnp.bfloat16:
        bound = bound + 2**-8 * np.abs(expected)
    assert np.all(np.abs(np.asarray(y, np.float64) - expected) <= bound)


def test_group_norm_by_hand():
    # Channels 0, 1 contain 1, 3, 5, 7: mean 4, variance 5. Channels 2, 3 contain 2: variance 0.
    x = jnp.array([[[1.0, 3.0, 2.0, 2.0], [5.0, 7.0, 2.0, 2.0]]])
    scale, bias = jnp.array([10.0, 20.0, 30.0, 40.0]), jnp.array([1.0, 2.0, 3.0, 4.0])
    y = ops.group_norm(x, scale, bias, groups=2, epsilon=4.0)
    # sqrt(5 + 4) = 3, so -3, -1, 1, 3 become -1, -1/3, 1/3, 1.
    expected = jnp.array([[[-9.0, 2 - 20 / 3, 3.0, 4.0], [1 + 10 / 3, 22.0, 3.0, 4.0]]])
    chex.assert_trees_all_close(y, expected, rtol=1e-6)


GROUPED = (3, 4, 5, 6)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_every_group_of_an_example_has_zero_mean_and_unit_variance(groups):
    x = inputs(GROUPED)[0]
    y = np.asarray(ops.group_norm(x, None, None, groups=groups, epsilon=1e-9), np.float64)
    parts = y.reshape(3, 20, groups, 6 // groups)
    np.testing.assert_allclose(parts.mean((1, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(parts.var((1, 3)), 1, rtol=1e-6)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_examples_are_independent(groups):
    x, scale, bias, *_ = inputs(GROUPED)
    norm = jax.jit(lambda x: ops.group_norm(x, scale, bias, groups=groups))
    together, alone = norm(x), norm(x[1:2])
    # The order of summation may depend on the batch size.
    chex.assert_trees_all_close(alone, together[1:2], rtol=1e-6, atol=2e-6)
    spoiled = x.copy()
    spoiled[[0, 2]] = np.nan
    spoiled = norm(spoiled)[1:2]
    chex.assert_trees_all_equal(spoiled, together[1:2])


def test_a_group_per_channel_is_instance_norm():
    x, scale, bias, mean, var = inputs(GROUPED)
    y = ops.group_norm(x, scale, bias, groups=6)
    for n in range(3):
        alone, _ = ops.batch_norm(x[n : n + 1], scale, bias, mean, var, train=True)
        chex.assert_trees_all_close(y[n : n + 1], alone, rtol=1e-6, atol=2e-6)


def test_groups_are_independent():
    x, scale, bias, *_ = inputs(GROUPED)
    whole = ops.group_norm(x, scale, bias, groups=3)
    norm = jax.jit(lambda *arrays: ops.group_norm(*arrays, groups=1))
    for group in range(3):
        own = slice(2 * group, 2 * group + 2)
        part = norm(x[..., own], scale[own], bias[own])
        chex.assert_trees_all_close(whole[..., own], part, rtol=1e-6, atol=2e-6)


def test_group_norm_ignores_units_of_x():
    x, scale, bias, *_ = inputs(GROUPED)
    x = np.round(x * 2**10) / 2**10  # so that adding 2^12 is exact

    def norm(x):
        return ops.group_norm(x, scale, bias, groups=2, epsilon=1e-9)

    chex.assert_trees_all_close(norm(4 * x), norm(x), atol=1e-6)
    # As for batch_norm, E[x^2] - E[x]^2 would have an error of 2^24 * 2^-24 = 1 here.
    chex.assert_trees_all_close(norm(x + 2**12), norm(x), atol=2e-3)


def test_a_constant_group_becomes_the_bias():
    x = np.full((2, 3, 4), 3.0, np.float32)
    _, scale, bias, *_ = inputs(x.shape)

    def norm(x):
        return ops.group_norm(x, scale, bias, groups=2)

    chex.assert_trees_all_equal(norm(x), jnp.broadcast_to(bias, x.shape))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(jnp.square(norm(x)))))(x)
    chex.assert_tree_all_finite(gradient)


def test_group_norm_of_bfloat16_has_float32_statistics():
    x, scale, bias, *_ = inputs((2, 16, 16, 6), jnp.bfloat16)
    y = ops.group_norm(x, scale, bias, groups=2)
    precise = ops.group_norm(x.astype(np.float32), scale, bias, groups=2)
    chex.assert_trees_all_equal(y, precise.astype(jnp.bfloat16))


def test_group_norm_eager_equals_jit_and_vmap_equals_a_loop():
    stack = [inputs(GROUPED, seed=seed)[:3] for seed in range(3)]

    def op(*arrays):
        return ops.group_norm(*arrays, groups=2)

    jitted = [jax.jit(op)(*arrays) for arrays in stack]
    # Fusion reorders sums of 60 values and contracts products: errors of a few times 2^-24 * 10.
    chex.assert_trees_all_close(jitted[0], op(*stack[0]), rtol=1e-6, atol=2e-6)
    mapped = jax.jit(jax.vmap(op))(*map(np.stack, zip(*stack, strict=True)))
    chex.assert_trees_all_close(mapped, jnp.stack(jitted), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("shape", "groups"), [((5, 8), 1), ((3, 4, 4), 2), ((2, 3, 2, 4), 4), ((2, 2, 1, 3, 4), 2)]
)
def test_group_norm_numerical_derivatives(shape, groups):
    with jax.enable_x64(True):
        arrays = inputs(shape, np.float64)[:3]

        def op(*arrays):
            return ops.group_norm(*arrays, groups=groups)

        check_grads(jax.jit(op), arrays, 1, modes=["rev"], eps=1e-5, rtol=1e-7, atol=1e-7)


def test_group_norm_float32_gradients():
    x, scale, bias, *_ = inputs(GROUPED)
    weights = inputs(GROUPED, seed=1)[0]

    def loss(x, scale, bias):
        return jnp.sum(ops.group_norm(x, scale, bias, groups=2) * weights)

    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(x, scale, bias)
    unit, variance = group_reference(x, None, None, 2)
    cotangent = weights.astype(np.float64)

    def mean(values):
        """Return the mean over each value's group."""
        parts = values.reshape(3, -1, 2, 3)
        return np.broadcast_to(parts.mean((1, 3), keepdims=True), parts.shape).reshape(GROUPED)

    back = cotangent * scale
    back = (back - mean(back) - unit * mean(back * unit)) / np.sqrt(variance + 1e-5)
    expected = back, (cotangent * unit).sum((0, 1, 2)), cotangent.sum((0, 1, 2))
    # Sums of 60 products of numbers up to 10.
    for gradient, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-5)


GROUPS_REJECTED = {
    "integers": ({"x": np.ones((3, 2), np.int32)}, r"x must be floating point, got int32"),
    "no channels": ({"x": VECTOR}, r"x must be \[B, \.\.\., C\].*\(2,\)"),
    "empty batch": ({"x": np.ones((0, 2), np.float32)}, r"x must .*no empty.*\(0, 2\)"),
    "empty dimension": ({"x": np.ones((3, 0, 2), np.float32)}, r"x must .*no empty.*\(3, 0, 2\)"),
    "scale": ({"scale": VECTOR[:1]}, r"scale must have shape \(2,\), got \(1,\)"),
    "bias": ({"bias": VECTOR[None]}, r"bias must have shape \(2,\), got \(1, 2\)"),
    "zero groups": ({"groups": 0}, r"groups must be a positive integer.* got 0"),
    "negative groups": ({"groups": -1}, r"groups must be a positive integer.* got -1"),
    "fractional groups": ({"groups": 0.5}, r"groups must be a positive integer.* got 0\.5"),
    "boolean groups": ({"groups": True}, r"groups must be a positive integer.* got True"),
    "no divisor": ({"groups": 3}, r"groups must divide the number of channels of x \(2\), got 3"),
    "zero epsilon": ({"epsilon": 0}, r"epsilon must be > 0, got 0"),
    "NaN epsilon": ({"epsilon": float("nan")}, r"epsilon .*got nan"),
}


@pytest.mark.parametrize("name", GROUPS_REJECTED)
def test_group_norm_rejects_bad_input_by_name(name):
    replaced, message = GROUPS_REJECTED[name]
    arguments = {"x": np.ones((3, 2), np.float32), "scale": VECTOR, "bias": VECTOR, "groups": 2}
    with pytest.raises(ValueError, match=message):
        ops.group_norm(**arguments | replaced)
