"""Windows, strides and padding, checked against `jax.lax` and by hand; errors name the argument."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from jaxcnn import shapes
from jaxcnn.messages import did_you_mean

# Image size, window and stride for each dimension; any of the three may be the largest.
AXES = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=3
)
PAIR = st.tuples(st.integers(0, 4), st.integers(0, 4))


@given(AXES)
def test_same_padding_matches_lax(axes):
    sizes, window, strides = zip(*axes, strict=True)
    pairs = shapes.pairs("SAME", sizes, window, strides)
    assert pairs == tuple(lax.padtype_to_pads(sizes, window, strides, "SAME"))
    outputs = [
        (n + low + high - w) // s + 1 for (n, w, s), (low, high) in zip(axes, pairs, strict=True)
    ]
    assert outputs == [-(-n // s) for n, s in zip(sizes, strides, strict=True)]


def test_same_padding_by_hand():
    # 5 pixels, window 4, stride 1: 3 pixels of padding, the extra one at the end. Stride 3: windows
    # at 0 and 3 span 7 pixels. A stride larger than the window may need no padding.
    sizes, window, strides = (5, 5, 5), (4, 4, 2), (1, 3, 4)
    assert shapes.pairs("SAME", sizes, window, strides) == ((1, 2), (1, 1), (0, 1))
    assert shapes.pairs("SAME", (6,), (2,), (4,)) == ((0, 0),)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("VALID", ((0, 0), (0, 0))),
        (0, ((0, 0), (0, 0))),
        (2, ((2, 2), (2, 2))),
        (np.int64(2), ((2, 2), (2, 2))),
        (((0, 1), (2, 3)), ((0, 1), (2, 3))),
        ([[0, 1], [2, 3]], ((0, 1), (2, 3))),
    ],
)
def test_other_paddings(padding, expected):
    assert shapes.pairs(padding, (4, 4), (3, 3), (1, 1)) == expected


@given(st.lists(PAIR, min_size=1, max_size=3))
def test_explicit_pairs_are_kept(padding):
    rank = len(padding)
    assert shapes.explicit_pairs(padding, rank) == tuple(padding)
    assert shapes.explicit_pairs(shapes.explicit_pairs(padding, rank), rank) == tuple(padding)


@given(st.integers(1, 9), st.integers(1, 3))
def test_one_integer_stands_for_all_dimensions(value, rank):
    assert shapes.ints(value, rank, "strides") == (value,) * rank
    assert shapes.ints(np.int32(value), rank, "strides") == (value,) * rank
    assert shapes.ints([value] * rank, rank, "strides") == (value,) * rank


@given(AXES)
def test_dilated_window_spans_its_taps(axes):
    _, window, dilation = zip(*axes, strict=True)
    spans = [np.ptp(np.arange(w) * d) + 1 for w, d in zip(window, dilation, strict=True)]
    assert list(shapes.dilated(window, dilation)) == spans


@given(AXES, st.data())
def test_window_sizes_count_real_pixels(axes, data):
    sizes, window, strides = zip(*axes, strict=True)
    padding = tuple(data.draw(st.lists(PAIR, min_size=len(axes), max_size=len(axes))))
    sizes = tuple(max(n, w) for n, w in zip(sizes, window, strict=True))
    real = np.pad(np.ones(sizes, int), padding)
    windows = np.lib.stride_tricks.sliding_window_view(real, window)
    windows = windows[tuple(slice(None, None, s) for s in strides)]
    expected = windows.sum(tuple(range(len(axes), 2 * len(axes))))
    np.testing.assert_array_equal(shapes.window_sizes(sizes, window, strides, padding), expected)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_spatial_rank(rank, dtype):
    assert shapes.spatial_rank(jnp.zeros((2, *range(3, 3 + rank), 1), dtype)) == rank
    assert shapes.spatial_rank(jnp.zeros((0, *range(3, 3 + rank), 1), dtype)) == rank


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 1 - 1e-9])
def test_probabilities_in_range_pass(value):
    shapes.check_probability(value, "rate")


def test_traced_probability_passes():
    jax.make_jaxpr(lambda rate: shapes.check_probability(rate, "rate"))(2.0)


def test_did_you_mean():
    names = ["resnet50", "vgg16", "lenet5"]
    assert did_you_mean("vgg61", names) == (
        "Did you mean 'vgg16'? Accepted: lenet5, resnet50, vgg16"
    )
    assert did_you_mean("?", iter(names)) == "Accepted: lenet5, resnet50, vgg16"


FLOAT, HALF = jnp.zeros(2), jnp.zeros(2, jnp.bfloat16)
UNIT = ((4, 4), (3, 3), (1, 1))  # compatible sizes, window and strides
REJECTED = {
    "rank 0": (shapes.spatial_rank, (jnp.zeros((2, 3)),), r"images must be .*\(2, 3\)"),
    "rank 4": (shapes.spatial_rank, (jnp.zeros((1,) * 6),), r"images must be .*1, 2 or 3"),
    "empty axis": (shapes.spatial_rank, (jnp.zeros((1, 0, 2, 1)),), r"images .*no empty.*0"),
    "no channel": (shapes.spatial_rank, (jnp.zeros((1, 2, 2, 0)), "x"), r"^x .*no empty.*0\)"),
    "integer images": (
        shapes.spatial_rank,
        (jnp.zeros((1, 2, 2, 1), jnp.uint8),),
        r"images must be floating point, got uint8; .*to_float",
    ),
    "integers": (shapes.check_floating, (jnp.zeros(2, int), "x"), r"x must be floating .*int"),
    "complex": (
        shapes.check_floating,
        (jnp.zeros(2, complex), "x"),
        r"x must be floating .*complex",
    ),
    "dtypes": (
        shapes.check_same_dtype,
        (FLOAT, HALF, "images", "kernel"),
        r"kernel must have the same dtype as images \(float32\), got bfloat16",
    ),
    "bias": (shapes.check_bias, (FLOAT, 3), r"bias must have shape \(3,\), got \(2,\)"),
    "bias rank": (shapes.check_bias, (FLOAT[None], 2, "mean"), r"mean must .*got \(1, 2\)"),
    "rate of 1": (shapes.check_probability, (1, "rate"), r"rate must be in \[0, 1\), got 1"),
    "negative rate": (shapes.check_probability, (-0.1, "rate"), r"rate .*-0\.1"),
    "NaN rate": (shapes.check_probability, (float("nan"), "rate"), r"rate .*nan"),
    "zero stride": (shapes.ints, (0, 2, "strides"), r"strides must be .*2 such integers, got 0"),
    "negative": (shapes.ints, ((1, -1), 2, "strides"), r"strides .*\(1, -1\)"),
    "too few": (shapes.ints, ((1,), 2, "strides"), r"strides .*\(1,\)"),
    "too many": (shapes.ints, ([1, 1, 1], 2, "strides"), r"strides .*\[1, 1, 1\]"),
    "empty": (shapes.ints, ((), 2, "strides"), r"strides .*\(\)"),
    "fraction": (shapes.ints, (1.5, 2, "window"), r"window .*1\.5"),
    "fractions": (shapes.ints, ((1, 2.0), 2, "window"), r"window .*\(1, 2\.0\)"),
    "boolean": (shapes.ints, (True, 2, "dilation"), r"dilation .*True"),
    "string": (shapes.ints, ("22", 2, "window"), r"window .*'22'"),
    "lower case": (shapes.pairs, ("same", *UNIT), r"padding must be 'SAME'.*got 'same'"),
    "negative padding": (shapes.pairs, (-1, *UNIT), r"padding .*got -1"),
    "negative in a pair": (shapes.pairs, (((0, 0), (0, -1)), *UNIT), r"padding .*-1"),
    "boolean padding": (shapes.pairs, (True, *UNIT), r"padding .*True"),
    "fractional padding": (shapes.pairs, (0.5, *UNIT), r"padding .*0\.5"),
    "flat padding": (shapes.pairs, ((1, 1), *UNIT), r"padding .*\(1, 1\)"),
    "triples": (shapes.pairs, (((1, 1, 1),) * 2, *UNIT), r"padding .*\(1, 1, 1\)"),
    "one pair": (shapes.pairs, (((1, 1),), *UNIT), r"padding .*2 \(low, high\) pairs"),
    "no pair": (shapes.pairs, ((), *UNIT), r"padding .*got \(\)"),
    "no padding": (shapes.pairs, (None, *UNIT), r"padding .*None"),
    "array": (shapes.pairs, (np.ones((2, 2)), *UNIT), r"padding must be 'SAME'.*array"),
    "large window": (
        shapes.pairs,
        ("VALID", (4, 4), (3, 5), (1, 1)),
        r"window of \(3, 5\) .*\(4, 4\) with padding 'VALID'",
    ),
    "large padded": (shapes.pairs, (1, (2,), (5,), (1,)), r"window of \(5,\) .*padding 1"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_bad_input_is_rejected_by_name(name):
    function, arguments, message = REJECTED[name]
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        function(*arguments)
