"""Files of the variables of any module: round trips, damage, and modules that do not match."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcnn import models, train
from jaxcnn.image import Preprocess


class Net(nn.Module):
    """A user's network."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(images)
        return nn.Dense(3, name="dense")(x.mean((1, 2)))


IMAGES = jnp.ones((2, 4, 4, 2))


def initialized():
    return Net().init(jax.random.key(0), IMAGES, train=False)


def test_a_module_gives_the_same_outputs(tmp_path):
    variables = initialized()
    models.save_variables(tmp_path / "net.safetensors", variables)
    like = jax.eval_shape(initialized)
    loaded = models.load_variables(tmp_path / "net.safetensors", like)
    assert train.fingerprint(loaded) == train.fingerprint(variables)
    expected, found = (Net().apply(v, IMAGES, train=False) for v in (variables, loaded))
    np.testing.assert_array_equal(found, expected)
    # Other programs see the paths as names.
    names = safetensors.numpy.load_file(tmp_path / "net.safetensors")
    assert "params/dense/kernel" in names and "batch_stats/norm/mean" in names
    models.save_variables(str(tmp_path / "again.safetensors"), loaded)
    contents = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("net", "again")]
    assert contents[0] == contents[1]


@settings(max_examples=20)
@given(
    st.dictionaries(st.text("ab.é ", min_size=1, max_size=3), st.integers(0, 3), min_size=1),
    st.sampled_from(["float32", "float16", "bfloat16", "int32", "bool"]),
)
def test_names_and_dtypes_are_kept(tmp_path_factory, sizes, dtype):
    path = tmp_path_factory.mktemp("files") / "x.safetensors"
    variables = {"params": {name: jnp.ones((size, 2), dtype) for name, size in sizes.items()}}
    models.save_variables(path, variables)
    loaded = models.load_variables(path, variables)
    assert jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), loaded) == jax.tree.map(
        lambda leaf: (leaf.shape, str(leaf.dtype)), variables
    )


def test_every_flipped_byte_is_found(tmp_path):
    path, like = tmp_path / "x.safetensors", {"params": {"a": np.arange(3.0), "b": np.ones(2)}}
    models.save_variables(path, like)
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(bytes(damaged))
        try:
            found = models.load_variables(path, like)
        except ValueError as error:
            assert str(error).isprintable()
        else:  # a space in the header
            assert train.fingerprint(found) == train.fingerprint(like)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda like: like["params"].pop("dense"), "contains params/dense/bias, which the module"),
        (lambda like: like["params"].update(new=np.ones(1)), "does not contain params/new"),
        (
            lambda like: like["params"]["dense"].update(bias=np.ones(4, np.float32)),
            r"dense/bias must be float32 of shape \(4,\), but .* contains float32 of shape \(3,\)",
        ),
        (
            lambda like: like["params"]["dense"].update(bias=np.ones(3, np.float16)),
            r"dense/bias must be float16 of shape \(3,\), but .* contains float32 of shape \(3,\)",
        ),
    ],
)
def test_other_modules_are_rejected(change, message, tmp_path):
    variables = jax.tree.map(np.asarray, initialized())
    models.save_variables(tmp_path / "x.safetensors", variables)
    change(variables)
    with pytest.raises(ValueError, match=message):
        models.load_variables(tmp_path / "x.safetensors", variables)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"params": {}},
        [np.ones(1)],
        np.ones(1),
        {"a/b": np.ones(1)},
        {1: np.ones(1)},
        {"a": "x"},
    ],
)
def test_only_dictionaries_of_arrays_are_saved(variables, tmp_path):
    with pytest.raises(ValueError, match="variables must be nested dictionaries of arrays"):
        models.save_variables(tmp_path / "x.safetensors", variables)
    assert not list(tmp_path.iterdir())


def test_other_files_are_rejected(tmp_path):
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file({"a": np.ones(1)}, path)
    with pytest.raises(ValueError, match="was not written by save_variables"):
        models.load_variables(path, {"a": np.ones(1)})
    models.save_variables(path, {"a": np.ones(1)})
    with pytest.raises(ValueError, match=r"without its configuration; read it with jaxcnn.models"):
        models.load_pretrained("lenet5", path)


def test_networks_of_other_modules_are_not_saved_as_pretrained(tmp_path):
    preprocess = Preprocess((4, 4), 2)
    for name in ("net.py:Net", "mine"):
        network = models.Pretrained(Net(), initialized(), preprocess, ("a", "b", "c"), name, {})
        with pytest.raises(ValueError, match=r"network.name must be one of .*save_variables"):
            models.save_pretrained(tmp_path / "x.safetensors", network)
    assert not list(tmp_path.iterdir())
