"""The formulations for CPUs against plain `jax.lax`: values, gradients, and how they partition."""

import functools
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcnn import ops
from jaxcnn.ops import cpu
from jaxcnn.ops import xla as plain
from jaxcnn.ops.cpu import conv as cpu_conv
from jaxcnn.ops.cpu import conv_pool as cpu_conv_pool
from jaxcnn.ops.cpu import direct, patches, winograd
from jaxcnn.ops.cpu.taps import put_back, take
from jaxcnn.ops.dense import add_bias
from jaxcnn.ops.windows import Windows


def numbers(shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def batch_norm(x, *, implementation):
    """The output with the running statistics, of the batch alone."""
    channels = x.shape[-1]
    scale, bias = jnp.linspace(0.5, 2, channels), jnp.linspace(-1, 1, channels)
    mean, var = jnp.zeros(channels), jnp.ones(channels)
    return ops.batch_norm(x, scale, bias, mean, var, train=True, implementation=implementation)


def convolution(kernel, **options):
    """A convolution with a fixed kernel and one that depends on the images, so both are derived."""

    def function(x, *, implementation):
        # Of unit variance, as the loss is a sine.
        scale = 1 / np.sqrt(np.prod(kernel[:-1]))
        weights = numbers(kernel, 1, x.dtype) * (scale * (1 + jnp.mean(x))).astype(x.dtype)
        return ops.conv(x, weights, implementation=implementation, **options)

    return function


def conv_relu_max_pool(kernel, **options):
    """With a kernel and a bias that depend on the images, so all three are derived."""

    def function(x, *, implementation):
        changing = (1 + jnp.mean(x)).astype(x.dtype)
        weights = numbers(kernel, 1, x.dtype) * changing / np.sqrt(np.prod(kernel[:-1]))
        bias = numbers(kernel[-1:], 2, x.dtype) * changing
        return ops.conv_relu_max_pool(
            x, weights.astype(x.dtype), bias, implementation=implementation, **options
        )

    return function


# Each an operation of one array, in the shapes that have a formulation of their own.
CASES = {
    "max_pool tiles": (functools.partial(ops.max_pool, window=2), (3, 7, 6, 4)),
    "max_pool tiles padded": (
        functools.partial(ops.max_pool, window=3, padding="SAME"),
        (3, 7, 5, 4),
    ),
    "max_pool overlapping": (
        functools.partial(ops.max_pool, window=3, strides=2, padding=1),
        (2, 9, 8, 3),
    ),
    "max_pool 1d": (functools.partial(ops.max_pool, window=2, strides=3), (2, 9, 3)),
    "max_pool 3d": (functools.partial(ops.max_pool, window=2), (2, 4, 5, 4, 2)),
    "sum_pool": (functools.partial(ops.sum_pool, window=(2, 3)), (2, 5, 7, 3)),
    "avg_pool": (
        functools.partial(ops.avg_pool, window=3, strides=2, padding="SAME"),
        (2, 8, 7, 3),
    ),
    "batch_norm": (batch_norm, (4, 5, 6, 3)),
    "batch_norm flat": (batch_norm, (16, 3)),
    "depthwise": (convolution((3, 3, 1, 6), groups=6, padding=1), (2, 8, 7, 6)),
    "depthwise strided": (convolution((5, 5, 1, 6), groups=6, strides=2, padding=2), (2, 9, 8, 6)),
    "depthwise multiplied": (convolution((3, 3, 1, 8), groups=4, dilation=2), (2, 8, 7, 4)),
    "depthwise 1d": (convolution((4, 1, 3), groups=3, strides=3), (2, 11, 3)),
    "pointwise": (convolution((1, 1, 6, 5)), (3, 5, 4, 6)),
    "pointwise strided": (convolution((1, 1, 6, 5), strides=2, padding=1), (3, 5, 4, 6)),
    "strided": (convolution((3, 3, 4, 5), strides=2, padding=1), (3, 8, 9, 4)),
    "strided over its window": (convolution((2, 1, 4, 5), strides=3), (3, 8, 9, 4)),
    "strided with a large window": (convolution((9, 8, 2, 3), strides=4), (4, 17, 16, 2)),
    "strided of many channels": (convolution((3, 3, 16, 5), strides=2, padding=1), (8, 7, 8, 16)),
    "strided 3d": (convolution((3, 2, 1, 3, 4), strides=(2, 1, 2)), (2, 5, 4, 6, 3)),
    "dense in parts": (
        convolution((3, 3, 3, 5), strides=2, padding=((2, 0), (0, 3))),
        (16, 6, 7, 3),
    ),
    "dense padded by more than its window": (convolution((2, 2, 5, 3), padding=4), (3, 3, 4, 5)),
    "grouped": (convolution((3, 3, 2, 6), groups=3, strides=2, padding=1), (16, 7, 6, 6)),
    "grouped 1d": (convolution((3, 2, 4), groups=2, dilation=2), (2, 9, 4)),
    "3x3": (convolution((3, 3, 128, 128), padding=1), (16, 7, 7, 128)),
    "first": (convolution((5, 5, 1, 4), padding=2), (8, 9, 9, 1)),
    "conv_relu_max_pool": (conv_relu_max_pool((5, 5, 1, 16), pool=2), (4, 8, 9, 1)),
    "conv_relu_max_pool strided": (
        conv_relu_max_pool((3, 3, 1, 16), pool=(3, 2), strides=2, padding=2),
        (4, 10, 9, 1),
    ),
    "conv_relu_max_pool of colours": (conv_relu_max_pool((3, 3, 3, 8), pool=2), (4, 7, 6, 3)),
    "first dilated": (convolution((3, 3, 3, 4), dilation=2), (6, 9, 9, 3)),
}


def in_half(op):
    """The operation in half precision."""

    def function(x, *, implementation):
        return op(x.astype(jnp.bfloat16), implementation=implementation).astype(x.dtype)

    return function


HALF_CASES = {
    "patches": (in_half(convolution((3, 3, 6, 5), padding=1)), (2, 7, 6, 6)),
    "patches strided": (in_half(convolution((3, 2, 6, 5), strides=2)), (2, 7, 6, 6)),
}
by_case = pytest.mark.parametrize("case", CASES)


def loss(op, implementation):
    """A smooth function of the output, so that its second derivatives are not all zero."""

    def function(x):
        return sum(
            jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(op(x, implementation=implementation))
        )

    return function


@by_case
def test_values_and_gradients_are_those_of_lax(case):
    op, shape = CASES[case]
    x = numbers(shape)
    results = {
        implementation: jax.jit(
            lambda x, own=implementation: (op(x, implementation=own), jax.grad(loss(op, own))(x))
        )(x)
        for implementation in ("auto", "xla")
    }
    chex.assert_trees_all_equal_shapes_and_dtypes(results["auto"], results["xla"])
    chex.assert_trees_all_close(results["auto"], results["xla"], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@by_case
def test_second_derivatives_are_those_of_lax(case):
    op, shape = CASES[case]
    x, direction = numbers(shape), numbers(shape, 7)

    def second(implementation):
        gradient = jax.grad(loss(op, implementation))
        return jax.jit(jax.grad(lambda x: jnp.vdot(gradient(x), direction)))(x)

    expected = second("xla")
    scale = float(jnp.abs(expected).max()) or 1.0
    chex.assert_trees_all_close(second("auto") / scale, expected / scale, rtol=0, atol=1e-4)


@pytest.mark.slow
@by_case
def test_vmap_is_a_loop(case):
    op, shape = CASES[case]
    gradient = jax.grad(loss(op, "auto"))
    stack = numbers((2, *shape))
    together = jax.jit(jax.vmap(gradient))(stack)
    alone = jnp.stack([jax.jit(gradient)(x) for x in stack])
    chex.assert_trees_all_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@by_case
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_other_precisions(case, dtype):
    op, shape = CASES[case]
    with jax.enable_x64(dtype == jnp.float64):
        x = numbers(shape, dtype=dtype)
        own, xla = (
            jax.jit(lambda x, own=own: (op(x, implementation=own), jax.grad(loss(op, own))(x)))(x)
            for own in ("auto", "xla")
        )
        chex.assert_trees_all_equal_shapes_and_dtypes(own, xla)
        for found, expected in zip(*map(jax.tree.leaves, (own, xla)), strict=True):
            scale = float(jnp.abs(expected).max())
            limit = 1e-12 if dtype == jnp.float64 else 2**-5
            assert float(jnp.abs(found - expected).max()) <= limit * scale


@pytest.mark.slow
@by_case
def test_forward_mode_is_there_in_plain_xla(case):
    op, shape = CASES[case]
    x, direction = numbers(shape), numbers(shape, 7)
    with ops.plain_xla():
        assert not ops.implementation.is_own("auto")
        _, slope = jax.jvp(loss(op, "auto"), [x], [direction])
    gradient = jax.grad(loss(op, "auto"))(x)
    np.testing.assert_allclose(slope, jnp.vdot(gradient, direction), rtol=1e-3, atol=1e-3)


@st.composite
def geometries(draw):
    """A window, and images that it fits."""
    rank = draw(st.integers(1, 3))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    sizes, strides, dilation = each(1, 4), each(1, 3), each(1, 2)
    extents = [(size - 1) * step + 1 for size, step in zip(sizes, dilation, strict=True)]
    pairs = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(rank))
    spatial = tuple(extent + draw(st.integers(0, 4)) for extent in extents)
    return Windows(sizes, strides, pairs, dilation), spatial


@pytest.mark.slow
@settings(max_examples=20)
@given(geometries(), st.sampled_from([1, 6]), st.sampled_from([100, 2**20]))
def test_patches_make_the_convolution(geometry, batch, part_bytes):
    """In float32, where a mistake shows; in one part and in several."""
    windows, sizes = geometry
    shape = (*windows.sizes, 3, 4)
    images, kernel = numbers((batch, *sizes, 3)), numbers(shape, 1)
    gradient = numbers((batch, *windows.output(sizes), 4), 2)
    with mock.patch.object(patches, "_PART_BYTES", part_bytes):
        own = (
            patches.conv(images, kernel, windows),
            patches.input_gradient(gradient, kernel, windows, images.shape),
            patches.kernel_gradient(images, gradient, windows, shape),
        )
    xla = (
        plain.conv(images, kernel, windows),
        plain.input_gradient(gradient, kernel, windows, 1, images.shape),
        plain.kernel_gradient(images, gradient, windows, 1, shape),
    )
    chex.assert_trees_all_close(own, xla, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@settings(max_examples=20)
@given(geometries())
def test_put_back_is_the_adjoint_of_take(geometry):
    windows, sizes = geometry
    images = numbers((2, *sizes, 3))
    taken = take(images, windows, filler=0)
    values = [numbers(array.shape, seed) for seed, array in enumerate(taken)]
    assert taken[0].shape[1:-1] == windows.output(sizes)
    back = put_back(values, windows, sizes)
    chex.assert_shape(back, images.shape)
    forward = sum(jnp.vdot(a, b) for a, b in zip(taken, values, strict=True))
    np.testing.assert_allclose(forward, jnp.vdot(images, back), rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@settings(max_examples=60)
@given(geometries(), st.integers(1, 5), st.sampled_from(["dense", "depthwise"]))
def test_drawn_convolutions(geometry, channels, kind):
    windows, sizes = geometry
    groups = channels if kind == "depthwise" else 1
    shape = (*windows.sizes, channels // groups, 2 * channels)
    images, kernel = numbers((3, *sizes, channels)), numbers(shape, 1)
    gradient = numbers((3, *windows.output(sizes), 2 * channels), 2)
    for own, xla in (
        (
            cpu_conv.conv(images, kernel, windows, groups),
            plain.conv(images, kernel, windows, groups=groups),
        ),
        (
            cpu_conv.input_gradient(gradient, kernel, windows, groups, images.shape),
            plain.input_gradient(gradient, kernel, windows, groups, images.shape),
        ),
        (
            cpu_conv.kernel_gradient(images, gradient, windows, groups, shape),
            plain.kernel_gradient(images, gradient, windows, groups, shape),
        ),
    ):
        chex.assert_trees_all_close(own, xla, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 7, 8, 12])
def test_first_kernel_gradients_of_any_batch(batch):
    windows = Windows((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    images, gradient = numbers((batch, 20, 20, 2)), numbers((batch, 20, 20, 3), 1)
    arguments = (images, gradient, windows, 1, (3, 3, 2, 3))
    own, xla = cpu_conv.kernel_gradient(*arguments), plain.kernel_gradient(*arguments)
    chex.assert_trees_all_close(own, xla, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "batch", [3, *(pytest.param(batch, marks=pytest.mark.slow) for batch in (1, 96, 97))]
)
@pytest.mark.parametrize("pairs", [((1, 1), (1, 1)), ((0, 0), (0, 0)), ((0, 2), (3, 0))])
def test_winograd_is_the_convolution(batch, pairs):
    """Batches of one part and of several, outputs that fill their tiles and others."""
    windows = Windows((3, 3), (1, 1), pairs, (1, 1))
    images, kernel = numbers((batch, 7, 10, 3)), numbers((3, 3, 3, 5), 1)
    expected = plain.conv(images, kernel, windows)
    output = jax.jit(winograd.conv, static_argnums=2)(images, kernel, windows)
    chex.assert_trees_all_close(output, expected, rtol=0, atol=3e-5 * jnp.abs(expected).max())
    gradient = numbers(expected.shape, 2)
    turn = jax.jit(functools.partial(winograd.conv, turned=True), static_argnums=2)
    turned = jax.lax.rev(jnp.swapaxes(kernel, -1, -2), (0, 1))
    for found in (output, turn(images, turned, windows)):
        chex.assert_trees_all_close(found, expected, rtol=0, atol=3e-5 * jnp.abs(expected).max())
    found = jax.jit(winograd.kernel_gradient, static_argnums=2)(images, gradient, windows)
    expected = plain.kernel_gradient(images, gradient, windows, 1, kernel.shape)
    chex.assert_trees_all_close(found, expected, rtol=0, atol=3e-5 * jnp.abs(expected).max())


@pytest.mark.parametrize("is_slow", [False, True], ids=["as on 0.12", "as on 0.10"])
@pytest.mark.parametrize(
    ("channels", "outputs", "strides", "pairs"),
    [
        (8, 5, (1, 1), ((1, 1), (1, 1))),
        (8, 5, (1, 2), ((2, 0), (0, 1))),
        (8, 5, (2, 1), ((1, 1), (1, 1))),
        (8, 5, (1, 1), ((0, 0), (0, 0))),
        (3, 32, (2, 2), ((0, 1), (0, 1))),
        (3, 33, (1, 1), ((1, 1), (1, 1))),
        (1, 4, (1, 1), ((1, 1), (1, 1))),
        (16, 4, (2, 2), ((1, 1), (1, 1))),
        (64, 4, (1, 1), ((1, 1), (1, 1))),  # in 33 rows: one more also without a gradient
    ],
)
@pytest.mark.parametrize("for_gradient", [False, True])
def test_convolutions_as_for_each_version(
    monkeypatch, is_slow, channels, outputs, strides, pairs, for_gradient
):
    for module in (direct, patches, winograd):
        monkeypatch.setattr(module, "CONVOLUTIONS_ARE_SLOW", is_slow)
    windows = Windows((3, 3), strides, pairs, (1, 1))
    rows = 33 if channels == 64 else 9
    images, kernel = numbers((4, rows, 10, channels)), numbers((3, 3, channels, outputs), 1)
    own_form = functools.partial(cpu_conv.conv, for_gradient=for_gradient)
    compute = jax.jit(own_form, static_argnums=(2, 3))
    for dtype in (jnp.float32, jnp.bfloat16):
        operands = images.astype(dtype), kernel.astype(dtype)
        own = compute(*operands, windows, 1)
        xla = plain.conv(*operands, windows)
        assert own.dtype == dtype and own.shape == xla.shape
        own, xla = own.astype(jnp.float32), xla.astype(jnp.float32)
        error = 1e-5 if dtype == jnp.float32 else 1e-2
        chex.assert_trees_all_close(own, xla, rtol=error, atol=error * jnp.abs(xla).max())


@pytest.mark.parametrize("is_slow", [False, True], ids=["as on 0.12", "as on 0.10"])
@pytest.mark.parametrize(("batch", "channels"), [(4, 3), (4, 64), (16, 64), (4, 128), (16, 256)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_kernel_gradients_as_for_each_version(monkeypatch, is_slow, batch, channels, dtype):
    for module in (patches, winograd):
        monkeypatch.setattr(module, "CONVOLUTIONS_ARE_SLOW", is_slow)
    windows = Windows((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    shape = (batch, 16, 16, channels)
    images, gradient = numbers(shape).astype(dtype), numbers(shape, 1).astype(dtype)
    least = 64 if is_slow else 128 if dtype == jnp.float32 else 256
    assert winograd.suits_kernel_gradient(images, windows, channels) == (channels >= least)
    shape = (3, 3, channels, channels)
    compute = jax.jit(cpu_conv.kernel_gradient, static_argnums=(2, 3, 4))
    own = compute(images, gradient, windows, 1, shape)
    assert own.dtype == dtype
    # Sums of bfloat16 that XLA makes are further off.
    images, gradient, own = (x.astype(jnp.float32) for x in (images, gradient, own))
    xla = plain.kernel_gradient(images, gradient, windows, 1, shape)
    error = 3e-5 if dtype == jnp.float32 else 1e-2
    chex.assert_trees_all_close(own, xla, rtol=0, atol=error * jnp.abs(xla).max())


@pytest.mark.slow
@settings(max_examples=20)
@given(st.data())
def test_drawn_convolutions_with_pooling_in_one_pass(data):
    """Against one after the other, of whole numbers, so that sums are exact and maxima tie."""
    windows, sizes = data.draw(geometries())
    counts = windows.output(sizes)
    pool = tuple(data.draw(st.integers(1, min(3, count))) for count in counts)
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    shapes = (2, *sizes, 1), (*windows.sizes, 1, 16), (16,)
    operands = [jnp.asarray(random.integers(-2, 3, shape), jnp.float32) for shape in shapes]

    def one_pass(*operands):
        return ops.conv_relu_max_pool(
            *operands,
            pool=pool,
            strides=windows.strides,
            padding=windows.pairs,
            dilation=windows.dilation,
        )

    def one_by_one(images, kernel, bias):
        output = jax.nn.relu(add_bias(plain.conv(images, kernel, windows), bias))
        return ops.max_pool(output, pool, implementation="xla")

    output = jax.ShapeDtypeStruct((2, *counts, 16), jnp.float32)
    tiles = Windows(pool, pool, ((0, 0),) * len(pool), (1,) * len(pool))
    with mock.patch.object(cpu_conv_pool, "BARRIERS_HOLD", True):
        is_small = math.prod(windows.sizes) * math.prod(pool) <= 128
        assert cpu_conv_pool.suits(operands[0], windows, output.shape, tiles) == is_small
        found, back = jax.vjp(jax.jit(one_pass), *operands)
    expected, back_one_by_one = jax.vjp(jax.jit(one_by_one), *operands)
    np.testing.assert_array_equal(found, expected)
    gradient = jnp.asarray(random.integers(-2, 3, found.shape), jnp.float32)
    chex.assert_trees_all_equal(back(gradient), back_one_by_one(gradient))


def test_in_a_loop_gradients_keep_the_order_that_is_fast():
    """XLA brings dimensions into that order outside of loops only."""
    images, kernel = numbers((32, 9, 9, 8)), numbers((3, 3, 8, 16))

    @jax.jit
    def looped(images, kernel):
        gradients = jax.grad(lambda *x: jnp.sum(ops.conv(*x, strides=2) ** 2), (0, 1))
        return jax.lax.fori_loop(0, 3, lambda _, x: gradients(*x), (images, kernel))

    text = looped.lower(images, kernel).compile().as_text()
    orders = re.findall(r"convolution\(.*dim_labels=([^,\s]+)", text)
    assert len(orders) >= 3 and set(orders) == {"b01f_01io->b01f"}


def test_the_context_is_part_of_the_cache():
    traced = []

    @jax.jit
    def pool(x):
        traced.append(ops.implementation.is_own("auto"))
        return ops.max_pool(x, 2)

    x = numbers((1, 4, 4, 1))
    pool(x)
    with ops.plain_xla():
        pool(x)
    pool(x)
    assert traced == [True, False]


def test_every_module_for_cpus_is_plain_jax():
    assert "callback" not in str(cpu.__doc__)
    op, shape = CASES["depthwise strided"]
    text = jax.jit(jax.grad(loss(op, "auto"))).lower(numbers(shape)).as_text()
    assert "custom_call" not in text or "callback" not in text


SHARDED = r"""
import re, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
sys.path.insert(0, {folder!r})
from jaxcnn.ops.cpu import patches
from test_implementations import CASES, HALF_CASES, loss, numbers

mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
rows = NamedSharding(mesh, PartitionSpec("batch"))
patches._PART_BYTES = 1000  # so that there are several
for number, (name, (op, shape)) in enumerate((CASES | HALF_CASES).items(), 1):
    shape = (8, *shape[1:])
    x = numbers(shape)
    gradient = jax.jit(jax.grad(loss(op, "auto")), in_shardings=rows, out_shardings=rows)
    compiled = gradient.lower(x).compile()
    gathered = [
        line
        for line in compiled.as_text().splitlines()
        if (found := re.search(r"= \w+\[([\d,]*)\]\S* all-gather", line))
        and np.prod([int(n) for n in found[1].split(",")]) > 16 * shape[-1]  # a kernel may be
    ]
    assert not gathered, (name, gathered)
    alone = jax.jit(jax.grad(loss(op, "auto")))(x)
    np.testing.assert_allclose(compiled(jax.device_put(x, rows)), alone, rtol=1e-3, atol=1e-4)
print("sharded", number)
"""


@pytest.mark.slow
def test_a_sharded_batch_is_not_gathered():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    script = SHARDED.format(folder=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"sharded {len(CASES | HALF_CASES)}\n", done.stdout + done.stderr
