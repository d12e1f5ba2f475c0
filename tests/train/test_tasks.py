"""Built-in and custom tasks: objectives, metrics, and readable values."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import train
from jaxcnn.batch import Batch

MASK = np.ones(2, bool)


def test_regression_works_in_standard_deviations():
    task = train.regression(mean=[10.0, 0.0], std=[2.0, 0.5])
    outputs, targets, mask = jnp.array([[1.0, 0.0]]), jnp.array([[10.0, 1.0]]), MASK[:1]
    np.testing.assert_allclose(task.loss(outputs, targets, mask), [(1 + 4) / 2])
    np.testing.assert_allclose(task.activate(outputs), [[12.0, 0.0]])
    huber = train.regression(mean=[10.0, 0.0], std=[2.0, 0.5], huber_delta=1.0)
    np.testing.assert_allclose(huber.objective(outputs, targets, mask), [(0.5 + 1.5) / 2])
    expected = task.loss(outputs, targets, mask)
    np.testing.assert_array_equal(huber.loss(outputs, targets, mask), expected)


@pytest.mark.parametrize("std", [[0.0], [-1.0], [np.nan], [np.inf]])
def test_bad_deviations(std):
    with pytest.raises(ValueError, match="mean and std must be finite and std > 0"):
        train.regression(std=std)


@pytest.mark.slow
def test_the_reported_loss_has_no_smoothing_and_weights():
    arguments = jnp.array([[3.0, -1.0], [0.0, 1.0]]), jnp.array([0, 0]), MASK
    plain = train.multi_class()
    other = train.multi_class(label_smoothing=0.2, focal_gamma=2.0, class_weights=[1.0, 5.0])
    np.testing.assert_array_equal(plain.loss(*arguments), other.loss(*arguments))
    np.testing.assert_array_equal(plain.loss(*arguments), plain.objective(*arguments))
    assert not np.allclose(plain.objective(*arguments), other.objective(*arguments))


def absolute(outputs, label, mask):
    return jnp.abs(outputs["count"] - label["count"])


def within_one(predictions, label, mask):
    close = jnp.abs(predictions - label["count"]) <= 1
    return jnp.sum(close & mask), jnp.sum(mask)


COUNTING = train.task(
    objective=absolute,
    decode=lambda outputs: jnp.round(outputs["count"]),
    metrics={"within_one": within_one},
    overall=lambda predictions, label: {"largest": float(np.abs(predictions).max())},
)
TREES = train.from_functions(
    lambda key, images: jnp.zeros(2),
    lambda params, images, *, train, key: {
        "count": images.sum((1, 2, 3)) * params[0] + params[1],
        "unused": images,
    },
)


def tree_batch(rows, mask=None, **fields):
    images = np.arange(rows, dtype=np.float32).reshape(rows, 1, 1, 1) / rows
    label = {"count": 3 * images[:, 0, 0, 0] + 1}
    index = np.arange(rows, dtype=np.int32)
    mask = np.ones(rows, bool) if mask is None else mask
    return Batch(images, label, mask, index, np.int32(0), **fields)


def state_of(optimizer):
    return train.create_state(jax.random.key(0), TREES, optimizer, jnp.zeros((1, 1, 1, 1)))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_custom_task_trains_on_trees_of_outputs_and_labels(accumulate):
    optimizer = optax.adam(0.05)
    state, batch = state_of(optimizer), tree_batch(8)
    step = train.make_train_step(TREES, optimizer, task=COUNTING, accumulate=accumulate)
    for _ in range(200):
        state, counts = step(state, batch)
    assert counts["loss"].value() < 0.05
    assert counts["within_one"].value() == 1.0
    eval_step = train.make_eval_step(TREES, task=COUNTING)
    halves = [tree_batch(8), tree_batch(8, mask=np.arange(8) < 3)]
    summary, predictions = train.predict(eval_step, state, halves, overall=COUNTING.overall)
    assert predictions.shape == (11,)
    assert summary["within_one"] == 1.0
    assert summary["largest"] == np.abs(predictions).max()


def test_predictions_are_kept_only_for_metrics_of_the_whole_split(monkeypatch):
    eval_step = train.make_eval_step(TREES, task=COUNTING)
    read = []
    monkeypatch.setattr("jaxcnn.train.loop._rows", lambda *arguments: read.append(arguments))
    train.evaluate(eval_step, state_of(optax.sgd(0.1)), [tree_batch(8)])
    assert not read


def test_example_weights_scale_the_objective():
    optimizer = optax.sgd(1.0)
    weighted = tree_batch(4, weight=np.array([2, 0, 0, 0], np.float32))
    step = train.make_train_step(TREES, optimizer, task=COUNTING)
    _, counts = step(state_of(optimizer), weighted)
    np.testing.assert_allclose(counts["objective"].value(), 2 * 1.0 / 4)
    # Reported losses are not weighted.
    np.testing.assert_allclose(counts["loss"].value(), weighted.label["count"].mean())


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (train.task(objective=lambda outputs, label, mask: jnp.float32(0)), "one value per"),
        (COUNTING._replace(metrics={"within_one": lambda *_: 3}), "metric within_one must return"),
    ],
)
def test_functions_of_a_task_that_return_something_else(task, message):
    step = train.make_train_step(TREES, optax.sgd(0.1), task=task)
    with pytest.raises(ValueError, match=message):
        step(state_of(optax.sgd(0.1)), tree_batch(4))


@pytest.mark.parametrize("task", [train.binary(), train.multi_label()])
def test_outputs_that_are_nan_do_not_hide_the_loss(task):
    """The areas are left out, so that a NaN loss can be reported."""
    labels = np.array([0, 1, 1]) if task.name == "binary" else np.array([[0], [1], [1]])
    assert task.overall(np.array([[0.0], [1.0], [np.nan]]), labels) == {}
    assert task.overall(np.array([[0.0], [1.0], [2.0]]), labels)["roc_auc"] == 1
