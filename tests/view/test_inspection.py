"""Inspection: receptive fields by hand, tables, feature maps, and the order of mistakes."""

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcnn import models, ops
from jaxcnn.models.layers import BatchNorm, Conv, Dense, DepthwiseConv, Dropout, GroupNorm
from jaxcnn.view import inspection


class Stack(nn.Module):
    """Sequence of steps, each a function ``(images, train) -> images``."""

    steps: tuple[Callable[..., Any], ...]

    @nn.compact
    def __call__(self, images, *, train):
        """Run all steps."""
        for step in self.steps:
            images = step(images, train)
        return images


def conv(name, *arguments, **options):
    """Return a convolution as a step; the layer is created when it runs, so the stack owns it."""
    return lambda x, train: Conv(4, *arguments, name=name, **options)(x)


def norm(name):
    """Return a batch normalization layer as a step."""
    return lambda x, train: BatchNorm(name=name)(x, train=train)


def drop(name, **options):
    """Return a dropout layer as a step."""
    return lambda x, train: Dropout(0.5, name=name, **options)(x, train=train)


def relu(x, train):
    """Apply ReLU."""
    return nn.relu(x)


def pool(window, **options):
    """Return max pooling as a step."""
    return lambda x, train: ops.max_pool(x, window, **options)


def variables_of(model, size, fill=None):
    """Return variables for the model, all filled with one value, because only shapes matter."""
    image = jax.ShapeDtypeStruct((1, *size), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    return jax.tree.map(lambda leaf: np.full(leaf.shape, fill, leaf.dtype), shapes)


SIZE = (40, 44, 2)
SMALLEST_OF_FAMILIES = (
    "classic_cnn",
    "lenet5",
    "small_vgg",
    "vgg11",
    "resnet18",
    "inception_v3",
    "efficientnet_b0",
)

# Steps, and for each layer the map's (height, width) and the receptive field by hand: each window
# adds (window - 1) * dilation pixels, times the product of all preceding strides.
STACKS = {
    "one convolution": ([conv("a", 5)], {"a": ((40, 44), (5, 5))}),
    "one pixel": ([conv("a", 1)], {"a": ((40, 44), (1, 1))}),
    "three 3x3 see 7x7": (
        [conv("a", 3), relu, conv("b", 3), relu, conv("c", 3)],
        {"a": ((40, 44), (3, 3)), "b": ((40, 44), (5, 5)), "c": ((40, 44), (7, 7))},
    ),
    "not square": (
        [conv("a", (3, 7)), conv("b", (1, 5), strides=(1, 2))],
        {"a": ((40, 44), (3, 7)), "b": ((40, 22), (3, 11))},
    ),
    "strides": (
        [conv("a", 3, strides=2), conv("b", 3, strides=2), conv("c", 3)],
        {"a": ((20, 22), (3, 3)), "b": ((10, 11), (7, 7)), "c": ((10, 11), (15, 15))},
    ),
    "pooling": (
        [conv("a", 3), pool(2), conv("b", 3), pool(3, strides=2), conv("c", 1)],
        # 3; pooled 4, step 2; 4 + 2 * 2 = 8; pooled 8 + 2 * 2 = 12
        {"a": ((40, 44), (3, 3)), "b": ((20, 22), (8, 8)), "c": ((9, 10), (12, 12))},
    ),
    "dilation": (
        [conv("a", 3, dilation=2), conv("b", 3, dilation=(4, 1), padding="VALID")],
        {"a": ((40, 44), (5, 5)), "b": ((32, 42), (13, 7))},
    ),
    "batch norm and depthwise": (
        [
            conv("a", 3, strides=2),
            norm("b"),
            relu,
            lambda x, train: DepthwiseConv((5, 3), name="c")(x),
        ],
        {"a": ((20, 22), (3, 3)), "b": ((20, 22), (3, 3)), "c": ((20, 22), (11, 7))},
    ),
    "dropout sees what its input sees": (
        [conv("a", 3), drop("b"), conv("c", 3), relu, drop("d")],
        {"b": ((40, 44), (3, 3)), "c": ((40, 44), (5, 5)), "d": ((40, 44), (5, 5))},
    ),
    "average pooling": (
        [lambda x, train: ops.avg_pool(x, (4, 2)), conv("a", 3)],
        {"a": ((10, 22), (12, 6))},
    ),
}


@pytest.mark.parametrize("fill", [0.0, pytest.param(-1.0, marks=pytest.mark.slow), np.nan])
@pytest.mark.parametrize(("steps", "expected"), STACKS.values(), ids=STACKS)
def test_receptive_fields_by_hand(steps, expected, fill):
    model = Stack(tuple(steps))
    layers = inspection.receptive_fields(model, variables_of(model, SIZE, fill), SIZE)
    found = {layer.name: (layer.shape[:2], layer.receptive_field) for layer in layers}
    assert {name: found[name] for name in expected} == expected
    assert all(layer.shape[2] == 4 for layer in layers)


class Residual(nn.Module):
    """Residual block: a 1x1 shortcut and two 3x3 convolutions."""

    @nn.compact
    def __call__(self, x, train):
        """Add both branches."""
        y = nn.relu(BatchNorm()(Conv(4, 3, strides=2)(x), train=train))
        y = BatchNorm()(Conv(4, 3)(y), train=train)
        return nn.relu(y + Conv(4, 1, strides=2, name="shortcut")(x))


def test_receptive_field_of_residual_blocks():
    def block(name):
        return lambda x, train: Residual(name=name)(x, train)

    model = Stack((conv("stem", 3), block("one"), block("two")))
    layers = inspection.receptive_fields(model, variables_of(model, SIZE, -1.0), SIZE)
    fields = {layer.name: layer.receptive_field[0] for layer in layers}
    # 3; 3 + 2 = 5, step 2, 5 + 2 * 2 = 9; 9 + 2 * 2 = 13, step 4, 13 + 2 * 4 = 21
    assert fields["stem"] == 3
    assert (fields["one/Conv_0"], fields["one/Conv_1"], fields["one"]) == (5, 9, 9)
    assert (fields["two/Conv_0"], fields["two/Conv_1"], fields["two"]) == (13, 21, 21)
    assert (fields["one/shortcut"], fields["two/shortcut"]) == (3, 9)
    assert all(layer.receptive_field[0] == layer.receptive_field[1] for layer in layers)


def test_the_border_ends_a_field():
    model, size = Stack((conv("a", (5, 3)), conv("b", (5, 3)))), (7, 9, 1)
    layers = inspection.receptive_fields(model, variables_of(model, size, 0.0), size)
    assert [layer.receptive_field for layer in layers] == [(5, 3), (7, 5)]


def test_a_global_step_depends_on_the_whole_image():
    def squeeze(x, train):
        share = jnp.mean(x, axis=(1, 2), keepdims=True)
        return x * jnp.broadcast_to(Conv(4, 1, name="gate")(share), x.shape)

    model = Stack((conv("a", 3), squeeze, conv("b", 1)))
    layers = inspection.receptive_fields(model, variables_of(model, SIZE, 1.0), SIZE)
    assert {layer.name: layer.receptive_field for layer in layers}["gate"] == SIZE[:2]


@pytest.mark.parametrize("groups", [1, 4])
def test_group_norm_is_skipped(groups):
    def norm(x, train):
        return GroupNorm(groups, name="norm")(x, train=train)

    model = Stack((conv("a", 3), norm, relu, conv("b", 3)))
    layers = inspection.receptive_fields(model, variables_of(model, SIZE, 1.0), SIZE)
    fields = {layer.name: layer.receptive_field for layer in layers}
    assert fields == {"a": (3, 3), "norm": (3, 3), "b": (5, 5)}


@pytest.mark.parametrize("side", [12, 16])
@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_receptive_fields_of_consecutive_convolutions_and_pools(norm, side):
    # 3, 5; pooled 6, step 2; 10, 14; pooled 16, step 4; 24, 32. XLA once returned uninitialized
    # memory after a pooling layer if kernels were constants.
    model, size = models.create("small_vgg", 10, norm=norm), (side, side, 1)
    layers = inspection.receptive_fields(model, variables_of(model, size, 1.0), size)
    fields = [layer.receptive_field[0] for layer in layers if layer.name.startswith("convs")]
    assert fields == [min(field, side) for field in (3, 5, 10, 14, 24, 32)]


def test_receptive_fields_end_where_windows_do():
    """Winograd's method, used for wide layers, leaves rounding errors outside a kernel's extent."""
    size = (64, 64, 1)
    model = models.create("small_vgg", 10)
    layers = inspection.receptive_fields(model, variables_of(model, size, 1.0), size)
    fields = [layer.receptive_field[0] for layer in layers if layer.name.startswith("convs")]
    assert fields == [3, 5, 10, 14, 24, 32]


def test_receptive_fields_come_in_the_order_of_computation():
    model = Stack((conv("z", 3), conv("m", 3), conv("a", 3)))
    layers = inspection.receptive_fields(model, variables_of(model, SIZE, 0.0), SIZE)
    assert [layer.name for layer in layers] == ["z", "m", "a"]


def numbered(model, size):
    """Return random variables for a model."""
    shapes = variables_of(model, size, 0.0)
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(0)
    return tree.unflatten([rng.random(leaf.shape, np.float32) for leaf in leaves])


def test_feature_maps_are_the_outputs_of_the_layers():
    model = Stack((conv("z", 3), relu, conv("a", 3, strides=2), pool(2), conv("m", 1)))
    variables = numbered(model, SIZE)
    images = np.random.default_rng(1).random((2, *SIZE), np.float32)
    maps = inspection.feature_maps(model, variables, images)
    params = variables["params"]
    z = ops.conv(images, params["z"]["kernel"], params["z"]["bias"])
    a = ops.conv(nn.relu(z), params["a"]["kernel"], params["a"]["bias"], strides=2)
    m = ops.conv(ops.max_pool(a, 2), params["m"]["kernel"], params["m"]["bias"])
    chex.assert_trees_all_equal(maps, {"z": z, "a": a, "m": m})
    assert list(maps) == ["z", "a", "m"]


def test_feature_maps_of_a_model_come_in_the_order_of_computation():
    model, size = models.create("small_vgg", 10, widths=(2, 2)), (8, 8, 1)
    maps = inspection.feature_maps(model, variables_of(model, size, 1.0), jnp.ones((1, *size)))
    assert list(maps) == [f"{kind}_{n}" for n in range(4) for kind in ("convs", "norms")]


def test_feature_maps_of_more_than_nine_layers_are_in_order():
    class Many(nn.Module):
        def setup(self):
            self.convs = [Conv(1, 1) for _ in range(12)]

        def __call__(self, x, *, train):
            for conv in self.convs:
                x = conv(x)
            return x

    model, size = Many(), (4, 4, 1)
    maps = inspection.feature_maps(model, variables_of(model, size, 1.0), jnp.ones((1, *size)))
    assert list(maps) == [f"convs_{n}" for n in range(12)]


def test_an_identity_layer_replaces_its_input():
    steps = (conv("a", 3), drop("b"), drop("c", unit="channel"), conv("d", 1), relu, drop("e"))
    model = Stack(steps)
    variables = numbered(model, SIZE)
    images = np.random.default_rng(1).random((2, *SIZE), np.float32)
    maps = inspection.feature_maps(model, variables, images)
    params = variables["params"]
    a = ops.conv(images, params["a"]["kernel"], params["a"]["bias"])
    d = ops.conv(a, params["d"]["kernel"], params["d"]["bias"])
    # The output of `e` is the ReLU of `d`, a different array.
    chex.assert_trees_all_equal(maps, {"c": a, "d": d, "e": nn.relu(d)})
    assert list(maps) == ["c", "d", "e"]


def test_dropout_of_the_image_is_listed_once():
    model = Stack((drop("a"), drop("b"), conv("c", 3)))
    images = jnp.ones((1, *SIZE))
    maps = inspection.feature_maps(model, numbered(model, SIZE), images)
    assert list(maps) == ["b", "c"]
    chex.assert_trees_all_equal(maps["b"], images)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"conv": (8, 8, 32), "drop": (4, 4, 32)}),
        ({"pool": "none"}, {"conv": (8, 8, 32), "drop": (8, 8, 32)}),
        (
            {"norm": "group", "noise": 0.1, "spatial_dropout": 0.5},
            {"conv": (8, 8, 32), "conv_norm": (8, 8, 32), "drop": (4, 4, 32)},
        ),
    ],
)
def test_feature_maps_of_the_classical_network_with_options(options, expected):
    model, size = models.create("classic_cnn", 10, **options), (8, 8, 1)
    maps = inspection.feature_maps(model, variables_of(model, size, 1.0), jnp.ones((1, *size)))
    assert {name: layer.shape[1:] for name, layer in maps.items()} == expected
    assert list(maps) == list(expected)


def test_only_maps_are_feature_maps():
    head = [lambda x, train: Dense(3, name="dense")(ops.flatten(x))]
    model = Stack((conv("a", 3), *head))
    maps = inspection.feature_maps(model, variables_of(model, SIZE, 1.0), jnp.ones((1, *SIZE)))
    assert list(maps) == ["a"]
    assert inspection.feature_maps(lambda x: x, {}, jnp.ones((1, *SIZE))) == {}


def test_parameter_table_lists_every_array():
    model, size = models.create("small_vgg", 10, widths=(2,)), (4, 4, 1)
    table = inspection.parameter_table(variables_of(model, size, 0.0))
    assert {row.name: (row.shape, row.size) for row in table} == {
        "batch_stats/norms_0/mean": ((2,), 2),
        "batch_stats/norms_0/var": ((2,), 2),
        "batch_stats/norms_1/mean": ((2,), 2),
        "batch_stats/norms_1/var": ((2,), 2),
        "params/convs_0/kernel": ((3, 3, 1, 2), 18),
        "params/convs_1/kernel": ((3, 3, 2, 2), 36),
        "params/hidden/bias": ((128,), 128),
        "params/hidden/kernel": ((8, 128), 1024),
        "params/norms_0/bias": ((2,), 2),
        "params/norms_0/scale": ((2,), 2),
        "params/norms_1/bias": ((2,), 2),
        "params/norms_1/scale": ((2,), 2),
        "params/output/bias": ((10,), 10),
        "params/output/kernel": ((128, 10), 1280),
    }
    assert len(table) == 14


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("name", SMALLEST_OF_FAMILIES)
def test_the_first_kernel_sees_the_image(name, channels):
    model, size = models.create(name, 10), (80, 80, channels)
    params = variables_of(model, size, 0.0)["params"]
    kernel = inspection.first_kernel(model, params, channels)
    first = params
    for part in model.input_layer.split("/"):
        first = first[part]
    assert kernel is first["kernel"]
    assert kernel.shape[2] == channels


def test_the_first_kernel_of_a_network_without_input_layer():
    params = {"a": {"kernel": np.zeros((3, 3, 8, 8))}, "b": {"kernel": np.zeros((3, 3, 1, 8))}}
    assert inspection.first_kernel(None, params, 1) is params["b"]["kernel"]


def test_a_network_without_convolutions_has_no_first_kernel():
    assert inspection.first_kernel(None, {"dense": {"kernel": np.zeros((784, 10))}}, 1) is None


@given(st.data())
def test_confident_mistakes_one_by_one(drawn):
    size = drawn.draw(st.integers(0, 12))
    row = st.lists(st.integers(1, 4), min_size=3, max_size=3)
    weights = np.array(drawn.draw(st.lists(row, min_size=size, max_size=size)), np.float32)
    weights = weights.reshape(size, 3)
    probabilities = weights / weights.sum(1, keepdims=True)
    labels = np.array(drawn.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size)), int)
    count = drawn.draw(st.integers(0, 14))
    found = inspection.confident_mistakes(probabilities, labels, count).tolist()
    rows = probabilities.tolist()
    wrong = [n for n in range(size) if rows[n].index(max(rows[n])) != labels[n]]
    # Most confident first; ties keep their order.
    assert found == sorted(wrong, key=lambda n: -max(rows[n]))[:count]


def test_equally_confident_mistakes_keep_their_order():
    probabilities = np.tile(np.float32([[0.75, 0.25]]), (5, 1))
    labels = np.array([1, 0, 1, 1, 0])
    assert inspection.confident_mistakes(probabilities, labels, 9).tolist() == [0, 2, 3]
    assert inspection.confident_mistakes(probabilities, np.zeros(5, int), 9).tolist() == []
