"""Convolution and max pooling in one pass, against the two in sequence."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcnn import ops
from jaxcnn.ops import xla
from jaxcnn.ops.cpu import conv_pool
from jaxcnn.ops.dense import add_bias
from jaxcnn.ops.windows import Windows


def check(windows, sizes, pool, seed):
    """Compare on small integers, so that sums are exact and maxima are tied."""
    counts = windows.output(sizes)
    random = np.random.default_rng(seed)
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
        output = jax.nn.relu(add_bias(xla.conv(images, kernel, windows), bias))
        return ops.max_pool(output, pool, implementation="xla")

    output = jax.ShapeDtypeStruct((2, *counts, 16), jnp.float32)
    tiles = Windows(pool, pool, ((0, 0),) * len(pool), (1,) * len(pool))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_pool, "BARRIERS_HOLD", True)
        is_small = windows.taps * tiles.taps <= 128
        assert conv_pool.suits(operands[0], windows, output.shape, tiles) == is_small
        found, back = jax.vjp(jax.jit(one_pass), *operands)
    expected, expected_back = jax.vjp(jax.jit(one_by_one), *operands)
    np.testing.assert_array_equal(found, expected)
    gradient = jnp.asarray(random.integers(-2, 3, found.shape), jnp.float32)
    chex.assert_trees_all_equal(back(gradient), expected_back(gradient))


def test_one_pass_matches_one_after_the_other():
    check(Windows((3, 2), (1, 2), ((1, 1), (0, 1)), (1, 2)), (7, 9), pool=(2, 3), seed=0)


@pytest.mark.slow
@settings(max_examples=20)
@given(data=st.data())
def test_drawn_passes_match_one_after_the_other(geometries, data):
    windows, sizes = data.draw(geometries)
    pool = tuple(data.draw(st.integers(1, min(3, count))) for count in windows.output(sizes))
    check(windows, sizes, pool, data.draw(st.integers(0, 99)))
