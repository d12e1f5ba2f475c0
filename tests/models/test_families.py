"""Common properties of VGG, ResNet, Inception and EfficientNet, across the whole registry.

For large networks, only shapes are checked; one small network of each family is run.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import models
from jaxcnn.models.layers import Dropout

DEEP = [name for name in models.names() if name not in ("classic_cnn", "lenet5", "small_vgg")]
SMALL: dict = {
    "vgg11_bn": {"depths": (1, 1, 1, 1, 1), "width": 8, "hidden": 16},
    "resnet18": {"depths": (1, 1, 1, 1), "width": 8, "drop_path": 0.2},
    "efficientnet_b0": {"width": 0.2, "depth": 0.3},
}
# The quick suite tests only these two.
QUICK = ("vgg11_bn", "resnet18")
# One network for each kind of block and head; the others have more or wider blocks.
KINDS = (*QUICK, "vgg16", "resnet50", "inception_v3", "efficientnet_b0", "efficientnet_lite0")


def by_name(names):
    """Parametrize a test by network; the quick suite runs it for the two quick ones."""
    marks = {name: [pytest.mark.slow] * (name not in QUICK) for name in names}
    return pytest.mark.parametrize("name", [pytest.param(n, marks=marks[n]) for n in names])


every_name, every_kind = by_name(DEEP), by_name(KINDS)
every_family = pytest.mark.parametrize("name", SMALL)


def shaped(model, size, *, train=False, method=None, batch=2):
    """Return the shapes of a model's variables and outputs for images of the given size."""
    images = jax.ShapeDtypeStruct((batch, *size), jnp.float32)
    variables = jax.eval_shape(
        functools.partial(model.init, train=False), jax.random.key(0), images
    )

    def apply(variables, images, key):
        return model.apply(
            variables,
            images,
            train=train,
            method=method,
            rngs={"dropout": key},
            mutable=["batch_stats", "intermediates"],
        )

    return variables, jax.eval_shape(apply, variables, images, jax.random.key(0))


@every_name
def test_maps_at_every_size(name):
    size = models.info(name).size
    model = models.create(name, 10)
    _, (stages, _) = shaped(model, size, method="stages")
    assert len(stages) == 5
    for number, maps in enumerate(stages, start=1):
        side = size[0] / 2**number
        # Inception's unpadded convolutions lose some border pixels.
        lost = 5 if name == "inception_v3" else 0
        assert side - lost <= maps.shape[1] < side + 1
        assert maps.shape[1] == maps.shape[2]


@every_kind
def test_features_have_the_size_of_the_last_stage(name):
    size, model = models.info(name).size, models.create(name, 10)
    _, (stages, _) = shaped(model, size, method="stages")
    _, (features, _) = shaped(model, size, method="features")
    assert features.shape[1:3] == stages[-1].shape[1:3]


@pytest.mark.slow
@every_kind
def test_any_channels_and_outputs(name):
    for channels, classes in ((1, 3), (5, 1)):
        size = (*models.info(name).size[:2], channels)
        for train in (False, True):
            _, (logits, _) = shaped(models.create(name, classes), size, train=train)
            chex.assert_shape(logits, (2, classes))
            chex.assert_type(logits, jnp.float32)


@every_kind
def test_without_classes_it_returns_the_pooled_features(name):
    size = models.info(name).size
    network = models.info(name).network
    whole, _ = shaped(models.create(name, 10), size)
    without, (features, _) = shaped(models.create(name, 0), size, train=True)
    kernel = functools.reduce(dict.get, network.output_layers[0].split("/"), whole["params"])
    chex.assert_shape(features, (2, kernel["kernel"].shape[0]))
    chex.assert_type(features, jnp.float32)
    left = {layer.split("/")[0] for layer in network.output_layers}
    assert set(without["params"]) == set(whole["params"]) - left


@every_kind
def test_bfloat16_keeps_parameters_and_logits_in_float32(name):
    size = models.info(name).size
    variables, (logits, updated) = shaped(
        models.create(name, 10, dtype=jnp.bfloat16), size, train=True
    )
    chex.assert_type([logits, *jax.tree.leaves((variables, updated))], jnp.float32)
    _, (features, _) = shaped(models.create(name, 10, dtype=jnp.bfloat16), size, method="features")
    chex.assert_type(features, jnp.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "smallest"),
    [("vgg16", 32), ("inception_v3", 75), ("resnet18", 1), ("efficientnet_b0", 1)],
)
def test_the_smallest_images(name, smallest):
    model = models.create(name, 10)
    _, (logits, _) = shaped(model, (smallest, smallest + 3, 3), train=True)
    chex.assert_shape(logits, (2, 10))
    if smallest > 1:
        with pytest.raises(ValueError, match=f"at least {smallest} x {smallest} pixels"):
            shaped(model, (smallest - 1, smallest, 3))


def test_options_are_checked():
    for name in DEEP:
        assert models.create(name, 10, remat=True).remat
        with pytest.raises(ValueError, match="do not include 'color'"):
            models.create(name, 10, color="red")
    with pytest.raises(ValueError, match=r"version must be one of v1.5, v1, got 'v2'"):
        shaped(models.create("resnet50", 10, version="v2"), (64, 64, 3))
    with pytest.raises(ValueError, match="padding must be one of centered, SAME, got 'VALID'"):
        shaped(models.create("efficientnet_b0", 10, padding="VALID"), (64, 64, 3))
    with pytest.raises(ValueError, match="norm must be one of none, batch, got 'layer'"):
        shaped(models.create("vgg11", 10, norm="layer"), (64, 64, 3))


def test_the_stride_of_a_bottleneck_depends_on_its_version(key):
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    for version, expected in (("v1.5", (8, 4)), ("v1", (4, 4))):
        model = models.create("resnet50", 2, depths=(1, 1), width=4, stem="cifar", version=version)
        init = functools.partial(model.init, train=False)
        run = functools.partial(
            model.apply, train=False, capture_intermediates=True, mutable=["intermediates"]
        )
        _, updated = jax.eval_shape(run, jax.eval_shape(init, key, images), images)
        block = updated["intermediates"]["layer2_0"]
        sides = tuple(block[name]["__call__"][0].shape[1] for name in ("conv1", "conv2"))
        assert sides == expected


def gradients(model, variables, images, key):
    """Return the gradients of a loss with respect to the parameters, and the new statistics."""

    def loss(params):
        logits, updated = model.apply(
            variables | {"params": params},
            images,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats", "intermediates"],
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(len(images)))
        return losses.mean(), updated["batch_stats"]

    return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn"])  # others use the code of ResNet
def test_remat_gives_the_same_gradients(name, key):
    images = jax.random.uniform(key, (2, 32, 32, 3))
    plain = models.create(name, 5, **SMALL[name])
    again = models.create(name, 5, **SMALL[name], remat=True)
    variables = jax.jit(functools.partial(plain.init, train=False))(key, images)
    # In float64, because batch norm over a few pixels amplifies differences in summation order.
    with jax.enable_x64(True):
        variables, images = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64), (variables, images)
        )
        expected, found = (
            gradients(model.clone(dtype=jnp.float64), variables, images, key)
            for model in (plain, again)
        )
        chex.assert_trees_all_close(found, expected, rtol=1e-8, atol=1e-10)


@every_family
def test_drop_path_rises_from_block_to_block(name):
    if name == "vgg11_bn":  # VGG has no residual paths to drop
        assert not hasattr(models.create(name, 5), "drop_path")
        return
    model = models.create(name, 5, drop_path=0.3)
    blocks = model.bind({}).blocks
    rates = [block.drop_path for block in blocks]
    assert rates == sorted(rates) and rates[0] == 0 and 0.25 < rates[-1] <= 0.3


@pytest.mark.slow
def test_the_auxiliary_head_learns_in_training_alone(key):
    model = models.create("inception_v3", 7)
    variables, (_, updated) = shaped(model, (299, 299, 3), train=True)
    assert [aux.shape for aux in updated["intermediates"]["aux_logits"]] == [(2, 7)]
    assert "AuxLogits" in variables["params"]
    images = jax.ShapeDtypeStruct((2, 299, 299, 3), jnp.float32)
    apply = functools.partial(model.apply, train=False, mutable=["intermediates"])
    _, updated = jax.eval_shape(apply, variables, images)
    assert "intermediates" not in updated
    without = models.create("inception_v3", 7, aux_head=False)
    init = functools.partial(without.init, train=True)
    assert (
        "AuxLogits" not in jax.eval_shape(init, {"params": key, "dropout": key}, images)["params"]
    )


@pytest.mark.slow
def test_initialization_is_that_of_torchvision(key):
    """Check standard deviations: He by fan-out, 0.01 in VGG's dense layers, uniform classifier."""
    vgg = models.create("vgg11", 10, width=16, hidden=256)
    params = jax.jit(functools.partial(vgg.init, train=False))(key, jnp.zeros((1, 32, 32, 3)))
    conv, dense = params["params"]["conv3_1"]["kernel"], params["params"]["fc7"]["kernel"]
    assert np.isclose(conv.std(), (2 / (9 * 64)) ** 0.5, rtol=0.05)
    assert np.isclose(dense.std(), 0.01, rtol=0.05)
    network = models.create("efficientnet_b0", 10, depth=0.1)

    @jax.jit
    def draw(key):
        return network.init(key, jnp.zeros((1, 32, 32, 3)), train=False)["params"]["classifier"]

    classifier = draw(key)["kernel"]
    assert np.isclose(classifier.std(), (3 * 1000) ** -0.5, rtol=0.05)
    assert all(
        not leaf.any() for path, leaf in jax.tree.leaves_with_path(params) if path[-1].key == "bias"
    )


def test_default_dropout_rates():
    assert models.create("vgg16", 10).dropout == 0.5
    assert models.create("efficientnet_b7", 10).dropout == 0.5
    assert models.create("inception_v3", 10).dropout == 0.5
    assert Dropout(0.5).rate == 0.5
