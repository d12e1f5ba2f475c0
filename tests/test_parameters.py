"""Selecting parameters by name, and penalties on parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import parameters, regularizers

TREE = {
    "conv1": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])},
    "block": {"conv2": {"kernel": jnp.array([4.0])}},
}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["conv1"], {"conv1/bias", "conv1/kernel"}),
        (["conv*"], {"conv1/bias", "conv1/kernel"}),
        (["block"], {"block/conv2/kernel"}),
        (["*conv2"], {"block/conv2/kernel"}),
        (["*kernel"], {"conv1/kernel", "block/conv2/kernel"}),
        (["conv1/bias", "block/*"], {"conv1/bias", "block/conv2/kernel"}),
        (["*"], {"conv1/bias", "conv1/kernel", "block/conv2/kernel"}),
        ([], set()),
    ],
)
def test_select(patterns, expected):
    chosen = parameters.select(TREE, patterns)
    assert jax.tree.structure(chosen) == jax.tree.structure(TREE)
    names = zip(parameters.parameter_names(TREE), jax.tree.leaves(chosen), strict=True)
    assert {name for name, is_chosen in names if is_chosen} == expected


@pytest.mark.parametrize("pattern", ["conv", "kernel", "Conv1", "conv1/kern", ""])
def test_a_pattern_must_match(pattern):
    with pytest.raises(ValueError, match=f"pattern '{pattern}' matches no parameter"):
        parameters.select(TREE, ["conv1", pattern])


@pytest.mark.slow
def test_penalty_and_its_gradient():
    def penalty(tree):
        return regularizers.penalty(tree, l1=0.5, l2=0.1, patterns=["*kernel"])

    np.testing.assert_allclose(penalty(TREE), 0.5 * 7 + 0.1 * 21, rtol=1e-6)
    gradient = jax.grad(penalty)(TREE)
    np.testing.assert_allclose(gradient["conv1"]["kernel"], [[0.5 + 0.2, -0.5 - 0.4]], rtol=1e-6)
    assert not gradient["conv1"]["bias"].any()


@pytest.mark.parametrize("option", ["l1", "l2"])
def test_bad_weights(option):
    with pytest.raises(ValueError, match=f"{option} must be finite and >= 0, got -1"):
        regularizers.penalty(TREE, **{option: -1.0})
