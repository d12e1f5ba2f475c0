"""ROC and precision-recall curves and their areas, against scikit-learn, ties included."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from jaxcnn import metrics


@st.composite
def scored(draw):
    pairs = draw(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1)), min_size=2))
    scores, labels = np.array(pairs).T
    labels[:2] = 0, 1
    return scores.astype(np.float32), labels


@given(scored())
def test_roc(drawn):
    scores, labels = drawn
    curve = metrics.roc_curve(scores, labels)
    expected = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
    for value, wanted in zip(curve, expected, strict=True):
        np.testing.assert_allclose(value, wanted)
    np.testing.assert_allclose(
        metrics.roc_auc(scores, labels), sklearn.metrics.roc_auc_score(labels, scores)
    )


@given(scored())
def test_precision_and_recall(drawn):
    scores, labels = drawn
    curve = metrics.precision_recall_curve(scores, labels)
    precision, recall, thresholds = sklearn.metrics.precision_recall_curve(labels, scores)
    # scikit-learn sorts by increasing threshold and adds the point (0, 1).
    np.testing.assert_allclose(curve.x, recall[-2::-1])
    np.testing.assert_allclose(curve.y, precision[-2::-1])
    np.testing.assert_allclose(curve.thresholds, thresholds[::-1])
    np.testing.assert_allclose(
        metrics.average_precision(scores, labels),
        sklearn.metrics.average_precision_score(labels, scores),
    )


@given(scored())
def test_laws_of_the_area(drawn):
    scores, labels = drawn
    area = metrics.roc_auc(scores, labels)
    np.testing.assert_allclose(metrics.roc_auc(-scores, labels), 1 - area)
    np.testing.assert_allclose(metrics.roc_auc(np.exp(scores), labels), area)
    yes, no = scores[labels == 1], scores[labels == 0]
    pairs = (yes[:, None] > no).mean() + (yes[:, None] == no).mean() / 2
    np.testing.assert_allclose(area, pairs)


def test_one_class_has_no_area():
    assert np.isnan(metrics.roc_auc(np.array([0.1, 0.2]), np.array([1, 1])))
    assert np.isnan(metrics.average_precision(np.array([0.1, 0.2]), np.array([0, 0])))
    with pytest.raises(ValueError, match="labels must contain both 0 and 1"):
        metrics.roc_curve(np.array([0.1]), np.array([1]))
    with pytest.raises(ValueError, match="labels must contain at least one 1"):
        metrics.precision_recall_curve(np.array([0.1]), np.array([0]))


@pytest.mark.parametrize("shape", [(0,), (2, 2)])
def test_bad_shapes(shape):
    with pytest.raises(ValueError, match=r"scores and labels must be \[N\]"):
        metrics.roc_auc(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("labels", [[1, 0], [0, 1], [0, 0], [1, 1]])
@pytest.mark.parametrize(
    "function",
    [
        metrics.roc_auc,
        metrics.roc_curve,
        metrics.average_precision,
        metrics.precision_recall_curve,
    ],
)
def test_scores_that_are_nan_are_rejected(function, labels):
    with pytest.raises(ValueError, match="scores must not be NaN, got 1 of 2"):
        function(np.array([np.nan, 0.5]), np.array(labels))
    with pytest.raises(ValueError, match="scores must not be NaN, got 2 of 2"):
        function(np.full(2, np.nan), np.array(labels))
