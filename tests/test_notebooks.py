"""The course notebooks: outputs match the scripts, cells ran in order, all names are public.

``experiments/notebooks/build.py --check``, called by `.ci/run`, checks that the notebooks run.
"""

import ast
import functools
import importlib
import json
import re
import types
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_sample_image

from jaxcnn import data, image, ops, train
from jaxcnn.models import layers

FOLDER = Path(__file__).parents[1] / "experiments" / "notebooks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if path.with_suffix(".ipynb").exists())
# The exercises in the deck, by the deck's names.
DECK = {
    "Convolutional_Neural_Networks_Basic_Design",
    "Convolutional_Neural_Networks",
    "ImageDataGenerator",
    "DataAugmented_CNN",
    "CNN_Exercise",
}
LARGEST = 3_000_000  # bytes

every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def test_every_notebook_of_the_deck_is_there():
    assert {path.stem for path in SCRIPTS} == DECK | {"CNN_Exercise_Solution"}
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {path.stem for path in SCRIPTS}


def cells(script):
    """Return the cells of the notebook built from a script."""
    path = script.with_suffix(".ipynb")
    assert path.stat().st_size < LARGEST
    return json.loads(path.read_text())["cells"]


def source(cell):
    """Return a cell's source text, which may be stored as a list of lines."""
    return "".join(cell["source"])


@every_script
def test_outputs_come_from_one_run_of_this_script(script):
    code = [cell for cell in cells(script) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert [
        output for output in outputs if {"image/png", "image/jpeg"} & set(output.get("data", ()))
    ]
    # Compare cell by cell; in the script, Markdown and magics are comments.
    written = [
        re.sub(r"^# ?", "", part, flags=re.MULTILINE) if "[markdown]" in head else part
        for head, part in re.findall(
            r"^# %%(.*)\n((?:(?!# %%).*\n?)*)", script.read_text(), re.MULTILINE
        )
    ]
    shown = [source(cell) for cell in cells(script)]
    written = [re.sub(r"^# (%\w+)", r"\1", part.strip(), flags=re.MULTILINE) for part in written]
    assert written == [part.strip() for part in shown]


@every_script
def test_only_public_names_are_used(script):
    """Check that notebooks use no private names from jaxcnn modules."""
    tree = ast.parse(script.read_text())
    known: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxcnn"):
            for alias in node.names:
                assert not alias.name.startswith("_")
                known[alias.asname or alias.name] = imported(node.module, alias.name)
        elif isinstance(node, ast.Import):
            assert not [a for a in node.names if a.name.startswith("jaxcnn._")]
    assert known
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = known.get(node.value.id)
            if isinstance(module, types.ModuleType):
                assert not node.attr.startswith("_")
                assert hasattr(module, node.attr), f"{module.__name__} has no {node.attr}"


@functools.cache
def imported(module, name):
    """Return the object that ``from module import name`` imports."""
    parent = importlib.import_module(module)
    return getattr(parent, name, None) or importlib.import_module(f"{module}.{name}")


@every_script
def test_a_notebook_says_what_the_library_does_and_defines_little(script):
    functions = [
        node for node in ast.parse(script.read_text()).body if isinstance(node, ast.FunctionDef)
    ]
    assert len(functions) <= 8
    assert all(len(ast.unparse(node).splitlines()) <= 25 for node in functions)


def test_the_exercise_ships_unanswered_and_the_solution_is_right():
    exercise, solution = (
        [
            text
            for cell in cells(FOLDER / f"{name}.py")
            for output in cell.get("outputs", ())
            for text in "".join(output.get("text", ())).splitlines()
        ]
        for name in ("CNN_Exercise", "CNN_Exercise_Solution")
    )
    unanswered = [line for line in exercise if line.startswith("not answered yet")]
    right = [line for line in solution if line.startswith("right")]
    assert len(unanswered) == len(right) >= 8
    assert not [line for line in solution if line.startswith("not ")]


# Typical student answers, right and wrong, and what the checks print for them.

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(FOLDER)  # as notebooks import from their own folder
    checks = importlib.import_module("checks")


def said(capsys, check, *answers, **given):
    """Return the single line that a check prints."""
    check(*answers, **given)
    (line,) = capsys.readouterr().out.splitlines()
    return line


MAP = np.array([[1, 3, 0, 2], [5, 7, 4, 2], [8, 0, 1, 1], [2, 2, 6, 0]])
POOLED = jnp.array(MAP, jnp.float32)[None, ..., None]
MAXIMUM, TOTAL, AVERAGE = [[7, 4], [8, 6]], [[16, 8], [12, 8]], [[4, 2], [3, 2]]
DIAGONAL = [[1, 0], [0, 1]]
SHAPES = {"size": (34, 34, 3), "filters": 16, "window": 5, "strides": 2}
COUNTS = {"conv": 832, "hidden": 802_944, "output": 1_290}
KINDS = {"binary": "sigmoid", "multi-class": "softmax", "multi-label": "sigmoid"}
# In B, the loss is best in epoch 2 and the accuracy in epoch 3. A does not overfit.
HISTORIES = {
    "A": [{"epoch": 1, "train_loss": 1, "validation_loss": 1, "validation_accuracy": 0.5}],
    "B": [
        {"epoch": epoch, "train_loss": 0, "validation_loss": loss, "validation_accuracy": accuracy}
        for epoch, loss, accuracy in ((1, 3, 0.1), (2, 1, 0.6), (3, 2, 0.7), (4, 3, 0.6))
    ],
}
CLASSES, LABELS = ("coat", "shirt"), np.array([0, 0, 1, 1])
LOGITS = np.eye(2)[[1, 1, 0, 1]]  # two coats are mistaken for shirts, and a shirt for a coat


@pytest.mark.parametrize(
    ("says", "check", "answers"),
    [
        ("right", "convolution", ([[-1]], np.ones((3, 3)), -np.eye(3) + np.diag([0, 1, 1]))),
        ("not answered yet", "convolution", ([[...]], np.ones((3, 3)), np.eye(3))),
        ("gives 4", "vertical_edges", ([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],)),
        ("add up to 0", "vertical_edges", ([[-1, 2, -1]] * 3,)),
        ("larger weights", "vertical_edges", ([[-0.001, 0, 0.001]] * 3,)),
        ("horizontal", "vertical_edges", ([[-1, -1, 0], [-1, 0, 1], [0, 1, 1]],)),
        ("right", "pooling", (MAXIMUM, TOTAL, AVERAGE, MAP)),
        ("right", "pooling", (ops.max_pool(POOLED, 2), TOTAL, ops.avg_pool(POOLED, 2), MAP)),
        ("not answered yet: total (the rest", "pooling", (MAXIMUM, ..., AVERAGE, MAP)),
        ("not yet: `average`, row 1", "pooling", (MAXIMUM, ..., MAXIMUM, MAP)),
        ("not answered yet", "parameters", (..., (28, 28, 1))),
        ("right", "parameters", (COUNTS, (28, 28, 1))),
        ("answered yet: conv (the", "parameters", (COUNTS | {"conv": ...}, (28, 28, 1))),
        ("number of weights", "parameters", (COUNTS | {"conv": 800}, (28, 28, 1))),
        ("right", "output_layer", (KINDS,)),
        ("answered yet: binary (the", "output_layer", (KINDS | {"binary": ...},)),
        ("keep the dictionary", "output_layer", ({"binary": "sigmoid"},)),
        ("right", "overfitting", ("b", 2, HISTORIES)),
        ("accuracy is best", "overfitting", ("B", 3, HISTORIES)),
        ("not yet: `best_epoch`", "overfitting", (..., 4, HISTORIES)),
        ("curves diverge", "overfitting", ("A", ..., HISTORIES)),
        ("right", "components", (jnp.array([2]), 1, DIAGONAL)),
        ("not yet: `eight`", "components", (..., 2, DIAGONAL)),
        ("right: 3 of 4", "mistakes", ([0, 1, 2], ("coat", "shirt"), LOGITS, LABELS, CLASSES)),
        ("not answered yet: wrong", "mistakes", (..., ["coat", "shirt"], LOGITS, LABELS, CLASSES)),
        ("true class comes first", "mistakes", (..., ("shirt", "coat"), LOGITS, LABELS, CLASSES)),
        ("where does the class", "mistakes", ([0, 1], ..., LOGITS, LABELS, CLASSES)),
    ],
)
def test_checks_of_what_is_counted_by_hand(capsys, says, check, answers):
    assert says in said(capsys, getattr(checks, check), *answers)


@pytest.mark.parametrize(
    ("says", "valid", "same"),
    [
        ("right", (15, 15, 16), [17, 17, 16]),
        ("channels come last", (16, 15, 15), (16, 17, 17)),
        ("one feature map", (15, 15, 3), (17, 17, 3)),
        ("not answered yet: same", (15, 15, 16), (..., ..., ...)),
    ],
)
def test_checks_of_the_shape_of_a_convolution(capsys, says, valid, same):
    assert says in said(capsys, checks.output_shapes, valid, same, **SHAPES)


@functools.cache
def flower():
    """Return a uint8 photograph in which the colors matter."""
    return load_sample_image("flower.jpg")[None]


@pytest.mark.slow
def test_checks_of_preprocessing(capsys):
    pixels = flower()
    unit = np.float32(pixels) / 255
    standardized = (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
    square = image.crop_to_square(unit)
    gray = image.resize(image.to_grayscale(square), 64)
    say = functools.partial(said, capsys, checks.preprocessing, pixels=pixels, size=64)
    assert say(unit, 2 * unit - 1, standardized, gray).startswith("right")
    assert say(unit[0], 2 * unit - 1, standardized, gray[0, ..., 0]).startswith("right")
    nearest = image.resize(image.to_grayscale(square), 64, method="nearest")
    assert "symmetric (the rest is right)" in say(unit, ..., standardized, nearest)
    assert "not yet: `symmetric`" in say(..., unit, ..., ...)
    for wrong in (square.mean(-1, keepdims=True), square[..., 1:2]):
        assert "eye" in say(..., ..., ..., image.resize(wrong, 64))
    assert "square" in say(..., ..., ..., image.resize(image.to_grayscale(unit), 64))


def uniform(key, images, low=0.0, high=1.0):
    """Draw a number between ``low`` and ``high`` for each image."""
    return jax.random.uniform(key, (len(images), 1, 1, 1), minval=low, maxval=high)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("says", "augment"),
    [
        ("right", image.random_flip_left_right),
        ("right", functools.partial(image.random_rotation, max_angle=180)),
        ("right", functools.partial(image.random_brightness, max_delta=0.05)),
        ("right", image.random_erasing),
        ("nothing to do with", lambda key, images: jax.random.uniform(key, images.shape)),
        ("nothing to do with", lambda key, images: jnp.ones_like(images) * uniform(key, images)),
        ("not visible", lambda key, images: images * 0.99 + uniform(key, images, 0, 0.004)),
        ("unchanged", lambda key, images: images),
        ("here all are the same", lambda key, images: 0.9 * images),
        ("fails: Python raised TypeError", lambda images: images),
        ("not answered yet", lambda key, images: ...),
        ("not answered yet", ...),
    ],
)
def test_checks_of_augmentation(capsys, says, augment):
    photographs = image.resize(image.crop_to_square(image.to_float(flower())), 96)
    assert says in said(capsys, checks.augmentation, augment, photographs)


@pytest.mark.slow
def test_checks_of_noise_and_of_masks(capsys):
    temple = load_sample_image("china.jpg")[None]  # full of detail that a wide median removes
    original = image.resize(image.to_grayscale(image.to_float(temple)), 64)
    noisy = image.add_salt_pepper(jax.random.key(0), original, 0.1)
    say = functools.partial(said, capsys, checks.noise, noisy=noisy, original=original)
    assert say(image.median_blur(noisy, 3)).startswith("right")
    assert say(np.asarray(image.median_blur(noisy, 3))[0, ..., 0]).startswith("right")
    assert "window is too large" in say(image.median_blur(noisy, 7))
    assert "an average spreads" in say(image.box_blur(noisy, 3))
    assert "you do not have the original" in say(original)

    picture = np.zeros((1, 60, 60, 1))
    picture[:, 10:30, 10:30] = picture[:, 35:55, 35:55] = 1
    for mask in (picture > 0, picture[0, ..., 0]):
        assert said(capsys, checks.coins, mask, picture, 2).startswith("right")
    assert "has 2 components" in said(capsys, checks.coins, picture, picture, 3)


class Network(nn.Module):
    """A convolution and a dense layer, with a student's additions between and after them."""

    between: tuple = ()
    last: object = None
    conv: bool = True

    @nn.compact
    def __call__(self, images, *, train):
        x = layers.Conv(8, 3, strides=2)(images) if self.conv else images
        for layer in self.between:
            if isinstance(layer, type):
                x = layer(name="norm")(x, train=train)
            elif layer in ("dropout", "noise"):
                kind = layers.Dropout if layer == "dropout" else layers.GaussianNoise
                x = kind(0.5)(x, train=train)
            else:
                x = layer(x)
        x = layers.Dense(10)(ops.flatten(x))
        return x if self.last is None else self.last(x)


def max_pool(x):
    return ops.max_pool(x, 2)


def linen_max_pool(x):
    return nn.max_pool(x, (2, 2), (2, 2))


def avg_pool(x):
    return ops.avg_pool(x, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("says", "network"),
    [
        ("right", Network((nn.relu, max_pool))),
        ("right", Network((layers.BatchNorm, nn.tanh, "dropout", ops.global_avg_pool))),
        ("right", Network((nn.gelu,), last=nn.log_softmax)),
        ("remove nn.softmax", Network((nn.relu,), last=nn.softmax)),
        ("ever negative", Network((nn.relu,), last=nn.relu)),
        ("ever negative", Network((nn.relu,), last=nn.sigmoid)),
        ("no activation", Network((layers.BatchNorm, avg_pool))),
        ("no activation", Network((max_pool,))),
        ("no activation", Network((linen_max_pool,))),
        ("no convolution", Network((nn.relu,), conv=False)),
        ("with the parentheses", Network),
        ("must have the shape", Network((nn.relu,), last=lambda x: x[:, :9])),
        ("not answered yet", Network((nn.relu,), last=lambda x: ...)),
        ("not answered yet", ...),
    ],
)
def test_checks_of_a_network(capsys, says, network):
    assert says in said(capsys, checks.network, network, size=(28, 28, 1), classes=10)


BARE = Network((nn.relu,))
FULL = Network((layers.BatchNorm, nn.relu, max_pool, "dropout", "noise"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("says", "network", "remedies"),
    [
        ("history: dropout, batch n", FULL, ["Dropout", "batch norm", "pool"]),
        ("on your word: data aug", FULL, ["dropout", "noise", "data augmentation"]),
        ("'BN' must be one of dropout, ba", FULL, ["Dropout", "BN", "pool"]),
        ("names 2 of the seven", FULL, ["L1", "L2", "dropout"]),
        ("must be a list of strings", FULL, 3),
        ("list pooling", BARE, ["pooling layers", "data augmentation", "early stopping"]),
        ("list noise", BARE, ["noise injection", "data augmentation", "early stopping"]),
        ("list L1 and L2", BARE, ["L1 and L2", "data augmentation", "early stopping"]),
        ("list dropout", Network(("noise", nn.relu)), ["dropout", "noise", "augment"]),
        ("list noise", Network(("dropout", nn.relu)), ["dropout", "noise", "augment"]),
        ("list batch", BARE, ["batch normalization", "data augmentation", "early stopping"]),
        ("remove nn.softmax", Network((nn.relu,), last=nn.softmax), ["early", "augment", "pool"]),
    ],
)
def test_checks_of_a_trained_network(capsys, says, network, remedies):
    assert says in said(capsys, checks.training, remedies, *trained(network), 0.0)


@pytest.mark.slow
def test_checks_of_what_only_the_history_shows(capsys):
    network, state, history, *rest = trained(FULL)
    words = ["early stopping", "L2 regularization", "pooling"]

    def say(changes, bar=0.0):
        rows = [row | change for row, change in zip(history, changes, strict=True)]
        return said(capsys, checks.training, words, network, state, rows, *rest, bar)

    penalty = {"train_objective": 1.1}
    worse = {"validation_loss": 9.0, "validation_accuracy": 0.0}
    shown = "history: pooling layers, early stopping, L1 and L2 regularization"
    assert shown in say([penalty, penalty | worse])
    assert "list L1 and L2" in say([{}, worse])
    # The last epoch is the best, so the network is the same with or without early stopping.
    assert "on your word: early stopping" in say([penalty | worse, penalty])
    better = {"validation_loss": 0.1, "validation_accuracy": 1.0}
    assert "is the network after the last epoch" in say([penalty | better, penalty])
    assert "the target is 100%" in say([penalty, penalty | worse], bar=1.0)
    plain = [{"train_loss": 1.0, "train_objective": 1.1}]
    line = said(capsys, checks.training, words, network, state, plain, *rest, 0.0)
    assert "has no validation" in line
    assert "not answered" in said(capsys, checks.training, ..., network, ..., ..., *rest, 0.0)
    assert "`history` must be" in said(capsys, checks.training, words, network, state, 1, *rest, 0)


@functools.cache
def trained(network):
    """Return an untrained network, its state, a history without a penalty, and validation data."""
    preprocess = image.Preprocess(size=(28, 28), channels=1)
    validation = data.load("fashion_mnist_slice", split="test").take(np.arange(20))
    state = train.create_state(
        jax.random.key(0), network, optax.sgd(0.1), preprocess(validation.images[:1])
    )
    found = train.evaluate(
        train.make_eval_step(network, preprocess=preprocess), state, data.batches(validation, 20)
    )
    row = {"train_loss": 1.0, "train_objective": 1.0}
    row |= {f"validation_{name}": found[name] for name in ("loss", "accuracy")}
    history = [row | {"epoch": epoch} for epoch in (1, 2)]
    return network, state, history, validation, preprocess
