"""Parts of an experiment, computed by hand: schedules, learning rates, folds, recipes."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import data
from jaxcnn.experiment.build import assemble, from_metadata
from jaxcnn.experiment.config import RECIPES, Experiment
from jaxcnn.experiment.optimizer import OptimizerConfig, make_optimizer

PLAIN = OptimizerConfig(optimizer="sgd", learning_rate=1.0)
PARAMS = {"conv": {"kernel": jnp.ones((2, 2))}, "output": {"kernel": jnp.ones((2, 2))}}
ONES = jax.tree.map(jnp.ones_like, PARAMS)


def rates(config, steps):
    """Return the learning rates of the first steps, measured as the update for a gradient of 1."""
    optimizer = make_optimizer(config, epochs=10, steps_per_epoch=4)
    state, seen = optimizer.init(PARAMS), []
    momentum = 0.0
    for _ in range(steps):
        updates, state = optimizer.update(ONES, state, PARAMS)
        momentum = 1 + 0.9 * momentum
        seen.append(-float(updates["conv"]["kernel"][0, 0]) / (1 + 0.9 * momentum))
    return seen


def test_cosine_schedule_with_warm_up():
    config = dataclasses.replace(PLAIN, schedule="cosine", warmup_epochs=2.0)
    expected = [n / 8 for n in range(8)]
    expected += [(1 + np.cos(np.pi * n / 32)) / 2 for n in range(32)]
    np.testing.assert_allclose(rates(config, 40), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_step_schedule(warmup):
    config = dataclasses.replace(
        PLAIN, schedule="step", step_epochs=(2, 4), schedule_factor=0.5, warmup_epochs=warmup
    )
    expected = [n / 4 if n < 4 * warmup else 0.5 ** ((n >= 8) + (n >= 16)) for n in range(20)]
    np.testing.assert_allclose(rates(config, 20), expected, rtol=1e-5, atol=1e-7)


def test_learning_rate_factors_and_frozen_parameters():
    config = dataclasses.replace(
        PLAIN, learning_rate=0.5, learning_rate_factors={"conv": 0.1}, frozen=("output",)
    )
    optimizer = make_optimizer(config, epochs=10, steps_per_epoch=1)
    state = optimizer.init(PARAMS)
    updates, _ = optimizer.update(ONES, state, PARAMS)
    # Nesterov's first step is 1 + 0.9 times the gradient.
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.5 * 0.1 * 1.9, rtol=1e-6)
    assert not updates["output"]["kernel"].any()
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim == 2]
    assert len(moments) == 1, "frozen parameters must have no moments"


def test_weight_decay_and_clipping():
    config = dataclasses.replace(PLAIN, weight_decay=0.25, clip_norm=1.0)
    optimizer = make_optimizer(config, epochs=10, steps_per_epoch=1)
    updates, _ = optimizer.update(ONES, optimizer.init(PARAMS), PARAMS)
    # Eight gradients of 1 are each clipped to 1 / sqrt(8); weight decay is added afterwards.
    expected = -(1.9 / np.sqrt(8) + 0.25)
    np.testing.assert_allclose(updates["conv"]["kernel"], expected, rtol=1e-6)


def test_adam_has_the_defaults_of_keras():
    optimizer = make_optimizer(OptimizerConfig(), epochs=10, steps_per_epoch=1)
    updates, _ = optimizer.update(ONES, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["conv"]["kernel"], -1e-3, rtol=1e-5)


def test_schedule_argument_replaces_the_configured_one():
    schedule = optax.constant_schedule(0.25)
    optimizer = make_optimizer(PLAIN, epochs=10, steps_per_epoch=1, schedule=schedule)
    updates, _ = optimizer.update(ONES, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.25 * 1.9, rtol=1e-6)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "modern")) for name in RECIPES]
)
def test_recipe_is_trainable(name):
    parts = assemble(Experiment(model="lenet5", **RECIPES[name]), None)
    state = parts.network.initial_state(0)
    batch = next(iter(parts.train.epoch(0)))
    state, counts = parts.train_step(state, batch)
    assert np.isfinite(counts["objective"].value())
    assert (state.ema is not None) == ("ema_decay" in RECIPES[name])


def test_network_with_a_long_warm_up_is_read_back(few_images):
    """The schedule would have no steps left if an epoch had a single step."""
    experiment = Experiment(data=few_images, epochs=2, warmup_epochs=1.6, schedule="cosine")
    network = assemble(experiment, None).network
    read = from_metadata(experiment, network.metadata())
    assert (read.preprocess, read.classes) == (network.preprocess, network.classes)
    states = [jax.eval_shape(lambda each=each: each.initial_state(0)) for each in (read, network)]
    chex.assert_trees_all_equal_shapes_and_dtypes(*states)


def test_each_fold_is_held_out_in_turn():
    first, second = (
        assemble(Experiment(model="lenet5", folds=4, fold=fold), None).validation.source
        for fold in (0, 1)
    )
    assert len(first) == len(second) == 2500
    assert not np.array_equal(first.images, second.images)


def test_targets_are_standardized_by_the_training_split(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, rows in (("train", 200), ("test", 50)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (rows, 8, 8, 1), np.uint8)
        arrays[f"{split}_labels"] = np.stack([rng.normal(50, 5, rows), np.full(rows, 3.0)], 1)
    np.savez(tmp_path / "data.npz", **arrays)
    experiment = Experiment(model="classic_cnn", task="regression", data=str(tmp_path / "data.npz"))
    network = assemble(experiment, None).network
    training, _ = data.hold_out(data.load(experiment.data), 0.1)
    expected = training.labels.mean(0), (training.labels[:, 0].std(), 1.0)
    np.testing.assert_allclose(network.settings["mean"], expected[0], rtol=1e-6)
    np.testing.assert_allclose(network.settings["std"], expected[1], rtol=1e-6)
