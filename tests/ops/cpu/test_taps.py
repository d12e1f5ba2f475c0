"""`take` and `put_back`: each is the other's adjoint."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcnn.ops.cpu.taps import put_back, take
from jaxcnn.ops.windows import Windows


def numbers(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def check(windows, sizes):
    """Compare the inner products in both directions."""
    images = numbers((2, *sizes, 3))
    taken = take(images, windows, filler=0)
    assert len(taken) == windows.taps
    values = [numbers(array.shape, seed) for seed, array in enumerate(taken)]
    assert taken[0].shape[1:-1] == windows.output(sizes)
    back = put_back(values, windows, sizes)
    chex.assert_shape(back, images.shape)
    forward = sum(jnp.vdot(a, b) for a, b in zip(taken, values, strict=True))
    np.testing.assert_allclose(forward, jnp.vdot(images, back), rtol=1e-4, atol=1e-3)


def test_taps_by_hand():
    signal = jnp.arange(1.0, 5.0).reshape(1, 4, 1)
    windows = Windows((2,), (2,), ((1, 0),), (1,))
    first, second = take(signal, windows, filler=-9)
    assert first.ravel().tolist() == [-9.0, 2.0]
    assert second.ravel().tolist() == [1.0, 3.0]
    back = put_back([first, second], windows, (4,))
    assert back.ravel().tolist() == [1.0, 2.0, 3.0, 0.0]


@pytest.mark.slow
@settings(max_examples=20)
@given(data=st.data())
def test_put_back_is_the_adjoint_of_take(geometries, data):
    check(*data.draw(geometries))
