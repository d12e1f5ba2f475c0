"""Patch products against plain convolutions and their gradients."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcnn.ops import xla
from jaxcnn.ops.cpu import patches
from jaxcnn.ops.windows import Windows


def numbers(shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def check(windows, sizes, batch):
    """Compare in float32, where errors are not hidden by rounding."""
    shape = (*windows.sizes, 3, 4)
    images, kernel = numbers((batch, *sizes, 3)), numbers(shape, 1)
    gradient = numbers((batch, *windows.output(sizes), 4), 2)
    found = (
        patches.conv(images, kernel, windows),
        patches.input_gradient(gradient, kernel, windows, images.shape),
        patches.kernel_gradient(images, gradient, windows, shape),
    )
    expected = (
        xla.conv(images, kernel, windows),
        xla.input_gradient(gradient, kernel, windows, 1, images.shape),
        xla.kernel_gradient(images, gradient, windows, 1, shape),
    )
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_patches_in_several_chunks_match_xla(monkeypatch):
    monkeypatch.setattr(patches, "_CHUNK_BYTES", 100)
    check(Windows((3, 2), (2, 1), ((1, 0), (0, 1)), (1, 2)), (6, 5), batch=12)


@pytest.mark.slow
@pytest.mark.parametrize("chunk_bytes", [100, 2**20], ids=["several chunks", "one chunk"])
@settings(max_examples=10)
@given(data=st.data(), batch=st.sampled_from([1, 6]))
def test_patches_match_xla(geometries, chunk_bytes, data, batch):
    windows, sizes = data.draw(geometries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patches, "_CHUNK_BYTES", chunk_bytes)
        check(windows, sizes, batch)
