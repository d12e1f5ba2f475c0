"""Tests of the guides: their Python runs, their names exist, and equal results are equal.

The blocks in the guide for Keras users build on each other; the blocks in the other guides are
self-contained. test_readme.py tests the commands in the guides.
"""

import functools
import os
import re
import warnings
from pathlib import Path

import jax.numpy as jnp
import matplotlib.cbook
import numpy as np
import PIL.Image
import pytest

import jaxcnn
from jaxcnn.view import plots

GUIDES = Path(__file__).parents[1] / "experiments" / "guides"
GUIDE = (GUIDES / "coming_from_keras.md").read_text()
SELF_CONTAINED = [
    pytest.param(block, id=f"{page.stem} {number}")
    for page in sorted(GUIDES.glob("*.md"))
    if page.stem != "coming_from_keras"
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]
PEERS = ("Keras", "OpenCV", "scikit-learn")
BLOCKS = re.findall(r"^\*\*([\w-]+)\*\*\n\n```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
MODULES = (
    *("data", "image", "losses", "metrics", "models", "ops", "plots", "regularizers", "train"),
    "layers",
)
NAMES = re.findall(rf"`((?:jaxcnn|{'|'.join(MODULES)})\.[A-Za-z_.\d]*\w)", GUIDE)
LEVEL = 1.01  # of 255: the libraries round halves differently


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder containing the photograph that the guide reads."""
    folder = tmp_path_factory.mktemp("guide")
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        PIL.Image.open(file).save(folder / "photo.png")
    return folder


def run(folder, headings):
    """Run the blocks under the given headings, in order, in a folder; return their variables."""
    names = {"__name__": "guide"}
    before = Path.cwd()
    os.chdir(folder)
    try:
        for number, (heading, block) in enumerate(BLOCKS):
            if heading in ("Both", *headings):
                exec(compile(block, f"block {number} ({heading})", "exec"), names)
    finally:
        os.chdir(before)
    return names


@pytest.fixture(scope="module")
def ours(folder):
    return run(folder, ("jaxcnn",))


@pytest.mark.slow
@pytest.mark.parametrize("block", SELF_CONTAINED)
def test_self_contained_blocks_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "guide", "exec"), {"__name__": "guide"})


def test_every_block_has_a_known_heading():
    assert len(BLOCKS) == GUIDE.count("```python")
    assert {heading for heading, _ in BLOCKS} == {"Both", "jaxcnn", *PEERS}


def test_blocks_fit_on_the_page():
    assert max(len(line) for _, block in BLOCKS for line in block.splitlines()) <= 100


@pytest.mark.slow
def test_blocks_of_jaxcnn_run(ours):
    assert ours["network_input"].shape == (224, 224, 3)
    assert ours["squares"].shape == (1, 64, 64, 3)
    assert ours["components"] == 3
    assert ours["batch"].shape == (1, 28, 28, 1)
    assert ours["varied"].shape == (10, 28, 28, 1)
    assert ours["probabilities"].shape == (500, 10)
    assert ours["state"].step == 15
    assert "validation_accuracy" in ours["history"][-1]
    assert ours["matrix"].sum() == 500 and "Conv_0" in ours["summary"]
    assert ours["small_state"].step == 8 and len(ours["photos"]) == 32


@pytest.mark.parametrize("name", sorted(set(NAMES)))
def test_names_exist(name):
    found = {
        "jaxcnn": jaxcnn,
        "plots": plots,
        "layers": jaxcnn.models.layers,
    }
    first, *rest = name.split(".")
    functools.reduce(getattr, rest, found.get(first) or getattr(jaxcnn, first))


@pytest.fixture(scope="module")
def theirs(folder):
    """Run the other libraries' blocks, which import these libraries."""
    os.environ["KERAS_BACKEND"] = "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras itself warns about torch and NumPy
        return run(folder, PEERS)


def red_first(array):
    return array[None, ..., ::-1]


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "tolerance", "converted"),
    [
        ("normalized", 1e-6, red_first),
        ("half", LEVEL, red_first),
        ("bigger", LEVEL, red_first),
        ("std_img", 1e-4, red_first),
        ("scaled", 1e-6, lambda array: array.reshape(1, 28, 28, 1)),
        ("standard", 1e-5, lambda array: array.reshape(500, 28, 28, 1)),
        ("gray", LEVEL, lambda array: array[None, ..., None]),
        ("sharp", LEVEL, red_first),
        ("blur", LEVEL, red_first),
        ("median", 0, red_first),
        ("components", 0, lambda count: count),
    ],
)
def test_equal_results(ours, theirs, name, tolerance, converted):
    expected = np.asarray(converted(theirs[name]), np.float64)
    found = np.asarray(ours[name], np.float64)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parity
def test_equal_components(ours, theirs):
    pairs = {
        *zip(np.ravel(ours["labels"]).tolist(), theirs["labels"].ravel().tolist(), strict=True)
    }
    assert len(pairs) == 4  # each of our labels matches one of theirs, including the background
    assert (0, 0) in pairs


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_equal_weights_give_equal_probabilities(ours, theirs):
    params = ours["variables"]["params"]
    weights = [
        np.asarray(params[layer][name])
        for layer in ("Conv_0", "Dense_0", "Dense_1")
        for name in ("kernel", "bias")
    ]
    theirs["model"].set_weights(weights)
    images = theirs["x_test"] / 255
    expected = theirs["model"].predict(images, verbose=0)
    logits = ours["model"].apply(ours["variables"], jnp.asarray(images, jnp.float32), train=False)
    found = jnp.exp(logits) / jnp.sum(jnp.exp(logits), -1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parity
def test_equal_kernels_give_equal_penalties(ours, theirs):
    model = theirs["regularized"]
    convolution = next(layer for layer in model.layers if layer.name.startswith("conv"))
    convolution.set_weights(
        [np.asarray(ours["state"].params["conv"][k]) for k in ("kernel", "bias")]
    )
    expected = sum(float(loss.detach()) for loss in model.losses)
    np.testing.assert_allclose(ours["penalty"](ours["state"].params), expected, rtol=1e-5)
