"""The formulation chosen for each shape, against plain convolutions and their gradients."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcnn import ops
from jaxcnn.ops import xla
from jaxcnn.ops.cpu import conv as cpu
from jaxcnn.ops.cpu import patches, winograd
from jaxcnn.ops.windows import Windows

SAME_3X3 = Windows((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))


def numbers(shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


@pytest.mark.slow
@settings(max_examples=30)
@given(data=st.data(), channels=st.integers(1, 5), kind=st.sampled_from(["dense", "depthwise"]))
def test_drawn_convolutions_match_xla(geometries, data, channels, kind):
    windows, sizes = data.draw(geometries)
    groups = channels if kind == "depthwise" else 1
    shape = (*windows.sizes, channels // groups, 2 * channels)
    images, kernel = numbers((3, *sizes, channels)), numbers(shape, 1)
    gradient = numbers((3, *windows.output(sizes), 2 * channels), 2)
    found, expected = (
        (
            module.conv(images, kernel, windows, groups=groups),
            module.input_gradient(gradient, kernel, windows, groups, images.shape),
            module.kernel_gradient(images, gradient, windows, groups, shape),
        )
        for module in (cpu, xla)
    )
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "batch", [1, 12, *(pytest.param(n, marks=pytest.mark.slow) for n in (7, 8))]
)
def test_kernel_gradients_of_any_batch(batch):
    images, gradient = numbers((batch, 20, 20, 2)), numbers((batch, 20, 20, 3), 1)
    arguments = (images, gradient, SAME_3X3, 1, (3, 3, 2, 3))
    found, expected = cpu.kernel_gradient(*arguments), xla.kernel_gradient(*arguments)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-3)


KERNEL_GRADIENTS = [
    (batch, channels, dtype, is_slow)
    for batch, channels in [(4, 3), (4, 64), (16, 64), (4, 128), (16, 256)]
    for dtype in (jnp.float32, jnp.bfloat16)
    for is_slow in (False, True)
]
QUICK_KERNEL_GRADIENTS = [(4, 64, jnp.float32, True), (4, 64, jnp.bfloat16, False)]


@pytest.mark.parametrize(("batch", "channels", "dtype", "is_slow"), KERNEL_GRADIENTS)
def test_kernel_gradients_use_winograd_with_enough_channels(
    monkeypatch, batch, channels, dtype, is_slow
):
    monkeypatch.setattr(winograd, "CONVOLUTIONS_ARE_SLOW", is_slow)
    images = jax.ShapeDtypeStruct((batch, 16, 16, channels), dtype)
    least = 64 if is_slow else 128 if dtype == jnp.float32 else 256
    assert winograd.suits_kernel_gradient(images, SAME_3X3, channels) == (channels >= least)


@pytest.mark.parametrize(
    ("batch", "channels", "dtype", "is_slow"),
    [
        pytest.param(*case, marks=[] if case in QUICK_KERNEL_GRADIENTS else pytest.mark.slow)
        for case in KERNEL_GRADIENTS
    ],
)
def test_kernel_gradients_match_xla_for_each_version(monkeypatch, batch, channels, dtype, is_slow):
    for module in (patches, winograd):
        monkeypatch.setattr(module, "CONVOLUTIONS_ARE_SLOW", is_slow)
    shape = (batch, 16, 16, channels)
    images, gradient = numbers(shape).astype(dtype), numbers(shape, 1).astype(dtype)
    shape = (3, 3, channels, channels)
    compute = jax.jit(cpu.kernel_gradient, static_argnums=(2, 3, 4))
    found = compute(images, gradient, SAME_3X3, 1, shape)
    assert found.dtype == dtype
    # Compare in float32, because XLA's bfloat16 sums are less accurate.
    images, gradient, found = (x.astype(jnp.float32) for x in (images, gradient, found))
    expected = xla.kernel_gradient(images, gradient, SAME_3X3, 1, shape)
    error = 3e-5 if dtype == jnp.float32 else 1e-2
    chex.assert_trees_all_close(found, expected, rtol=0, atol=error * jnp.abs(expected).max())


def test_gradients_in_a_loop_keep_the_fast_order():
    """See LOOP LAYOUTS in `ops.cpu.versions`: XLA chooses the fast order only outside loops."""
    images, kernel = numbers((32, 9, 9, 8)), numbers((3, 3, 8, 16))

    @jax.jit
    def looped(images, kernel):
        gradients = jax.grad(lambda *x: jnp.sum(ops.conv(*x, strides=2) ** 2), (0, 1))
        return jax.lax.fori_loop(0, 3, lambda _, x: gradients(*x), (images, kernel))

    text = looped.lower(images, kernel).compile().as_text()
    orders = re.findall(r"convolution\(.*dim_labels=([^,\s]+)", text)
    assert len(orders) >= 3 and set(orders) == {"b01f_01io->b01f"}
