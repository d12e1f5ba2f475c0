"""Winograd's method against plain convolutions and their kernel gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.ops import xla
from jaxcnn.ops.cpu import winograd
from jaxcnn.ops.windows import Windows


def numbers(shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def check(found, expected):
    """Check the rounding error, which is about ten times that of direct summation."""
    chex.assert_trees_all_close(found, expected, rtol=0, atol=3e-5 * jnp.abs(expected).max())


# Batches of one and several chunks; outputs that fill their tiles and outputs that do not.
@pytest.mark.parametrize(
    ("batch", "pairs"),
    [
        pytest.param(
            batch, pairs, marks=[] if (batch, pairs[0]) == (3, (0, 2)) else pytest.mark.slow
        )
        for batch in (1, 3, 96, 97)
        for pairs in (((1, 1), (1, 1)), ((0, 0), (0, 0)), ((0, 2), (3, 0)))
    ],
)
def test_winograd_matches_xla(batch, pairs):
    windows = Windows((3, 3), (1, 1), pairs, (1, 1))
    images, kernel = numbers((batch, 7, 10, 3)), numbers((3, 3, 3, 5), 1)
    expected = xla.conv(images, kernel, windows)
    flipped = jax.lax.rev(jnp.swapaxes(kernel, -1, -2), (0, 1))
    gradient = numbers(expected.shape, 2)

    @jax.jit
    def compute(images, kernel, flipped, gradient):
        return (
            winograd.conv(images, kernel, windows),
            winograd.conv(images, flipped, windows, flipped=True),
            winograd.kernel_gradient(images, gradient, windows),
        )

    output, of_flipped, of_kernel = compute(images, kernel, flipped, gradient)
    check(output, expected)
    check(of_flipped, expected)
    check(of_kernel, xla.kernel_gradient(images, gradient, windows, 1, kernel.shape))
