"""Grad-CAM and saliency: by hand, invariants, numerical gradients, networks, errors, figures."""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from hypothesis import given
from hypothesis import strategies as st

from jaxcnn import image, models, ops, train
from jaxcnn.models.layers import BatchNorm, Conv, Dense, Dropout
from jaxcnn.view import attribution, plots, run_figures


class Network(nn.Module):
    """Network whose features are means of 2x2 pixels and whose head multiplies by ``weights``.

    Weights ``[C, K]`` multiply the spatial means; ``[h, w, C, K]`` weights multiply each feature.
    """

    def __call__(self, images, *, train):
        """Apply the head to the features."""
        return self.head(self.features(images, train=train), train=train)

    def features(self, images, *, train):
        """Halve the size."""
        del train
        return ops.avg_pool(images, 2)

    @nn.compact
    def head(self, features, *, train):
        """Multiply by the weights."""
        del train
        weights = self.get_variable("params", "weights")
        if weights.ndim == 2:
            return features.mean((1, 2)) @ weights
        return jnp.einsum("bhwc,hwck->bk", features, weights)


def of(*rows):
    """Return an image ``[1, 2h, 2w, C]`` whose features are the given ``h`` rows of pixels."""
    return np.float32(rows)[None].repeat(2, 1).repeat(2, 2)


def heat_at(features, weights, classes=None):
    """Return the network's Grad-CAM for an image with the given features."""
    images = of(*features)
    return attribution.grad_cam(Network(), {"params": {"weights": weights}}, images, classes)


def test_grad_cam_of_global_averages_by_hand():
    # Two channels, one row of two positions. Class 0 is the first channel's mean minus twice the
    # second's: the map is 1 * (4, 2) - 2 * (0, 3) = (4, -4), and ReLU and scaling give (1, 0).
    weights = np.float32([[1, -1], [-2, 1]])
    features = [[[4, 0], [2, 3]]]
    # Resizing from 2 to 4 pixels, with centers shifted by a quarter, gives 1, 3/4, 1/4, 0.
    expected = [[[1, 0.75, 0.25, 0]] * 2]
    np.testing.assert_allclose(heat_at(features, weights, [0]), expected, rtol=1e-6)
    # Class 1: -(4, 2) + (0, 3) = (-4, 1).
    expected = [[[0, 0.25, 0.75, 1]] * 2]
    np.testing.assert_allclose(heat_at(features, weights, [1]), expected, rtol=1e-6)
    # The logits are 3 - 2 * 1.5 = 0 and 1.5 - 3 = -1.5, so class 0 is the default.
    chex.assert_trees_all_equal(heat_at(features, weights), heat_at(features, weights, [0]))


def test_a_channels_weight_is_the_mean_of_its_gradient():
    # One class, one row of two positions, two channels. The gradients are (3, -1) for the first
    # channel and (0, 4) for the second, with means 1 and 2: 1 * (1, 5) + 2 * (1, 0) = (3, 5).
    weights = np.float32([[[[3], [0]], [[-1], [4]]]])
    heat = heat_at([[[1, 1], [5, 0]]], weights)
    expected = [[[0.6, 0.7, 0.9, 1]] * 2]
    np.testing.assert_allclose(heat, expected, rtol=1e-6)


@pytest.mark.parametrize("weights", [[[0.0], [0.0]], [[-1.0], [-2.0]]])
def test_no_evidence_gives_zeros(weights):
    heat = heat_at([[[1, 2], [3, 0.5]]], np.float32(weights))
    chex.assert_trees_all_equal(heat, jnp.zeros((1, 2, 4)))


def test_nan_weights_give_nan():
    heat = heat_at([[[1, 2], [3, 0.5]]], np.full((2, 1), np.nan, np.float32))
    assert np.isnan(heat).all()


@given(st.integers(0, 2**16), st.floats(1e-3, 1e3))
def test_a_positive_factor_in_the_head_changes_nothing(seed, factor):
    rng = np.random.default_rng(seed)
    features = rng.uniform(0, 1, (3, 4, 5)).astype(np.float32)
    weights = rng.standard_normal((3, 4, 5, 2)).astype(np.float32)
    heat = heat_at(features, weights, [1])
    np.testing.assert_allclose(
        heat_at(features, np.float32(factor) * weights, [1]), heat, atol=1e-4
    )
    assert heat.min() >= 0 and heat.max() <= 1
    # Multiplying by a power of two changes only exponents.
    chex.assert_trees_all_equal(heat_at(features, 8 * weights, [1]), heat)


def test_grad_cam_has_the_size_of_the_images(rng):
    class Up(Network):
        def features(self, images, *, train):
            return images.repeat(3, 1).repeat(3, 2)

    weights = {"params": {"weights": np.float32([[1.0]])}}
    for model, size in ((Network(), (7, 11)), (Up(), (5, 3))):
        images = rng.uniform(0, 1, (2, *size, 1)).astype(np.float32)
        heat = attribution.grad_cam(model, weights, images)
        chex.assert_shape(heat, (2, *size))
        assert heat.min() >= 0 and heat.max() <= 1


def linear(weights):
    """Return a plain-function model with outputs ``images @ weights``, and its variables."""
    model = train.from_functions(
        lambda key, images: weights,
        lambda params, images, *, train, key: images.reshape(len(images), -1) @ params,
    )
    return model, {"params": weights}


def test_saliency_of_a_linear_model_is_its_largest_weight():
    # Two pixels of two channels, three classes.
    weights = np.float32([[1, 0, -5], [-3, 0, 1], [2, 0, 0.5], [2.5, 0, -0.25]])
    model, variables = linear(weights)
    images = np.ones((3, 1, 2, 2), np.float32)
    found = attribution.saliency(model, variables, images, [0, 1, 2])
    np.testing.assert_array_equal(found, [[[3, 2.5]], [[0, 0]], [[5, 0.5]]])
    # Outputs are 2.5, 0, -3.75.
    chex.assert_trees_all_equal(attribution.saliency(model, variables, images)[2], found[0])


def test_saliency_is_zero_where_the_model_ignores_the_image(rng):
    def apply(params, images, *, train, key):
        return jnp.tanh(images[:, :3, :2].reshape(len(images), -1)) @ params

    model = train.from_functions(lambda key, images: None, apply)
    images = rng.standard_normal((4, 8, 9, 3)).astype(np.float32)
    params = rng.standard_normal((18, 5)).astype(np.float32)
    found = np.array(attribution.saliency(model, {"params": params}, images, [0, 1, 2, 3]))
    assert (found[:, :3, :2] > 0).all()
    found[:, :3, :2] = 0
    assert not found.any()


def test_saliency_against_differences_in_double_precision(rng):
    first, second = rng.standard_normal((18, 7)), rng.standard_normal((7, 3))
    images = rng.standard_normal((2, 3, 3, 2))

    def logits(images):
        return np.tanh(images.reshape(len(images), -1) @ first) @ second

    def apply(params, images, *, train, key):
        return jnp.tanh(images.reshape(len(images), -1) @ params[0]) @ params[1]

    model = train.from_functions(lambda key, images: None, apply)
    params = [np.float32(first), np.float32(second)]
    classes, step = [2, 0], 1e-6
    expected = np.zeros(images.shape)
    for place in np.ndindex(images.shape):
        there = np.zeros(images.shape)
        there[place] = step
        change = logits(images + there) - logits(images - there)
        expected[place] = change[place[0], classes[place[0]]] / (2 * step)
    found = attribution.saliency(model, {"params": params}, np.float32(images), classes)
    np.testing.assert_allclose(found, np.abs(expected).max(-1), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_saliency_of_a_network_against_differences(rng):
    model, images = models.create("lenet5", 10), rng.uniform(0, 1, (1, 12, 12, 1))
    variables = numbered(model, images.shape[1:])
    found = attribution.saliency(model, variables, np.float32(images), [4])
    places = [(0, 0), (3, 7), (6, 6), (11, 4)]
    step = 1e-2
    there = np.zeros((len(places), 12, 12, 1), np.float32)
    for number, (row, column) in enumerate(places):
        there[number, row, column] = step
    both = np.concatenate([images + there, images - there]).astype(np.float32)
    above, below = np.split(np.asarray(model.apply(variables, both, train=False))[:, 4], 2)
    expected = np.abs(above - below) / (2 * step)
    values = [found[0, row, column] for row, column in places]
    np.testing.assert_allclose(values, expected, rtol=0.02, atol=1e-4)


def numbered(model, size):
    """Return random variables for a model, scaled to preserve the scale of activations."""
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), jnp.zeros((1, *size))
    )
    rng = np.random.default_rng(0)

    def values(path, leaf):
        normal = rng.standard_normal(leaf.shape)
        if leaf.ndim > 1:
            return np.float32(normal * (2 * leaf.shape[-1] / leaf.size) ** 0.5)
        return np.float32(0.1 * normal + (path[-1].key in ("scale", "var")))

    return jax.tree_util.tree_map_with_path(values, shapes)


NETWORKS = {
    "classic_cnn": ({}, (12, 14, 1)),
    "lenet5": ({}, (16, 13, 1)),
    "small_vgg": ({"widths": (4, 6)}, (9, 8, 3)),
    "small_vgg, bfloat16": ({"widths": (4, 6), "dtype": jnp.bfloat16}, (9, 8, 3)),
    "resnet18": ({"depths": (1, 1, 1), "stem": "cifar", "width": 4}, (16, 16, 3)),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "classic_cnn")) for name in NETWORKS],
)
def test_networks_of_the_library(name, rng):
    options, size = NETWORKS[name]
    model = models.create(name.split(",")[0], 5, **options)
    variables = numbered(model, size)
    images = rng.uniform(0, 1, (12, *size)).astype(np.float32)
    logits = np.asarray(model.apply(variables, images, train=False)).astype(np.float32)
    # Rounding decides between classes of almost equal logits, so keep the three clearest images.
    second, first = np.sort(logits)[:, -2:].T
    clearest = (first - second).argsort()[-3:]
    images, best = images[clearest], logits[clearest].argmax(-1)
    for function in (attribution.grad_cam, attribution.saliency):
        found = function(model, variables, images)
        chex.assert_shape(found, images.shape[:3])
        chex.assert_type(found, jnp.float32)
        chex.assert_tree_all_finite(found)
        assert found.min() >= 0
        # The default is the most probable class; lists and arrays of both kinds are equivalent.
        for classes in (best, best.tolist(), jnp.asarray(best)):
            np.testing.assert_allclose(function(model, variables, images, classes), found, 1e-5)
        # A different class gives a different map.
        assert np.abs(function(model, variables, images, (best + 1) % 5) - found).max() > 1e-4
    assert attribution.grad_cam(model, variables, images).max() <= 1
    assert attribution.saliency(model, variables, images).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("function", [attribution.grad_cam, attribution.saliency])
def test_images_are_independent(function, rng):
    model, size = models.create("small_vgg", 4, widths=(3,)), (8, 8, 1)
    variables = numbered(model, size)
    images = rng.uniform(0, 1, (3, *size)).astype(np.float32)
    together = function(model, variables, images, [3, 0, 1])
    for number, chosen in enumerate([3, 0, 1]):
        alone = function(model, variables, images[number : number + 1], [chosen])
        np.testing.assert_allclose(alone[0], together[number], rtol=1e-4, atol=1e-5)


class Counted(nn.Module):
    """Network with dropout and batch norm that counts how often it is traced."""

    note: Any

    def setup(self):
        self.conv, self.norm, self.drop = Conv(2, 3), BatchNorm(), Dropout(0.5)
        self.output = Dense(3)

    def __call__(self, images, *, train):
        """Apply the head to the features."""
        return self.head(self.features(images, train=train), train=train)

    def features(self, images, *, train):
        """Return feature maps of the same size as the images."""
        self.note(images.shape)
        return self.drop(self.norm(self.conv(images), train=train), train=train)

    def head(self, features, *, train):
        """Apply a dense layer to the spatial means."""
        return self.output(features.mean((1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("function", [attribution.grad_cam, attribution.saliency])
@pytest.mark.parametrize("classes", [None, [0, 2]])
def test_one_compilation_for_a_shape_and_evaluation_mode(function, classes):
    traces: list[tuple[int, ...]] = []
    model = Counted(traces.append)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)), train=False)
    before = jax.tree.map(np.array, variables)
    traces.clear()
    for seed in range(3):
        # Training mode would need a dropout key and mutable batch-norm statistics.
        function(model, variables, jax.random.normal(jax.random.key(seed), (2, 6, 6, 1)), classes)
    assert traces == [(2, 6, 6, 1)]
    function(model, variables, np.ones((2, 5, 6, 1), np.float32), classes)
    assert len(traces) == 2
    chex.assert_trees_all_equal(variables, before)


@pytest.mark.parametrize("function", [attribution.grad_cam, attribution.saliency])
def test_inside_jit_and_with_no_images(function, rng):
    model, variables = Network(), {"params": {"weights": np.float32([[1.0, 2.0]])}}
    images = rng.uniform(0, 1, (2, 4, 4, 1)).astype(np.float32)
    expected = function(model, variables, images, [0, 1])
    jitted = jax.jit(lambda images, classes: function(model, variables, images, classes))
    np.testing.assert_allclose(jitted(images, jnp.array([0, 1])), expected, rtol=1e-6)
    chex.assert_shape(function(model, variables, images[:0]), (0, 4, 4))


def test_a_network_that_is_not_hashable():
    class Scaled(Network):
        scale: Any

        def features(self, images, *, train):
            return super().features(images, train=train) * self.scale.item()

    variables = {"params": {"weights": np.float32([[1.0]])}}
    images = of([[4], [2]])
    for scale in (np.ones(1), -np.ones(1)):
        model = Scaled(scale)
        with pytest.raises(TypeError):
            hash(model)
        heat = attribution.grad_cam(model, variables, images)
        expected = [1, 0.875, 0.625, 0.5] if scale > 0 else [0, 0, 0, 0]
        np.testing.assert_allclose(heat, [[expected] * 2], rtol=1e-6)
        found = attribution.saliency(model, variables, images)
        np.testing.assert_allclose(found, np.full((1, 2, 4), 1 / 8), rtol=1e-6)


class Flat(nn.Module):
    """Network whose features are vectors."""

    def __call__(self, images, *, train):
        """Apply the head to the features."""
        return self.head(self.features(images, train=train), train=train)

    def features(self, images, *, train):
        """Return the spatial means."""
        return images.mean((1, 2))

    def head(self, features, *, train):
        """Return the features."""
        return features


class Whole(nn.Module):
    """Network without the methods ``features`` and ``head``."""

    features: int = 3

    @nn.compact
    def __call__(self, images, *, train):
        """Return the spatial means of a convolution."""
        return Conv(self.features, 3)(images).mean((1, 2))


class Other(Flat):
    """Network whose head has no argument ``train``."""

    def head(self, features):
        """Return the features."""
        return features


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Whole(), r"model must be .*features\(images, \*, train\) and head.*, got Whole"),
        (Other(), r"model must be .*features\(images, \*, train\) and head.*, got Other"),
        (linear(np.ones((48, 3)))[0], "model must be a Linen module .*, got Functions"),
        (Flat(), r"model.features must return \[B, h, w, C\] .*, got \(2, 3\) from Flat"),
    ],
)
def test_grad_cam_needs_features_and_a_head(model, message):
    images, variables = jnp.zeros((2, 4, 4, 3)), {}
    if not isinstance(model, Other):
        variables = model.init(jax.random.key(0), images, train=False)
    with pytest.raises(attribution.NoFeatureMapsError, match=message):
        attribution.grad_cam(model, variables, images)
    if not isinstance(model, Other):
        chex.assert_shape(attribution.saliency(model, variables, images), (2, 4, 4))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([0, 2], r"classes must be indices from 0 to 1, got \[0, 2\]"),
        ([-1, 0], r"classes must be indices from 0 to 1, got \[-1, 0\]"),
        (np.array([0, 2**40]), "classes must be indices from 0 to 1"),
        (
            [0],
            r"classes must be one integer per image, with shape \(2,\), "
            r"got \[0\] with shape \(1,\)",
        ),
        ([[0], [1]], "classes must be one integer per image"),
        (1, r"classes must be one integer per image, with shape \(2,\), got 1 with shape \(\)"),
        ([0.0, 1.0], "classes must be one integer per image"),
        ([True, False], "classes must be one integer per image"),
        (["cat", "dog"], "classes must be one integer per image"),
    ],
)
@pytest.mark.parametrize("function", [attribution.grad_cam, attribution.saliency])
def test_classes_are_checked(function, classes, message):
    variables = {"params": {"weights": np.float32([[1.0, 2.0]])}}
    with pytest.raises(ValueError, match=message):
        function(Network(), variables, np.ones((2, 4, 4, 1), np.float32), classes)


@pytest.mark.parametrize("function", [attribution.grad_cam, attribution.saliency])
def test_images_are_checked(function):
    variables = {"params": {"weights": np.float32([[1.0, 2.0]])}}
    for shape in ((4, 4, 1), (1, 4, 4), (1, 2, 4, 4, 1), (1, 0, 4, 1)):
        with pytest.raises(ValueError, match=r"images must be \[B, H, W, C\] .* got shape"):
            function(Network(), variables, np.ones(shape, np.float32))
    with pytest.raises(ValueError, match="images must be floating point, got uint8"):
        function(Network(), variables, np.ones((1, 4, 4, 1), np.uint8))


@pytest.mark.parametrize("shape", [(2,), (2, 3, 1), (2, 0)])
def test_outputs_are_checked(shape):
    model = train.from_functions(
        lambda key, images: None, lambda params, images, *, train, key: jnp.zeros(shape)
    )
    with pytest.raises(ValueError, match=r"model must return outputs \[B, K\] with K >= 1, got \("):
        attribution.saliency(model, {"params": None}, jnp.zeros((2, 4, 4, 1)))


def shown(figure):
    """Return the arrays of the images in the figure."""
    return [np.asarray(picture.get_array()) for axes in figure.axes for picture in axes.images]


def titles(figure):
    """Return the titles above the images."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_figure_has_a_row_for_each_image(channels, tmp_path, rng):
    images = rng.uniform(0, 1, (2, 5, 8, channels))
    heat = np.stack([np.zeros((5, 8)), np.ones((5, 8))])
    saliency = rng.uniform(1, 4, (2, 5, 8))
    figure = plots.attribution(images, heat, saliency, ["cat\n90%", "dog\n9%"])
    names = ["Grad-CAM", "saliency"]
    assert titles(figure) == ["cat\n90%", *names, "dog\n9%", *names]
    tiles = shown(figure)
    gray = images.mean(-1, keepdims=True).repeat(3, -1)
    for number in range(2):
        picture, hot, bright = tiles[3 * number : 3 * number + 3]
        np.testing.assert_allclose(picture, images[number] if channels == 3 else gray[number])
        scaled = (saliency[number] / np.quantile(saliency[number], 0.99)).clip(0, 1)
        np.testing.assert_allclose(bright, scaled[..., None].repeat(3, -1))
        # The dimmed image is visible below the heat.
        slope = np.ptp(hot - 0.4 * gray[number], axis=(0, 1))
        np.testing.assert_allclose(slope, 0, atol=1e-6)
        assert hot.min() >= 0 and hot.max() <= 1
    # The image stays gray where the heat is zero; the maximum is yellow.
    np.testing.assert_allclose(tiles[1], 0.4 * gray[0], atol=0.01)
    assert (tiles[4][..., 0] - tiles[4][..., 2] > 0.4).all()
    assert (tiles[4][..., 1] - tiles[4][..., 2] > 0.3).all()
    plots.save_figure(figure, tmp_path / "figure.png")


def test_the_figure_of_zeros_is_black(tmp_path):
    zeros = np.zeros((1, 4, 4), np.float32)
    figure = plots.attribution(zeros[..., None], zeros, zeros, ["none"])
    assert all(tile.max() < 0.01 for tile in shown(figure))
    plots.save_figure(figure, tmp_path / "figure.png")


PREPROCESS = image.Preprocess((8, 9), 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
PICTURE = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
CLASSES = ("cat", "dog", "cow", "hen")


def figures_of(task, outputs, names):
    """Return a small network's figures and outputs for the picture, and the network itself."""
    model = models.create("small_vgg", outputs, widths=(2, 3), norm="none")
    variables = numbered(model, (8, 9, 3))
    return (
        run_figures.attribution_figures(task, model, variables, PREPROCESS, PICTURE, names),
        np.asarray(model.apply(variables, PREPROCESS(PICTURE[None]), train=False))[0],
        (model, variables),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("task", "count"), [(train.multi_class(), 4), (train.multi_label(), 2)])
def test_the_report_shows_the_most_probable_classes(task, count, tmp_path):
    figures, outputs, network = figures_of(task, count, CLASSES[:count])
    assert list(figures) == ["attribution"]
    best = np.argsort(-outputs, kind="stable")[:3]
    chances = np.asarray(task.activate(outputs[None]))[0]
    assert titles(figures["attribution"])[::3] == [f"{CLASSES[k]}\n{chances[k]:.1%}" for k in best]
    tiles, images = shown(figures["attribution"]), PREPROCESS(PICTURE[None])
    for number, k in enumerate(best):
        np.testing.assert_allclose(tiles[3 * number], PICTURE / 255, rtol=1e-6)
        found = np.asarray(attribution.saliency(*network, images, [k]))[0]
        scaled = (found / np.quantile(found, 0.99)).clip(0, 1)
        np.testing.assert_allclose(tiles[3 * number + 2][..., 1], scaled, atol=1e-4)
    plots.save_figure(figures["attribution"], tmp_path / "attribution.png")
    assert (tmp_path / "attribution.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_report_skips_improbable_classes():
    _, _, (model, variables) = figures_of(train.multi_class(), 4, CLASSES)
    for bias, expected in ((20.0, ["hen"]), (-20.0, ["cat", "dog", "cow"])):
        flat = {path: jnp.zeros_like(leaf) for path, leaf in flatten_dict(variables).items()}
        (last,) = (path for path, leaf in flat.items() if leaf.shape == (4,))
        found = unflatten_dict(flat | {last: jnp.array([0, 0, 0, bias])})
        figures = run_figures.attribution_figures(
            train.multi_class(), model, found, PREPROCESS, PICTURE, CLASSES
        )
        assert [title.split("\n")[0] for title in titles(figures["attribution"])[::3]] == expected


@pytest.mark.slow
def test_the_report_of_a_binary_task_shows_the_second_class():
    figures, outputs, _ = figures_of(train.binary(), 1, ("cat", "dog"))
    chance = 1 / (1 + np.exp(-outputs[0]))
    assert titles(figures["attribution"]) == [f"dog\n{chance:.1%}", "Grad-CAM", "saliency"]


@pytest.mark.slow
def test_no_report_for_regression_and_for_networks_without_features():
    assert figures_of(train.regression(), 2, ("age", "size"))[0] == {}
    images = PREPROCESS(PICTURE[None])
    for model in (Whole(), Flat(), linear(np.ones((images.size, 3), np.float32))[0]):
        variables = model.init(jax.random.key(0), images, train=False)
        arguments = (model, variables, PREPROCESS, PICTURE, CLASSES[:3])
        assert run_figures.attribution_figures(train.multi_class(), *arguments) == {}
