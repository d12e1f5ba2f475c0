"""Checks for networks: their layers, their training, and their mistakes.

Notebooks call these checks, which are for the later exercises, through ``checks``. The functions
below them look for evidence: whether the outputs are logits, whether the network has an
activation, and whether the remedies against overfitting that a student lists have left a trace.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from answers import HintError, MissingError, check, first_line, numbers, parts, require

from jaxcnn import data, metrics, ops, train
from jaxcnn.models import layers

# The seven remedies, and the strings that identify each in a student's answer.
_REMEDIES = {
    "dropout": ("dropout",),
    "batch normalization": ("batch",),
    "pooling layers": ("pool",),
    "early stopping": ("early", "stopping"),
    "noise injection": ("noise",),
    "L1 and L2 regularization": ("l1", "l2", "penalty"),
    "data augmentation": ("augment",),
}
# Hints for listed remedies that have left no trace; augmentation never leaves one.
_NO_TRACE = {
    "dropout": "the output of `model` during training does not vary: use "
    "layers.Dropout(rate)(x, train=train)",
    "batch normalization": "no layer of `model` has running statistics: use layers.BatchNorm",
    "pooling layers": "`model` has none: use ops.max_pool or ops.avg_pool",
    "noise injection": "apart from dropout, the output of `model` during training does not vary: "
    "use layers.GaussianNoise (noise in `augment` counts as data augmentation)",
    "L1 and L2 regularization": "the training objective (`train_objective` in `history`) is only "
    "the loss: pass a penalty to train.make_train_step",
}


@check
def overfitting(letter: Any, best_epoch: Any, histories: Any) -> str:
    """Check which run overfits, and which epoch's network early stopping would keep."""

    def gap(history: Sequence[Mapping[str, float]]) -> float:
        return history[-1]["validation_loss"] - history[-1]["train_loss"]

    truth = max(histories, key=lambda name: gap(histories[name]))
    history = histories[truth]
    best = train.EarlyStopping(patience=1).best_epoch(history)
    for name, answer in parts({"overfits": letter, "best_epoch": best_epoch}):
        if name == "best_epoch":
            _judge_epoch(float(numbers(answer, (), "`best_epoch`")), history)
        elif not isinstance(answer, str) or answer.strip().upper() not in histories:
            raise HintError(f"`overfits` must be one of the letters {', '.join(histories)}")
        elif answer.strip().upper() != truth:
            raise HintError("where do the curves diverge: training good, validation much worse?")
    return (
        f"in {truth} the training loss keeps improving while the validation loss does not; early "
        f"stopping keeps the network from epoch {best}, which has the smallest validation loss"
    )


@check
def network(model: Any, size: Any, classes: Any) -> str:
    """Check a custom Linen module that maps images to one logit per class."""
    require(model)
    images = jnp.zeros((2, *size), jnp.float32)
    if isinstance(model, type) or not hasattr(model, "init") or not hasattr(model, "apply"):
        raise HintError("`model` must be a Linen module: MyNetwork(), with the parentheses")
    outputs: list[Any] = []

    def run(key: jax.Array) -> Any:
        variables = model.init(key, images, train=False)
        outputs.append(model.apply(variables, images, train=False))
        return variables

    try:
        variables = jax.eval_shape(run, jax.random.key(0))
    except Exception as error:
        raise HintError(f"`model(images, train=False)` fails: {first_line(error)}") from error
    logits = outputs[0]
    if logits is None or logits is ...:
        raise MissingError
    if getattr(logits, "shape", None) != (2, classes):
        raise HintError(
            f"the output must have the shape (images, {classes}), got "
            f"{getattr(logits, 'shape', type(logits).__name__)}"
        )
    leaves = jax.tree.leaves(variables)
    if not any(len(leaf.shape) == 4 for leaf in leaves):
        raise HintError("the network has no convolution: use layers.Conv")
    _judge_logits(_untrained_outputs(model, size))
    if _is_linear(model, size):
        raise HintError(
            "the network has no activation: without nn.relu or another activation after the "
            "convolutions, all layers together compute no more than a single layer could"
        )
    count = sum(leaf.size for leaf in leaves)
    return f"images become {classes} logits; the network has {count:,} parameters and statistics"


@check
def training(
    remedies: Any, model: Any, state: Any, history: Any, validation: Any, preprocess: Any, bar: Any
) -> str:
    """Check a trained network: at least three remedies, and a minimum validation accuracy."""
    require(remedies, state, history)
    named = _named_remedies(remedies)
    if not isinstance(state, train.TrainState):
        raise HintError("`state` must be the first result of train.fit: state, history = ...")
    if not isinstance(history, list) or not history or "train_loss" not in history[-1]:
        raise HintError("`history` must be the second result of train.fit: state, history = ...")
    if not hasattr(model, "apply") or isinstance(model, type):
        raise HintError("`model` must be the network that you trained: MyNetwork()")
    step = train.make_eval_step(model, preprocess=preprocess)
    found, outputs = train.predict(step, state, data.batches(validation, 250))
    _judge_logits(outputs)
    images = preprocess(validation.images[:4])
    seen = _traces(named, model, state, images, history)
    if "early stopping" in named and _is_of_earlier_epoch(history, found["loss"]):
        seen.add("early stopping")
    accuracy = found["accuracy"]
    if accuracy < bar:
        raise HintError(
            f"validation accuracy is {accuracy:.1%}, and the target is {bar:.0%}: look at the "
            "training accuracy in `history`. If it is low too, train longer, use a higher learning "
            "rate or a larger network; if it is high, use more remedies or more images"
        )
    reasons = [f"validation accuracy {accuracy:.1%}"]
    reasons += [f"found in the network or its history: {_listed(seen)}"] if seen else []
    reasons += [f"accepted on your word: {_listed(named - seen)}"] if named - seen else []
    return "; ".join(reasons)


@check
def mistakes(wrong: Any, confused: Any, outputs: Any, labels: Any, classes: Any) -> str:
    """Check which images are misclassified, and which two classes are confused most often."""
    truth = np.asarray(labels)
    predicted = np.asarray(outputs).argmax(-1)
    matrix = np.array(metrics.confusion_matrix(truth, predicted, len(classes)))
    np.fill_diagonal(matrix, 0)
    for name, answer in parts({"wrong": wrong, "confused": confused}):
        if name == "wrong":
            _judge_places(answer, np.flatnonzero(predicted != truth))
        else:
            _judge_pair(answer, matrix, list(classes))
    return (
        f"{np.sum(predicted != truth)} of {len(truth)} images are misclassified; the most frequent "
        f"mistake ({matrix.max()} times) is {confused[0]} predicted as {confused[1]}, which even "
        "people may find hard to tell apart at this size"
    )


def _judge_epoch(found: float, history: Sequence[Mapping[str, float]]) -> None:
    """Raise a hint unless this is the epoch with the smallest validation loss."""
    best = min(history, key=lambda row: row["validation_loss"])["epoch"]
    most_accurate = max(history, key=lambda row: row["validation_accuracy"])["epoch"]
    if found not in (best, most_accurate):
        raise HintError(
            "`best_epoch`: give the number of the epoch with the smallest validation loss in the "
            "run that overfits (ignore the training loss)"
        )
    if found != best:
        raise HintError("`best_epoch`: there the accuracy is best; when is the loss smallest?")


def _untrained_outputs(model: Any, size: Sequence[int]) -> np.ndarray:
    """Return an untrained network's outputs, with two seeds, for images a, b, a + b, 0."""
    a, b = jax.random.normal(jax.random.key(0), (2, 4, *size))
    images = jnp.concatenate([a, b, a + b, jnp.zeros_like(a)])
    outputs = [
        model.init_with_output(jax.random.key(seed), images, train=False)[0] for seed in range(2)
    ]
    return np.stack(outputs)


def _judge_logits(outputs: np.ndarray) -> None:
    """Raise a hint if the outputs are not logits, but the result of an activation."""
    if np.allclose(outputs.sum(-1), 1, atol=1e-3):
        raise HintError(
            "the outputs add up to 1: remove nn.softmax, because the loss applies it to the logits "
            "and it must not be applied twice"
        )
    if outputs.min() >= 0 and outputs.max() > 0:
        raise HintError(
            "no output is ever negative: remove the activation after the last layer, because "
            "logits may be any numbers (the loss applies softmax)"
        )


def _is_linear(model: Any, size: Sequence[int]) -> bool:
    """Return whether a network is linear in its images, up to a constant and max pooling."""
    # The maximum is not linear either, so replace it with an average; only activations remain.
    with (
        mock.patch.object(ops, "max_pool", ops.avg_pool),
        mock.patch.object(ops, "global_max_pool", ops.global_avg_pool),
        mock.patch.object(nn, "max_pool", nn.avg_pool),
    ):
        outputs = _untrained_outputs(model, size)
    of_a, of_b, of_both, of_none = np.split(outputs, 4, axis=1)
    return bool(np.abs(of_both + of_none - of_a - of_b).max() < 1e-3 * np.abs(outputs).max())


def _judge_places(answer: Any, truth: np.ndarray) -> None:
    """Raise a hint unless these are the indices of the wrong images."""
    found = np.atleast_1d(np.squeeze(answer))
    if found.dtype.kind not in "biu" or found.ndim != 1:
        raise HintError("`wrong` must be a list of integers, the indices of the images")
    if found.dtype == bool:
        raise HintError("`wrong` contains booleans; np.flatnonzero converts them to indices")
    if set(found.tolist()) != set(truth.tolist()):
        raise HintError("`wrong`: where does the class with the largest logit differ from labels?")


def _judge_pair(answer: Any, matrix: np.ndarray, classes: list[str]) -> None:
    """Raise a hint unless these are the two classes that are confused most often."""
    pair = [str(name) for name in answer] if isinstance(answer, Sequence) else []
    if len(pair) != 2 or isinstance(answer, str) or not set(pair) <= set(classes):
        raise HintError("`confused` must be two names from `classes`: (true, predicted)")
    row, column = map(classes.index, pair)
    if matrix[row, column] != matrix.max() == matrix[column, row]:
        raise HintError("`confused`: the true class comes first")
    if matrix[row, column] != matrix.max():
        raise HintError(
            "`confused`: count how often each true class is mistaken for each other class; which "
            "number off the diagonal is largest?"
        )


def _named_remedies(remedies: Any) -> set[str]:
    """Return the remedies, out of the seven, that a list of strings names."""
    words = [remedies] if isinstance(remedies, str) else remedies
    if not isinstance(words, list | tuple | set) or not all(isinstance(w, str) for w in words):
        raise HintError("`remedies` must be a list of strings, with the names from the exercise")
    named = set()
    for word in words:
        meant = {
            remedy for remedy, signs in _REMEDIES.items() if any(s in word.lower() for s in signs)
        }
        if not meant:
            raise HintError(f"`remedies`: {word!r} must be one of {', '.join(_REMEDIES)}")
        named |= meant
    if len(named) < 3:
        raise HintError(
            f"`remedies` names {len(named)} of the seven, and three are required: "
            f"{', '.join(_REMEDIES)}"
        )
    return named


def _traces(
    named: set[str], model: Any, state: train.TrainState, images: jax.Array, history: Any
) -> set[str]:
    """Return the remedies that have left a trace, or raise a hint if a listed one has not."""
    noise, dropout = (layers.GaussianNoise,), (layers.Dropout, nn.Dropout)
    tests: dict[str, Callable[[], bool]] = {
        "dropout": lambda: _is_random(model, state, images, without=noise),
        "batch normalization": lambda: bool(state.batch_stats),
        "pooling layers": lambda: _has_pooling(model, state, images),
        "noise injection": lambda: _is_random(model, state, images, without=dropout),
        "L1 and L2 regularization": lambda: all(
            row["train_objective"] > row["train_loss"] + 1e-4 for row in history
        ),
    }
    seen = {remedy for remedy in named if remedy in tests and tests[remedy]()}
    for remedy in sorted(named & set(tests) - seen):
        raise HintError(f"you list {remedy}, but {_NO_TRACE[remedy]}")
    return seen


def _has_pooling(model: Any, state: train.TrainState, images: jax.Array) -> bool:
    """Return whether a network reduces windows, or the height and width, to one value."""
    run = functools.partial(model.apply, state.variables, train=False)
    return bool(
        re.search(r"reduce_(window|max|sum\[axes=\(1, 2\))", str(jax.make_jaxpr(run)(images)))
    )


def _is_random(
    model: Any, state: train.TrainState, images: jax.Array, without: tuple[type, ...]
) -> bool:
    """Return whether a network is random during training, ignoring layers of the given types."""

    def leave_aside(layer: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        return args[0] if isinstance(context.module, without) else layer(*args, **kwargs)

    def run(seed: int) -> jax.Array:
        key = jax.random.key(seed)
        outputs, _ = model.apply(
            state.variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return outputs

    with nn.intercept_methods(leave_aside):
        return not np.array_equal(run(0), run(1))


def _is_of_earlier_epoch(history: Any, loss: float) -> bool:
    """Return whether a network with this validation loss is from before the last epoch.

    If the last epoch is the best one, this cannot be determined. Otherwise early stopping would
    have returned an earlier network, so raise a hint if this is the network from the last epoch.
    """
    if "validation_loss" not in history[-1]:
        raise HintError(
            "you list early stopping, but `history` has no validation metrics: use "
            "train.fit(..., validate=...)"
        )
    last = history[-1]
    is_best = last["validation_loss"] <= min(row["validation_loss"] for row in history)
    if is_best or last["validation_accuracy"] >= max(row["validation_accuracy"] for row in history):
        return False
    if np.isclose(last["validation_loss"], loss, rtol=1e-4):
        raise HintError(
            "you list early stopping, but `state` is the network after the last epoch, although "
            "`history` has a better epoch: "
            "train.fit(..., monitors=[train.EarlyStopping(...)]) returns its network"
        )
    return True


def _listed(remedies: set[str]) -> str:
    """Return the remedies in the order of the exercise, as one string."""
    return ", ".join(remedy for remedy in _REMEDIES if remedy in remedies)
