"""Counts against NumPy for every mask and split, and the confusion matrix by hand."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcnn import metrics, train

SIZES = st.sampled_from([1, 3, 8])
CLASSES = st.sampled_from([2, 5])
COUNTS = functools.partial(train.multi_class().counts, train=True)


@st.composite
def batches(draw):
    """Draw logits with ties, labels, losses and a mask; sums of the losses are exact."""
    size, classes = draw(SIZES), draw(CLASSES)
    column = functools.partial(st.lists, min_size=size, max_size=size)
    row = st.lists(st.integers(-2, 2), min_size=classes, max_size=classes)
    return (
        np.array(draw(column(row)), np.float32),
        np.array(draw(column(st.integers(0, classes - 1))), np.int32),
        np.array(draw(column(st.integers(-64, 64))), np.float32) / 8,
        np.array(draw(column(st.booleans())), bool),
    )


def reference(logits, labels, losses, mask):
    """Count row by row."""
    rows = [
        (loss, list(row).index(max(row)) == label)
        for row, label, loss, counts in zip(logits, labels, losses, mask, strict=True)
        if counts
    ]
    examples = np.int32(len(rows))
    return {
        "loss": metrics.Ratio(np.float32(sum(loss for loss, _ in rows)), examples),
        "accuracy": metrics.Ratio(np.int32(sum(right for _, right in rows)), examples),
        "examples": examples,
    }


@pytest.mark.slow
@given(batches())
def test_only_unmasked_rows_are_counted(batch):
    counts = COUNTS(*batch)
    chex.assert_trees_all_equal(counts, reference(*batch))
    chex.assert_trees_all_equal_shapes_and_dtypes(counts, reference(*batch))
    chex.assert_trees_all_equal(jax.jit(COUNTS)(*batch), counts)


@given(batches(), st.integers(0, 8))
def test_any_split_into_batches_adds_up_to_the_same(batch, cut):
    parts = [array[:cut] for array in batch], [array[cut:] for array in batch]
    total = None
    for part in parts:
        total = metrics.add_counts(total, COUNTS(*part))
    chex.assert_trees_all_equal(total, COUNTS(*batch))


@given(batches())
def test_masking_equals_removing(batch):
    mask = batch[-1]
    chex.assert_trees_all_equal(COUNTS(*batch), COUNTS(*(array[mask] for array in batch)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_masked_values_do_not_leak(value):
    logits = jnp.eye(3).at[1].set(value)
    losses = jnp.array([0.5, value, 0.25])
    mask = jnp.array([True, False, True])
    counts = COUNTS(logits, jnp.arange(3), losses, mask)
    assert (counts["loss"].numerator, counts["accuracy"].numerator, counts["examples"]) == (
        (0.75, 2, 2)
    )
    # Non-finite values in rows with a True mask still reach the sums.
    counts = COUNTS(logits, jnp.arange(3), losses, ~mask)
    assert not np.isfinite(counts["loss"].numerator)


def test_the_sum_of_losses_is_float32_for_half_precision():
    losses = jnp.full(301, 1.0, jnp.bfloat16)  # bfloat16 represents 300 and 302, but not 301
    counts = COUNTS(jnp.zeros((301, 2)), jnp.zeros(301, int), losses, jnp.ones(301, bool))
    assert counts["loss"].numerator == 301
    chex.assert_type(counts["loss"].numerator, jnp.float32)


def test_summarize_divides_once():
    # Batches of 3 and 1: the mean of the batch means would be (0.25 + 1.25) / 2.
    first = {"loss": metrics.Ratio(jnp.float32(0.75), jnp.int32(3)), "examples": jnp.int32(3)}
    second = {"loss": metrics.Ratio(jnp.float32(1.25), jnp.int32(1)), "examples": jnp.int32(1)}
    summary = metrics.summarize(metrics.add_counts(first, second))
    assert summary == {"loss": 0.5}
    assert all(type(value) is float for value in summary.values())


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (metrics.Ratio(3.0, 4), 0.75),
        (metrics.Ratio(np.array([1, 0, 2]), np.array([2, 0, 4])), 0.5),
        (metrics.Ratio(np.array([1, 0]), np.array([2, 0]), np.array([2, 1])), 0.25),
        (metrics.Ratio(np.array([1, 3]), np.array([2, 4]), 4), 0.625),
    ],
)
def test_a_ratio_is_the_mean_over_its_present_entries(ratio, expected):
    assert ratio.value() == expected
    assert metrics.summarize({"x": ratio, "examples": 4}) == {"x": expected}


def test_a_ratio_without_a_present_entry_is_nan():
    assert np.isnan(metrics.Ratio(np.zeros(2), np.zeros(2)).value())


@pytest.mark.parametrize("value", [3.0, (1,), (1, 2, 3), [1, 2], None])
def test_metrics_return_sums(value):
    with pytest.raises(ValueError, match="metric x must return"):
        metrics.as_sums(value, "x")


@given(
    st.integers(1, 6).flatmap(
        lambda k: st.tuples(
            st.just(k),
            st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), max_size=30),
        )
    )
)
def test_confusion_matrix_cell_by_cell(drawn):
    classes, pairs = drawn
    labels, guesses = np.array(pairs, np.int32).reshape(-1, 2).T
    matrix = metrics.confusion_matrix(labels, guesses, classes)
    expected = np.zeros((classes, classes), int)
    for label, guess in pairs:
        expected[label, guess] += 1
    np.testing.assert_array_equal(matrix, expected)
    # No pair is lost, rows are true classes, and the diagonal counts correct predictions.
    assert matrix.sum() == len(pairs)
    np.testing.assert_array_equal(matrix.sum(1), np.bincount(labels, minlength=classes))
    assert np.trace(matrix) == (labels == guesses).sum()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64])
def test_confusion_matrix_of_any_integers(dtype):
    labels = np.array([0, 29, 15, 29], dtype)
    matrix = metrics.confusion_matrix(labels, np.array([0, 29, 16, 0], dtype), 30)
    assert {tuple(cell): int(matrix[tuple(cell)]) for cell in np.argwhere(matrix)} == {
        (0, 0): 1,
        (15, 16): 1,
        (29, 0): 1,
        (29, 29): 1,
    }


def test_confusion_matrix_of_device_arrays():
    matrix = metrics.confusion_matrix(jnp.array([1, 0]), jnp.array([1, 1]), 2)
    assert matrix.tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("labels", "guesses", "named"),
    [
        ([0, 2], [0, 1], "labels"),
        ([0, -1], [0, 1], "labels"),
        ([0, 1], [0, 2], "predictions"),
        ([0, 1], [-1, 1], "predictions"),
    ],
)
def test_confusion_matrix_rejects_classes_out_of_range(labels, guesses, named):
    with pytest.raises(ValueError, match=named):
        metrics.confusion_matrix(np.array(labels), np.array(guesses), 2)


@pytest.mark.parametrize(
    ("labels", "guesses"),
    [([0, 1], [0]), ([0], [0, 1]), ([[0], [1]], [0, 1]), ([[0, 1]], [[0, 1]]), (0, 1)],
)
def test_confusion_matrix_rejects_other_shapes(labels, guesses):
    with pytest.raises(ValueError, match=r"(labels|predictions) must .* got shape \("):
        metrics.confusion_matrix(np.array(labels), np.array(guesses), 2)
