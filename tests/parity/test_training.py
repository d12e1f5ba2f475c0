"""Parity of training with Keras on torch: logits, Adam steps, initial weights, running statistics.

torch and Keras are imported when a test runs, so this file can be collected without them. If they
are missing, the tests fail rather than being skipped.
"""

import itertools
import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from jaxcnn import data, image, models, train
from jaxcnn.models.layers import Conv, Dense

pytestmark = pytest.mark.parity

PREPROCESS = image.Preprocess(size=(28, 28), channels=1)
STEPS = 5


@pytest.fixture(scope="module")
def keras():
    """Keras on torch in float64, so the rounding errors are ours."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    assert keras.backend.backend() == "torch"
    floatx = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(0)
    yield keras
    keras.config.set_floatx(floatx)


@pytest.fixture(scope="module")
def batches():
    """Shuffled batches of real images."""
    return first_batches(128, seed=0)


def first_batches(examples, seed):
    source = data.load("fashion_mnist_slice")
    return list(itertools.islice(data.batches(source, examples, seed=seed), STEPS))


@pytest.fixture(scope="module")
def decided_batches():
    """Batches of 4 images for which rounding flips no ReLU or max pooling in the small VGG.

    Among 128 images, rounding errors can change the sign of a ReLU's input or which of a window's
    values is largest, and either changes a gradient by up to one part in 250. For these four, the
    smallest such margin is 7e-6, for values around 1.
    """
    return first_batches(4, seed=9)


def classic_in_keras(keras):
    """Build the classic CNN from Keras layers."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 5, padding="same", activation="relu", name="conv"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(128, activation="relu", name="hidden"),
            layers.Dense(10, name="output"),
        ]
    )


def small_vgg_in_keras(keras, momentum, epsilon):
    """Build the small VGG from Keras layers."""
    layers = keras.layers
    stack = [layers.Input((28, 28, 1))]
    for number, width in enumerate((32, 32, 64, 64, 128, 128)):
        stack += [
            layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"convs_{number}"),
            layers.BatchNormalization(momentum=momentum, epsilon=epsilon, name=f"norms_{number}"),
            layers.ReLU(),
        ]
        if number % 2:
            stack.append(layers.MaxPooling2D(2, padding="same"))
    stack += [
        layers.Flatten(),
        layers.Dense(128, activation="relu", name="hidden"),
        layers.Dense(10, name="output"),
    ]
    return keras.Sequential(stack)


# Keras's name for each array of a layer.
KERAS_NAMES = {
    "kernel": "kernel",
    "bias": "bias",
    "scale": "gamma",
    "shift": "beta",
    "mean": "moving_mean",
    "var": "moving_variance",
}


def arrays(layer, names):
    """Return the variables of a Keras layer, keyed by our names."""
    own = {variable.name: variable for variable in layer.variables}
    norm = "gamma" in own
    return {name: own[KERAS_NAMES["shift" if norm and name == "bias" else name]] for name in names}


def give(model, tree):
    """Copy our weights to the Keras layers with the same names."""
    for layer, weights in tree.items():
        for name, variable in arrays(model.get_layer(layer), weights).items():
            variable.assign(np.asarray(weights[name]))


def take(model, tree):
    """Return Keras's weights in the same tree structure as ours."""
    return {
        layer: {
            name: variable.value.detach().numpy().copy()
            for name, variable in arrays(model.get_layer(layer), weights).items()
        }
        for layer, weights in tree.items()
    }


def assert_close_to_the_largest(actual, expected, relative):
    """Check that differences are within a fraction of the largest value."""
    largest = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=relative * largest)


def test_the_same_weights_give_the_same_logits(keras, batches):
    model = models.create("classic_cnn", 10, dropout=0.0)
    state = train.create_state(
        jax.random.key(0), model, optax.sgd(0.0), PREPROCESS(batches[0].image)
    )
    theirs = classic_in_keras(keras)
    give(theirs, state.params)
    images = PREPROCESS(batches[0].image)
    logits = model.apply(state.variables, images, train=False)
    expected = theirs(np.array(images)).detach().numpy()
    assert_close_to_the_largest(logits, expected, 1e-5)


def steps_in_keras(optimizer):
    """Return a function that trains a Keras model with a Keras optimizer and returns the losses."""

    def run(keras, model, batches):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=optimizer(keras.optimizers), loss=loss)
        return [
            float(model.train_on_batch(np.array(PREPROCESS(batch.image)), batch.label))
            for batch in batches
        ]

    return run


def steps_in_torch(optimizer):
    """Return a function that trains a Keras model with a torch optimizer and returns the losses."""

    def run(keras, model, batches):
        import torch

        update, losses = optimizer(torch.optim, list(model.parameters())), []
        for batch in batches:
            logits = model(np.array(PREPROCESS(batch.image)), training=True)
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(batch.label).long())
            update.zero_grad()
            loss.backward()
            update.step()
            losses.append(loss.item())
        return losses

    return run


def our_steps(model, optimizer, state, batches):
    """Train our model on the batches; return the state and the losses."""
    step, losses = train.make_train_step(model, optimizer, preprocess=PREPROCESS), []
    for batch in batches:
        state, counts = step(state, batch)
        losses.append(counts["loss"].value())
    return jax.device_get(state), losses


def keras_epsilon(count):
    """Return optax's equivalent of Keras's epsilon.

    Keras adds epsilon before the bias correction; optax and torch add it after.
    """
    return 1e-7 / jnp.sqrt(1 - 0.999 ** (count + 1.0))


OPTIMIZERS = {
    "adam with Keras's epsilon": (
        lambda: optax.inject_hyperparams(optax.adam)(1e-3, eps=keras_epsilon),
        steps_in_keras(lambda optimizers: optimizers.Adam(1e-3, epsilon=1e-7)),
    ),
    "adam with torch's epsilon": (
        lambda: optax.adam(1e-3, eps=1e-7),
        steps_in_torch(lambda optimizers, params: optimizers.Adam(params, 1e-3, eps=1e-7)),
    ),
}


def assert_moved_alike(after, expected, before, *, most, all_):
    """Check differences as fractions of the largest change in each array."""
    flat = [jax.tree.leaves(tree) for tree in (after, expected, before)]
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(after)]
    for path, ours, theirs, start in zip(paths, *flat, strict=True):
        difference = np.abs(ours - theirs) / np.abs(theirs - start).max()
        assert np.quantile(difference, 0.999) <= most, path
        assert difference.max() <= all_, path


@pytest.mark.parametrize(("optimizer", "their_steps"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_five_adam_steps_give_the_same_parameters(keras, batches, optimizer, their_steps):
    """Allow errors of 1/1000 of the largest change, and of 1/50 for one value in 1000.

    Adam divides a gradient by its own magnitude. If a gradient is barely larger than its rounding
    error, or if the last bit decides whether a unit is active, the error may exceed rounding.
    """
    model, optimizer = models.create("classic_cnn", 10, dropout=0.0), optimizer()
    state = train.create_state(jax.random.key(0), model, optimizer, PREPROCESS(batches[0].image))
    theirs, before = classic_in_keras(keras), jax.device_get(state.params)
    give(theirs, before)
    expected_losses = their_steps(keras, theirs, batches)
    state, losses = our_steps(model, optimizer, state, batches)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    assert_moved_alike(state.params, take(theirs, before), before, most=1e-3, all_=2e-2)


NETWORKS = {
    "classic_cnn": (classic_in_keras, {}),
    "small_vgg": (small_vgg_in_keras, {"momentum": 0.9, "epsilon": 1e-5}),
}


@pytest.mark.parametrize(
    ("name", "some", "most", "all_"),
    [
        ("classic_cnn", "batches", 1e-4, 3e-4),
        ("small_vgg", "decided_batches", 1e-4, 3e-4),
        ("small_vgg", "batches", 5e-3, 5e-3),
    ],
)
def test_one_step_down_the_gradient(keras, request, name, some, most, all_):
    """Check that the compiled step uses the same gradients as torch."""
    batches = request.getfixturevalue(some)
    build, options = NETWORKS[name]
    model, optimizer = models.create(name, 10, dropout=0.0), optax.sgd(1.0)
    state = train.create_state(jax.random.key(0), model, optimizer, PREPROCESS(batches[0].image))
    theirs, before = build(keras, **options), jax.device_get(state.params)
    give(theirs, before)
    (expected_loss,) = steps_in_keras(lambda o: o.SGD(1.0))(keras, theirs, batches[:1])
    state, (loss,) = our_steps(model, optimizer, state, batches[:1])
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert_moved_alike(state.params, take(theirs, before), before, most=most, all_=all_)


@pytest.mark.parametrize(("some", "steps"), [("batches", 1), ("decided_batches", 3)])
def test_running_statistics_follow_keras(keras, request, some, steps):
    """Take steps small enough for both to stay close, then evaluate with the statistics."""
    batches = request.getfixturevalue(some)
    model, optimizer = models.create("small_vgg", 10, dropout=0.0), optax.sgd(1e-3)
    state = train.create_state(jax.random.key(0), model, optimizer, PREPROCESS(batches[0].image))
    theirs = small_vgg_in_keras(keras, momentum=0.9, epsilon=1e-5)
    give(theirs, state.params)
    before = jax.device_get(state.batch_stats)
    for layer, stats in before.items():
        for name, variable in arrays(theirs.get_layer(layer), stats).items():
            chex.assert_trees_all_equal(stats[name], variable.value.detach().numpy())
    steps_in_keras(lambda o: o.SGD(1e-3))(keras, theirs, batches[:steps])
    state, _ = our_steps(model, optimizer, state, batches[:steps])
    assert_moved_alike(state.batch_stats, take(theirs, before), before, most=1e-5, all_=1e-5)
    images = PREPROCESS(batches[4].image)
    logits = model.apply(state.variables, images, train=False)
    expected = theirs(np.array(images), training=False).detach().numpy()
    assert_close_to_the_largest(logits, expected, 2e-4)


INITIAL = {
    "conv": (Conv(64, 5), (1, 9, 9, 32), lambda layers: layers.Conv2D(64, 5)),
    "conv 1d": (Conv(128, 3), (1, 9, 64), lambda layers: layers.Conv1D(128, 3)),
    "dense": (Dense(300), (1, 200), lambda layers: layers.Dense(300)),
}


@pytest.mark.parametrize(("layer", "shape", "keras_layer"), INITIAL.values(), ids=INITIAL)
def test_initial_weights_are_distributed_as_in_keras(keras, layer, shape, keras_layer, key):
    ours = layer.init(key, jnp.zeros(shape))["params"]
    theirs = keras_layer(keras.layers)
    theirs.build((None, *shape[1:]))
    assert isinstance(theirs.kernel_initializer, keras.initializers.GlorotUniform)
    kernel, expected = np.asarray(ours["kernel"]), theirs.kernel.value.detach().numpy()
    chex.assert_equal_shape([kernel, expected])
    # The limits of the uniform distributions agree to within a few multiples of 1 / size ...
    assert np.abs(kernel).max() == pytest.approx(np.abs(expected).max(), rel=40 / kernel.size)
    # ... their variances to within 4 standard deviations of sqrt(4 / 5 / n), for two samples ...
    deviation = np.sqrt(2 * 0.8 / kernel.size)
    assert np.square(kernel).mean() == pytest.approx(np.square(expected).mean(), rel=4 * deviation)
    # ... and the distributions as a whole do not differ.
    assert scipy.stats.ks_2samp(kernel.ravel(), expected.ravel()).pvalue > 1e-3
    bias = theirs.bias.value.detach().numpy()
    chex.assert_trees_all_equal(ours["bias"], jnp.zeros(bias.shape), bias)
