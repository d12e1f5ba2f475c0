"""Convolutions padded to shapes that avoid YNNPACK on jaxlib 0.10, against plain convolutions."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.ops import xla
from jaxcnn.ops.cpu import conv as cpu
from jaxcnn.ops.cpu import direct, patches, winograd
from jaxcnn.ops.windows import Windows


def numbers(shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


GEOMETRIES = [
    (8, 5, (1, 1), ((1, 1), (1, 1))),
    (8, 5, (1, 2), ((2, 0), (0, 1))),
    (8, 5, (2, 1), ((1, 1), (1, 1))),
    (8, 5, (1, 1), ((0, 0), (0, 0))),
    (3, 32, (2, 2), ((0, 1), (0, 1))),
    (3, 33, (1, 1), ((1, 1), (1, 1))),
    (1, 4, (1, 1), ((1, 1), (1, 1))),
    (16, 4, (2, 2), ((1, 1), (1, 1))),
    (64, 4, (1, 1), ((1, 1), (1, 1))),  # uses 33 rows: gets an extra row even without a gradient
]


@pytest.mark.parametrize(
    ("is_slow", "dtype", "for_gradient"),
    [
        # Only the code for jaxlib 0.10 in float32 depends on `for_gradient`.
        pytest.param(True, jnp.float32, True, id="0.10-for_gradient"),
        pytest.param(True, jnp.float32, False, id="0.10", marks=pytest.mark.slow),
        pytest.param(False, jnp.float32, False, id="0.12", marks=pytest.mark.slow),
        pytest.param(False, jnp.bfloat16, False, id="0.12-bfloat16", marks=pytest.mark.slow),
        pytest.param(True, jnp.bfloat16, False, id="0.10-bfloat16", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(("channels", "outputs", "strides", "pairs"), GEOMETRIES)
def test_convolutions_match_xla_for_each_version(
    monkeypatch, is_slow, dtype, for_gradient, channels, outputs, strides, pairs
):
    for module in (direct, patches, winograd):
        monkeypatch.setattr(module, "CONVOLUTIONS_ARE_SLOW", is_slow)
    windows = Windows((3, 3), strides, pairs, (1, 1))
    rows = 33 if channels == 64 else 9
    images = numbers((4, rows, 10, channels)).astype(dtype)
    kernel = numbers((3, 3, channels, outputs), 1).astype(dtype)
    compute = functools.partial(cpu.conv, for_gradient=for_gradient)
    found = jax.jit(compute, static_argnums=(2, 3))(images, kernel, windows, 1)
    expected = xla.conv(images, kernel, windows)
    assert found.dtype == dtype and found.shape == expected.shape
    found, expected = found.astype(jnp.float32), expected.astype(jnp.float32)
    error = 1e-5 if dtype == jnp.float32 else 1e-2
    chex.assert_trees_all_close(found, expected, rtol=error, atol=error * jnp.abs(expected).max())


@pytest.mark.parametrize("for_gradient", [True, False])
@pytest.mark.parametrize(("channels", "rows"), [(8, 9), (64, 31), (64, 32), (3, 9), (128, 9)])
def test_extra_row_and_channel_on_slow_versions(monkeypatch, channels, rows, for_gradient):
    """Check that the convolution passed to XLA has an extra row, or an even number of channels."""
    monkeypatch.setattr(direct, "CONVOLUTIONS_ARE_SLOW", True)
    windows = Windows((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    images = jax.ShapeDtypeStruct((2, rows, 10, channels), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, channels, 4), jnp.float32)
    compute = functools.partial(direct.conv, windows=windows, for_gradient=for_gradient)
    (called,) = [
        equation
        for equation in jax.make_jaxpr(compute)(images, kernel).eqns
        if equation.primitive.name == "conv_general_dilated"
    ]
    more = channels < 128 and ((for_gradient and channels >= 8) or (channels == 64 and rows >= 32))
    assert called.outvars[0].aval.shape[1] == rows + more
    assert called.invars[0].aval.shape[-1] == channels + channels % 2
