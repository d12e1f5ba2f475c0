"""Predictions described by names and values."""

import numpy as np
import pytest

from jaxcnn import train
from jaxcnn.view.predictions import describe

NAMES = ("a", "b")


@pytest.mark.parametrize(
    ("task", "values", "names", "top", "expected"),
    [
        (train.multi_class(), [0.2, 0.5, 0.3], "abc", 2, [("b", 0.5), ("c", 0.3)]),
        (train.multi_class(), [0.2] * 5, "abcde", None, [("a", 0.2), ("b", 0.2), ("c", 0.2)]),
        (train.binary(), [0.75], NAMES, 2, [("b", 0.75), ("a", 0.25)]),
        (train.binary(), [0.25], ("shirt", "shoe"), 1, [("shirt", 0.75)]),
        (train.multi_label(), [0.5, 0.4], NAMES, None, []),
        (train.multi_label(), [0.3, 0.4], NAMES, 1, [("b", 0.4)]),
        (train.regression(), [3.0, 4.0], NAMES, 1, [("a", 3.0), ("b", 4.0)]),
    ],
)
def test_describe(task, values, names, top, expected):
    assert describe(task, np.array(values), names, top=top) == expected
