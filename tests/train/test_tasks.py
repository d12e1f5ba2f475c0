"""The four kinds of output: what each makes of outputs and labels, and which labels it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import train

ONE = np.array([0, 1, 1])
SEVERAL = np.array([[0, 1], [1, 1], [0, 0]])
NUMBERS = np.array([[0.5], [1.5], [-2.0]], np.float32)
NAMES = ("a", "b")


@pytest.mark.parametrize(
    ("make", "fits"),
    [
        (train.multi_class, "one"),
        (train.binary, "one"),
        (train.multi_label, "several"),
        (train.regression, "numbers"),
    ],
)
def test_labels_of_another_task_are_refused(make, fits):
    for kind, labels in (("one", ONE), ("several", SEVERAL), ("numbers", NUMBERS)):
        if kind == fits:
            make().check(labels, NAMES)
        else:
            with pytest.raises(
                ValueError, match=f"task {make().name} needs labels that are .* got"
            ):
                make().check(labels, NAMES)


def test_binary_needs_two_classes():
    with pytest.raises(ValueError, match="task binary needs 2 classes, got 3: a, b, c"):
        train.binary().check(ONE, ("a", "b", "c"))


def test_answers():
    assert train.multi_class().answer(np.array([0.2, 0.5, 0.3]), "abc", 2) == [
        ("b", 0.5),
        ("c", 0.3),
    ]
    assert train.binary().answer(np.array([0.9]), NAMES, 2)[0] == ("b", 0.9)
    assert train.multi_label().answer(np.array([0.5, 0.4]), NAMES, None) == []
    assert train.multi_label().answer(np.array([0.3, 0.4]), NAMES, 1) == [("b", 0.4)]
    assert len(train.multi_class().answer(np.full(5, 0.2), "abcde", None)) == 3
    assert train.regression().answer(np.array([3.0, 4.0]), NAMES, 1) == [("a", 3.0), ("b", 4.0)]


def test_regression_works_in_standard_deviations():
    task = train.regression(mean=[10.0, 0.0], std=[2.0, 0.5])
    outputs, targets = jnp.array([[1.0, 0.0]]), jnp.array([[10.0, 1.0]])
    np.testing.assert_allclose(task.loss(outputs, targets), [(1 + 4) / 2])
    np.testing.assert_allclose(task.activate(outputs), [[12.0, 0.0]])
    huber = train.regression(mean=[10.0, 0.0], std=[2.0, 0.5], huber_delta=1.0)
    np.testing.assert_allclose(huber.objective(outputs, targets), [(0.5 + 1.5) / 2])
    np.testing.assert_array_equal(huber.loss(outputs, targets), task.loss(outputs, targets))


@pytest.mark.parametrize("std", [[0.0], [-1.0], [np.nan], [np.inf]])
def test_bad_deviations(std):
    with pytest.raises(ValueError, match="mean and std must be finite and std > 0"):
        train.regression(std=std)


def test_the_reported_loss_is_the_plain_one():
    logits, labels = jnp.array([[3.0, -1.0], [0.0, 1.0]]), jnp.array([0, 0])
    plain = train.multi_class()
    other = train.multi_class(label_smoothing=0.2, focal_gamma=2.0, class_weights=[1.0, 5.0])
    np.testing.assert_array_equal(plain.loss(logits, labels), other.loss(logits, labels))
    np.testing.assert_array_equal(plain.loss(logits, labels), plain.objective(logits, labels))
    assert not np.allclose(plain.objective(logits, labels), other.objective(logits, labels))
