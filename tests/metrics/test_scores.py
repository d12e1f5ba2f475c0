"""Every metric against scikit-learn: random predictions, masks and batches, ties, gaps."""

import functools
import warnings

import jax
import numpy as np
import optax
import pytest
import sklearn.calibration
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from jaxcnn import data, metrics, train

# Few distinct values, so that ties and empty classes are common.
LOGITS = st.sampled_from([-3.0, -1.0, -0.5, 0.0, 0.25, 0.5, 2.0, 4.0])
AVERAGES = ("precision", "recall", "f1")


ROWS = 24


@st.composite
def examples(draw, columns, label):
    """Draw outputs ``[24, columns]``, labels, a mask with an unmasked row, and a batch size."""
    outputs = draw(st.lists(LOGITS, min_size=ROWS * columns, max_size=ROWS * columns))
    labels = draw(st.lists(label, min_size=ROWS, max_size=ROWS))
    # Often only a few rows are counted, so that classes are empty and whole batches are masked.
    mask = np.zeros(ROWS, bool)
    mask[draw(st.lists(st.integers(0, ROWS - 1), min_size=1))] = True
    size = draw(st.sampled_from([3, 8, 24]))
    return np.array(outputs, np.float32).reshape(ROWS, columns), np.array(labels), mask, size


@functools.cache
def compiled(make):
    """Return the task's counts function, compiled once per batch shape."""
    task = make()

    @jax.jit
    def counts(outputs, labels, mask):
        losses = task.loss(outputs, labels, mask)
        return task.counts(outputs, labels, losses, mask, train=False)

    return counts


def measured(make, outputs, labels, mask, size):
    """Return the metrics accumulated over equal-sized batches, including fully masked ones."""
    total = None
    for start in range(0, ROWS, size):
        part = slice(start, start + size)
        total = metrics.add_counts(total, compiled(make)(outputs[part], labels[part], mask[part]))
    overall = make().overall
    summary = metrics.summarize(total)
    return summary if overall is None else summary | overall(outputs[mask], labels[mask])


def reference(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns about undefined scores
        return function(*arguments, **options)


def close(value, expected):
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6)


def calibration_error(right, confidence):
    """Compute the error from scikit-learn's reliability curve and the bin counts."""
    # scikit-learn's curve needs both outcomes; with only one, the bins are averaged here.
    bins = np.linspace(0, 1, 16)
    number = np.bincount(np.searchsorted(bins[1:-1], confidence), minlength=15)
    if len(set(right)) < 2:
        ids = np.searchsorted(bins[1:-1], confidence)
        share = [right[ids == i].mean() for i in range(15) if number[i]]
        mean = [confidence[ids == i].mean() for i in range(15) if number[i]]
    else:
        share, mean = sklearn.calibration.calibration_curve(right, confidence, n_bins=15)
    return np.sum(np.abs(np.array(share) - mean) * number[number > 0]) / len(right)


@given(examples(7, st.integers(0, 6)))
def test_multi_class(drawn):
    outputs, labels, mask, _ = drawn
    summary = measured(train.multi_class, *drawn)
    true, scores = labels[mask], outputs[mask]
    guesses = scores.argmax(1)
    close(summary["accuracy"], sklearn.metrics.accuracy_score(true, guesses))
    top = reference(sklearn.metrics.top_k_accuracy_score, true, scores, k=5, labels=range(7))
    close(summary["top_5_accuracy"], top)
    expected = sklearn.metrics.precision_recall_fscore_support(
        true, guesses, average="macro", zero_division=0
    )
    for name, value in zip(AVERAGES, expected[:3], strict=True):
        close(summary[f"{name}_macro"], value)
    probabilities = np.asarray(jax.nn.softmax(outputs))[mask]
    close(
        summary["calibration_error"],
        calibration_error(guesses == true, probabilities.max(1).astype(np.float64)),
    )
    close(summary["loss"], sklearn.metrics.log_loss(true, probabilities, labels=range(7)))


@given(examples(5, st.integers(0, 4)))
def test_scores_of_each_class(drawn):
    outputs, labels, mask, _ = drawn
    true, guesses = labels[mask], outputs[mask].argmax(1)
    matrix = sklearn.metrics.confusion_matrix(true, guesses, labels=range(5))
    found = np.diag(matrix)
    scores = metrics.precision_recall_f1(found, matrix.sum(0) - found, matrix.sum(1) - found)
    expected = sklearn.metrics.precision_recall_fscore_support(
        true, guesses, labels=range(5), zero_division=0
    )
    for value, wanted in zip(scores, expected, strict=True):
        close(value, wanted)


@pytest.mark.slow
@given(examples(1, st.integers(0, 1)))
def test_binary(drawn):
    outputs, labels, mask, _ = drawn
    summary = measured(train.binary, *drawn)
    true, scores = labels[mask], outputs[mask, 0]
    guesses = (scores > 0).astype(int)
    close(summary["accuracy"], sklearn.metrics.accuracy_score(true, guesses))
    expected = sklearn.metrics.precision_recall_fscore_support(
        true, guesses, average="binary", zero_division=0
    )
    for name, value in zip(AVERAGES, expected[:3], strict=True):
        close(summary[name], value)
    probabilities = np.asarray(jax.nn.sigmoid(outputs))[mask, 0].astype(np.float64)
    close(summary["calibration_error"], calibration_error(true, probabilities))
    close(summary["loss"], sklearn.metrics.log_loss(true, probabilities, labels=(0, 1)))
    assert ("roc_auc" in summary) == (len(set(true)) == 2)
    if "roc_auc" in summary:
        close(summary["roc_auc"], sklearn.metrics.roc_auc_score(true, scores))
    assert ("average_precision" in summary) == bool(true.any())
    if true.any():
        close(summary["average_precision"], sklearn.metrics.average_precision_score(true, scores))


@pytest.mark.slow
@given(examples(3, st.tuples(*[st.integers(0, 1)] * 3)))
def test_multi_label(drawn):
    outputs, labels, mask, _ = drawn
    summary = measured(train.multi_label, *drawn)
    true, scores = labels[mask], outputs[mask]
    guesses = (scores > 0).astype(int)
    close(summary["accuracy"], sklearn.metrics.accuracy_score(true, guesses))
    for average in ("macro", "micro"):
        expected = sklearn.metrics.precision_recall_fscore_support(
            true, guesses, average=average, zero_division=0
        )
        for name, value in zip(AVERAGES, expected[:3], strict=True):
            close(summary[f"{name}_{average}"], value)
    defined = [column for column in range(3) if len(set(true[:, column])) == 2]
    assert ("roc_auc" in summary) == bool(defined)
    if defined:
        chosen = true[:, defined], scores[:, defined]
        close(summary["roc_auc"], sklearn.metrics.roc_auc_score(*chosen))
    some = [column for column in range(3) if true[:, column].any()]
    if some:
        chosen = true[:, some], scores[:, some]
        close(summary["average_precision"], sklearn.metrics.average_precision_score(*chosen))


MEAN, STD = [20.0, -3.0], [7.0, 0.5]


def shifted_regression():
    return train.regression(mean=MEAN, std=STD)


@given(examples(2, st.tuples(*[st.integers(-8, 8)] * 2)))
def test_regression(drawn):
    outputs, labels, mask, size = drawn
    targets = (labels / 4 * STD + MEAN).astype(np.float32)
    summary = measured(shifted_regression, outputs, targets, mask, size)
    true, predicted = targets[mask], np.asarray(shifted_regression().activate(outputs))[mask]
    close(summary["mae"], sklearn.metrics.mean_absolute_error(true, predicted))
    close(summary["rmse"], sklearn.metrics.root_mean_squared_error(true, predicted))
    if len(true) > 1:
        close(summary["r2"], sklearn.metrics.r2_score(true, predicted))
    # The float32 sums from training steps agree to within rounding.
    sums = metrics.summarize(compiled(shifted_regression)(outputs, targets, mask))
    for name in ("mae", "rmse"):
        close(sums[name], summary[name])


def test_r2_of_a_constant_target_matches_scikit_learn():
    mask, targets = np.ones(ROWS, bool), np.full((ROWS, 1), 0.3, np.float32)
    for outputs in (targets, targets + 1):
        summary = measured(train.regression, outputs, targets, mask, 8)
        assert summary["r2"] == sklearn.metrics.r2_score(targets, outputs)


@pytest.mark.parametrize("edge", range(1, 15))
def test_a_confidence_on_an_edge_is_in_the_bin_below(edge):
    """Compare with scikit-learn's bins at the float32 values around each edge."""
    for step in (-1, 0, 1):
        value = np.float32(edge / 15)
        value = np.nextafter(value, np.float32(step + edge / 15)) if step else value
        logits = np.log(np.array([[value / (1 - value)]], np.float64)).astype(np.float32)
        confidence = np.asarray(jax.nn.sigmoid(logits)).astype(np.float64)[0, 0]
        bins = metrics.label_calibration(logits, np.ones((1, 1)), np.ones(1, bool))
        expected = np.searchsorted(np.linspace(0, 1, 16)[1:-1], confidence)
        assert np.flatnonzero(bins.examples).tolist() == [expected]


TARGETS = np.float32(2000 + np.random.default_rng(0).choice([-1, 1], (300, 2)))


@pytest.mark.parametrize("mean", [(0.0,), (2000.0, 2000.0)])
@pytest.mark.parametrize("batch", [1, 7, 100, 300])
def test_r2_is_precise_far_from_zero(mean, batch):
    outputs = TARGETS + np.random.default_rng(1).normal(0, 0.1, TARGETS.shape).astype(np.float32)
    task = train.regression(mean=mean)
    counts = None
    for start in range(0, len(TARGETS), batch):
        rows = slice(start, start + batch)
        r2 = task.metrics["r2"](
            outputs[rows] - mean, TARGETS[rows], np.ones(len(TARGETS[rows]), bool)
        )
        counts = metrics.add_counts(counts, {"r2": r2})
    expected = sklearn.metrics.r2_score(TARGETS, outputs)
    assert expected > 0.98
    np.testing.assert_allclose(metrics.summarize(counts)["r2"], expected, atol=2e-4)


@pytest.mark.parametrize("value", [0.1, -2000.3, 1e-15, 3e18])
def test_r2_of_constant_batches_is_that_of_a_constant(value):
    targets = np.full((97, 1), value, np.float32)
    for offset, expected in ((0.0, 1.0), (1.0, 0.0)):
        counts = None
        for start in range(0, 97, 13):
            part = targets[start : start + 13]
            rows = np.ones(len(part), bool)
            r2 = metrics.r2_score(part * np.float32(1 + offset), part, rows)
            counts = metrics.add_counts(counts, {"r2": r2})
        assert metrics.summarize(counts)["r2"] == expected


def test_empty_batches_do_not_change_r2():
    outputs, rows = TARGETS + 0.5, np.ones(len(TARGETS), bool)
    whole = {"r2": metrics.r2_score(outputs, TARGETS, rows)}
    empty = {"r2": metrics.r2_score(outputs, TARGETS, ~rows)}
    for counts in (
        metrics.add_counts(whole, empty),
        metrics.add_counts(empty, whole),
        metrics.add_counts(jax.tree.map(np.zeros_like, whole), whole),
    ):
        assert metrics.summarize(counts) == metrics.summarize(whole)


CLASSES = (
    metrics.accuracy,
    functools.partial(metrics.top_k_accuracy, k=1),
    metrics.class_precision,
    metrics.class_recall,
    metrics.class_f1,
    metrics.class_calibration,
)
COLUMNS = (
    metrics.label_accuracy,
    metrics.label_precision,
    metrics.label_recall,
    metrics.label_f1,
    metrics.label_calibration,
    metrics.mean_absolute_error,
    metrics.root_mean_squared_error,
    metrics.r2_score,
)


@pytest.mark.parametrize("metric", [*CLASSES, *COLUMNS])
def test_shapes_never_broadcast(metric):
    outputs, rows, labels = np.ones((4, 2), np.float32), np.ones(4, bool), np.ones(4, int)
    good = labels if metric in CLASSES else np.ones((4, 2))
    metric(outputs, good, rows)
    bad = [
        (outputs, np.ones((4, 1), int), rows),
        (outputs, good[:1], rows),
        (outputs[:1], good, rows),
        (outputs[:, 0], labels, rows),
        (outputs, good, rows[:1]),
        (outputs, good, rows[:, None]),
    ]
    if metric in COLUMNS:
        bad.append((outputs, labels, rows))
    with jax.numpy_rank_promotion("allow"):
        for arguments in bad:
            with pytest.raises(ValueError, match=r"must (be|have shape) .* got shape \("):
                metric(*arguments)


def test_r2_of_no_examples_is_nan():
    counts = {"r2": metrics.r2_score(TARGETS, TARGETS, np.zeros(len(TARGETS), bool))}
    assert np.isnan(metrics.summarize(counts)["r2"])


def test_evaluation_in_batches_merges_r2():
    targets = TARGETS[:100, :1]
    source = data.from_arrays(np.zeros((100, 2, 2, 1), np.float32), targets)
    model = train.from_functions(
        lambda key, images: np.float32([[1999.9]]),
        lambda params, images, *, train, key: images.mean((1, 2)) + params,
    )
    state = train.create_state(jax.random.key(0), model, optax.identity(), source.images[:1])
    step = train.make_eval_step(model, task=train.regression())
    expected = sklearn.metrics.r2_score(targets, np.full_like(targets, 1999.9))
    for size in (100, 33, 1):
        found = train.evaluate(step, state, data.batches(source, size))
        np.testing.assert_allclose(found["r2"], expected, rtol=1e-3)
