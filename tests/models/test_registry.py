"""Contract of every registered network, and parameter counts derived by hand."""

import functools
import inspect

import chex
import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxcnn import image, models, ops

SHAPES = {"gray": (28, 28, 1), "rgb": (32, 32, 3)}
CLASSES = 10
PLATFORMS = ["cuda", "tpu"]

# Parameter counts: kernels (window * in * out), biases, and the scale and bias of each norm.
PARAMETERS = {
    # 5x5 to 32; 14x14x32 = 6272 (or 16x16x32 = 8192) to 128; 128 to 10
    ("classic_cnn", "gray"): (25 * 1 + 1) * 32 + (6272 + 1) * 128 + 129 * 10,
    ("classic_cnn", "rgb"): (25 * 3 + 1) * 32 + (8192 + 1) * 128 + 129 * 10,
    # 5x5 to 6; 5x5 to 16; 5x5x16 = 400 (or 6x6x16 = 576) to 120; 84; 10
    ("lenet5", "gray"): 26 * 6 + (150 + 1) * 16 + 401 * 120 + 121 * 84 + 85 * 10,
    ("lenet5", "rgb"): 76 * 6 + (150 + 1) * 16 + 577 * 120 + 121 * 84 + 85 * 10,
    # 3x3 to 32, 32, 64, 64, 128, 128 with norms; 4x4x128 = 2048 to 128; 128 to 10
    ("small_vgg", "gray"): (
        9 * (1 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
        + 2 * 2 * (32 + 64 + 128)
        + (2049 * 128 + 129 * 10)
    ),
    ("small_vgg", "rgb"): (
        9 * (3 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
        + 2 * 2 * (32 + 64 + 128)
        + (2049 * 128 + 129 * 10)
    ),
}
# Published counts for 1,000 classes and RGB images: parameters, statistics, inputs to the last
# layer, and values per input channel in the first kernel.
PUBLISHED = {
    "vgg11": (132_863_336, 0, 4096, 9 * 64),
    "vgg11_bn": (132_868_840, 5_504, 4096, 9 * 64),
    "vgg13": (133_047_848, 0, 4096, 9 * 64),
    "vgg13_bn": (133_053_736, 5_888, 4096, 9 * 64),
    "vgg16": (138_357_544, 0, 4096, 9 * 64),
    "vgg16_bn": (138_365_992, 8_448, 4096, 9 * 64),
    "vgg19": (143_667_240, 0, 4096, 9 * 64),
    "vgg19_bn": (143_678_248, 11_008, 4096, 9 * 64),
    "resnet18": (11_689_512, 9_600, 512, 49 * 64),
    "resnet34": (21_797_672, 17_024, 512, 49 * 64),
    "resnet50": (25_557_032, 53_120, 2048, 49 * 64),
    "resnet101": (44_549_160, 105_344, 2048, 49 * 64),
    "resnet152": (60_192_808, 151_424, 2048, 49 * 64),
    # Keras: 25,636,712, 44,707,176 and 60,419,944, including the statistics
    "resnet50_v1": (25_583_592, 53_120, 2048, 49 * 64),
    "resnet101_v1": (44_601_832, 105_344, 2048, 49 * 64),
    "resnet152_v1": (60_268_520, 151_424, 2048, 49 * 64),
    "efficientnet_b0": (5_288_548, 42_016, 1280, 9 * 32),
    "efficientnet_b1": (7_794_184, 62_048, 1280, 9 * 32),
    "efficientnet_b2": (9_109_994, 67_568, 1408, 9 * 32),
    "efficientnet_b3": (12_233_232, 87_296, 1536, 9 * 40),
    "efficientnet_b4": (19_341_616, 125_200, 1792, 9 * 48),
    "efficientnet_b5": (30_389_784, 172_736, 2048, 9 * 48),
    "efficientnet_b6": (43_040_704, 224_432, 2304, 9 * 56),
    "efficientnet_b7": (66_347_960, 310_720, 2560, 9 * 64),
    "efficientnet_lite0": (4_652_008, 42_016, 1280, 9 * 32),
    "efficientnet_lite1": (5_416_680, 53_664, 1280, 9 * 32),
    "efficientnet_lite2": (6_092_072, 58_096, 1280, 9 * 32),
    "efficientnet_lite3": (8_197_096, 76_672, 1280, 9 * 32),
    "efficientnet_lite4": (13_006_568, 112_368, 1280, 9 * 32),
}
PARAMETERS |= {
    (name, shape): published - 990 * (features + 1) - (stem * 2 if shape == "gray" else 0)
    for name, (published, _, features, stem) in PUBLISHED.items()
    for shape in SHAPES
}
# The auxiliary head has 3,326,696 of these parameters, 2 * (128 + 768) statistics, and an output
# layer with 768 inputs.
PARAMETERS |= {
    ("inception_v3", shape): 27_161_264
    - 990 * (2049 + 769)
    - (9 * 32 * 2 if shape == "gray" else 0)
    for shape in SHAPES
}
# Statistics counts: a mean and a variance per channel.
STATISTICS = {
    "classic_cnn": 0,
    "lenet5": 0,
    "small_vgg": 2 * 2 * (32 + 64 + 128),
    "inception_v3": 34_432 + 2 * (128 + 768),
} | {name: statistics for name, (_, statistics, _, _) in PUBLISHED.items()}
# The contract is checked on small versions of the deep networks, which compile in seconds; the full
# versions differ only in the number and width of their blocks.
SMALL: dict = {
    "resnet18": {"depths": (1, 1), "width": 8, "drop_path": 0.2, "dropout": 0.2, "stem": "cifar"},
    "resnet50": {"depths": (1, 1), "width": 4, "dropout": 0.2},
    "vgg11_bn": {"depths": (1, 1), "width": 8, "hidden": 32},
    "efficientnet_b0": {"width": 0.2, "depth": 0.3},
}
# Networks from every family that has a small version; the rest have more or wider blocks. Their
# parameters are counted here, and their shapes are checked in tests/models/test_families.py. The
# outputs and statistics of InceptionV3 are compared with torchvision, timm and Keras.
CONTRACT = ("classic_cnn", "lenet5", "small_vgg", *SMALL)
# The quick suite tests these; the slow suite tests the rest.
QUICK = ("classic_cnn", "vgg11_bn", "resnet18")
# Smallest height and width that the networks accept.
SMALLEST = {"vgg11_bn": 32}


every_model = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in CONTRACT]
)
# The channels change only the first kernel, so the other networks are counted for color alone.
every_name_and_shape = pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param(name, shape, marks=[pytest.mark.slow] * (name not in CONTRACT))
        for name in models.names()
        for shape in SHAPES
        if name in CONTRACT or shape == "rgb"
    ],
)
every_shape = pytest.mark.parametrize("shape", SHAPES)


def images(name, shape, batch, seed=0):
    """Return images of noise in [0, 1], with a size that the network accepts."""
    *sides, channels = SHAPES[shape]
    size = (*(max(side, SMALLEST.get(name, 0)) for side in sides), channels)
    values = np.random.default_rng(seed).random((batch, *size), np.float32)
    return jnp.asarray(values)


def small(name, **options):
    """Return the small version of a network."""
    return models.create(name, CLASSES, **SMALL.get(name, {}) | options)


@functools.cache
def variables(name, shape, **options):
    """Return the initial variables of a model; compiled once for all tests."""
    model = small(name, **options)
    init = jax.jit(functools.partial(model.init, train=False))
    # This random generator compiles in a third of the time that the default takes.
    return init(jax.random.key(0, impl="rbg"), images(name, shape, 1))


@functools.cache
def forward(name, train, **options):
    """Return ``(variables, images, key) -> (logits, updated)``, compiled once per shape."""
    model = small(name, **options)

    def apply(variables, images, key):
        return model.apply(
            variables, images, train=train, rngs={"dropout": key}, mutable=["batch_stats"]
        )

    return jax.jit(apply)


def is_random(name):
    """Return whether the model has dropout."""
    return getattr(small(name), "dropout", 0) > 0


def without_randomness(name):
    """Return the options that disable every kind of dropout."""
    rates = ("dropout", "drop_path")
    return {rate: 0.0 for rate in rates if hasattr(small(name), rate)}


def size(tree):
    """Return the total number of values in all arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_every_model_is_counted_here():
    assert set(PARAMETERS) == {(name, shape) for name in models.names() for shape in SHAPES}
    assert set(STATISTICS) == set(models.names())


@every_name_and_shape
def test_parameter_counts(name, shape):
    model = models.create(name, CLASSES)
    init = functools.partial(model.init, train=False)
    sides = {"vgg": 32, "inc": 75}.get(name[:3], 28)
    shape_of_images = (2, sides, sides, SHAPES[shape][-1])
    initial = jax.eval_shape(
        init, jax.random.key(0), jax.ShapeDtypeStruct(shape_of_images, jnp.float32)
    )
    if name in ("classic_cnn", "lenet5", "small_vgg"):  # dense layers depend on the size
        initial = jax.eval_shape(init, jax.random.key(0), images(name, shape, 2))
    assert size(initial["params"]) == PARAMETERS[name, shape]
    assert size(initial.get("batch_stats", {})) == STATISTICS[name]
    assert set(initial) <= {"params", "batch_stats"}
    chex.assert_type(jax.tree.leaves(initial), jnp.float32)


def test_counts_match_the_literature():
    assert PARAMETERS["classic_cnn", "gray"] == 805_066
    assert PARAMETERS["lenet5", "gray"] == 61_706


@every_model
def test_save_and_load(name, tmp_path):
    options = SMALL.get(name, {})
    size = images(name, "gray", 1).shape[1:]
    network = models.Pretrained(
        model=small(name),
        variables=variables(name, "gray"),
        preprocess=image.Preprocess(size[:2], 1, (0.1,), (0.4,)),
        classes=tuple("abcdefghij"),
        name=name,
        options=options,
    )
    models.save_pretrained(tmp_path / "network.safetensors", network)
    found = models.load_pretrained(None, tmp_path / "network.safetensors")
    chex.assert_trees_all_equal(found.variables, network.variables)
    assert found._replace(variables=None) == network._replace(variables=None)


@every_model
def test_logits(name, key):
    logits, _ = forward(name, False)(variables(name, "gray"), images(name, "gray", 4), key)
    chex.assert_shape(logits, (4, CLASSES))
    chex.assert_type(logits, jnp.float32)
    chex.assert_tree_all_finite(logits)
    # Different images produce different logits.
    assert jnp.abs(logits[1:] - logits[:1]).max(axis=-1).min() > 1e-3 * jnp.abs(logits).max()


@every_model
def test_images_are_independent_in_evaluation(name, key):
    batch, apply = images(name, "gray", 4), forward(name, False)
    together, _ = apply(variables(name, "gray"), batch, key)
    alone, _ = apply(variables(name, "gray"), batch[2:3], key)
    chex.assert_shape(alone, (1, CLASSES))
    # The summation order may depend on the batch size. The tolerance is relative to the outputs,
    # which are in the millions if the running statistics are far from the batch statistics.
    atol = 2**-18 * float(jnp.abs(together).max())
    chex.assert_trees_all_close(alone, together[2:3], rtol=0, atol=atol)


@pytest.mark.slow
@every_model
def test_bfloat16_networks_return_float32_logits(name, key):
    half = small(name, dtype=jnp.bfloat16)
    batch, initial = images(name, "gray", 4), variables(name, "gray")
    shapes = jax.eval_shape(functools.partial(half.init, train=False), key, batch)
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes, initial)
    for train in (False, True):
        options = {"train": train, "rngs": {"dropout": key}, "mutable": ["batch_stats"]}
        apply = functools.partial(half.apply, initial, **options)
        features, _ = jax.eval_shape(functools.partial(apply, method="features"), batch)
        chex.assert_type(features, jnp.bfloat16)
        logits, updated = jax.eval_shape(apply, batch)
        chex.assert_type([logits, *jax.tree.leaves(updated)], jnp.float32)
    single, _ = forward(name, False)(initial, batch, key)
    halved, _ = forward(name, False, dtype=jnp.bfloat16)(initial, batch, key)
    chex.assert_type(halved, jnp.float32)
    chex.assert_tree_all_finite(halved)
    # bfloat16 has 8 bits of mantissa.
    assert 0 < jnp.abs(halved - single).max() < 2**-5 * jnp.abs(single).max()


def gradients(name, key, **options):
    """Return the gradients of a training loss for all parameters, from a single compiled step."""
    model = small(name, **options)
    dtype = options.pop("dtype", jnp.float32)
    initial, batch = jax.tree.map(
        lambda leaf: leaf.astype(dtype),
        (variables(name, "gray", **options), images(name, "gray", 4)),
    )
    labels = jnp.arange(4)

    def loss(params):
        options = {"train": True, "rngs": {"dropout": key}}
        options["mutable"] = ["batch_stats", "intermediates"]
        logits, updated = model.apply(initial | {"params": params}, batch, **options)
        every = (logits, *updated.get("intermediates", {}).get("aux_logits", ()))
        losses = optax.softmax_cross_entropy_with_integer_labels
        return sum(losses(each, labels).mean() for each in every)

    return jax.tree.map(np.asarray, jax.jit(jax.grad(loss))(initial["params"]))


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n != "classic_cnn")) for n in CONTRACT],
)
def test_every_parameter_gets_its_gradient(name, key):
    # In float64, because batch norm over few pixels amplifies float32 rounding to several percent.
    with jax.enable_x64(True):
        found = gradients(name, key, dtype=jnp.float64)
        chex.assert_tree_all_finite(found)
        chex.assert_trees_all_equal_shapes(found, variables(name, "gray")["params"])
        with ops.plain_xla():
            plain = gradients(name, key, dtype=jnp.float64)
    most = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(plain))
    for (path, gradient), expected in zip(
        jax.tree.leaves_with_path(found), jax.tree.leaves(plain), strict=True
    ):
        largest = float(np.abs(expected).max())
        assert largest > 0, jax.tree_util.keystr(path)
        # The gradient of a bias before a normalization consists only of rounding errors.
        atol = 1e-9 * largest + 1e-12 * most
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=atol)


@every_model
def test_training_differs_from_evaluation_where_it_should(name, key):
    batch, other_key = images(name, "gray", 4), jax.random.fold_in(key, 1)
    evaluated = forward(name, False)(variables(name, "gray"), batch, key)[0]
    trained = forward(name, True)(variables(name, "gray"), batch, key)[0]
    differs = is_random(name) or STATISTICS[name] > 0
    assert bool(jnp.any(evaluated != trained)) == differs
    again = forward(name, True)(variables(name, "gray"), batch, key)[0]
    chex.assert_trees_all_equal(trained, again)
    other = forward(name, True)(variables(name, "gray"), batch, other_key)[0]
    assert bool(jnp.any(trained != other)) == is_random(name)
    chex.assert_trees_all_equal(
        evaluated, forward(name, False)(variables(name, "gray"), batch, other_key)[0]
    )


@every_model
def test_statistics_move_in_training_only(name, key):
    batch, initial = images(name, "gray", 4), variables(name, "gray")
    stats = initial.get("batch_stats", {})
    _, kept = forward(name, False)(initial, batch, key)
    chex.assert_trees_all_equal(kept.get("batch_stats", {}), stats)
    _, moved = forward(name, True)(initial, batch, key)
    chex.assert_trees_all_equal_shapes_and_dtypes(moved.get("batch_stats", {}), stats)
    jax.tree.map(
        lambda old, new: chex.assert_scalar_positive(float(abs(old - new).max())),
        stats,
        moved.get("batch_stats", {}),
    )


@every_model
@pytest.mark.parametrize("train", [False, True])
def test_a_model_is_its_head_on_its_features(name, train, key):
    # Without dropout, because its keys differ between one call and two calls.
    options = without_randomness(name)
    model = small(name, **options)
    initial, batch = variables(name, "gray"), images(name, "gray", 4)

    @jax.jit
    def parts(variables, batch):
        apply = functools.partial(model.apply, train=train, mutable=["batch_stats"])
        features, updated = apply(variables, batch, method="features")
        logits, _ = apply(variables | updated, features, method="head")
        return features, logits, updated

    features, logits, updated = parts(initial, batch)
    chex.assert_shape(features, (4, None, None, None))
    chex.assert_type(logits, jnp.float32)
    whole = forward(name, train, **options)(initial, batch, key)
    # XLA may fuse operations differently in the two programs.
    chex.assert_trees_all_close((logits, updated), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", models.names())
def test_every_network_satisfies_the_protocol(name):
    network = models.info(name).network
    model = models.create(name, CLASSES)
    assert isinstance(model, models.Network) and models.offers_features(model)
    for method in ("__call__", "features", "stages", "head"):
        found = inspect.signature(getattr(network, method)).parameters
        expected = inspect.signature(getattr(models.Network, method)).parameters
        assert list(found) == list(expected)
        assert found["train"].kind is inspect.Parameter.KEYWORD_ONLY
    assert models.input_layer(model) == network.input_layer
    assert models.output_layers(model) == network.output_layers
    assert models.without_output_layer(model) == models.create(name, 0)


def test_what_other_models_offer():
    class Named(nn.Module):
        output_layers = ("last",)

        def features(self, images):
            """Return the images; lacking ``train``, this does not match `Network.features`."""
            return images

        def head(self, features, *, train):
            """Return the features."""
            return features

    for model in (Named(), nn.Dense(10), lambda images: images):
        assert not isinstance(model, models.Network) and not models.offers_features(model)
        assert models.input_layer(model) is None
        with pytest.raises(ValueError, match="model must have a num_classes attribute"):
            models.without_output_layer(model)
    assert models.output_layers(Named()) == ("last",) and models.output_layers(nn.Dense(1)) == ()


@every_model
def test_one_compilation_for_all_batches(name, key):
    model, initial = small(name), variables(name, "gray")
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def apply(variables, images, key):
        return model.apply(
            variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )

    first, updated = apply(initial, images(name, "gray", 4), key)
    second, _ = apply(
        initial | updated, images(name, "gray", 4, seed=1), jax.random.fold_in(key, 1)
    )
    assert jnp.any(first != second)


@every_shape
@every_model
def test_forward_lowers_for_cuda_and_tpu(name, shape):
    for dtype in (jnp.float32, jnp.bfloat16):
        model = small(name, dtype=dtype)
        apply = jax.jit(functools.partial(model.apply, train=False))
        batch = images(name, shape, 4)
        init = functools.partial(model.init, train=False)
        initial = jax.eval_shape(init, jax.random.key(0), batch)
        exported = jax.export.export(apply, platforms=PLATFORMS)(initial, batch)
        assert list(exported.platforms) == PLATFORMS
        assert "callback" not in exported.mlir_module()
        (logits,) = exported.out_avals
        chex.assert_shape(logits, (4, CLASSES))
        chex.assert_type(logits, jnp.float32)


def by_path(variables):
    """Return all arrays by path; parameters and statistics never share a name."""
    return {
        path: leaf
        for collection in variables.values()
        for path, leaf in flatten_dict(collection).items()
    }


@every_model
def test_nnx_gives_the_same_outputs(name, key):
    """Convert a model and its weights with Flax's bridge, as users do when moving to NNX."""
    batch = images(name, "gray", 4)
    # The statistics differ from 0 and 1, to check that they are also transferred.
    initial = jax.tree.map(lambda leaf: leaf + 0.01, variables(name, "gray"))
    options = without_randomness(name)
    model = small(name, **options)
    bridged = nnx.eval_shape(
        lambda: nnx.bridge.ToNNX(model).lazy_init(batch, train=False, rngs=nnx.Rngs(0))
    )
    nnx.update(bridged, unflatten_dict(by_path(initial)))

    @nnx.jit
    def evaluate(bridged, batch):
        features = bridged(batch, train=False, method="features")
        return bridged(batch, train=False), bridged(features, train=False, method="head")

    @nnx.jit
    def train(bridged, batch):
        return bridged(batch, train=True, rngs=nnx.Rngs(dropout=0), mutable=["batch_stats"])

    whole, parts = evaluate(bridged, batch)
    expected, _ = forward(name, False, **options)(initial, batch, key)
    chex.assert_trees_all_close((whole, parts), (expected, expected), rtol=0, atol=1e-6)
    # Training updates the statistics in the same way.
    train(bridged, batch)
    moved = flatten_dict(nnx.to_pure_dict(nnx.state(bridged, nnx.BatchStat)))
    _, updated = forward(name, True, **options)(initial, batch, key)
    chex.assert_trees_all_close(moved, by_path(updated), rtol=1e-5, atol=1e-6)


# 3x3 to 8, 8 with norms or biases; 14x14x8 = 1568 to 128; 128 to 10
VGG = {"widths": (8,), "dropout": 0.0}
VGG_KERNELS = 9 * (1 * 8 + 8 * 8) + (1568 + 1) * 128 + 129 * 10
CLASSIC = PARAMETERS["classic_cnn", "gray"]
STILL = {"dropout": 0.0}

# (model, options, feature shape, parameter count, statistics count, whether training is random)
OPTIONS = {
    "max": ("classic_cnn", STILL, (14, 14, 32), CLASSIC, 0, False),
    "avg": ("classic_cnn", STILL | {"pool": "avg"}, (14, 14, 32), CLASSIC, 0, False),
    "sum": ("classic_cnn", STILL | {"pool": "sum"}, (14, 14, 32), CLASSIC, 0, False),
    "no pooling": (
        "classic_cnn",
        STILL | {"pool": "none"},
        (28, 28, 32),
        # 28x28x32 = 25,088 inputs instead of 6272 to the 128 hidden units
        CLASSIC + 3 * 6272 * 128,
        0,
        False,
    ),
    "classic with batch norm": (
        "classic_cnn",
        STILL | {"norm": "batch"},
        (14, 14, 32),
        CLASSIC + 32,
        64,
        False,
    ),
    "classic with group norm": (
        "classic_cnn",
        STILL | {"norm": "group"},
        (14, 14, 32),
        CLASSIC + 32,
        0,
        False,
    ),
    "noise": ("classic_cnn", STILL | {"noise": 0.1}, (14, 14, 32), CLASSIC, 0, True),
    "spatial dropout": (
        "classic_cnn",
        STILL | {"spatial_dropout": 0.5},
        (14, 14, 32),
        CLASSIC,
        0,
        True,
    ),
    "all remedies": (
        "classic_cnn",
        {"pool": "avg", "norm": "group", "noise": 0.1, "spatial_dropout": 0.2},
        (14, 14, 32),
        CLASSIC + 32,
        0,
        True,
    ),
    "vgg with batch norm": ("small_vgg", VGG, (14, 14, 8), VGG_KERNELS + 32, 32, False),
    "vgg with group norm": (
        "small_vgg",
        VGG | {"norm": "group"},
        (14, 14, 8),
        VGG_KERNELS + 32,
        0,
        False,
    ),
    "vgg without norm": (
        "small_vgg",
        VGG | {"norm": "none"},
        (14, 14, 8),
        VGG_KERNELS + 16,
        0,
        False,
    ),
}
every_option = pytest.mark.parametrize("option", OPTIONS)


@every_option
def test_shapes_and_counts_with_options(option):
    name, options, maps, parameters, statistics, _ = OPTIONS[option]
    model = small(name, **options)
    batch = images(name, "gray", 2)
    init = functools.partial(model.init, train=False)
    initial = jax.eval_shape(init, jax.random.key(0), batch)
    assert size(initial["params"]) == parameters
    assert size(initial.get("batch_stats", {})) == statistics
    for train in (False, True):
        apply = functools.partial(model.apply, train=train, mutable=["batch_stats"])
        apply = functools.partial(apply, rngs={"dropout": jax.random.key(0)})
        features = functools.partial(apply, method="features")
        chex.assert_shape(jax.eval_shape(features, initial, batch)[0], (2, *maps))
        chex.assert_shape(jax.eval_shape(apply, initial, batch)[0], (2, CLASSES))


@pytest.mark.parametrize(
    "option",
    [pytest.param(name, marks=[pytest.mark.slow] * (n > 3)) for n, name in enumerate(OPTIONS)],
)
def test_training_with_options(option, key):
    """Check that training differs from evaluation where it should, and no gradient is zero."""
    name, options, _, _, statistics, is_random = OPTIONS[option]
    initial, batch = variables(name, "gray", **options), images(name, "gray", 4)
    model, labels = small(name, **options), jnp.arange(4)

    @jax.jit  # compile everything once
    def run(initial, batch, key):
        def loss(params, key):
            logits, updated = model.apply(
                initial | {"params": params},
                batch,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), (logits, updated)

        evaluated, kept = model.apply(initial, batch, train=False, mutable=["batch_stats"])
        gradient, (trained, updated) = jax.grad(loss, has_aux=True)(initial["params"], key)
        _, (other, _) = loss(initial["params"], jax.random.fold_in(key, 1))
        return evaluated, kept, trained, updated, other, gradient

    evaluated, kept, trained, updated, other, gradient = run(initial, batch, key)
    # XLA may fuse two calls in one program differently; dropout and statistics change far more.
    close = functools.partial(jnp.allclose, rtol=1e-5, atol=1e-5)
    assert bool(close(trained, evaluated)) != (is_random or statistics > 0)
    assert bool(close(trained, other)) != is_random
    chex.assert_trees_all_equal(kept.get("batch_stats", {}), initial.get("batch_stats", {}))
    assert size(updated.get("batch_stats", {})) == statistics
    chex.assert_tree_all_finite(gradient)
    largest = {
        jax.tree_util.keystr(path): float(jnp.abs(leaf).max())
        for path, leaf in jax.tree.leaves_with_path(gradient)
    }
    # A gradient whose terms cancel is not exactly 0 but a rounding error.
    dead = [path for path, value in largest.items() if value < 1e-5 * max(largest.values())]
    assert not dead, largest


def features_of(key, train=False, **options):
    """Return the classic CNN's feature maps for four images, always with the same parameters."""
    model = models.create("classic_cnn", CLASSES, **STILL | options)
    apply = functools.partial(model.apply, train=train, method="features")
    initial = variables("classic_cnn", "gray")
    return np.asarray(
        jax.jit(apply)(initial, images("classic_cnn", "gray", 4), rngs={"dropout": key})
    )


def test_pooling_by_name(key):
    unpooled = features_of(key, pool="none")
    windows = unpooled.reshape(4, 14, 2, 14, 2, 32)
    for name, pool in {"max": np.max, "avg": np.mean, "sum": np.sum}.items():
        pooled = features_of(key, pool=name)
        # XLA may sum the convolution's products in a different order in each program.
        np.testing.assert_allclose(pooled, pool(windows, (2, 4)), rtol=1e-5, atol=1e-6)


def test_spatial_dropout_drops_whole_maps(key):
    whole = features_of(key)
    dropped = features_of(key, train=True, spatial_dropout=0.5)
    zero = (dropped == 0).all((1, 2)) & (whole > 0).any((1, 2))
    # There are 128 maps; a dead map, which is always zero, counts as kept.
    assert 32 < zero.sum() < 96
    kept = np.where(zero[:, None, None], 0, 2 * whole)
    np.testing.assert_allclose(dropped, kept, rtol=1e-5, atol=1e-6)


def test_noise_is_added_to_the_maps_in_training(key):
    whole = features_of(key)
    noisy = features_of(key, train=True, noise=0.1)
    noise = noisy - whole
    # 4 standard errors of the moments of the noise values.
    assert abs(noise.mean()) <= 4 * 0.1 / noise.size**0.5
    assert abs(noise.std() - 0.1) <= 4 * 0.1 / (2 * noise.size) ** 0.5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("classic_cnn", {"pool": "median"}, "pool must be one of max, avg, sum, none, got 'med"),
        ("classic_cnn", {"norm": "layer"}, "norm must be one of none, batch, group, got 'layer'"),
        ("small_vgg", {"norm": True}, "norm must be one of none, batch, group, got True"),
        ("classic_cnn", {"noise": -1.0}, "stddev must be finite and >= 0, got -1.0"),
        ("classic_cnn", {"spatial_dropout": 1.0}, "rate must be in [0, 1), got 1.0"),
    ],
)
def test_a_wrong_value_of_an_option_is_rejected(name, options, message, key):
    model = small(name, **options)
    with pytest.raises(ValueError) as caught:
        jax.eval_shape(functools.partial(model.init, train=False), key, images(name, "gray", 1))
    assert message in str(caught.value)


def test_names_are_sorted_and_make_modules():
    assert list(models.names()) == sorted(models.names())
    assert {"classic_cnn", "resnet50", "efficientnet_b0"} <= set(models.names())
    for name in models.names():
        model = models.create(name, 7)
        assert isinstance(model, nn.Module)
        assert model.num_classes == 7
        assert model == models.create(name, 7) and hash(model) == hash(models.create(name, 7))


def test_options_are_attributes():
    model = models.create("small_vgg", 3, widths=(8, 16), norm="none", dropout=0.0)
    assert (model.widths, model.norm, model.dropout) == ((8, 16), "none", 0.0)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("lenet", 10), {}, "model must name a network, got 'lenet'. Did you mean 'lenet5'?"),
        (
            ("vit", 10),
            {},
            "got 'vit'. Accepted: classic_cnn, efficientnet_b0, efficientnet_b1",
        ),
        (("lenet5", -3), {}, "num_classes must be an integer >= 0"),
        (("lenet5", 2.0), {}, "num_classes must be an integer >= 0"),
        (("lenet5", True), {}, "num_classes must be an integer >= 0"),
        (("lenet5", 10), {"dropout": 0.5}, "lenet5 do not include 'dropout'. Accepted: dtype"),
        (("classic_cnn", 10), {"drop_out": 0.5}, "Did you mean 'dropout'?"),
        (("classic_cnn", 10), {"parent": None}, "do not include 'parent'"),
    ],
)
def test_create_rejects(arguments, options, message):
    with pytest.raises(ValueError) as caught:
        models.create(*arguments, **options)
    assert message in str(caught.value)
