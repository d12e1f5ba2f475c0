"""Layers: each calls its op with its own parameters, initialized as in Keras."""

import functools
import math

import chex
import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import ops
from jaxcnn.models.layers import (
    BatchNorm,
    Conv,
    ConvReluMaxPool,
    ConvTranspose,
    Dense,
    DepthwiseConv,
    Dropout,
    GaussianNoise,
    GroupNorm,
)

IMAGES = {1: (2, 9, 4), 2: (2, 9, 8, 4), 3: (2, 6, 5, 4, 4)}

# (layer, input shape, op that the layer must equal, kernel shape, output shape)
CASES = {
    "conv 1d": (Conv(6, 3), IMAGES[1], ops.conv, (3, 4, 6), (2, 9, 6)),
    "conv 2d": (Conv(6, (3, 5)), IMAGES[2], ops.conv, (3, 5, 4, 6), (2, 9, 8, 6)),
    "conv 3d": (
        Conv(5, 2, padding="VALID"),
        IMAGES[3],
        lambda *a: ops.conv(*a, padding="VALID"),
        (2, 2, 2, 4, 5),
        (2, 5, 4, 3, 5),
    ),
    "conv with every option": (
        Conv(6, 3, strides=(2, 1), padding=((1, 0), (2, 1)), dilation=(1, 2), groups=2),
        IMAGES[2],
        lambda *a: ops.conv(
            *a, strides=(2, 1), padding=((1, 0), (2, 1)), dilation=(1, 2), groups=2
        ),
        (3, 3, 2, 6),
        (2, 4, 7, 6),
    ),
    "depthwise": (DepthwiseConv(3), IMAGES[2], ops.depthwise_conv, (3, 3, 1, 4), (2, 9, 8, 4)),
    "depthwise with every option": (
        DepthwiseConv((1, 3), multiplier=3, strides=2, padding="VALID"),
        IMAGES[2],
        lambda *a: ops.depthwise_conv(*a, strides=2, padding="VALID"),
        (1, 3, 1, 12),
        (2, 5, 3, 12),
    ),
    "depthwise 1d": (
        DepthwiseConv(5, multiplier=2),
        IMAGES[1],
        ops.depthwise_conv,
        (5, 1, 8),
        (2, 9, 8),
    ),
    "transposed": (ConvTranspose(6, 3), IMAGES[2], ops.conv_transpose, (3, 3, 4, 6), (2, 9, 8, 6)),
    # SAME: n * s. VALID: (n - 1) * s + max(window, s). Pairs: (n - 1) * s + window - low - high.
    "transposed SAME": (
        ConvTranspose(6, 3, strides=2),
        IMAGES[2],
        lambda *a: ops.conv_transpose(*a, strides=2),
        (3, 3, 4, 6),
        (2, 18, 16, 6),
    ),
    "transposed VALID": (
        ConvTranspose(6, (2, 4), strides=3, padding="VALID"),
        IMAGES[2],
        lambda *a: ops.conv_transpose(*a, strides=3, padding="VALID"),
        (2, 4, 4, 6),
        (2, 27, 25, 6),
    ),
    "transposed pairs": (
        ConvTranspose(6, 4, strides=(2, 1), padding=((1, 0), (2, 1))),
        IMAGES[2],
        lambda *a: ops.conv_transpose(*a, strides=(2, 1), padding=((1, 0), (2, 1))),
        (4, 4, 4, 6),
        (2, 19, 8, 6),
    ),
    "transposed 3d": (
        ConvTranspose(2, 2, strides=2),
        IMAGES[3],
        lambda *a: ops.conv_transpose(*a, strides=2),
        (2, 2, 2, 4, 2),
        (2, 12, 10, 8, 2),
    ),
    "dense": (Dense(7), (3, 5), ops.dense, (5, 7), (3, 7)),
    "dense on maps": (Dense(7), IMAGES[2], ops.dense, (4, 7), (2, 9, 8, 7)),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def normal(shape, dtype=jnp.float32, seed=0):
    """Return values that use every bit of the mantissa."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def randomized(layer, x, **options):
    """Return random variables for a layer; `init` computes only their shapes."""
    init = functools.partial(layer.init, **options)
    leaves, tree = jax.tree.flatten(jax.eval_shape(init, jax.random.key(0), x))
    return tree.unflatten([normal(leaf.shape, seed=n) for n, leaf in enumerate(leaves)])


def clone(layer, **options):
    """Return a copy of the layer with changed attributes."""
    return layer.clone(parent=None, **options)


def drawn_key(key):
    """Return the key that an unnamed layer gets from the dropout stream."""

    class Draw(nn.Module):
        @nn.compact
        def __call__(self):
            return self.make_rng("dropout")

    return Draw().apply({}, rngs={"dropout": key})


@every_case
def test_a_layer_is_its_op(case):
    layer, shape, op, kernel_shape, output_shape = case
    x = normal(shape, seed=9)
    variables = randomized(layer, x)
    expected = {"params": {"kernel": kernel_shape, "bias": kernel_shape[-1:]}}
    assert jax.tree.map(jnp.shape, variables) == expected
    y = layer.apply(variables, x)
    chex.assert_shape(y, output_shape)
    params = variables["params"]
    chex.assert_trees_all_equal(y, op(x, params["kernel"], params["bias"]))


@every_case
def test_without_bias(case):
    layer, shape, op, kernel_shape, _ = case
    layer = clone(layer, use_bias=False)
    x = normal(shape, seed=9)
    variables = randomized(layer, x)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": kernel_shape}}
    chex.assert_trees_all_equal(layer.apply(variables, x), op(x, variables["params"]["kernel"]))


@every_case
@pytest.mark.parametrize("x_dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("dtype", [None, jnp.float32, jnp.bfloat16, "bfloat16"])
def test_dtype_is_the_type_to_compute_in(case, dtype, x_dtype, key):
    layer, shape, *_ = case
    layer = clone(layer, dtype=dtype)
    x = jax.ShapeDtypeStruct(shape, x_dtype)
    variables = jax.eval_shape(layer.init, key, x)
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
    y = jax.eval_shape(layer.apply, variables, x)
    chex.assert_type(y, x_dtype if dtype is None else dtype)


@pytest.mark.parametrize("name", ["conv 2d", "depthwise", "transposed", "dense"])
def test_all_operands_are_cast_before_the_op(name):
    layer, shape, op, _, _ = CASES[name]
    layer = clone(layer, dtype=jnp.bfloat16)
    x = normal(shape)
    variables = randomized(layer, x)
    params = variables["params"]
    cast = [value.astype(jnp.bfloat16) for value in (x, params["kernel"], params["bias"])]
    chex.assert_trees_all_equal(layer.apply(variables, x), op(*cast))


# (layer, input shape, fan in + fan out)
@pytest.mark.parametrize(
    ("layer", "shape", "fans"),
    [
        (Conv(64, 5), (1, 9, 9, 16), 25 * (16 + 64)),
        (Conv(64, 5, groups=4), (1, 9, 9, 64), 25 * (16 + 64)),
        (Conv(96, 3), (1, 9, 32), 3 * (32 + 96)),
        (ConvTranspose(64, 5), (1, 9, 9, 16), 25 * (16 + 64)),
        (Dense(300), (1, 100), 100 + 300),
    ],
)
def test_kernels_are_glorot_uniform_and_biases_zero(layer, shape, fans, key):
    params = layer.init(key, jnp.zeros(shape))["params"]
    kernel, limit = np.asarray(params["kernel"]), math.sqrt(6 / fans)
    assert np.abs(kernel).max() <= limit
    # On average, the largest of n uniform values is limit / n below the limit.
    assert np.abs(kernel).max() > limit * (1 - 20 / kernel.size)
    # The mean of n squared uniform values has a relative standard deviation of sqrt(4 / 5 / n).
    deviation = math.sqrt(0.8 / kernel.size)
    np.testing.assert_allclose(np.square(kernel).mean(), limit**2 / 3, rtol=4 * deviation)
    np.testing.assert_allclose(kernel.mean(), 0, atol=4 * limit / math.sqrt(3 * kernel.size))
    chex.assert_trees_all_equal(params["bias"], jnp.zeros(kernel.shape[-1]))


def test_kernel_init_is_called_with_the_shape(key):
    layer = Conv(2, 3, kernel_init=nn.initializers.constant(0.5))
    params = layer.init(key, jnp.zeros((1, 4, 4, 3)))["params"]
    chex.assert_trees_all_equal(params["kernel"], jnp.full((3, 3, 3, 2), 0.5))


@pytest.mark.parametrize(
    "layer", [Conv(0, 3), ConvTranspose(0, 3), Dense(0), Conv(-1, 3), Dense(-1)]
)
def test_features_below_one_are_rejected(layer, key):
    with pytest.raises(ValueError, match=f"features must be >= 1 in {type(layer).__name__}"):
        layer.init(key, jnp.zeros((1, 4, 4, 2)))


@pytest.mark.parametrize(
    ("layer", "argument"),
    [
        (Conv(8, 0), "kernel_size"),
        (Conv(8, (3, 3, 3)), "kernel_size"),
        (Conv(8, 3, strides=0), "strides"),
        (Conv(8, 3, groups=3), "groups"),
        (Conv(8, 3, groups=8), "groups"),
        (Conv(8, 3, groups=0), "groups"),
        (DepthwiseConv(3, multiplier=0), "multiplier"),
        (ConvTranspose(8, 3, padding="FULL"), "padding"),
    ],
)
def test_a_wrong_attribute_is_named(layer, argument, key):
    with pytest.raises(ValueError, match=f"^{argument} must"):
        jax.eval_shape(layer.init, key, jnp.zeros((1, 4, 4, 4)))


@pytest.mark.parametrize("layer", [Conv(8, 3), DepthwiseConv(3), ConvTranspose(8, 3), Dense(8)])
def test_integers_are_rejected(layer, key):
    with pytest.raises(ValueError, match="must be floating point, got uint8"):
        layer.init(key, jnp.zeros((1, 4, 4, 4), jnp.uint8))


NORM_SHAPES = [(4, 3), (4, 5, 3), (4, 5, 6, 3)]


@pytest.mark.parametrize(
    ("conv", "shape", "padding"),
    [
        (Conv(16, 5), (2, 8, 6, 1), "VALID"),
        (Conv(16, 5, use_bias=False), (2, 8, 6, 1), "SAME"),
        (Conv(6, 3, strides=2, padding=1, dilation=2, groups=2), (2, 13, 11, 4), "SAME"),
    ],
)
def test_conv_relu_max_pool_is_the_same_in_training_and_evaluation(conv, shape, padding, key):
    images = jax.random.normal(key, shape)
    layer = ConvReluMaxPool(conv, 2, padding)
    variables = randomized(layer, images, train=False)
    assert list(variables["params"]) == ["conv"]

    @functools.partial(jax.jit, static_argnames="train")
    def gradient(variables, train):
        def total(variables):
            output = layer.apply(variables, images, train=train)
            return jnp.sum(jnp.sin(output)), output

        return jax.grad(total, has_aux=True)(variables)

    found, expected = gradient(variables, True), gradient(variables, False)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)
    inner = {"params": variables["params"]["conv"]}
    separate = ops.max_pool(nn.relu(conv.apply(inner, images)), 2, padding=padding)
    chex.assert_trees_all_close(found[1], separate, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", NORM_SHAPES)
@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_is_its_op(shape, train, key):
    layer, x = BatchNorm(momentum=0.7, epsilon=1e-3), 2 * normal(shape) + 1
    variables = layer.init(key, x, train=False)
    assert jax.tree.map(jnp.shape, variables) == {
        "params": {"scale": (3,), "bias": (3,)},
        "batch_stats": {"mean": (3,), "var": (3,)},
    }
    variables = jax.tree.map(lambda leaf: leaf + jnp.arange(1.0, 4.0), variables)
    params, stats = variables["params"], variables["batch_stats"]
    y, updated = layer.apply(variables, x, train=train, mutable=["batch_stats"])
    expected, (mean, var) = ops.batch_norm(
        x,
        params["scale"],
        params["bias"],
        stats["mean"],
        stats["var"],
        train=train,
        momentum=0.7,
        epsilon=1e-3,
    )
    chex.assert_trees_all_equal(y, expected)
    chex.assert_trees_all_equal(updated, {"batch_stats": {"mean": mean, "var": var}})
    moved = [(updated["batch_stats"][name] != stats[name]).all() for name in ("mean", "var")]
    assert moved == [train, train]


@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_starts_as_the_identity_of_standard_values(train, key):
    # Initialization does not update the statistics, even in training mode.
    variables = BatchNorm().init(key, normal((4, 3)) + 7, train=train)
    zeros, ones = jnp.zeros(3), jnp.ones(3)
    expected = {
        "params": {"bias": zeros, "scale": ones},
        "batch_stats": {"mean": zeros, "var": ones},
    }
    chex.assert_trees_all_equal(variables, expected)
    chex.assert_trees_all_equal_dtypes(variables, expected)


def test_batch_norm_without_scale_and_bias(key):
    layer, x = BatchNorm(use_scale=False, use_bias=False), normal((4, 3))
    variables = layer.init(key, x, train=False)
    assert set(variables) == {"batch_stats"}
    y, _ = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    zeros, ones = jnp.zeros(3), jnp.ones(3)
    chex.assert_trees_all_equal(y, ops.batch_norm(x, None, None, zeros, ones, train=True)[0])


def test_batch_norm_keeps_half_precision_and_float32_statistics(key):
    x = normal((4, 3), jnp.bfloat16)
    variables = BatchNorm().init(key, x, train=False)
    y, updated = BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])
    chex.assert_type(y, jnp.bfloat16)
    chex.assert_type(jax.tree.leaves((variables, updated)), jnp.float32)


def test_batch_norm_in_training_needs_mutable_statistics(key):
    variables = BatchNorm().init(key, normal((4, 3)), train=False)
    with pytest.raises(flax.errors.ModifyScopeVariableError):
        BatchNorm().apply(variables, normal((4, 3)), train=True)


@pytest.mark.parametrize("shape", NORM_SHAPES)
@pytest.mark.parametrize("train", [False, True])
def test_a_frozen_batch_norm_uses_its_statistics_and_leaves_them(shape, train, key):
    x = 2 * normal(shape) + 1
    variables = BatchNorm().init(key, x, train=False)
    variables = jax.tree.map(lambda leaf: leaf + jnp.arange(1.0, 4.0), variables)
    # The statistics need not be mutable; if they are, they still do not change.
    y = BatchNorm(frozen=True).apply(variables, x, train=train)
    chex.assert_trees_all_equal(y, BatchNorm().apply(variables, x, train=False))
    _, kept = BatchNorm(frozen=True).apply(variables, x, train=train, mutable=["batch_stats"])
    chex.assert_trees_all_equal(kept["batch_stats"], variables["batch_stats"])


@pytest.mark.parametrize("train", [False, True])
def test_a_frozen_batch_norm_starts_as_any_other(train, key):
    x = normal((4, 3)) + 7
    expected = BatchNorm().init(key, x, train=False)
    chex.assert_trees_all_equal(BatchNorm(frozen=True).init(key, x, train=train), expected)


@pytest.mark.parametrize("shape", [(4, 6), (4, 5, 6), (4, 5, 3, 6)])
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_group_norm_is_its_op_in_training_and_evaluation(shape, groups):
    layer, x = GroupNorm(groups, epsilon=1e-3), 2 * normal(shape) + 1
    variables = randomized(layer, x)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"scale": (6,), "bias": (6,)}}
    params = variables["params"]
    expected = ops.group_norm(x, params["scale"], params["bias"], groups=groups, epsilon=1e-3)
    for options in ({}, {"train": False}, {"train": True}):
        chex.assert_trees_all_equal(layer.apply(variables, x, **options), expected)


def test_group_norm_starts_with_eight_groups_and_as_the_identity_of_standard_values(key):
    x = normal((4, 16))
    variables = GroupNorm().init(key, x)
    expected = {"params": {"bias": jnp.zeros(16), "scale": jnp.ones(16)}}
    chex.assert_trees_all_equal(variables, expected)
    chex.assert_trees_all_equal_dtypes(variables, expected)
    y = GroupNorm().apply(variables, x)
    chex.assert_trees_all_equal(y, ops.group_norm(x, None, None, groups=8))


def test_group_norm_keeps_half_precision(key):
    x = normal((4, 8), jnp.bfloat16)
    y, variables = GroupNorm().init_with_output(key, x, train=True)
    chex.assert_type(y, jnp.bfloat16)
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)


@pytest.mark.parametrize(("groups", "accepted"), [(4, "divide"), (0, "be a positive integer")])
def test_group_norm_rejects_a_wrong_number_of_groups(groups, accepted, key):
    with pytest.raises(ValueError, match=f"groups must {accepted}.* got {groups}"):
        GroupNorm(groups).init(key, normal((4, 6)))


RANDOM = {
    "dropout": (Dropout(0.5), ops.dropout),
    "dropout of values": (Dropout(0.5, unit="value"), ops.dropout),
    "dropout of channels": (Dropout(0.5, unit="channel"), ops.spatial_dropout),
    "dropout of examples": (Dropout(0.5, unit="example"), ops.drop_path),
    "noise": (GaussianNoise(0.5), ops.gaussian_noise),
}


@pytest.mark.parametrize(("layer", "op"), RANDOM.values(), ids=RANDOM)
def test_a_random_layer_is_its_op_in_training_and_nothing_otherwise(layer, op, key):
    x = normal((5, 6, 2))
    assert layer.init(key, x, train=False) == {}
    chex.assert_trees_all_equal(layer.apply({}, x, train=False), x)
    y = layer.apply({}, x, train=True, rngs={"dropout": key})
    chex.assert_trees_all_equal(y, op(drawn_key(key), x, 0.5))
    assert not jnp.array_equal(y, x)


@pytest.mark.parametrize(
    "layer",
    [Dropout(0.0), Dropout(0.0, "channel"), Dropout(0.0, "example"), GaussianNoise(0.0)],
)
def test_an_amount_of_zero_needs_no_key(layer):
    x = normal((5, 6, 2))
    chex.assert_trees_all_equal(layer.apply({}, x, train=True), x)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("rate", [-0.1, 1, 1.0, 50, float("nan")])
def test_dropout_rejects_a_wrong_rate(rate, train, key):
    with pytest.raises(ValueError, match=rf"rate must be in \[0, 1\), got {rate}"):
        Dropout(rate).apply({}, jnp.ones(3), train=train, rngs={"dropout": key})


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_rejects_an_unknown_unit(rate, train, key):
    message = "unit must be one of value, channel, example, got 'pixel'"
    with pytest.raises(ValueError, match=message):
        Dropout(rate, unit="pixel").apply({}, jnp.ones(3), train=train, rngs={"dropout": key})


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("stddev", [-0.5, float("inf"), float("nan")])
def test_noise_rejects_a_wrong_stddev(stddev, train, key):
    with pytest.raises(ValueError, match=f"stddev must be finite and >= 0, got {stddev}"):
        GaussianNoise(stddev).apply({}, jnp.ones(3), train=train, rngs={"dropout": key})


def test_train_has_no_default(key):
    for layer in (BatchNorm(), Dropout(0.5), GaussianNoise(0.5)):
        with pytest.raises(TypeError, match="train"):
            layer.init(key, jnp.ones((2, 3)))
