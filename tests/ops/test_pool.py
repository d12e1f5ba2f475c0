"""Pooling ops against NumPy, SciPy, `jax.lax` and hand-computed values, including ties."""

import dataclasses
import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.test_util import check_grads

from jaxcnn import ops

POOLS = {
    "max": ops.max_pool,
    "max_xla": functools.partial(ops.max_pool, implementation="xla"),
    "sum": ops.sum_pool,
    "avg": ops.avg_pool,
    "avg_padded": functools.partial(ops.avg_pool, count_include_pad=True),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """The shapes and options of one pooling call, without array values."""

    images: tuple[int, ...]
    window: int | tuple[int, ...]
    strides: int | tuple[int, ...] | None = None
    padding: object = "VALID"

    @property
    def pools(self):
        """The ops under test, as functions of only the images."""
        options = {"window": self.window, "strides": self.strides, "padding": self.padding}
        return {name: functools.partial(pool, **options) for name, pool in POOLS.items()}

    def __call__(self, images):
        """Apply every pooling op to the images, by name, so that one compilation covers all."""
        return {name: pool(images) for name, pool in self.pools.items()}

    @property
    def rank(self):
        """Number of spatial dimensions."""
        return len(self.images) - 2

    @property
    def sizes(self):
        """The window, one extent per dimension."""
        return (self.window,) * self.rank if isinstance(self.window, int) else self.window

    @property
    def steps(self):
        """The strides, one per dimension."""
        strides = self.window if self.strides is None else self.strides
        return (strides,) * self.rank if isinstance(strides, int) else strides

    @property
    def pairs(self):
        """The padding as `jax.lax` resolves it."""
        if isinstance(self.padding, str):
            inside = self.images[1:-1]
            return tuple(lax.padtype_to_pads(inside, self.sizes, self.steps, self.padding))
        return ((self.padding,) * 2,) * self.rank if isinstance(self.padding, int) else self.padding

    def integers(self, seed=0):
        """Return images of few distinct integers: most windows have ties, and sums are exact."""
        return np.random.default_rng(seed).integers(-2, 3, self.images).astype(np.float32)

    def reals(self, seed=0, dtype=np.float32):
        """Return images that use every bit of the mantissa."""
        return np.random.default_rng(seed).standard_normal(self.images).astype(dtype)

    def windows(self, images, fill):
        """Return the values under each window in raster order: `[B, *output, C, values]`."""
        padded = np.pad(images, ((0, 0), *self.pairs, (0, 0)), constant_values=fill)
        axes = tuple(range(1, self.rank + 1))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.sizes, axes)
        windows = windows[(slice(None), *(slice(None, None, step) for step in self.steps))]
        return windows.reshape(*windows.shape[: -self.rank], -1)

    def shares(self, name, images):
        """Return the weight of each value under each window, in the shape of `windows`."""
        windows = self.windows(images, -np.inf)
        real = windows > -np.inf
        if name.startswith("max"):
            first = windows.argmax(-1)[..., None]
            return (np.arange(windows.shape[-1]) == first).astype(np.float64)
        if name == "avg":
            return real / real.sum(-1, keepdims=True)
        return real / (windows.shape[-1] if name == "avg_padded" else 1)

    def reference(self, name, images):
        """Return the expected output, in float64."""
        images = np.asarray(images, np.float64)
        return (self.windows(images, 0) * self.shares(name, images)).sum(-1)

    def gradient(self, name, images, cotangent):
        """Return the expected cotangent of the images, in float64."""
        spread = self.shares(name, np.asarray(images, np.float64)) * cotangent[..., None]
        number = np.arange(images.size).reshape(images.shape) + 1
        targets = self.windows(number, 0)  # padding is index 0 and has weight 0
        total = np.bincount(targets.ravel(), spread.ravel(), images.size + 1)
        return total[1:].reshape(images.shape)

    @property
    def in_lax(self):
        """The same ops via `lax.reduce_window`, which resolves string padding itself."""
        window, strides = (1, *self.sizes, 1), (1, *self.steps, 1)
        padding = self.padding if isinstance(self.padding, str) else ((0, 0), *self.pairs, (0, 0))

        def total(images):
            return lax.reduce_window(images, 0.0, lax.add, window, strides, padding)

        def largest(images):
            return lax.reduce_window(images, -jnp.inf, lax.max, window, strides, padding)

        return {
            "max": largest,
            "max_xla": largest,
            "sum": total,
            "avg": lambda x: total(x) / total(jnp.ones_like(x)),
            "avg_padded": lambda x: total(x) / np.float32(np.prod(self.sizes)),
        }


@st.composite
def cases(draw):
    """Draw geometries in 1 to 3 dimensions, with windows larger than strides and vice versa."""
    rank = draw(st.integers(1, 3))
    window_limit, stride_limit = {1: (5, 6), 2: (4, 4), 3: (3, 3)}[rank]

    def per_axis(strategy):
        return tuple(draw(strategy) for _ in range(rank))

    def one_or_per_axis(limit):
        strategy = st.integers(1, limit)
        return draw(strategy) if draw(st.booleans()) else per_axis(strategy)

    window = one_or_per_axis(window_limit)
    sizes = (window,) * rank if isinstance(window, int) else window
    strides = draw(st.none()) if draw(st.booleans()) else one_or_per_axis(stride_limit)
    kind = draw(st.sampled_from(["SAME", "VALID", "integer", "pairs"]))
    integer = draw(st.integers(0, min(sizes) - 1))
    pairs = tuple((draw(st.integers(0, w - 1)), draw(st.integers(0, w - 1))) for w in sizes)
    padding = {"integer": integer, "pairs": pairs}.get(kind, kind)
    total = {"integer": [2 * integer] * rank, "pairs": [sum(pair) for pair in pairs]}
    total = total.get(kind, [0] * rank)
    smallest = [
        1 if kind == "SAME" else max(w - padded, 1) for w, padded in zip(sizes, total, strict=True)
    ]
    spatial = [n + draw(st.integers(0, 4)) for n in smallest]
    images = (draw(st.integers(1, 2)), *spatial, draw(st.integers(1, 3)))
    return Case(images, window, strides, padding)


def forward_and_gradients(pools, images, cotangents):
    """Compute each op's output and image cotangent, in one compilation."""

    @jax.jit
    def run(images, cotangents):
        results = {}
        for name, pool in pools.items():
            output, pullback = jax.vjp(pool, images)
            results[name] = output, *pullback(cotangents[name])
        return results

    return run(images, cotangents)


def check_rounding(outputs, images, case, unit):
    """Assert an error of at most `unit` times the summed magnitudes, and exact maxima.

    The error of a float32 sum of n values is at most n * 2^-24 times the sum of their magnitudes,
    in any order of summation (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2).
    """
    assert outputs.keys() == POOLS.keys()
    for name, output in outputs.items():
        expected = case.reference(name, images)
        bound = 0 if name.startswith("max") else unit * case.reference(name, np.abs(images))
        chex.assert_shape(output, expected.shape)
        assert np.all(np.abs(np.asarray(output, np.float64) - expected) <= bound), name


@settings(max_examples=12)
@given(cases())
def test_float32_matches_the_definition(case):
    images = case.reals()
    outputs = jax.jit(case)(images)
    chex.assert_type([*outputs.values()], jnp.float32)
    check_rounding(outputs, images, case, unit=(np.prod(case.sizes) + 2) * 2**-24)


@settings(max_examples=6)
@given(cases())
def test_bfloat16_is_rounded_once_for_the_sum_and_once_for_the_division(case):
    images = case.reals(dtype=jnp.bfloat16)
    outputs = jax.jit(case)(images)
    chex.assert_type([*outputs.values()], jnp.bfloat16)
    # An 8-bit mantissa rounds to within 2^-8; the values are summed in float32.
    unit = 2 * 2**-8 + np.prod(case.sizes) * 2**-24
    check_rounding(outputs, np.asarray(images, np.float64), case, unit)


@settings(max_examples=3)
@given(cases())
def test_eager_matches_jit(case):
    images = case.integers()
    # XLA may multiply instead of dividing by a constant: one extra rounding of 2^-24 on each side.
    chex.assert_trees_all_close(case(images), jax.jit(case)(images), rtol=2**-23, atol=0)


@settings(max_examples=3)
@given(cases())
def test_vmap_matches_a_loop(case):
    stack, jitted = np.stack([case.integers(seed) for seed in range(3)]), jax.jit(case)
    loop = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(jitted, stack))
    # The tolerance has the same reason as in test_eager_matches_jit.
    chex.assert_trees_all_close(jax.jit(jax.vmap(case))(stack), loop, rtol=2**-23, atol=0)


def check_gradients(case):
    """Assert that each op's gradient matches the definition."""
    images, rng = case.integers(), np.random.default_rng(1)
    cotangents = {
        name: rng.integers(1, 9, case.reference(name, images).shape).astype(np.float32)
        for name in POOLS
    }
    results = forward_and_gradients(case.pools, images, cotangents)
    for name, (_, gradient) in results.items():
        chex.assert_trees_all_equal_shapes_and_dtypes(gradient, images)
        expected = case.gradient(name, images, cotangents[name])
        np.testing.assert_allclose(gradient, expected, rtol=gradient_rounding(name), err_msg=name)


@settings(max_examples=5)
@given(cases())
def test_gradients_match_the_definition(case):
    check_gradients(case)


@pytest.mark.slow
@settings(max_examples=60)
@given(cases())
def test_outputs_and_gradients_of_many_cases(case):
    images = case.reals()
    check_rounding(jax.jit(case)(images), images, case, unit=(np.prod(case.sizes) + 2) * 2**-24)
    check_gradients(case)


def gradient_rounding(name):
    """Return 0 for exact integer sums; averages round once per window, in at most 60 windows."""
    return 60 * 2**-24 if name.startswith("avg") else 0


CASES = [
    Case((2, 7, 2), 3, 2, "SAME"),
    Case((2, 5, 6, 3), 2),
    Case((2, 5, 4, 2), (3, 2), (1, 3), ((2, 1), (0, 1))),
    Case((1, 3, 4, 5, 2), (2, 3, 1), (3, 2, 1), "SAME"),
]
by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.images}")
by_pool = pytest.mark.parametrize("name", POOLS)


@by_case
def test_numerical_derivatives(case):
    with jax.enable_x64(True):
        # Values are 1/8 apart in random order, so normal steps scaled by 2^-10 do not reorder them;
        # without reordering, pooling is linear and central differences are exact.
        size = int(np.prod(case.images))
        images = np.random.default_rng(size).permutation(size).reshape(case.images) / 8
        options = {"eps": 2**-10, "atol": 1e-10, "rtol": 1e-10}
        check_grads(jax.jit(case), (images,), 1, modes=["rev"], **options)
        check_grads(jax.jit(case.pools["max_xla"]), (images,), 1, modes=["fwd"], **options)


@by_case
def test_outputs_and_gradients_match_lax(case):
    images = case.integers()
    ones = {name: np.ones_like(case.reference(name, images), np.float32) for name in POOLS}
    results = forward_and_gradients(case.pools, images, ones)
    expected = forward_and_gradients(case.in_lax, images, ones)
    for name in POOLS:
        rounding = gradient_rounding(name)
        chex.assert_trees_all_close(results[name], expected[name], rtol=rounding, atol=0)


@by_pool
def test_gradient_under_vmap_and_jit(name):
    case = Case((1, 5, 4, 2), 3, 2, "SAME")
    stack = np.stack([case.integers(seed) for seed in range(3)])
    gradient = jax.jit(jax.grad(lambda images: jnp.sum(case.pools[name](images))))
    mapped = jax.jit(jax.vmap(gradient))(stack)
    # Up to 4 overlapping windows, each with one rounding.
    chex.assert_trees_all_close(mapped, jnp.stack([*map(gradient, stack)]), rtol=2**-21, atol=0)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("window", [2, 3])
def test_stride_1_matches_filters_in_scipy(rank, window):
    image = np.random.default_rng(rank).integers(-9, 10, (5, 6, 4)[:rank]).astype(np.float32)
    # SciPy centers an even window one pixel later than SAME does.
    origin = -1 if window % 2 == 0 else 0
    options = {"mode": "constant", "origin": origin}

    pooled = jax.jit(Case((1, *image.shape, 1), window, 1, "SAME"))(image[None, ..., None])
    pooled = {name: output[0, ..., 0] for name, output in pooled.items()}
    expected = scipy.ndimage.maximum_filter(image, window, cval=-np.inf, **options)
    np.testing.assert_array_equal(pooled["max"], expected)
    expected = scipy.ndimage.correlate(image, np.ones((window,) * rank), **options)
    np.testing.assert_array_equal(pooled["sum"], expected)
    expected = scipy.ndimage.uniform_filter(image.astype(np.float64), window, **options)
    # Exact sums of up to 27 integers below 10, rounded once by the division.
    np.testing.assert_allclose(pooled["avg_padded"], expected, rtol=1e-6, atol=1e-6)


def test_pools_by_hand():
    image = jnp.array([[1.0, 3.0, 2.0], [5.0, 4.0, 0.0], [7.0, 8.0, 9.0]]).reshape(1, 3, 3, 1)
    # 2 x 2 windows leave out the last row and column; SAME includes them.
    assert ops.max_pool(image, 2).ravel().tolist() == [5.0]
    assert ops.max_pool(image, 2, strides=1).ravel().tolist() == [5.0, 4.0, 8.0, 9.0]
    assert ops.max_pool(image, 2, padding="SAME").ravel().tolist() == [5.0, 2.0, 8.0, 9.0]
    assert ops.sum_pool(image, 2, padding="SAME").ravel().tolist() == [13.0, 2.0, 15.0, 9.0]
    assert ops.avg_pool(image, 2, padding="SAME").ravel().tolist() == [3.25, 1.0, 7.5, 9.0]
    padded = ops.avg_pool(image, 2, padding="SAME", count_include_pad=True)
    assert padded.ravel().tolist() == [3.25, 0.5, 3.75, 2.25]
    # A stride larger than the window skips the second row and column.
    assert ops.sum_pool(image, 1, strides=2).ravel().tolist() == [1.0, 2.0, 7.0, 9.0]


@pytest.mark.parametrize(
    ("signal", "options", "expected"),
    [
        # All values are equal, so the first in each window gets the gradient.
        ([0, 0, 0, 0], {"window": 2}, [1, 0, 1, 0]),
        ([0, 0, 0, 0], {"window": 2, "strides": 1}, [1, 1, 1, 0]),
        # The middle maximum wins both of its windows.
        ([1, 2, 2, 1], {"window": 2, "strides": 1}, [0, 2, 1, 0]),
        # Padding is never a maximum, even of negative numbers.
        ([-1, -1, -1], {"window": 2, "strides": 2, "padding": 1}, [1, 1, 0]),
        ([-3, -2, -2], {"window": 3, "strides": 2, "padding": "SAME"}, [0, 2, 0]),
    ],
)
def test_max_pool_gradient_of_ties_goes_to_the_first(signal, options, expected):
    signal = jnp.array(signal, jnp.float32).reshape(1, -1, 1)
    gradient = jax.jit(jax.grad(lambda signal: jnp.sum(ops.max_pool(signal, **options))))(signal)
    assert gradient.ravel().tolist() == expected


def test_max_pool_gradient_of_a_tied_square_goes_to_its_first_row():
    # Row-major order: of the tied (0, 1) and (1, 0), the upper one is first.
    image = jnp.array([[0.0, 7.0], [7.0, 0.0]]).reshape(1, 2, 2, 1)
    gradient = jax.jit(jax.grad(lambda image: jnp.sum(ops.max_pool(image, 2))))(image)
    assert gradient.ravel().tolist() == [0.0, 1.0, 0.0, 0.0]


@by_case
def test_sum_is_the_padded_average_times_the_volume(case):
    images = case.integers()
    pooled = jax.jit(case)(images)
    # The division and the product each round once.
    total = pooled["avg_padded"] * np.prod(case.sizes)
    chex.assert_trees_all_close(total, pooled["sum"], rtol=2**-23, atol=0)


@by_case
def test_max_of_the_negative_is_minus_the_minimum(case):
    images = case.integers()
    minimum = case.windows(images, np.inf).min(-1)
    np.testing.assert_array_equal(-case.pools["max"](-images), minimum)


@settings(max_examples=10)
@given(cases())
def test_average_of_a_constant_is_the_constant(case):
    images = np.full(case.images, 0.75, np.float32)
    output = jax.jit(case.pools["avg"])(images)
    # 3/4 of a count is exact, and so is dividing it by the count.
    chex.assert_trees_all_equal(output, jnp.full_like(output, 0.75))


@by_pool
def test_channels_and_images_are_pooled_separately(name):
    case = Case((2, 5, 4, 3), (3, 2), (1, 3), ((2, 1), (0, 1)))
    images, pool = case.integers(), jax.jit(case.pools[name])
    for image, channel in np.ndindex(2, 3):
        alone = pool(images[image, None, ..., channel, None])[0, ..., 0]
        whole = pool(images)[image, ..., channel]
        # The tolerance has the same reason as in test_eager_matches_jit.
        chex.assert_trees_all_close(alone, whole, rtol=2**-23, atol=0)


@pytest.mark.parametrize("shape", [(2, 7, 3), (2, 9, 8, 2), (2, 3, 2, 4, 1)])
@pytest.mark.parametrize(
    ("whole", "windowed"), [(ops.global_max_pool, "max"), (ops.global_avg_pool, "avg")]
)
def test_global_pools_are_pools_of_the_full_window(shape, whole, windowed):
    case = Case(shape, shape[1:-1])
    images = case.reals()
    pool, flat = case.pools[windowed], (shape[0], shape[-1])
    output = jax.jit(whole)(images)
    chex.assert_shape(output, flat)
    # At most 72 normal values, summed in different orders and divided by their count.
    chex.assert_trees_all_close(output, whole(images), rtol=0, atol=1e-6)

    @jax.jit
    def others(images):
        gradients = [jax.grad(lambda x, op=op: jnp.sum(op(x) ** 2))(images) for op in (whole, pool)]
        return pool(images).reshape(flat), jax.vmap(whole)(images[:, None])[:, 0], *gradients

    windowed, mapped, gradient, expected = others(images)
    chex.assert_trees_all_close(output, windowed, rtol=0, atol=1e-6)
    chex.assert_trees_all_close(mapped, output, rtol=0, atol=1e-6)
    chex.assert_trees_all_close(gradient, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pool", [ops.global_max_pool, ops.global_avg_pool])
def test_global_pools_numerically_and_in_bfloat16(pool):
    images = np.random.default_rng(0).permutation(24).reshape(2, 3, 2, 2) / 8.0
    with jax.enable_x64(True):
        check_grads(jax.jit(pool), (images,), 1, modes=["rev"], eps=2**-10, atol=1e-10, rtol=1e-10)
    half = pool(jnp.asarray(images, jnp.bfloat16))
    chex.assert_type(half, jnp.bfloat16)
    # The images are exact in bfloat16; the result is rounded to 8 bits once.
    exact = np.asarray(pool(jnp.asarray(images, jnp.float32)))
    np.testing.assert_allclose(np.asarray(half, np.float32), exact, rtol=2**-8)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((2, 7, 3), 3), ((2, 8, 6, 3), (4, 2)), ((1, 5, 7, 2), (2, 9)), ((1, 4, 3, 5, 2), (3, 1, 2))],
)
def test_adaptive_pool_is_the_mean_of_each_part(shape, size, key):
    images = jax.random.normal(key, shape, jnp.float32)
    sizes = (size,) * (len(shape) - 2) if isinstance(size, int) else size
    expected = np.zeros((shape[0], *sizes, shape[-1]))
    for position in np.ndindex(*sizes):
        part = tuple(
            slice(i * length // n, -(-(i + 1) * length // n))
            for i, n, length in zip(position, sizes, shape[1:-1], strict=True)
        )
        axes = tuple(range(1, len(shape) - 1))
        whole = np.asarray(images, np.float64)[(slice(None), *part)]
        expected[(slice(None), *position)] = whole.mean(axes)
    pooled = jax.jit(functools.partial(ops.adaptive_avg_pool, size=size))(images)
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


def test_adaptive_pool_numerical_derivatives(key):
    images = jax.random.normal(key, (1, 5, 7, 2))
    check_grads(jax.jit(functools.partial(ops.adaptive_avg_pool, size=(2, 9))), (images,), order=1)


@pytest.mark.slow
def test_adaptive_pool_of_known_sizes(key):
    images = jax.random.normal(key, (2, 8, 6, 3))
    np.testing.assert_array_equal(ops.adaptive_avg_pool(images, (8, 6)), images)
    np.testing.assert_allclose(
        ops.adaptive_avg_pool(images, (4, 2)), ops.avg_pool(images, (2, 3)), atol=1e-6
    )
    np.testing.assert_allclose(
        ops.adaptive_avg_pool(images, 1)[:, 0, 0], ops.global_avg_pool(images), atol=1e-6
    )
    # Pixels are repeated if the image is smaller than the output.
    np.testing.assert_array_equal(
        ops.adaptive_avg_pool(images, (16, 12)), images.repeat(2, 1).repeat(2, 2)
    )
    for dtype in (jnp.bfloat16, jnp.float16):
        chex.assert_type(ops.adaptive_avg_pool(images.astype(dtype), 3), dtype)
    with pytest.raises(ValueError, match=r"size .*got 0"):
        ops.adaptive_avg_pool(images, 0)


def test_bfloat16_averages_large_windows():
    # In bfloat16, 256 + 1 is 256, so a bfloat16 sum would stop at a quarter of the total.
    images = jnp.ones((1, 32, 32, 1), jnp.bfloat16)
    assert ops.sum_pool(images, 32).item() == 1024
    assert ops.avg_pool(images, 32).item() == 1
    assert ops.global_avg_pool(images).item() == 1


def test_empty_batch():
    outputs = jax.jit(Case((0, 4, 4, 2), 2))(np.zeros((0, 4, 4, 2), np.float32))
    chex.assert_shape([*outputs.values()], (0, 2, 2, 2))


REJECTED = {
    "flat images": ((4, 4), {"window": 2}, r"images must be \[B, .*\(4, 4\)"),
    "empty images": ((1, 4, 0, 1), {"window": 1}, r"images .*no empty"),
    "zero window": ((1, 4, 4, 1), {"window": 0}, r"window .*got 0"),
    "window of the wrong rank": ((1, 4, 4, 1), {"window": (2, 2, 2)}, r"window .*\(2, 2, 2\)"),
    "strides": ((1, 4, 4, 1), {"window": 2, "strides": (0, 1)}, r"strides .*\(0, 1\)"),
    "padding": ((1, 4, 4, 1), {"window": 2, "padding": "same"}, r"padding .*'same'"),
    "large window": (
        (1, 4, 4, 1),
        {"window": (2, 5)},
        r"window of \(2, 5\) .*\(4, 4\) with padding 'VALID'",
    ),
    "large padding": ((1, 4, 4, 1), {"window": 2, "padding": 2}, r"padding must .*\(2, 2\).*got 2"),
    "large dimension": (
        (1, 4, 4, 1),
        {"window": (2, 3), "padding": ((0, 1), (3, 0))},
        r"padding must be smaller than the window \(2, 3\).*\(3, 0\)",
    ),
}


@by_pool
@pytest.mark.parametrize("bad", REJECTED)
def test_bad_input_is_rejected_while_tracing(name, bad):
    shape, options, message = REJECTED[bad]
    pool = functools.partial(POOLS[name], **options)
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        jax.eval_shape(pool, jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.mark.parametrize(
    "pool",
    [
        *(functools.partial(p, window=1) for p in POOLS.values()),
        ops.global_max_pool,
        ops.global_avg_pool,
        functools.partial(ops.adaptive_avg_pool, size=1),
    ],
)
def test_integers_and_flat_images_are_rejected(pool):
    with pytest.raises(ValueError, match=r"images must be floating point, got uint8"):
        jax.eval_shape(pool, jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.uint8))
    with pytest.raises(ValueError, match=r"images must be \[B, .*got shape \(2, 2\)"):
        jax.eval_shape(pool, jax.ShapeDtypeStruct((2, 2), jnp.float32))
