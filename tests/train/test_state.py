"""The train state: initialization, addressed randomness, plain functions as a model."""

import re

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import models, ops, train

IMAGES = jnp.zeros((1, 28, 28, 1))
KEY = jax.random.key(0)


def test_create_state_is_a_function_of_the_seed():
    model, optimizer = models.create("small_vgg", 10, widths=(4, 8)), optax.adam(1e-3)
    first, again, other = (
        train.create_state(jax.random.key(seed), model, optimizer, IMAGES) for seed in (3, 3, 4)
    )
    assert train.fingerprint(first) == train.fingerprint(again) != train.fingerprint(other)
    chex.assert_shape(first.params["convs_0"]["kernel"], (3, 3, 1, 4))
    assert set(first.variables) == {"params", "batch_stats"}
    assert first.step == 0


def test_initial_parameters_do_not_depend_on_the_batch():
    model, optimizer = models.create("lenet5", 10), optax.sgd(0.1)
    spec = jax.ShapeDtypeStruct((7, 28, 28, 1), jnp.float32)
    states = [
        train.create_state(jax.random.key(0), model, optimizer, images) for images in (IMAGES, spec)
    ]
    chex.assert_trees_all_equal(states[0].params, states[1].params)


def test_kernels_start_glorot_uniform_and_biases_zero():
    state = train.create_state(
        jax.random.key(0), models.create("classic_cnn", 10), optax.sgd(0.1), IMAGES
    )
    kernel, bias = state.params["hidden"]["kernel"], state.params["hidden"]["bias"]
    limit = np.sqrt(6 / (14 * 14 * 32 + 128))
    assert 0.99 * limit < jnp.abs(kernel).max() <= limit
    # The standard error of the standard deviation of 800,000 uniform values is below 0.1%.
    np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.005)
    assert not bias.any()


@pytest.mark.slow
def test_decay_mask_spares_biases_and_scales():
    state = train.create_state(
        jax.random.key(0), models.create("small_vgg", 10, widths=(4,)), optax.sgd(0.1), IMAGES
    )
    optimizer = optax.adamw(0.0, weight_decay=0.1, mask=train.decay_mask)
    # With zero gradients and a learning rate of zero, only the decay term changes anything.
    optimizer = optax.chain(optax.add_decayed_weights(0.1, train.decay_mask))
    zeros = jax.tree.map(jnp.zeros_like, state.params)
    updates, _ = optimizer.update(zeros, optimizer.init(state.params), state.params)
    for path, update in jax.tree.leaves_with_path(updates):
        decays = path[-1].key == "kernel"
        assert bool(jnp.any(update != 0)) == decays, path


class WithoutTrain(nn.Module):
    @nn.compact
    def __call__(self, images):
        return models.layers.Dense(2)(ops.flatten(images))


class WithCache(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        self.variable("cache", "last", jnp.zeros, ())
        return models.layers.Dense(2)(ops.flatten(images))


@pytest.mark.parametrize(
    ("model", "key", "message"),
    [
        (WithoutTrain(), KEY, "model must be called as model\\(images, train=...\\)"),
        (WithCache(), KEY, "params and batch_stats, got other collections: cache"),
        (models.create("lenet5", 2), 0, "key must be a single key"),
        (models.create("lenet5", 2), jax.random.PRNGKey(0), "key must be a single key"),
        (models.create("lenet5", 2), jax.random.split(KEY), "key must be a single key"),
    ],
)
def test_bad_input(model, key, message):
    with pytest.raises(ValueError, match=message):
        train.create_state(key, model, optax.sgd(0.1), IMAGES)


def test_plain_functions_get_the_dropout_key_only_in_training():
    keys = []

    def apply(params, images, *, train, key):
        keys.append((train, key is not None))
        return ops.flatten(images) @ params

    model = train.from_functions(lambda key, images: jnp.zeros((784, 3)), apply)
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    rngs = {"dropout": jax.random.key(1)}
    logits, updated = model.apply(variables, IMAGES, train=True, rngs=rngs, mutable=["batch_stats"])
    chex.assert_shape([logits, model.apply(variables, IMAGES, train=False)], (1, 3))
    assert updated == {}
    assert keys == [(True, True), (False, False)]


def test_a_state_is_shown_as_a_summary():
    model, optimizer = models.create("lenet5", 10), optax.adam(0.1)
    state = train.create_state(jax.random.key(0), model, optimizer, jnp.zeros((1, 28, 28, 1)))
    assert repr(state) == (
        "TrainState(step=0, params=<10 arrays, 61,706 values>, "
        "opt_state=<21 arrays, 123,413 values>)"
    )
    state = train.create_state(
        jax.random.key(0), models.create("resnet18", 3, width=4), optimizer,
        jnp.zeros((1, 32, 32, 3)), ema=True,
    )  # fmt: skip
    assert re.search(r"batch_stats=<40 arrays, [\d,]+ values>, .* ema=<", repr(state))
    shown = []
    jax.jit(lambda state: shown.append(repr(state)))(state)
    assert "step=traced" in shown[0] and len(shown[0]) < 200
