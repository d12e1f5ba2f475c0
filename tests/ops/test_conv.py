"""`conv`, `depthwise_conv` and `conv_transpose` against NumPy, SciPy, `jax.lax` and by hand."""

import dataclasses
import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.test_util import check_grads

from jaxcnn import ops

OPS = {
    "conv": ops.conv,
    "depthwise_conv": ops.depthwise_conv,
    "conv_transpose": ops.conv_transpose,
}
LAYOUTS = {
    1: ("NHC", "HIO", "NHC"),
    2: ("NHWC", "HWIO", "NHWC"),
    3: ("NDHWC", "DHWIO", "NDHWC"),
}


def per_axis(value, rank):
    """Convert a single value, or one value per spatial dimension, to a tuple."""
    return (value,) * rank if isinstance(value, int) else value


@dataclasses.dataclass(frozen=True)
class Case:
    """The shapes and options of one call to an op, without array values."""

    name: str
    images: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: int | tuple[int, ...] = 1
    padding: object = "SAME"
    dilation: int | tuple[int, ...] = 1
    groups: int = 1

    @property
    def options(self):
        """The op's keyword arguments."""
        options = {"strides": self.strides, "padding": self.padding, "dilation": self.dilation}
        return options if self.name == "depthwise_conv" else options | {"groups": self.groups}

    def __call__(self, images, kernel, bias=None):
        """Apply the op under test."""
        return OPS[self.name](images, kernel, bias, **self.options)

    @property
    def terms(self):
        """The largest number of products summed for one output value."""
        return int(np.prod(self.kernel[:-1]))

    def integers(self, seed=0, dtype=np.float32):
        """Return images, kernel and bias of small integers, for which every sum is exact."""
        rng = np.random.default_rng(seed)
        shapes = (self.images, self.kernel, self.kernel[-1:])
        return tuple(rng.integers(-3, 4, shape).astype(dtype) for shape in shapes)

    def reals(self, seed=0, dtype=np.float32):
        """Return images, kernel and bias that use every bit of the mantissa."""
        rng = np.random.default_rng(seed)
        shapes = (self.images, self.kernel, self.kernel[-1:])
        return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


class Reference:
    """The definition in NumPy: a linear map between a large and a small image, and its adjoint.

    Kernel tap `t` connects pixel `p` of the small image to pixel `p * stride + t * dilation` of the
    padded large image. `conv` gathers from large to small; `conv_transpose` scatters back.
    """

    def __init__(self, case):
        rank = len(case.images) - 2
        self.groups = case.groups
        self.strides, self.dilation = per_axis(case.strides, rank), per_axis(case.dilation, rank)
        self.taps = case.kernel[:-2]
        sizes = case.images[1:-1]
        extent = [(w - 1) * d + 1 for w, d in zip(self.taps, self.dilation, strict=True)]
        padding = case.padding
        if not isinstance(padding, str):
            padding = [per_axis(pair, 2) for pair in per_axis(padding, rank)]
        self.transposed = case.name == "conv_transpose"
        if not self.transposed:
            self.large = sizes
        elif padding == "SAME":
            self.large = [n * s for n, s in zip(sizes, self.strides, strict=True)]
        elif padding == "VALID":
            self.large = [
                (n - 1) * s + max(w, s) for n, w, s in zip(sizes, extent, self.strides, strict=True)
            ]
        else:
            self.large = [
                (n - 1) * s + w - sum(pair)
                for n, w, s, pair in zip(sizes, extent, self.strides, padding, strict=True)
            ]
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(self.large, extent, self.strides, padding)
        self.padding = padding
        self.small = [
            (n + sum(pair) - w) // s + 1
            for n, w, s, pair in zip(self.large, extent, self.strides, padding, strict=True)
        ]

    def __call__(self, images, kernel, bias=0.0):
        """Return the expected output, in float64."""
        images, kernel, bias = (np.asarray(a, np.float64) for a in (images, kernel, bias))
        return (self.scatter if self.transposed else self.gather)(images, kernel) + bias

    def gradients(self, images, kernel, cotangent):
        """Return the cotangents of images, kernel and bias, in float64."""
        images, kernel, cotangent = (np.asarray(a, np.float64) for a in (images, kernel, cotangent))
        swapped = self.swap(kernel)
        if self.transposed:
            back = self.gather(cotangent, swapped)
            outer = self.swap(self.correlate(cotangent, images))
        else:
            back = self.scatter(cotangent, swapped)
            outer = self.correlate(images, cotangent)
        return back, outer, cotangent.sum(tuple(range(cotangent.ndim - 1)))

    def where(self):
        """Yield each kernel tap and its slices of the padded large image."""
        for tap in np.ndindex(*self.taps):
            starts = [t * d for t, d in zip(tap, self.dilation, strict=True)]
            spans = [
                slice(start, start + (n - 1) * s + 1, s)
                for start, n, s in zip(starts, self.small, self.strides, strict=True)
            ]
            yield tap, (slice(None), *spans)

    def mix(self, pixels, matrix):
        """Multiply channels by an `[in / groups, out]` matrix, group by group."""
        pixels = pixels.reshape(*pixels.shape[:-1], self.groups, -1)
        matrix = matrix.reshape(matrix.shape[0], self.groups, -1)
        mixed = np.einsum("...gc,cgo->...go", pixels, matrix)
        return mixed.reshape(*mixed.shape[:-2], -1)

    def swap(self, kernel):
        """Convert `[*spatial, in / groups, out]` to `[*spatial, out / groups, in]`."""
        *spatial, channels, _ = kernel.shape
        kernel = kernel.reshape(*spatial, channels, self.groups, -1)
        return np.swapaxes(kernel, -1, -3).reshape(*spatial, -1, self.groups * channels)

    def pad(self, large):
        """Pad the large image with zeros."""
        return np.pad(large, ((0, 0), *self.padding, (0, 0)))

    def gather(self, large, kernel):
        """Compute `small[p] = sum_t large[p * stride + t * dilation] @ kernel[t]`."""
        padded = self.pad(large)
        return sum(self.mix(padded[where], kernel[tap]) for tap, where in self.where())

    def scatter(self, small, kernel):
        """Compute `large[p * stride + t * dilation] += small[p] @ kernel[t]`."""
        padded = self.pad(np.zeros((len(small), *self.large, kernel.shape[-1])))
        for tap, where in self.where():
            padded[where] += self.mix(small, kernel[tap])
        inside = zip(self.padding, self.large, strict=True)
        return padded[(slice(None), *(slice(low, low + n) for (low, _), n in inside))]

    def correlate(self, large, small):
        """Compute `kernel[t] = sum_p large[p * stride + t * dilation] small[p]^T`, by group."""
        padded = self.pad(large)
        small = small.reshape(*small.shape[:-1], self.groups, -1)
        parts = []
        for _, where in self.where():
            pixels = padded[where].reshape(*small.shape[:-1], -1)
            part = np.einsum(
                "xgc,xgo->cgo", *(a.reshape(-1, *a.shape[-2:]) for a in (pixels, small))
            )
            parts.append(part.reshape(len(part), -1))
        return np.stack(parts).reshape(*self.taps, *parts[0].shape)


def lax_conv(case, images, kernel):
    """Make the same call with `lax.conv_general_dilated`, which resolves string padding itself."""
    rank = images.ndim - 2
    padding = case.padding
    if not isinstance(padding, str):
        padding = [per_axis(pair, 2) for pair in per_axis(padding, rank)]
    return lax.conv_general_dilated(
        images,
        kernel,
        per_axis(case.strides, rank),
        padding,
        rhs_dilation=per_axis(case.dilation, rank),
        dimension_numbers=LAYOUTS[rank],
        feature_group_count=case.groups,
    )


def lax_conv_transpose(case, images, kernel):
    """Apply the transpose that JAX derives from `lax.conv_general_dilated`."""
    *spatial, channels, features = kernel.shape
    kernel = kernel.reshape(*spatial, channels, case.groups, features // case.groups)
    kernel = jnp.swapaxes(kernel, -1, -3).reshape(*spatial, -1, channels * case.groups)
    large = jax.ShapeDtypeStruct(
        (len(images), *Reference(case).large, features), jnp.result_type(images)
    )
    transpose = jax.linear_transpose(lambda large: lax_conv(case, large, kernel), large)
    return transpose(images)[0]


@st.composite
def cases(draw, name):
    """Draw calls in 1 to 3 dimensions, with windows larger than strides and vice versa."""
    rank = draw(st.integers(1, 3))
    window_limit, stride_limit = {1: (5, 4), 2: (3, 4), 3: (2, 3)}[rank]

    def several(strategy):
        return tuple(draw(strategy) for _ in range(rank))

    def one_or_several(limit):
        strategy = st.integers(1, limit)
        return draw(strategy) if draw(st.booleans()) else several(strategy)

    window = several(st.integers(1, window_limit))
    strides, dilation = one_or_several(stride_limit), one_or_several(2)
    kind = draw(st.sampled_from(["SAME", "VALID", "integer", "pairs"]))
    side = st.integers(0, 2)
    padding = {"integer": draw(side), "pairs": several(st.tuples(side, side))}.get(kind, kind)
    pairs = {"integer": [(padding, padding)] * rank, "pairs": padding}.get(kind, [(0, 0)] * rank)

    sizes = []
    steps, gaps = per_axis(strides, rank), per_axis(dilation, rank)
    for w, s, d, pair in zip(window, steps, gaps, pairs, strict=True):
        extent = (w - 1) * d + 1
        smallest = 1
        if name == "conv_transpose":
            while (smallest - 1) * s + extent - sum(pair) < 1:
                smallest += 1
        elif kind != "SAME":
            smallest = max(extent - sum(pair), 1)
        sizes.append(smallest + draw(st.integers(0, 3)))

    groups = draw(st.integers(1, 3))
    channels = 1 if name == "depthwise_conv" else draw(st.integers(1, 2))
    features = groups * draw(st.integers(1, 2))
    images = (draw(st.integers(1, 2)), *sizes, groups * channels)
    return Case(name, images, (*window, channels, features), strides, padding, dilation, groups)


@functools.partial(jax.jit, static_argnums=0)
def forward_and_gradients(op, arrays, cotangent):
    """Compute the output and the arrays' cotangents in one compilation, like a training step."""
    output, pullback = jax.vjp(op, *arrays)
    return output, pullback(cotangent)


def every_op(examples):
    """Run a test on drawn cases for each op."""

    def decorate(test):
        drawn = given(data=st.data())(test)
        return pytest.mark.parametrize("name", OPS)(settings(max_examples=examples)(drawn))

    return decorate


def check_rounding(output, images, kernel, bias, case, unit):
    """Assert that the error is at most `unit` times the summed magnitudes (rounding error).

    The error of a float32 sum of n products is at most n * 2^-24 times the sum of their magnitudes,
    in any order of summation (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
    """
    reference = Reference(case)
    expected = reference(images, kernel, bias)
    magnitude = reference(np.abs(images), np.abs(kernel), np.abs(bias))
    chex.assert_shape(output, expected.shape)
    assert np.all(np.abs(np.asarray(output, np.float64) - expected) <= unit * magnitude)


@every_op(6)
def test_float32_matches_the_definition(name, data):
    case = data.draw(cases(name))
    arrays = case.reals()
    output = jax.jit(case)(*arrays)
    chex.assert_type(output, jnp.float32)
    check_rounding(output, *arrays, case, unit=(case.terms + 2) * 2**-24)


@every_op(3)
def test_bfloat16_is_rounded_once_for_the_sum_and_once_for_the_bias(name, data):
    case = data.draw(cases(name))
    arrays = case.reals(dtype=jnp.bfloat16)
    output = jax.jit(case)(*arrays)
    chex.assert_type(output, jnp.bfloat16)
    # An 8-bit mantissa rounds to within 2^-8; the products are summed in float32.
    exact = [np.asarray(array, np.float64) for array in arrays]
    check_rounding(output, *exact, case, unit=2 * 2**-8 + case.terms * 2**-24)


@every_op(2)
def test_eager_matches_jit(name, data):
    case = data.draw(cases(name))
    arrays = case.integers()
    chex.assert_trees_all_equal(case(*arrays), jax.jit(case)(*arrays))


@every_op(2)
def test_vmap_matches_a_loop(name, data):
    case = data.draw(cases(name))
    stacks = [np.stack(arrays) for arrays in zip(*map(case.integers, range(3)), strict=True)]
    first = [stack[0] for stack in stacks[1:]]

    @jax.jit
    def mapped(stacks, first):
        shared = jax.vmap(case, (0, None, None))(stacks[0], *first)
        return shared, jax.vmap(case)(*stacks)

    op, rows = jax.jit(case), [*zip(*stacks, strict=True)]
    shared = jnp.stack([op(images, *first) for images, *_ in rows])
    own = jnp.stack([op(*arrays) for arrays in rows])
    chex.assert_trees_all_equal(mapped(stacks, first), (shared, own))


def check_gradients(case):
    """Assert that the output and gradients for integers equal the definition exactly."""
    arrays, reference = case.integers(), Reference(case)
    expected = reference(*arrays)
    cotangent = np.random.default_rng(1).integers(-3, 4, expected.shape).astype(np.float32)
    output, gradients = forward_and_gradients(case, arrays, cotangent)
    chex.assert_trees_all_equal_shapes_and_dtypes(gradients, arrays)
    np.testing.assert_array_equal(output, expected)
    expected = reference.gradients(*arrays[:2], cotangent)
    for gradient, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_array_equal(gradient, wanted)


@every_op(5)
def test_gradients_match_the_definition(name, data):
    check_gradients(data.draw(cases(name)))


@pytest.mark.slow
@every_op(60)
def test_outputs_and_gradients_of_many_cases(name, data):
    check_gradients(data.draw(cases(name)))


@pytest.mark.parametrize("padding", [((2, 0), (3, 0)), ((0, 2), (0, 3)), 2])
@pytest.mark.parametrize("name", OPS)
def test_padding_beyond_the_window(name, padding):
    # The forward or backward pass has negative padding: see NEGATIVE PADDING in `ops.cpu.versions`.
    channels = 1 if name == "depthwise_conv" else 2
    groups = 2 if name == "depthwise_conv" else 1
    check_gradients(Case(name, (2, 5, 6, 2), (2, 2, channels, 4), 1, padding, groups=groups))


CASES = [
    Case("conv", (2, 7, 2), (3, 2, 3), 2, "SAME"),
    Case("conv", (2, 5, 6, 4), (3, 2, 2, 4), (1, 2), ((0, 2), (1, 0)), (2, 1), groups=2),
    Case("conv", (1, 4, 3, 4, 1), (2, 3, 2, 1, 2), (3, 1, 2), "VALID"),
    Case("depthwise_conv", (2, 6, 3), (3, 1, 6), 1, 1, 2, groups=3),
    Case("depthwise_conv", (2, 5, 4, 2), (3, 3, 1, 2), 2, "SAME", groups=2),
    Case("depthwise_conv", (1, 3, 3, 4, 2), (2, 2, 2, 1, 4), 1, "VALID", groups=2),
    Case("conv_transpose", (2, 4, 2), (3, 2, 1), 3, "SAME", 2),
    Case("conv_transpose", (2, 3, 4, 2), (2, 3, 1, 4), (3, 2), "VALID", groups=2),
    Case("conv_transpose", (1, 2, 3, 2, 2), (2, 2, 2, 2, 1), 2, ((0, 1), (1, 0), (1, 1))),
]
# The quick suite runs one case in three; drawn cases cover the shapes of the others.
by_case = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if number % 3 == 1 else pytest.mark.slow)
        for number, case in enumerate(CASES)
    ],
    ids=lambda case: f"{case.name}-{case.images}",
)


@by_case
def test_numerical_derivatives(case):
    with jax.enable_x64(True):
        # The op is linear in the images and in the kernel, so central differences are exact for any
        # step size, and a step of 1 leaves only float64 rounding.
        arrays = case.reals(dtype=np.float64)
        check_grads(jax.jit(case), arrays, 1, modes=["rev"], eps=1.0, atol=1e-11, rtol=1e-11)


@by_case
def test_float32_gradients_match_lax(case):
    arrays = case.reals()[:2]
    plain = lax_conv_transpose if case.name == "conv_transpose" else lax_conv
    cotangent = Reference(case)(*arrays).astype(np.float32)
    expected = forward_and_gradients(functools.partial(plain, case), arrays, cotangent)
    # At most 60 products of numbers up to 10, summed in a different order.
    results = forward_and_gradients(case, arrays, cotangent)
    chex.assert_trees_all_close(results, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=6)
@given(st.data())
def test_conv_transpose_matches_lax(data):
    case = data.draw(cases("conv_transpose"))
    case = dataclasses.replace(
        case,
        padding=data.draw(st.sampled_from(["SAME", "VALID"])),
        kernel=(*case.kernel[:-2], case.images[-1], case.kernel[-1]),
        groups=1,
    )
    images, kernel, _ = case.integers()
    rank = images.ndim - 2
    expected = lax.conv_transpose(
        images,
        np.swapaxes(kernel, -1, -2),
        per_axis(case.strides, rank),
        case.padding,
        rhs_dilation=per_axis(case.dilation, rank),
        dimension_numbers=LAYOUTS[rank],
        transpose_kernel=True,
    )
    chex.assert_trees_all_equal(jax.jit(case)(images, kernel), expected)


@settings(max_examples=4)
@given(st.data())
def test_conv_transpose_is_the_adjoint_of_conv(data):
    case = data.draw(cases("conv_transpose"))
    case = dataclasses.replace(case, kernel=(*case.kernel[:-2], case.images[-1], 2), groups=1)
    small, kernel, _ = case.integers()
    large = np.random.default_rng(1).integers(-3, 4, (len(small), *Reference(case).large, 2))
    large = large.astype(np.float32)
    conv = jax.jit(functools.partial(ops.conv, **case.options))
    gathered = conv(large, np.swapaxes(kernel, -1, -2))
    scattered = jax.jit(functools.partial(ops.conv_transpose, **case.options))(small, kernel)
    chex.assert_equal_shape([gathered, small])
    chex.assert_equal_shape([scattered, large])
    assert jnp.vdot(gathered, small) == jnp.vdot(large, scattered)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("window", [2, 3])
def test_stride_1_matches_correlation_in_scipy(rank, window):
    rng = np.random.default_rng(rank)
    image = rng.integers(-9, 10, (5, 6, 4)[:rank]).astype(np.float32)
    kernel = rng.integers(-9, 10, (window,) * rank).astype(np.float32)

    def correlate(padding):
        output = ops.conv(image[None, ..., None], kernel[..., None, None], padding=padding)
        return np.asarray(output[0, ..., 0])

    expected = scipy.signal.correlate(image, kernel, "valid", method="direct")
    np.testing.assert_array_equal(correlate("VALID"), expected)
    expected = scipy.signal.correlate(image, kernel, "full", method="direct")
    np.testing.assert_array_equal(correlate(window - 1), expected)
    # SciPy centers an even window one pixel later than SAME does.
    origin = -1 if window % 2 == 0 else 0
    expected = scipy.ndimage.correlate(image, kernel, mode="constant", origin=origin)
    np.testing.assert_array_equal(correlate("SAME"), expected)


def test_conv_by_hand():
    # Two channels, one filter: it sums the first channel along the diagonal, subtracts the second
    # channel's upper-right pixel, and adds a bias of 10.
    first = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    second = [[1, 0, 2], [0, 3, 0], [4, 0, 5]]
    image = jnp.array([first, second], jnp.float32).transpose(1, 2, 0)[None]
    kernel = jnp.array([[[1, 0], [0, 1]], [[0, -1], [0, 0]]], jnp.float32).transpose(1, 2, 0)
    output = ops.conv(image, kernel[..., None], jnp.array([10.0]), padding="VALID")
    # 1 + 5 - 0, 2 + 6 - 2; 4 + 8 - 3, 5 + 9 - 0
    chex.assert_trees_all_equal(output[0, ..., 0], jnp.array([[16.0, 16.0], [19.0, 24.0]]))


def test_dilated_strided_conv_by_hand():
    # Taps 2 apart on 1..7 with a zero prepended, at every third position: 0 + 2 and 3 + 5; the next
    # window would start at 6 and run past the end.
    signal = jnp.arange(1.0, 8.0).reshape(1, 7, 1)
    output = ops.conv(signal, jnp.ones((2, 1, 1)), strides=3, dilation=2, padding=((1, 0),))
    assert output.ravel().tolist() == [2.0, 8.0]


def test_conv_transpose_by_hand():
    # 1 * [1, 2, 3] is added at 0, 10 * [1, 2, 3] at 2; SAME keeps the first 2 * 2 of the 5 values.
    signal = jnp.array([1.0, 10.0]).reshape(1, 2, 1)
    kernel = jnp.array([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    transposed = functools.partial(ops.conv_transpose, signal, kernel, strides=2)
    assert transposed(padding="VALID").ravel().tolist() == [1.0, 2.0, 13.0, 20.0, 30.0]
    assert transposed(padding="SAME").ravel().tolist() == [1.0, 2.0, 13.0, 20.0]
    assert transposed(padding=1).ravel().tolist() == [2.0, 13.0, 20.0]
    # A stride larger than the window leaves a trailing pixel, which is part of the output.
    pixel = ops.conv_transpose(signal, kernel[:2], strides=3, padding="VALID")
    assert pixel.ravel().tolist() == [1.0, 2.0, 0.0, 10.0, 20.0, 0.0]


def test_depthwise_conv_by_hand():
    # Channel 0 is [1, 2], channel 1 is [3, 4]; each has a filter that adds and one that subtracts.
    signal = jnp.array([[1.0, 3.0], [2.0, 4.0]])[None]
    kernel = jnp.array([[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, 1.0, 1.0]]).reshape(2, 1, 4)
    output = ops.depthwise_conv(signal, kernel, padding="VALID")
    assert output.ravel().tolist() == [3.0, 1.0, 7.0, 1.0]


@pytest.mark.parametrize(
    ("size", "stride", "valid", "same"),
    [
        (3, 1, 32, 34),
        (3, 2, 16, 17),
        (3, 3, 11, 12),
        (3, 4, 8, 9),
        (5, 1, 30, 34),
        (5, 2, 15, 17),
        (5, 3, 10, 12),
        (5, 4, 8, 9),
    ],
)
def test_sizes_of_the_course_deck(size, stride, valid, same):
    image, filters = np.ones((1, 34, 34, 3), np.float32), np.ones((size, size, 3, 8), np.float32)
    output = ops.conv(image, filters, strides=stride, padding="VALID")
    chex.assert_trees_all_equal(output, jnp.full((1, valid, valid, 8), size * size * 3.0))
    output = jax.eval_shape(functools.partial(ops.conv, strides=stride), image, filters)
    chex.assert_shape(output, (1, same, same, 8))


def test_linear_in_images_and_kernel():
    case = Case("conv", (1, 5, 6, 4), (3, 2, 2, 2), (1, 2), groups=2)
    (images, kernel, _), (other_images, other_kernel, _) = case.integers(0), case.integers(1)
    op = jax.jit(case)
    chex.assert_trees_all_equal(
        op(2 * images - other_images, kernel), 2 * op(images, kernel) - op(other_images, kernel)
    )
    chex.assert_trees_all_equal(
        op(images, 2 * kernel - other_kernel), 2 * op(images, kernel) - op(images, other_kernel)
    )


@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
def test_shifted_images_give_shifted_outputs(strides):
    case = Case("conv", (1, 9, 10, 2), (3, 2, 2, 2), strides, "VALID")
    images, kernel, _ = case.integers()
    output = case(images, kernel)
    shifted = case(np.roll(images, strides, (1, 2)), kernel)
    chex.assert_trees_all_equal(shifted[:, 1:, 1:], output[:, :-1, :-1])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("op", [ops.conv, ops.conv_transpose])
def test_delta_kernel_is_the_identity(op, rank):
    images = np.random.default_rng(rank).standard_normal((2, *(4, 3, 5)[:rank], 3), np.float32)
    kernel = np.zeros((3,) * rank + (3, 3), np.float32)
    kernel[(1,) * rank] = np.eye(3)
    chex.assert_trees_all_equal(op(images, kernel), jnp.asarray(images))


@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
def test_groups_are_separate_convolutions(name):
    case = Case(name, (2, 5, 4, 6), (3, 2, 2, 9), 2, groups=3)
    images, kernel, bias = case.integers()
    alone = dataclasses.replace(case, groups=1)
    parts = [np.split(array, 3, -1) for array in (images, kernel, bias)]
    parts = [alone(*arrays) for arrays in zip(*parts, strict=True)]
    chex.assert_trees_all_equal(case(images, kernel, bias), jnp.concatenate(parts, -1))


def test_depthwise_channels_do_not_see_each_other():
    case = Case("depthwise_conv", (2, 5, 4, 3), (3, 2, 1, 6), (1, 2), groups=3)
    images, kernel, bias = case.integers()
    one = Case("conv", (2, 5, 4, 1), (3, 2, 1, 2), (1, 2))
    parts = [
        one(images[..., c : c + 1], kernel[..., 2 * c : 2 * c + 2], bias[2 * c : 2 * c + 2])
        for c in range(3)
    ]
    chex.assert_trees_all_equal(case(images, kernel, bias), jnp.concatenate(parts, -1))


@pytest.mark.parametrize("name", OPS)
def test_empty_batch(name):
    case = Case(name, (0, 4, 4, 2), (3, 3, 1, 2), 2, groups=2)
    size = 8 if name == "conv_transpose" else 2
    chex.assert_shape(case(*case.integers()), (0, size, size, 2))


IMAGE, KERNEL = (1, 4, 4, 4), (3, 3, 4, 6)
REJECTED = {
    "flat images": ("conv", (4, 4), KERNEL, {}, r"images must be \[B, .*\(4, 4\)"),
    "empty images": ("conv", (1, 0, 4, 4), KERNEL, {}, r"images .*no empty"),
    "flat kernel": ("conv", IMAGE, (3, 4, 6), {}, r"kernel must .*2 spatial.*\(3, 4, 6\)"),
    "empty kernel": ("conv", IMAGE, (3, 0, 4, 6), {}, r"kernel must .*no empty.*\(3, 0, 4, 6\)"),
    "no filters": ("conv", IMAGE, (3, 3, 4, 0), {}, r"kernel must .*\(3, 3, 4, 0\)"),
    "channels": ("conv", IMAGE, (3, 3, 3, 6), {}, r"kernel must have 4 / 1 = 4 .*\(3, 3, 3, 6\)"),
    "zero groups": ("conv", IMAGE, KERNEL, {"groups": 0}, r"groups .*0"),
    "group channels": ("conv", IMAGE, KERNEL, {"groups": 3}, r"groups must divide .*\(4\).*got 3"),
    "group outputs": ("conv", IMAGE, KERNEL, {"groups": 4}, r"groups must divide .*\(6\).*got 4"),
    "groups per dimension": ("conv", IMAGE, (3, 3, 2, 6), {"groups": (2, 2)}, r"groups .*\(2, 2\)"),
    "grouped kernel": ("conv", IMAGE, KERNEL, {"groups": 2}, r"kernel must have 4 / 2 = 2 "),
    "strides": ("conv", IMAGE, KERNEL, {"strides": 0}, r"strides .*got 0"),
    "dilation": ("conv", IMAGE, KERNEL, {"dilation": (1, 1, 1)}, r"dilation .*\(1, 1, 1\)"),
    "padding": ("conv", IMAGE, KERNEL, {"padding": "FULL"}, r"padding .*'FULL'"),
    "window": (
        "conv",
        IMAGE,
        KERNEL,
        {"padding": "VALID", "dilation": 2},
        r"window of \(5, 5\) .*\(4, 4\) with padding 'VALID'",
    ),
    "depthwise images": ("depthwise_conv", (4, 4), (3, 3, 1, 4), {}, r"images must be .*\(4, 4\)"),
    "depthwise kernel": ("depthwise_conv", IMAGE, (3, 3, 4, 4), {}, r"kernel must have 4 / 4 = 1 "),
    "multiplier": ("depthwise_conv", IMAGE, (3, 3, 1, 6), {}, r"groups must divide .*\(6\)"),
    "transpose strides": ("conv_transpose", IMAGE, KERNEL, {"strides": 1.5}, r"strides .*1\.5"),
    "transpose dilation": ("conv_transpose", IMAGE, KERNEL, {"dilation": 0}, r"dilation .*got 0"),
    "transpose padding": ("conv_transpose", IMAGE, KERNEL, {"padding": -1}, r"padding .*-1"),
    "cropped away": (
        "conv_transpose",
        IMAGE,
        KERNEL,
        {"padding": ((3, 3), (0, 0))},
        r"padding must leave a nonempty output .*\(4, 4\) .*\(3, 3\)",
    ),
}


@pytest.mark.parametrize("name", REJECTED)
def test_bad_input_is_rejected_while_tracing(name):
    op, images, kernel, options, message = REJECTED[name]
    arrays = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (images, kernel))
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        jax.eval_shape(functools.partial(OPS[op], **options), *arrays)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize(
    ("position", "replacement", "message"),
    [
        (0, ((1, 4, 4, 1), jnp.uint8), r"images must be floating point, got uint8"),
        (1, ((3, 3, 1, 2), jnp.bfloat16), r"kernel must have the same dtype as images \(float32\)"),
        (2, ((2,), jnp.bfloat16), r"bias must have the same dtype as .*float32.*bfloat16"),
        (2, ((1,), jnp.float32), r"bias must have shape \(2,\), got \(1,\)"),
        (2, ((), jnp.float32), r"bias must have shape \(2,\), got \(\)"),
    ],
)
def test_mismatched_arrays_are_rejected(name, position, replacement, message):
    arrays = [((1, 4, 4, 1), jnp.float32), ((3, 3, 1, 2), jnp.float32), ((2,), jnp.float32)]
    arrays[position] = replacement
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(OPS[name], *(jax.ShapeDtypeStruct(*array) for array in arrays))
