"""The learning-rate range test on a loss with a known best learning rate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import data, train

SOURCE = data.from_arrays(np.ones((64, 1, 1, 1), np.float32), np.zeros(64, np.float32))
BATCHES = data.batches(SOURCE, 16, seed=0)


def prepare(schedule, loss=lambda outputs, *_: jnp.mean(optax.squared_error(outputs), -1)):
    """Minimize w**2 from w = 1: w shrinks for rates below 1 and grows without bound above 1."""
    model = train.from_functions(
        lambda key, images: jnp.ones(()),
        lambda params, images, *, train, key: params * images[:, 0, 0],
    )
    task = train.regression()._replace(loss=loss, objective=loss)
    optimizer = optax.sgd(schedule)
    state = train.create_state(
        jax.random.key(0), model, optimizer, jax.ShapeDtypeStruct((1, 1, 1, 1), jnp.float32)
    )
    return state, train.make_train_step(model, optimizer, task=task)


def test_the_suggestion_is_where_the_loss_falls():
    found = train.find_learning_rate(prepare, BATCHES, low=1e-5, high=100.0, steps=120)
    ratios = found.rates[1:] / found.rates[:-1]
    np.testing.assert_allclose(ratios, (1e7) ** (1 / 119))
    assert found.rates[0] == 1e-5
    assert len(found.rates) < 120, "the test continued after the loss exploded"
    # A step's loss is computed before its update, which multiplies it by (1 - 2 rate)**2.
    expected = np.concatenate([[1], np.cumprod((1 - 2 * found.rates[:-1]) ** 2)])
    np.testing.assert_allclose(found.losses, expected, rtol=1e-3, atol=1e-6)
    assert 3e-3 < found.suggestion < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 1.0, "high": 0.1}, "low and high must satisfy 0 < low < high"),
        ({"low": 0.0}, "low and high must satisfy 0 < low < high"),
        ({"high": float("inf")}, "low and high must satisfy 0 < low < high"),
        ({"steps": 9}, "steps must be an integer >= 10"),
        ({"steps": True}, "steps must be an integer >= 10"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        train.find_learning_rate(prepare, BATCHES, **options)


def test_a_loss_that_is_not_finite():
    def broken(schedule):
        return prepare(schedule, loss=lambda outputs, *_: outputs[:, 0] * jnp.nan)

    with pytest.raises(ValueError, match="low must be smaller: the loss is not finite"):
        train.find_learning_rate(broken, BATCHES)


@pytest.mark.parametrize("blank", [(1,), range(4)])
def test_batches_without_a_row_that_counts_are_skipped(blank):
    class WithBlanks:
        def __len__(self):
            return len(BATCHES)

        def epoch(self, epoch, start=0):
            for number, batch in enumerate(BATCHES.epoch(epoch, start), start):
                yield batch._replace(mask=batch.mask & (number not in blank))

    if len(blank) < 4:
        found = train.find_learning_rate(prepare, WithBlanks(), high=1e-3, steps=12)
        assert len(found.losses) == 12
    else:
        with pytest.raises(ValueError, match="at least one readable example, got none"):
            train.find_learning_rate(prepare, WithBlanks(), steps=12)
