"""Pretrained networks from files: names, shapes, errors, and jaxcnn's own files.

tests/parity/test_pretrained.py compares every family's outputs with the other libraries.
"""

import contextlib
import functools
import http.server
import importlib
import json
import sys
import threading

import chex
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxcnn import models
from jaxcnn.image import Preprocess
from jaxcnn.models.weights import jaxcnn_files
from jaxcnn.parameters import fingerprint

SMALL = {"depths": (1, 1), "width": 8}
IMAGES = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)


def random_tensors(outputs=1000, channels=3):
    """Return the weights of a small ResNet, with torchvision's names and axis order."""
    rng = np.random.default_rng(0)
    shapes = {
        "conv1.weight": (8, channels, 7, 7),
        "fc.weight": (outputs, 16),
        "fc.bias": (outputs,),
    }
    for layer, width, before in (("layer1.0", 8, 8), ("layer2.0", 16, 8)):
        shapes[f"{layer}.conv1.weight"] = (width, before, 3, 3)
        shapes[f"{layer}.conv2.weight"] = (width, width, 3, 3)
    shapes["layer2.0.downsample.0.weight"] = (16, 8, 1, 1)
    norms = {"bn1": 8, "layer1.0.bn1": 8, "layer1.0.bn2": 8, "layer2.0.bn1": 16}
    norms |= {"layer2.0.bn2": 16, "layer2.0.downsample.1": 16}
    for norm, width in norms.items():
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{leaf}"] = (width,)
    tensors = {name: rng.uniform(0.1, 1, shape).astype("f4") for name, shape in shapes.items()}
    return tensors | {"bn1.num_batches_tracked": np.array(3, "i8")}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "network.safetensors"


def load(path, tensors, name="resnet18", **options):
    safetensors.numpy.save_file(tensors, path)
    return models.load_pretrained(name, path, **({**SMALL, **options} if "resnet" in name else {}))


def test_a_network_of_torchvision(path):
    tensors = random_tensors()
    found = load(path, tensors)
    assert found.name == "resnet18" and found.options == SMALL
    assert found.classes == models.imagenet_classes()
    assert found.preprocess.size == (224, 224)
    assert found.preprocess.mean == (0.485, 0.456, 0.406)
    assert found.model == models.create("resnet18", 1000, **SMALL)
    params, statistics = found.variables["params"], found.variables["batch_stats"]
    np.testing.assert_array_equal(
        params["conv1"]["kernel"], tensors["conv1.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(params["fc"]["kernel"], tensors["fc.weight"].T)
    np.testing.assert_array_equal(
        params["layer2_0"]["downsample_0"]["kernel"][0, 0],
        tensors["layer2.0.downsample.0.weight"][:, :, 0, 0].T,
    )
    np.testing.assert_array_equal(
        statistics["layer1_0"]["bn2"]["var"], tensors["layer1.0.bn2.running_var"]
    )
    expected = jax.eval_shape(
        lambda images: found.model.init(jax.random.key(0), images, train=False), IMAGES
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(found.variables, expected)


def test_unknown_classes_are_named_by_number(path):
    assert load(path, random_tensors(outputs=7)).classes == tuple("0123456")


def changed(**changes):
    """Return the valid tensors with the given changes; None removes a tensor."""
    tensors = random_tensors() | changes
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


ONES = np.ones(8, "f4")
WRONG = {
    "missing": (changed(**{"layer1.0.conv2.weight": None}), "tensor layer1.0.conv2.weight is miss"),
    "missing head": (changed(**{"fc.weight": None}), "tensor fc.weight is missing; num_classes=0"),
    "missing statistics": (changed(**{"bn1.running_var": None}), "tensor bn1.running_var is miss"),
    "extra": (changed(**{"layer5.weight": ONES}), "it contains tensors that .*: layer5.weight"),
    "misshaped": (
        changed(**{"layer2.0.conv1.weight": np.ones((16, 9, 3, 3), "f4")}),
        r"tensor layer2.0.conv1.weight of shape \\(16, 9, 3, 3\\) does not match "
        r".*\\(3, 3, 8, 16\\)",
    ),
    "wrong rank": (
        changed(**{"conv1.weight": np.ones((8, 147), "f4")}),
        r"tensor conv1.weight of shape \\(8, 147\\) does not match",
    ),
    "inconsistent head sizes": (
        changed(**{"fc.bias": np.ones(999, "f4")}),
        r"array params/fc/(bias|kernel) of shape .* does not match",
    ),
    "NaN": (
        changed(**{"bn1.weight": ONES * np.nan}),
        "tensor bn1.weight contains NaN or infinite values",
    ),
    "infinite": (
        changed(**{"bn1.bias": ONES * np.inf}),
        "tensor bn1.bias contains NaN or infinite",
    ),
    "nothing": ({"x": np.ones(1, "f4")}, "tensor .* is missing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_every_tensor_is_accounted_for(name, path):
    tensors, message = WRONG[name]
    with pytest.raises(ValueError, match=f"weights file {path}: {message}".replace("\\\\", "\\")):
        load(path, tensors)


@pytest.mark.parametrize(
    "name", ["resnet34", "resnet50", "vgg16", "efficientnet_b0", "inception_v3"]
)
def test_another_network(name, path):
    safetensors.numpy.save_file(random_tensors(), path)
    with pytest.raises(ValueError, match=r"tensors? .* (is missing|does not have|does not match)"):
        models.load_pretrained(name, path)


def test_names_and_sources(path):
    safetensors.numpy.save_file(random_tensors(), path)
    with pytest.raises(ValueError, match="Did you mean 'resnet18'"):
        models.load_pretrained("resnet81", path)
    with pytest.raises(ValueError, match=r"name \(--model\) must be given"):
        models.load_pretrained(None, path)
    with pytest.raises(ValueError, match="source must be one of torchvision, timm, keras for Res"):
        load(path, random_tensors(), source="efficientnet_pytorch")
    with pytest.raises(ValueError, match="do not include 'deepness'"):
        load(path, random_tensors(), deepness=3)
    with pytest.raises(ValueError, match="source must be timm_tf if timm calls the network tf_"):
        safetensors.numpy.save_file({"conv_stem.weight": np.ones((32, 3, 3, 3), "f4")}, path)
        models.load_pretrained("efficientnet_b0", path)


@pytest.mark.slow
def test_a_new_head_is_asked_for(path):
    whole = load(path, random_tensors())
    found = load(path, random_tensors(), num_classes=5)
    assert found.classes == tuple("01234")
    chex.assert_shape(found.variables["params"]["fc"]["kernel"], (16, 5))
    again = load(path, random_tensors(), num_classes=5)
    chex.assert_trees_all_equal(found.variables, again.variables)
    old, new = (flatten_dict(network.variables) for network in (whole, found))
    for place, array in new.items():
        if place[:2] != ("params", "fc"):
            np.testing.assert_array_equal(array, old[place])
    # A file without a head is accepted.
    without = changed(**{"fc.weight": None, "fc.bias": None})
    chex.assert_trees_all_equal(load(path, without, num_classes=5).variables, found.variables)
    features = load(path, without, num_classes=0)
    assert features.classes == () and "fc" not in features.variables["params"]
    images = jnp.ones((2, 32, 32, 3))
    chex.assert_shape(features.model.apply(features.variables, images, train=False), (2, 16))
    # If the number of classes matches the file, the head is kept.
    assert load(path, random_tensors(), num_classes=1000).classes == models.imagenet_classes()


@pytest.mark.parametrize("channels", [1, 5])
def test_other_input_channels_give_the_same_outputs_for_gray_images(channels, path, key):
    whole = load(path, random_tensors())
    found = load(path, random_tensors(), channels=channels)
    assert found.preprocess.channels == channels
    gray = jax.random.uniform(key, (2, 32, 32, 1))
    expected, output = (
        network.model.apply(network.variables, jnp.repeat(gray, count, -1), train=False)
        for network, count in ((whole, 3), (found, channels))
    )
    np.testing.assert_allclose(output, expected, rtol=1e-4)
    # A file with one input channel keeps that channel.
    assert load(path, random_tensors(channels=1)).preprocess.channels == 1


@functools.cache
def initial_variables():
    """Return the variables of the small network with three classes."""
    model = models.create("resnet18", 3, **SMALL)
    init = jax.jit(lambda key: model.init(key, jnp.zeros(IMAGES.shape), train=False))
    return init(jax.random.key(1, impl="rbg"))


def own(path, **changes):
    """Write a file with `save_pretrained`, and return its network."""
    model, variables = models.create("resnet18", 3, **SMALL), initial_variables()
    preprocess = Preprocess((32, 48), 3, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    network = models.Pretrained(
        model, variables, preprocess, ("cat", "dog", "fish"), "resnet18", dict(SMALL)
    )._replace(**changes)
    models.save_pretrained(path, network)
    return network


def test_our_own_files(path):
    network = own(path)
    for name in ("resnet18", None):
        found = models.load_pretrained(name, path)
        chex.assert_trees_all_equal(found.variables, network.variables)
        assert found[0] == network.model and found[2:] == network[2:]
    first = path.read_bytes()
    models.save_pretrained(path, found)
    assert path.read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with pytest.raises(ValueError, match="it contains resnet18, not resnet34"):
        models.load_pretrained("resnet34", path)
    other = models.load_pretrained(None, path, num_classes=4, channels=1, drop_path=0.3)
    assert other.classes == tuple("0123") and other.preprocess.channels == 1
    assert other.model.drop_path == 0.3


@pytest.mark.parametrize(
    ("name", "old", "current"),
    [
        (
            "inception_v3",
            {"count_padding": False, "aux_head": False},
            {"count_include_pad": False, "aux_head": False},
        ),
        ("efficientnet_b0", {"padding": "centred"}, {"padding": "centered"}),
    ],
)
def test_options_of_earlier_versions_are_renamed(name, old, current):
    """Read a file as written by version 0.1; its arrays need not match the network."""
    arrays = {"params/conv/kernel": np.ones((3, 3, 3, 8), "f4")}
    nested = unflatten_dict({tuple(key.split("/")): array for key, array in arrays.items()})
    config = {
        "name": name,
        "options": old,
        "preprocess": vars(Preprocess((299, 299), 3)),
        "classes": ["cat", "dog"],
        "sha256": fingerprint(nested),
    }
    found = jaxcnn_files.unpack({"jaxcnn": json.dumps(config)}, arrays)
    assert found.options == current
    assert found.model == models.create(name, 2, **found.options)


def test_a_whole_file_with_an_option_of_an_earlier_version(path):
    name, options = "efficientnet_b0", {"width": 0.2, "depth": 0.1, "padding": "centered"}
    model = models.create(name, 2, **options)
    init = functools.partial(model.init, jax.random.key(0), train=False)
    shapes = jax.eval_shape(init, jnp.zeros((1, 8, 8, 3)))
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, leaf.dtype), shapes)
    network = models.Pretrained(model, variables, Preprocess((8, 8), 3), ("a", "b"), name, options)
    models.save_pretrained(path, network)
    with safetensors.safe_open(path, framework="np") as file:
        config = json.loads(file.metadata()["jaxcnn"].replace("centered", "centred"))
    config.pop("config_sha256")
    text = json.dumps(config)
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path, {"jaxcnn": text})
    found = models.load_pretrained(None, path)
    chex.assert_trees_all_equal(found.variables, variables)
    assert found[0] == model and found[2:] == network[2:]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param("classic_cnn", (20, 24), marks=pytest.mark.slow),
        ("lenet5", (40, 28)),
        pytest.param("small_vgg", (8, 16), marks=pytest.mark.slow),
    ],
)
def test_our_own_files_of_networks_for_images_of_one_size(name, size, path):
    model = models.create(name, 2)
    images = jnp.zeros((1, *size, 1))
    variables = jax.jit(lambda key: model.init(key, images, train=False))(jax.random.key(0))
    network = models.Pretrained(model, variables, Preprocess(size, 1), ("a", "b"), name, {})
    models.save_pretrained(path, network)
    found = models.load_pretrained(None, path)
    chex.assert_trees_all_equal(found.variables, network.variables)
    assert "output" not in models.load_pretrained(None, path, num_classes=0).variables["params"]


def test_a_header_of_any_length_is_recognized(path):
    """Check a length whose eight bytes look like the start of a different format."""
    network = own(path)

    def header(letters):
        models.save_pretrained(path, network._replace(classes=("cat", "dog", "f" * letters)))
        return path.read_bytes()[:8]

    pickle = 0x10000 + 0x480  # the bytes 80 04 01 00 ...
    letters = 1 + pickle - int.from_bytes(header(1), "little")
    assert header(letters)[:2] == b"\x80\x04"
    assert models.load_pretrained(None, path).classes[2] == "f" * letters


def test_messages_are_one_printable_line(path):
    for name in ("evil\n\x1b[2Jname", "x" * 10**5):
        with pytest.raises(ValueError, match=f"weights file {path}: it contains tensors") as caught:
            load(path, random_tensors() | {name: ONES})
        assert str(caught.value).isprintable() and len(str(caught.value)) < 1000
    # An HDF5 layer whose name contains the escape sequence that clears the screen.
    keras = path.with_name("evil.weights.h5")
    with h5py.File(keras, "w") as file:
        group = file.create_group("layers/\x1b[2J/vars")
        group.attrs["name"] = "conv1_conv"
        group["0"] = np.ones(3, ">f4")
    with pytest.raises(ValueError, match="was written on a big-endian machine") as caught:
        models.load_pretrained("resnet50", keras)
    assert str(caught.value).isprintable()
    for options, message in (
        ({"num_classes": "3"}, "num_classes must be an integer >= 0, got '3'"),
        ({"channels": 2.5}, "channels must be an integer >= 1, got 2.5"),
        ({"width": "wide"}, "resnet18 cannot be created with options"),
        ({"depths": [1, 1]}, "resnet18 cannot be created with options"),
    ):
        with pytest.raises(ValueError, match=message):
            load(path, random_tensors(), **options)
    with pytest.raises(ValueError, match="LeNet5 exists only in jaxcnn"):
        load(path, random_tensors(), name="lenet5")


def test_invalid_classes_are_not_written(path):
    with pytest.raises(ValueError, match="classes must be distinct printable strings"):
        own(path, classes=("cat", "dog\n", "fish"))
    assert not path.exists()


def test_a_damaged_header_is_rejected_or_harmless(path):
    """Flip single bits in the configuration: no other class name, size or mean is accepted."""
    network = own(path)
    content = path.read_bytes()
    start = content.index(b'{\\"name\\"')
    end = content.index(b'"}', start)
    rng, rejected = np.random.default_rng(0), 0
    for position in rng.choice(np.arange(start, end), 60, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            found = models.load_pretrained(None, path)
        except ValueError:
            rejected += 1
        else:
            assert found[2:] == network[2:]
    assert rejected > 50


@pytest.mark.parametrize("change", [{"classes": ["dog", "cat", "fish"]}, {"note": "a new field"}])
def test_a_changed_configuration_does_not_match_its_digest(path, change):
    own(path)
    with safetensors.safe_open(path, framework="np") as file:
        config = json.loads(file.metadata()["jaxcnn"]) | change
    tensors = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file(tensors, path, {"jaxcnn": json.dumps(config)})
    with pytest.raises(ValueError, match=r"does not match its configuration|unknown field: 'note'"):
        models.load_pretrained(None, path)


def test_bfloat16_weights_keep_their_bits(path):
    network = own(path)
    halves = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), network.variables)
    own(path, variables=halves)
    found = models.load_pretrained(None, path)
    chex.assert_trees_all_equal(
        found.variables, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), halves)
    )


def test_options_that_json_cannot_hold(path):
    with pytest.raises(ValueError, match="options must be JSON values"):
        own(path, options={"dtype": jnp.bfloat16})
    assert not list(path.parent.iterdir())


def rewritten(path, change):
    """Write a file with a changed configuration or changed arrays, and a matching checksum."""
    own(path)
    with safetensors.safe_open(path, framework="np") as file:
        config = json.loads(file.metadata()["jaxcnn"])
    tensors = safetensors.numpy.load_file(path)
    config = change(config, tensors) or config
    arrays = {tuple(name.split("/")): array for name, array in tensors.items()}
    with contextlib.suppress(IndexError):  # an array inside another array has no checksum
        if isinstance(config, dict):
            config["sha256"] = fingerprint(unflatten_dict(arrays))
            config.pop("config_sha256")  # as in files from earlier versions
    safetensors.numpy.save_file(tensors, path, {"jaxcnn": json.dumps(config)})


CHANGES = {
    "no name": (lambda config, _: config.pop("name") and None, "configuration cannot be read"),
    "unknown name": (lambda config, _: config.update(name="os.system"), "must name a network"),
    "name not a string": (lambda config, _: config.update(name=3), "must name a network, got '3'"),
    "bad options": (lambda config, _: config.update(options=3), "configuration cannot be read"),
    "unknown options": (lambda config, _: config["options"].update(x=1), "do not include 'x'"),
    "option of the wrong type": (
        lambda config, _: config["options"].update(width="wide"),
        "cannot be created with options",
    ),
    "size not a list": (
        lambda config, _: config["preprocess"].update(size=3),
        "configuration cannot be read",
    ),
    "negative sizes": (lambda config, _: config["preprocess"].update(size=[-1, 3]), "size"),
    "means of strings": (lambda config, _: config["preprocess"].update(mean=["a"] * 3), "mean"),
    "more classes": (lambda config, _: config["classes"].append("bird"), "does not match"),
    "a list": (lambda config, _: [config], "configuration cannot be read"),
    "fewer arrays": (lambda _, tensors: tensors.pop("params/fc/bias") * 0, "fc/bias is missing"),
    "more arrays": (
        lambda _, tensors: tensors.update({"params/x": np.ones(1, "f4")}),
        "array params/x of shape",
    ),
    "too many layers": (
        lambda config, _: config["options"].update(depths=[10**9]),
        "option 'depths' is out of range",
    ),
    "negative number of layers": (
        lambda config, _: config["options"].update(depths=[1, 1, -1]),
        "option 'depths' is out of range",
    ),
    "images of terabytes": (
        lambda config, _: config["preprocess"].update(size=[10**9, 10**9]),
        "do not match its kernels",
    ),
    "too many channels": (
        lambda config, _: config["preprocess"].update(channels=10**12, mean=[], std=[]),
        "do not match its kernels",
    ),
    "means too large for a float": (
        lambda config, _: config["preprocess"].update(mean=[10**400] * 3),
        "configuration cannot be read",
    ),
    "an option that is not allowed": (
        lambda config, _: config["options"].update(num_classes=3),
        "num_classes",
    ),
    "classes as one string": (
        lambda config, _: config.update(classes="cat"),
        "classes must be distinct printable strings",
    ),
    "a duplicate class": (
        lambda config, _: config.update(classes=["cat", "cat", "dog"]),
        "classes must be distinct printable strings",
    ),
    "a class that clears the screen": (
        lambda config, _: config.update(classes=["cat", "\x1b[2J", "dog"]),
        "classes must be distinct printable strings",
    ),
    "integers": (
        lambda _, tensors: tensors.update({"params/fc/bias": np.ones(3, "i8")}),
        "params/fc/bias must be floating point, got int64",
    ),
    "values beyond float32": (
        lambda _, tensors: tensors.update({"params/fc/bias": np.full(3, 1e300)}),
        "contains NaN or infinite values",
    ),
    "negative variances": (
        lambda _, tensors: tensors.update({"batch_stats/bn1/var": np.full(8, -1, "f4")}),
        "batch_stats/bn1/var must contain variances >= 0, got -1.0",
    ),
    "a name with many parts": (
        lambda _, tensors: tensors.update({"a/" * 30 + "b": np.ones(1, "f4")}),
        "names of its arrays have too many parts",
    ),
    "arrays in arrays": (
        lambda _, tensors: tensors.update({"params/fc/bias/x": np.ones(1, "f4")}),
        "configuration cannot be read",
    ),
    "NaN": (
        lambda _, tensors: tensors.update({"params/fc/bias": np.full(3, np.nan, "f4")}),
        "contains NaN",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_invalid_configurations_are_rejected(name, path):
    change, message = CHANGES[name]

    def only(config, tensors):
        changed = change(config, tensors)
        return changed if isinstance(changed, list) else None

    rewritten(path, only)
    with pytest.raises(ValueError, match=f"weights file {path}.*{message}"):
        models.load_pretrained(None, path)


@given(
    flips=st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 255)), min_size=1, max_size=3)
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_of_own_files_are_rejected_or_harmless(flips, path):
    """Changed arrays are always detected; class names may change."""
    if not path.exists():
        own(path)
        path.with_suffix(".good").write_bytes(path.read_bytes())
    content = bytearray(path.with_suffix(".good").read_bytes())
    expected = models.load_pretrained("resnet18", path.with_suffix(".good")).variables
    for place, change in flips:
        content[place % len(content)] ^= change
    path.write_bytes(content)
    try:
        found = models.load_pretrained("resnet18", path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        chex.assert_trees_all_equal(found.variables, expected)


NO_WEIGHTS = {
    "empty": (b"", "is empty"),
    "a web page": (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "text": (b"weights: 1, 2, 3 and more", "must be a torch, safetensors or Keras file"),
    "an empty zip": (
        b"PK\x05\x06" + bytes(18),
        "must be a torch, safetensors or Keras file",
    ),
    "a truncated zip": (b"PK\x03\x04" + bytes(30), "is damaged"),
}


@pytest.mark.parametrize("name", NO_WEIGHTS)
def test_files_that_are_not_weights(name, path):
    content, message = NO_WEIGHTS[name]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"weights file {path}.*{message}"):
        models.load_pretrained("resnet18", path)


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match="is not a file"):
        models.load_pretrained("resnet18", tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="is a folder"):
        models.load_pretrained("resnet18", tmp_path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Serve the files in a folder locally, as huggingface.co does."""
    pytest.importorskip("huggingface_hub")
    folder = tmp_path / "hub"
    folder.mkdir()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, *, body):
            file = folder / self.path.rpartition("/")[2]
            if not self.path.startswith("/timm/small/resolve/main/") or not file.is_file():
                self.send_response(404)
                self.end_headers()
                return
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{abs(hash(content))}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_):
            """Print nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    forget_hub(monkeypatch)
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def forget_hub(monkeypatch):
    """Force a reimport of the package, which reads its environment variables when imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        monkeypatch.delitem(sys.modules, name)


CONFIG = {
    "architecture": "resnet18",
    "pretrained_cfg": {
        "input_size": [3, 96, 96],
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.5, 0.5],
    },
}


def test_networks_of_the_hub(hub):
    (hub / "config.json").write_text(json.dumps(CONFIG))
    safetensors.numpy.save_file(random_tensors(), hub / "model.safetensors")
    for name in ("resnet18", None):
        found = models.load_pretrained(name, "hf-hub:timm/small", **SMALL)
        assert found.name == "resnet18" and found.preprocess.size == (96, 96)
        assert found.preprocess.mean == (0.1, 0.2, 0.3)
    with pytest.raises(ValueError, match="timm/small is resnet18, not resnet34"):
        models.load_pretrained("resnet34", "hf-hub:timm/small")
    with pytest.raises(ValueError, match=r"hf-hub:timm/none cannot be downloaded .*by hand"):
        models.load_pretrained("resnet18", "hf-hub:timm/none")
    with pytest.raises(ValueError, match=r"hf-hub:\.\./x cannot be downloaded"):
        models.load_pretrained("resnet18", "hf-hub:../x")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "cannot be downloaded"),
        ("[]", "config.json that was not written by timm"),
        ('{"architecture": "resnet18"}', "config.json that was not written by timm"),
        (
            '{"architecture": "resnet18", "input_size": [1000000000, 9, 9], "mean": [], "std": []}',
            "config.json that was not written by timm",
        ),
        (json.dumps(CONFIG | {"architecture": "vit_base"}), "is vit_base, not resnet18"),
    ],
)
def test_invalid_configurations_on_the_hub(config, message, hub):
    (hub / "config.json").write_text(config)
    safetensors.numpy.save_file(random_tensors(), hub / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        models.load_pretrained("resnet18", "hf-hub:timm/small")


@pytest.mark.slow  # the retries take 20 seconds
def test_no_network(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    forget_hub(monkeypatch)
    with pytest.raises(
        ValueError, match=r"cannot be downloaded .*Download model.safetensors from hug"
    ):
        models.load_pretrained("resnet18", "hf-hub:timm/small")


def test_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"requires huggingface_hub: pip install 'jaxcnn\[hub\]'"):
        models.load_pretrained("resnet18", "hf-hub:timm/small")
    assert importlib.util.find_spec("jaxcnn.models.weights.hub")
