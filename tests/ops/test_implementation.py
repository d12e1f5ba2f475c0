"""Tuned formulations against plain `jax.lax`: values, gradients, caching and partitioning."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import ops


def numbers(shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def batch_norm(x, *, implementation):
    """Return the output and the new running statistics."""
    channels = x.shape[-1]
    scale, bias = jnp.linspace(0.5, 2, channels), jnp.linspace(-1, 1, channels)
    mean, var = jnp.zeros(channels), jnp.ones(channels)
    return ops.batch_norm(x, scale, bias, mean, var, train=True, implementation=implementation)


def convolution(kernel, **options):
    """Return a convolution whose kernel depends on the images, to test both gradients."""

    def function(x, *, implementation):
        # Scale the output to unit variance, because the loss takes its sine.
        scale = 1 / np.sqrt(np.prod(kernel[:-1]))
        weights = numbers(kernel, 1, x.dtype) * (scale * (1 + jnp.mean(x))).astype(x.dtype)
        return ops.conv(x, weights, implementation=implementation, **options)

    return function


def conv_relu_max_pool(kernel, **options):
    """Return an operation whose kernel and bias depend on the images, to test all gradients."""

    def function(x, *, implementation):
        changing = (1 + jnp.mean(x)).astype(x.dtype)
        weights = numbers(kernel, 1, x.dtype) * changing / np.sqrt(np.prod(kernel[:-1]))
        bias = numbers(kernel[-1:], 2, x.dtype) * changing
        return ops.conv_relu_max_pool(
            x, weights.astype(x.dtype), bias, implementation=implementation, **options
        )

    return function


# Operations on one array, with its shape; together they reach every tuned formulation.
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
    "strided by more than its window": (convolution((2, 1, 4, 5), strides=3), (3, 8, 9, 4)),
    "strided with a large window": (convolution((9, 8, 2, 3), strides=4), (4, 17, 16, 2)),
    "strided with many channels": (convolution((3, 3, 16, 5), strides=2, padding=1), (8, 7, 8, 16)),
    "strided 3d": (convolution((3, 2, 1, 3, 4), strides=(2, 1, 2)), (2, 5, 4, 6, 3)),
    "dense in chunks": (
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
    "conv_relu_max_pool of color images": (conv_relu_max_pool((3, 3, 3, 8), pool=2), (4, 7, 6, 3)),
    "first dilated": (convolution((3, 3, 3, 4), dilation=2), (6, 9, 9, 3)),
}


def in_half(op):
    """Return the operation, computed in half precision."""

    def function(x, *, implementation):
        return op(x.astype(jnp.bfloat16), implementation=implementation).astype(x.dtype)

    return function


HALF_CASES = {
    "patches": (in_half(convolution((3, 3, 6, 5), padding=1)), (2, 7, 6, 6)),
    "patches strided": (in_half(convolution((3, 2, 6, 5), strides=2)), (2, 7, 6, 6)),
}
by_case = pytest.mark.parametrize("case", CASES)
# The quick suite runs these cases. `test_conv`, `test_pool` and `test_norm` test the formulations
# used by the other cases against the definition in NumPy.
QUICK = {
    *("max_pool overlapping", "batch_norm", "depthwise multiplied", "pointwise strided"),
    *("strided", "strided with a large window", "strided with many channels", "dense in chunks"),
    *("dense padded by more than its window", "grouped", "3x3", "first"),
    *("conv_relu_max_pool", "conv_relu_max_pool strided"),
}
quick_or_slow = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in QUICK else pytest.mark.slow) for case in CASES]
)


def loss(op, implementation):
    """Return a smooth function of the output, so that its second derivatives are not all zero."""

    def function(x):
        return sum(
            jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(op(x, implementation=implementation))
        )

    return function


@quick_or_slow
def test_values_and_gradients_match_lax(case):
    op, shape = CASES[case]
    x = numbers(shape)
    results = {
        implementation: jax.jit(
            lambda x, name=implementation: (op(x, implementation=name), jax.grad(loss(op, name))(x))
        )(x)
        for implementation in ("auto", "xla")
    }
    chex.assert_trees_all_equal_shapes_and_dtypes(results["auto"], results["xla"])
    chex.assert_trees_all_close(results["auto"], results["xla"], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@by_case
def test_second_derivatives_match_lax(case):
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
def test_vmap_matches_a_loop(case):
    op, shape = CASES[case]
    gradient = jax.grad(loss(op, "auto"))
    stack = numbers((2, *shape))
    together = jax.jit(jax.vmap(gradient))(stack)
    alone = jnp.stack([jax.jit(gradient)(x) for x in stack])
    chex.assert_trees_all_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(QUICK))
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_other_precisions(case, dtype):
    op, shape = CASES[case]
    with jax.enable_x64(dtype == jnp.float64):
        x = numbers(shape, dtype=dtype)
        tuned, plain = (
            jax.jit(lambda x, name=name: (op(x, implementation=name), jax.grad(loss(op, name))(x)))(
                x
            )
            for name in ("auto", "xla")
        )
        chex.assert_trees_all_equal_shapes_and_dtypes(tuned, plain)
        for found, expected in zip(*map(jax.tree.leaves, (tuned, plain)), strict=True):
            scale = float(jnp.abs(expected).max())
            limit = 1e-12 if dtype == jnp.float64 else 2**-5
            assert float(jnp.abs(found - expected).max()) <= limit * scale


# Each op once: in plain form, all cases of an op use the same primitives of `jax.lax`.
FORWARD_MODE = (
    *("max_pool overlapping", "sum_pool", "avg_pool", "batch_norm", "depthwise strided"),
    *("strided", "grouped", "conv_relu_max_pool"),
)


@pytest.mark.slow
@pytest.mark.parametrize("case", FORWARD_MODE)
def test_plain_xla_supports_forward_mode(case):
    op, shape = CASES[case]
    x, direction = numbers(shape), numbers(shape, 7)
    with ops.plain_xla():
        assert not ops.implementation.is_tuned("auto")
        _, slope = jax.jvp(loss(op, "auto"), [x], [direction])
    gradient = jax.grad(loss(op, "auto"))(x)
    np.testing.assert_allclose(slope, jnp.vdot(gradient, direction), rtol=1e-3, atol=1e-3)


def test_plain_xla_is_part_of_the_cache_key():
    traced = []

    @jax.jit
    def pool(x):
        traced.append(ops.implementation.is_tuned("auto"))
        return ops.max_pool(x, 2)

    x = numbers((1, 4, 4, 1))
    pool(x)
    with ops.plain_xla():
        pool(x)
    pool(x)
    assert traced == [True, False]


def test_unknown_implementation_is_rejected():
    with pytest.raises(ValueError, match=r"implementation must be 'auto' or 'xla', got 'fast'"):
        ops.max_pool(jnp.zeros((1, 2, 2, 1)), 2, implementation="fast")


def test_tuned_formulations_make_no_callbacks():
    op, shape = CASES["depthwise strided"]
    text = jax.jit(jax.grad(loss(op, "auto"))).lower(numbers(shape)).as_text()
    assert "custom_call" not in text or "callback" not in text


SHARDED = r"""
import re, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
sys.path.insert(0, {folder!r})
from jaxcnn.ops.cpu import patches
from test_implementation import CASES, HALF_CASES, loss, numbers

mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
rows = NamedSharding(mesh, PartitionSpec("batch"))
patches._CHUNK_BYTES = 1000  # so that there are several chunks
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
