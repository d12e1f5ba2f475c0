"""Early stopping and plateaus as functions of a history, by hand and on drawn histories."""

import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcnn import train


def history(values, name="validation_loss"):
    return [{"epoch": epoch, name: value} for epoch, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("values", "options", "best", "stops"),
    [
        ([3, 2, 1], {}, 3, False),
        ([1, 2, 3], {}, 1, True),
        ([1, 2], {}, 1, False),
        ([2, 1, 1, 1], {}, 2, True),
        ([3, 2.95, 2.9], {"min_delta": 0.2}, 3, True),
        ([3, 2.95, 2.7, 2.65], {"min_delta": 0.2}, 4, False),
        ([0, 3, 2, 3], {"start_epoch": 2}, 3, False),
        ([0, 3, 4, 5], {"start_epoch": 2}, 2, True),
        ([0, 3], {"start_epoch": 3}, None, False),
        ([1, float("nan"), float("nan")], {}, 1, True),
        ([], {}, None, False),
    ],
)
def test_early_stopping(values, options, best, stops):
    stopping = train.EarlyStopping(2, **options)
    assert stopping.best_epoch(history(values)) == best
    assert stopping.should_stop(history(values)) is stops


def test_more_may_be_better():
    stopping = train.EarlyStopping(1, monitor="validation_accuracy", mode="max")
    rows = history([0.5, 0.7, 0.6], "validation_accuracy")
    assert stopping.best_epoch(rows) == 2
    assert stopping.should_stop(rows)


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 4))
def test_it_stops_once_patience_has_passed_since_the_best(values, patience):
    stopping = train.EarlyStopping(patience)
    rows = history(values)
    best = stopping.best_epoch(rows)
    assert best == (int(np.argmin(values)) + 1 if values else None)
    assert stopping.should_stop(rows) == (bool(values) and len(values) - best >= patience)


def test_plateau():
    plateau = train.ReduceOnPlateau(2, factor=0.5)
    values = [3, 2, 2, 2, 1, 1, 1, 1, 1]
    scales = [plateau.lr_scale(history(values[:end])) for end in range(len(values) + 1)]
    assert scales == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


@pytest.mark.slow
@pytest.mark.parametrize("patience", [1, 3])
def test_a_plateau_is_that_of_optax(patience):
    values = [5, 4, 4, 3, 3, 3, 3, 2, 3]
    transform = optax.contrib.reduce_on_plateau(0.5, patience)
    state = transform.init({})
    for value in values:
        _, state = transform.update({}, state, value=float(value))
    assert train.ReduceOnPlateau(patience, factor=0.5).lr_scale(history(values)) == state.scale


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train.EarlyStopping(0), "patience must be an integer >= 1"),
        (lambda: train.EarlyStopping(-1), "patience must be an integer >= 1"),
        (lambda: train.EarlyStopping(1.5), "patience must be an integer >= 1"),
        (lambda: train.EarlyStopping(1, min_delta=-1.0), "min_delta must be finite and >= 0"),
        (lambda: train.EarlyStopping(1, start_epoch=0), "start_epoch must be an integer >= 1"),
        (lambda: train.EarlyStopping(1, mode="least"), "mode must be min or max"),
        (lambda: train.ReduceOnPlateau(True), "patience must be an integer >= 1"),
        (lambda: train.ReduceOnPlateau(1, factor=1.0), r"factor must be in \(0, 1\)"),
        (
            lambda: train.EarlyStopping(1).best_epoch([{"epoch": 1, "train_loss": 1.0}]),
            r"got 'validation_loss' \(does the run have a validation split\?\)",
        ),
    ],
)
def test_bad_monitors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
