"""Steps that are not finite: named exactly, or skipped without any other effect."""

import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import data, train
from jaxcnn.models.layers import BatchNorm, Dense
from jaxcnn.ops import flatten

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 1, (40, 4, 4, 1)).astype(np.float32)
TARGETS = IMAGES.mean((1, 2)) * 2 - 1


class Model(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        return Dense(1)(BatchNorm()(flatten(images), train=train))


def batches_with(images=IMAGES, targets=TARGETS):
    """Return five batches of 8 per epoch, in order; sources reject values that are not finite."""
    source = data.from_arrays(IMAGES, TARGETS)
    return data.batches(dataclasses.replace(source, images=images, labels=targets), 8)


def planted(array, rows, value):
    array = array.copy()
    array[rows] = value
    return array


def setup(policy, *, schedule=0.1, loss_value=None):
    """Return a state and a step; ``loss_value`` replaces the loss of targets above 5."""
    optimizer = optax.sgd(schedule, momentum=0.9)

    def squared(outputs, targets, mask):
        del mask
        errors = ((outputs - targets) ** 2).mean(-1)
        return errors if loss_value is None else jnp.where(targets[:, 0] > 5, loss_value, errors)

    task = train.task(objective=squared, metrics={})
    step = train.make_train_step(Model(), optimizer, task=task, ema_decay=0.9, on_nonfinite=policy)
    state = train.create_state(jax.random.key(0), Model(), optimizer, IMAGES[:1], ema=True)
    return state, step


def infinite_rate_in_step(number):
    return lambda count: jnp.where(count == number, jnp.inf, 0.1)


CASES = {
    "pixels": lambda value, rows: (planted(IMAGES, rows, value), TARGETS, {}),
    "targets": lambda value, rows: (IMAGES, planted(TARGETS, rows, value), {}),
    "loss": lambda value, rows: (IMAGES, planted(TARGETS, rows, 9), {"loss_value": value}),
}


def fit(case, policy, *, steps, value=np.nan, call=1, epochs=2, **options):
    """Train two epochs; the batches of ``steps`` (from 1 to 5) contain ``value``."""
    images, targets, more = CASES[case](value, [8 * step - 8 for step in steps])
    state, step = setup(policy, **more)
    batches = batches_with(images, targets)
    if call > 1:
        step, batches = train.fuse_steps(step, batches, steps=call)
    return train.fit(state, step, batches, epochs=epochs, **options)


def stop_after(steps):
    """Return options of `fit` that stop training after a number of steps."""
    taken = []
    return {
        "on_step": lambda number, counts: taken.append(number),
        "should_stop": lambda: len(taken) == steps,
    }


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("value", [np.nan, pytest.param(np.inf, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
def test_the_error_names_the_step_and_its_examples(case, value, call):
    with pytest.raises(train.DivergedError) as error:
        fit(case, "raise", steps=[3, 4], value=value, call=call)
    assert re.search(
        r"the (objective|gradient norm) is (nan|inf) after step 3, on training examples "
        r"16, 17, 18, 19, 20, 21, 22, 23;",
        str(error.value),
    )


def test_nothing_that_is_not_finite_is_saved(tmp_path):
    with pytest.raises(train.DivergedError, match="after step 3"):
        fit("targets", "raise", steps=[3], saving=train.Saving(tmp_path, seconds=1e-9))
    state, _ = setup("raise")
    assert int(train.restore(tmp_path, state).state.step) in (1, 2)


def test_a_stop_reports_a_step_that_is_not_finite(tmp_path):
    with pytest.raises(train.DivergedError, match="after step 3"):
        fit("targets", "raise", steps=[3], saving=train.Saving(tmp_path), **stop_after(3))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("steps", [pytest.param([2], marks=pytest.mark.slow), [1, 3, 5]])
def test_skipped_steps_are_counted_and_have_no_other_effect(case, steps, call):
    state, history = fit(case, "skip", steps=steps, call=call)
    assert [row["skipped_steps"] for row in history] == [len(steps)] * 2
    assert int(state.step) == 10
    # The others alone, in the same order, give the same state.
    expected, step = setup("skip")
    for batch in [*batches_with().epoch(0)] * 2:
        if int(batch.index[0]) // 8 + 1 in steps:
            expected = dataclasses.replace(expected, step=expected.step + 1)
        else:
            expected, _ = step(expected, batch)
    assert train.fingerprint(state) == train.fingerprint(expected)
    assert all(np.isfinite(value) for row in history for value in row.values())


def test_a_learning_rate_that_is_not_finite():
    state, step = setup("raise", schedule=infinite_rate_in_step(2))
    match = "the parameters or batch statistics are not finite after step 3"
    with pytest.raises(train.DivergedError, match=match):
        train.fit(state, step, batches_with(), epochs=1)
    state, step = setup("skip", schedule=infinite_rate_in_step(2))
    # The optimizer's own step count does not advance either, so the rate stays infinite.
    state, history = train.fit(state, step, batches_with(), epochs=1)
    assert history[0]["skipped_steps"] == 3


def test_an_epoch_without_a_finite_step_is_an_error(tmp_path):
    with pytest.raises(train.DivergedError, match="all steps of epoch 1 were skipped"):
        fit("pixels", "skip", steps=[1, 2, 3, 4, 5], saving=train.Saving(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_skipped_steps_survive_a_resume(tmp_path):
    """Stop after the third step, which is after one that was skipped."""
    whole, history = fit("pixels", "skip", steps=[2])
    fit("pixels", "skip", steps=[2], saving=train.Saving(tmp_path), **stop_after(3))
    images, targets, _ = CASES["pixels"](np.nan, [8])
    state, step = setup("skip")
    start = train.restore(tmp_path, state)
    resumed, resumed_history = train.fit(start, step, batches_with(images, targets), epochs=2)
    assert train.fingerprint(resumed) == train.fingerprint(whole)
    assert [row["skipped_steps"] for row in resumed_history] == [1, 1]
    assert resumed_history[0]["train_loss"] == history[0]["train_loss"]


def test_a_run_may_change_its_policy_when_resumed(tmp_path):
    with pytest.raises(train.DivergedError, match="after step 3"):
        fit("targets", "raise", steps=[3], saving=train.Saving(tmp_path, seconds=1e-9))
    images, targets, _ = CASES["targets"](np.nan, [16])
    state, step = setup("skip")
    start = train.restore(tmp_path, state)
    _, history = train.fit(start, step, batches_with(images, targets), epochs=1)
    assert history[0]["skipped_steps"] == 1


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_the_check_reads_no_activations(policy, monkeypatch):
    """Compare the operations on whole batches with those of a step without the check."""

    def operations():
        state, step = setup(policy)
        batch = next(iter(batches_with().epoch(0)))
        text = step.lower(state, batch).as_text()
        return sorted(
            line.split("=")[1].split("%")[0]
            for line in text.splitlines()
            if "<8x" in line and "=" in line
        )

    checked = operations()
    monkeypatch.setattr("jaxcnn.train.step.guard", lambda old, new, counts, policy: (new, counts))
    assert checked == operations()
    assert len(checked) > 10


def test_an_unknown_policy_is_rejected():
    with pytest.raises(ValueError, match="on_nonfinite must be 'raise' or 'skip', got 'ignore'"):
        setup("ignore")
