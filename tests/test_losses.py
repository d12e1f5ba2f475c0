"""Losses: comparison with NumPy formulas, values computed by hand, and properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcnn import losses, train

LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [-30.0, 40.0, 3.0]], np.float32)
LABELS = np.array([0, 2, 1])


def reference(logits, labels, smoothing=0.0, gamma=0.0, weights=None):
    logits = logits.astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    classes = logits.shape[1]
    targets = np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes
    values = -(targets * (1 - np.exp(log_p)) ** gamma * log_p).sum(1)
    return values * (1 if weights is None else np.asarray(weights)[labels])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 0.0]])
def test_cross_entropy(smoothing, gamma, weights):
    value = losses.cross_entropy(
        LOGITS,
        LABELS,
        label_smoothing=smoothing,
        focal_gamma=gamma,
        class_weights=None if weights is None else jnp.array(weights),
    )
    expected = reference(LOGITS, LABELS, smoothing, gamma, weights)
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=1e-7)


# Not both: optax applies the focal weight to the smoothed target's probability, not to each term.
@pytest.mark.parametrize(("smoothing", "gamma"), [(0.0, 0.0), (0.2, 0.0), (0.0, 2.0)])
def test_binary_matches_the_softmax_of_two(smoothing, gamma):
    """Compare the sigmoid with the equivalent softmax over (0, logit)."""
    logits = np.array([[-2.0], [0.3], [5.0]], np.float32)
    labels = np.array([1, 0, 1])
    pairs = np.concatenate([np.zeros_like(logits), logits], 1)
    value = losses.binary_cross_entropy(
        logits, labels[:, None], label_smoothing=smoothing, focal_gamma=gamma
    )
    np.testing.assert_allclose(value, reference(pairs, labels, smoothing, gamma), rtol=1e-5)


def test_binary_weights_and_mean_over_labels():
    logits, labels = jnp.array([[1.0, -1.0]]), jnp.array([[1, 0]])
    weights = jnp.array([[10.0, 3.0], [2.0, 20.0]])
    value = losses.binary_cross_entropy(logits, labels, class_weights=weights)
    np.testing.assert_allclose(value, [np.log1p(np.exp(-1)) * (2 + 3) / 2], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_gradients_are_finite_for_certain_predictions(gamma):
    logits = jnp.array([[100.0, -100.0], [-100.0, 100.0]])
    for function, labels in (
        (losses.cross_entropy, jnp.array([0, 0])),
        (losses.binary_cross_entropy, jnp.array([[1, 0], [1, 0]])),
    ):
        gradient = jax.grad(lambda x, f=function, y=labels: f(x, y, focal_gamma=gamma).sum())
        assert np.isfinite(gradient(logits)).all()


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"focal_gamma": 2.0}])
def test_loss_of_class_probabilities_is_the_average(options):
    other = (LABELS + 1) % 3
    shares = 0.7 * np.eye(3)[LABELS] + 0.3 * np.eye(3)[other]
    parts = [losses.cross_entropy(LOGITS, labels, **options) for labels in (LABELS, other)]
    value = losses.cross_entropy(LOGITS, jnp.asarray(shares, jnp.float32), **options)
    np.testing.assert_allclose(value, 0.7 * parts[0] + 0.3 * parts[1], rtol=1e-5)


def test_class_probabilities_average_the_weights():
    weights, shares = jnp.array([0.5, 2.0, 0.0]), jnp.array([[0.5, 0.5, 0.0]] * 3)
    value = losses.cross_entropy(LOGITS, shares, class_weights=weights)
    np.testing.assert_allclose(value, 1.25 * losses.cross_entropy(LOGITS, shares), rtol=1e-6)


@given(st.floats(-4, 4), st.floats(0.5, 3))
def test_huber(error, delta):
    value = losses.huber(jnp.array([[error]]), jnp.zeros((1, 1)), delta=delta)
    inside = abs(error) <= delta
    expected = error**2 / 2 if inside else delta * (abs(error) - delta / 2)
    np.testing.assert_allclose(value, [expected], rtol=1e-5, atol=1e-6)


def test_balanced_weights_give_classes_equal_sums():
    labels = np.array([0] * 6 + [1] * 3 + [3])
    weights = train.balanced_weights(labels, 4)
    np.testing.assert_allclose(weights * np.bincount(labels, minlength=4), [2.5, 2.5, 0, 2.5])
    columns = np.array([[1, 0], [1, 0], [0, 0], [1, 0]])
    np.testing.assert_allclose(
        train.balanced_weights(columns, 2), [[2, 0.5], [2 / 3, 0]], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\)"),
        ({"label_smoothing": -0.1}, r"label_smoothing must be in \[0, 1\)"),
        ({"focal_gamma": 0.5}, "focal_gamma must be 0, or finite and >= 1"),
        ({"focal_gamma": -1.0}, "focal_gamma must be 0, or finite and >= 1"),
    ],
)
def test_bad_options(options, message):
    for function, labels in (
        (losses.cross_entropy, LABELS),
        (losses.binary_cross_entropy, np.ones((3, 3))),
    ):
        with pytest.raises(ValueError, match=message):
            function(LOGITS, labels, **options)
    with pytest.raises(ValueError, match="delta must be finite and > 0"):
        losses.huber(jnp.zeros((1, 1)), jnp.zeros((1, 1)), delta=0.0)


# Strict rank promotion, which tests enable, would reject some of these by itself.
MISMATCHED = {
    "binary, labels [B]": lambda x: losses.binary_cross_entropy(x[:, :1], jnp.array([1, 0])),
    "binary, labels [1, L]": lambda x: losses.binary_cross_entropy(x, jnp.ones((1, 3))),
    "binary, outputs [B]": lambda x: losses.binary_cross_entropy(x[:, 0], jnp.array([1, 0])),
    "binary, weights [L]": lambda x: losses.binary_cross_entropy(
        x, jnp.ones((2, 3)), class_weights=jnp.ones(3)
    ),
    "classes, labels [B, 1]": lambda x: losses.cross_entropy(x, jnp.array([[0], [1]])),
    "classes, floats [B, 1]": lambda x: losses.cross_entropy(x, jnp.array([[0.0], [1.0]])),
    "classes, floats [B]": lambda x: losses.cross_entropy(x, jnp.array([0.0, 1.0])),
    "classes, one label": lambda x: losses.cross_entropy(x, jnp.array([1])),
    "classes, logits [K]": lambda x: losses.cross_entropy(x[0], jnp.array(1)),
    "classes, weights [1]": lambda x: losses.cross_entropy(
        x, jnp.array([0, 1]), class_weights=jnp.ones(1)
    ),
    "huber, one target": lambda x: losses.huber(x[:, 0], x[:1, 0]),
    "huber, [B]": lambda x: losses.huber(x[:, 0], x[:, 0]),
    "squared, targets [B]": lambda x: losses.squared_error(x[:, :1], x[:, 0]),
    "squared, targets [1, D]": lambda x: losses.squared_error(x, x[:1]),
}


@pytest.mark.parametrize("case", MISMATCHED)
def test_shapes_never_broadcast(case):
    rejected = pytest.raises(ValueError, match=r"must (be|have shape).* got .*shape \(")
    with jax.numpy_rank_promotion("allow"), rejected:
        MISMATCHED[case](jnp.array([[9.0, 0.0, 1.0], [-9.0, 2.0, 1.0]]))


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("kind", ["indices", "integers", "shares"])
def test_a_class_that_is_impossible_does_not_count(gamma, kind):
    logits = jnp.array([[1.0, -jnp.inf, 0.5], [-jnp.inf, 2.0, 2.5]])
    labels = {
        "indices": jnp.array([0, 2]),
        "integers": jnp.array([[1, 0, 0], [0, 0, 1]]),
        "shares": jnp.array([[0.8, 0.0, 0.2], [0.0, 0.3, 0.7]]),
    }[kind]

    def loss(logits):
        return losses.cross_entropy(logits, labels, focal_gamma=gamma)

    value_and_grad = jax.jit(lambda x: (loss(x), jax.grad(lambda x: loss(x).sum())(x)))
    almost = logits.at[0, 1].set(-100.0).at[1, 0].set(-100.0)
    for found, expected in zip(value_and_grad(logits), value_and_grad(almost), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    missed = losses.cross_entropy(logits, jnp.array([1, 0]), focal_gamma=gamma)
    assert np.isinf(missed).all() and (missed > 0).all()


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_binary_loss_of_infinite_logits(gamma):
    logits = jnp.array([[-jnp.inf], [jnp.inf], [jnp.inf], [jnp.nan]])
    labels = jnp.array([[0], [1], [0], [1]])

    @jax.jit
    def value_and_grad(logits):
        def loss(logits):
            return losses.binary_cross_entropy(logits, labels, focal_gamma=gamma)

        return loss(logits), jax.grad(lambda x: loss(x)[:2].sum())(logits)

    value, gradient = value_and_grad(logits)
    np.testing.assert_array_equal(value, [0, 0, np.inf, np.nan])
    np.testing.assert_array_equal(gradient[:2], jnp.zeros((2, 1)))


def test_options_may_be_traced():
    def both(smoothing, gamma, delta):
        return (
            losses.cross_entropy(
                LOGITS, jnp.asarray(LABELS), label_smoothing=smoothing, focal_gamma=gamma
            ),
            losses.binary_cross_entropy(
                LOGITS, jnp.ones((3, 3)), label_smoothing=smoothing, focal_gamma=gamma
            ),
            losses.huber(LOGITS, jnp.zeros((3, 3)), delta=delta),
        )

    for traced, plain in zip(jax.jit(both)(0.1, 2.0, 0.5), both(0.1, 2.0, 0.5), strict=True):
        np.testing.assert_allclose(traced, plain, rtol=1e-5)
    for traced, plain in zip(jax.jit(both)(0.0, 0.0, 0.5), both(0.0, 0.0, 0.5), strict=True):
        np.testing.assert_allclose(traced, plain, rtol=1e-5)
