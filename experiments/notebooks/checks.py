"""Checks of the answers in CNN_Exercise.ipynb: one function for each exercise.

Each prints one line: ``not answered yet``, ``right: ...`` with the reason, or ``not yet: ...`` with
a hint. None of them raises for a wrong answer, whatever its type. What is right is computed here
with jaxcnn from what the exercise gave, so you find no solutions below.
"""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import data, image, metrics, models, ops, train

Check = Callable[..., None]

_REMEDIES = {
    "dropout": ("dropout",),
    "batch normalization": ("batch",),
    "pooling layers": ("pool",),
    "early stopping": ("early", "stopping"),
    "noise injection": ("noise",),
    "L1 and L2 regularization": ("l1", "l2", "penalty", "weight decay"),
    "data augmentation": ("augment",),
}


class _HintError(Exception):
    """An answer is wrong; the message helps."""


class _MissingError(Exception):
    """A part of the answer is still to be written."""


def _check(judge: Callable[..., str]) -> Check:
    """Make a check of a function that returns why an answer is right, or raises a hint."""

    @functools.wraps(judge)
    def check(*answers: Any, **given: Any) -> None:
        try:
            if any(map(_is_open, answers)):
                raise _MissingError
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                print(f"right: {judge(*answers, **given)}")
        except _MissingError:
            print("not answered yet")
        except _HintError as hint:
            print(f"not yet: {hint}")
        except Exception as error:  # a student may write anything
            print(f"not yet: this cannot be checked, {_words(error)}")

    return check


@_check
def convolution(answer: Any, pixels: Any, kernel: Any) -> str:
    """The convolved matrix of a small image and a kernel, without padding."""
    batch = jnp.asarray(pixels, jnp.float32)[None, ..., None]
    weights = jnp.asarray(kernel, jnp.float32)[..., None, None]
    truth = np.asarray(ops.conv(batch, weights, padding="VALID"))[0, ..., 0]
    found = _numbers(answer, truth.shape, "the matrix")
    wrong = np.argwhere(~np.isclose(found, truth))
    if np.allclose(found, truth[::-1, ::-1]) and len(wrong):
        raise _HintError("the values are there, but not in the order in which the kernel moves")
    if len(wrong):
        row, column = wrong[0]
        raise _HintError(
            f"look at row {row + 1}, column {column + 1} again: lay the kernel there, multiply "
            "pair by pair, and add all the products up (some are negative)"
        )
    return (
        "each value is the dot product of the kernel with the pixels under it; where the "
        "patch is as bright on the left as on the right, the two sides cancel"
    )


@_check
def output_shapes(valid: Any, same: Any, size: Any, filters: Any, window: Any, strides: Any) -> str:
    """The shapes of a convolution's output without padding, and with SAME padding."""
    images = jax.ShapeDtypeStruct((1, *size), jnp.float32)
    kernel = jax.ShapeDtypeStruct((window, window, size[-1], filters), jnp.float32)
    cases: tuple[tuple[str, Any, Literal["VALID", "SAME"]], ...] = (
        ("valid", valid, "VALID"),
        ("same", same, "SAME"),
    )
    for name, answer, padding in cases:
        convolve = functools.partial(ops.conv, strides=strides, padding=padding)
        truth = jax.eval_shape(convolve, images, kernel).shape[1:]
        found = _numbers(answer, (3,), f"`{name}`, (height, width, channels),")
        if found[2] != truth[2]:
            raise _HintError(f"`{name}`: each filter gives one feature map; how many are there?")
        if tuple(found[:2]) == tuple(size[:2]) and strides > 1:
            raise _HintError(f"`{name}`: the filter moves {strides} pixels at a time, not 1")
        if tuple(found) != truth and padding == "VALID":
            raise _HintError(
                "`valid`: in how many places of a row can the filter's left edge stand, so that "
                "all of the filter is inside? And which of these are visited?"
            )
        if tuple(found) != truth:
            raise _HintError("`same`: with this padding only the stride makes the image smaller")
    return (
        "without padding (size - window) / stride, rounded down, plus 1 in each direction; with "
        "SAME padding size / stride, rounded up; as many channels as there are filters"
    )


@_check
def vertical_edges(kernel: Any) -> str:
    """A 3x3 kernel that answers vertical edges, and neither plain areas nor horizontal edges."""
    weights = _numbers(kernel, (3, 3), "the kernel")
    step = np.zeros((9, 9), np.float32)
    step[:, 5:] = 1

    def response(picture: np.ndarray) -> float:
        filtered = image.filter2d(jnp.asarray(picture)[None, ..., None], weights, border="reflect")
        return float(np.abs(filtered).max())

    limit = 1e-5 * max(float(np.abs(weights).max()), 1e-30)
    if response(np.ones((9, 9), np.float32)) > limit:
        raise _HintError(
            "it answers a plain wall too: what must the weights add up to, so that equal pixels "
            "give 0?"
        )
    if response(step) <= limit:
        raise _HintError("it does not see a vertical edge: compare the left with the right side")
    if response(step.T) > limit:
        raise _HintError("it sees horizontal edges too: what is above must not matter, only beside")
    return (
        "what is on one side is subtracted from what is on the other, so equal sides give 0 and a "
        "step of brightness from left to right gives a large value"
    )


@_check
def pooling(maximum: Any, total: Any, average: Any, feature_map: Any) -> str:
    """Max, sum and average pooling of a small feature map with a 2x2 window."""
    batch = jnp.asarray(feature_map, jnp.float32)[None, ..., None]
    answers = (
        ("maximum", maximum, ops.max_pool),
        ("total", total, ops.sum_pool),
        ("average", average, ops.avg_pool),
    )
    for name, answer, function in answers:
        truth = np.asarray(function(batch, 2))[0, ..., 0]
        found = _numbers(answer, truth.shape, f"`{name}`")
        wrong = np.argwhere(~np.isclose(found, truth))
        if len(wrong):
            row, column = wrong[0]
            raise _HintError(
                f"`{name}`, row {row + 1}, column {column + 1}: take the four values of that "
                "window alone; windows do not overlap"
            )
    return (
        "the three differ only in what they do with the four values of a window; each leaves a "
        "quarter of the feature map, and so of the memory"
    )


@_check
def parameters(answer: Any, size: Any) -> str:
    """How many parameters each layer of the classical network has."""
    model = models.ClassicCNN(num_classes=10)
    shape = jax.ShapeDtypeStruct((1, *size), jnp.float32)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), shape)
    hints = {
        "conv": "one weight for each pixel under the filter, and a bias, for every filter",
        "hidden": "how many values does Flatten give, after pooling? Each has a weight to each "
        "neuron, and each neuron has a bias",
        "output": "every one of the neurons before it has a weight to each output",
    }
    if not isinstance(answer, Mapping):
        raise _HintError(f"keep the dictionary with the keys {', '.join(hints)}")
    for name, hint in hints.items():
        if name not in answer:
            raise _HintError(f"the dictionary needs the key {name!r}")
        truth = sum(leaf.size for leaf in jax.tree.leaves(variables["params"][name]))
        found = float(_numbers(answer[name], (), f"{name!r}"))
        without_bias = variables["params"][name]["kernel"].size
        if found == without_bias:
            raise _HintError(
                f"{name!r}: these are the weights; something small is added at the end"
            )
        if found != truth:
            raise _HintError(f"{name!r}: {hint}")
    return (
        "a filter is used at every place with the same few weights; nearly all parameters are in "
        "the first fully connected layer, which has one weight for each pair"
    )


@_check
def output_layer(answer: Any) -> str:
    """Which logistic function follows the last layer, by kind of target."""
    logits = jnp.array([[2.0, -1.0, 0.5]])
    kinds: dict[str, tuple[train.Task, jax.Array]] = {
        "binary": (train.binary(), logits[:, :1]),
        "multi-class": (train.multi_class(), logits),
        "multi-label": (train.multi_label(), logits),
    }
    functions = {"sigmoid": jax.nn.sigmoid, "softmax": jax.nn.softmax}
    if not isinstance(answer, Mapping):
        raise _HintError(f"keep the dictionary with the keys {', '.join(kinds)}")
    for kind, (task, outputs) in kinds.items():
        chosen = answer.get(kind)
        if not isinstance(chosen, str) or chosen.lower() not in functions:
            raise _HintError(f"{kind!r}: answer with one of the words {', '.join(functions)}")
        if not jnp.allclose(functions[chosen.lower()](outputs), task.activate(outputs)):
            raise _HintError(
                f"{kind!r}: must the probabilities add up to 1, or is each on its own?"
            )
    return (
        "softmax shares a probability of 1 out among the classes, of which exactly one is true; a "
        "sigmoid answers each yes-or-no question by itself"
    )


@_check
def overfitting(letter: Any, best_epoch: Any, histories: Any) -> str:
    """Which curves show over-fitting, and which epoch's network early stopping would keep."""

    def gap(history: Sequence[Mapping[str, float]]) -> float:
        return history[-1]["validation_loss"] - history[-1]["train_loss"]

    truth = max(histories, key=lambda name: gap(histories[name]))
    if not isinstance(letter, str) or letter.strip().upper() not in histories:
        raise _HintError(f"`overfits` is one of the letters {', '.join(histories)}")
    if letter.strip().upper() != truth:
        raise _HintError("where do the two curves part: training good, validation much worse?")
    history = histories[truth]
    best = train.EarlyStopping(patience=len(history)).best_epoch(history)
    if float(_numbers(best_epoch, (), "`best_epoch`")) != best:
        raise _HintError(
            f"`best_epoch`: the number of the epoch in which the validation loss of {truth} is "
            "smallest (the training loss does not count)"
        )
    return (
        f"in {truth} training gets better and better while validation does not; early stopping "
        f"keeps the network of epoch {best}, the last one that was still of use to new images"
    )


@_check
def preprocessing(
    unit: Any, symmetric: Any, standardized: Any, small: Any, pixels: Any, size: Any
) -> str:
    """A photograph normalised in three ways, and brought to a small grey square."""
    floats = image.to_float(pixels)
    mean, std = image.channel_statistics(pixels)
    half = (0.5,) * 3
    truths = {
        "unit": (unit, floats, "divide by the largest value that a byte can have, as a float"),
        "symmetric": (
            symmetric,
            image.normalize(floats, half, half),
            "0 must go to -1 and the largest byte to 1: one factor and one shift",
        ),
        "standardized": (
            standardized,
            image.normalize(floats, mean.tolist(), std.tolist()),
            "each channel by itself: subtract its mean, divide by its standard deviation (the "
            "mean of the result is 0, its deviation 1)",
        ),
    }
    for name, (answer, truth, hint) in truths.items():
        found = _numbers(answer, truth.shape, f"`{name}`")
        if not np.allclose(found, truth, atol=1e-3):
            raise _HintError(f"`{name}`: {hint}")
    truth = image.resize(image.to_grayscale(image.crop_to_square(floats)), size)
    found = _numbers(small, truth.shape, "`small`")
    if found.max() > 1.5:
        raise _HintError("`small`: begin with the image in [0, 1]")
    if np.abs(found - truth).mean() > 0.02:
        raise _HintError(
            "`small`: cut out the square in the middle before resizing, so that nothing is "
            "stretched, and weigh red, green and blue as the eye does"
        )
    return (
        "all four hold the same picture; what changes is the range of the values, which should be "
        "alike for all images that a network sees, and the number of them"
    )


@_check
def augmentation(augment: Any, images: Any) -> str:
    """A random transform ``augment(key, images) -> images``."""
    if not callable(augment):
        raise _HintError("`augment` must be a function of (key, images)")
    row = jnp.asarray(images)[:1]
    same = jnp.repeat(row, 8, 0)  # eight times the same image
    try:
        results = [augment(jax.random.key(number), same) for number in (0, 0, 1)]
    except Exception as error:
        raise _HintError(f"`augment(key, images)` cannot be called, {_words(error)}") from error
    if results[0] is None or results[0] is ...:
        raise _MissingError
    first, again, other = (
        _numbers(result, same.shape, "what `augment` gives") for result in results
    )
    if not np.array_equal(first, again):
        raise _HintError("the same key must give the same images: draw nothing without the key")
    if first.min() < -0.01 or first.max() > 1.01:
        raise _HintError("the values leave [0, 1]: they must stay images")
    changed = [float(np.abs(one - np.asarray(row[0])).mean()) for one in first]
    if max(changed) < 1e-3:
        raise _HintError("the images come out as they went in")
    if len({one.tobytes() for one in first}) < 2:
        raise _HintError("every image of the batch must draw its own change; here they are alike")
    if np.array_equal(first, other):
        raise _HintError("another key must give other images: is the key used?")
    return (
        "one image has become many that still show the same thing, each from its own key, so a "
        "run can be repeated exactly"
    )


@_check
def noise(cleaned: Any, noisy: Any, original: Any) -> str:
    """An image freed of salt-and-pepper noise, better than any average does."""
    found = _numbers(cleaned, np.shape(original), "`cleaned`")

    def error(picture: Any) -> float:
        return float(np.mean((np.asarray(picture) - np.asarray(original)) ** 2))

    if np.array_equal(found, np.asarray(original)):
        raise _HintError("begin with the noisy picture; nobody gives you the original")
    if error(found) >= error(noisy):
        raise _HintError("it is further from the original than the noisy picture was")
    averages = [image.box_blur(noisy, side) for side in (3, 5, 7)]
    averages += [image.gaussian_blur(noisy, sigma) for sigma in (0.5, 1.0, 1.5, 2.0)]
    if error(found) >= 0.7 * min(map(error, averages)):
        raise _HintError(
            "an average spreads the wrong pixels over their neighbours; which filter takes a value "
            "that is really there?"
        )
    return (
        f"the error is {error(noisy) / error(found):.0f} times smaller than it was: a white or "
        "black pixel is hardly ever the one in the middle when its neighbours are sorted"
    )


@_check
def components(four: Any, eight: Any, matrix: Any) -> str:
    """How many connected components a matrix has, with 4- and with 8-connectivity."""
    mask = jnp.asarray(matrix)[None] != 0
    cases: tuple[tuple[str, Any, Literal[4, 8]], ...] = (("four", four, 4), ("eight", eight, 8))
    for name, answer, connectivity in cases:
        joined = "an edge" if connectivity == 4 else "an edge or a corner"
        truth = image.connected_components(mask, connectivity=connectivity).count.item()
        if float(_numbers(answer, (), f"`{name}`")) != truth:
            raise _HintError(
                f"`{name}`: colour one pixel that is on, then all that share {joined} with a "
                "coloured one, until none is left; how often do you have to begin anew?"
            )
    return (
        "two of the shapes touch at a corner alone, which joins them for 8-connectivity and not "
        "for 4"
    )


@_check
def coins(mask: Any, picture: Any, count: Any) -> str:
    """A mask whose connected components are the coins of a photograph."""
    shape = np.shape(picture)[:3]
    found = np.asarray(mask)
    if found.dtype == object or found.dtype.kind not in "biuf":
        raise _HintError("`mask` must be an array of truth values")
    if found.shape == (*shape, 1):
        found = found[..., 0]
    if found.shape != shape:
        raise _HintError(f"`mask` must have the shape {shape}, this has {found.shape}")
    labelled = image.connected_components(jnp.asarray(found != 0))
    number = labelled.count.item()
    if number > 2 * count:
        raise _HintError(
            f"it has {number} components: many are specks; what removes those that are small?"
        )
    if number != count:
        raise _HintError(
            f"it has {number} components: does every coin hang together, and none with another or "
            "with the background?"
        )
    smallest = min(np.bincount(np.asarray(labelled.labels).ravel())[1:])
    if smallest < 200:
        raise _HintError("the number is right, but one component is smaller than any coin")
    return f"{number} components, one for each coin: blur, threshold, tidy up, count"


@_check
def network(model: Any, size: Any, classes: Any) -> str:
    """A Linen module of one's own: images to one logit for each class."""
    images = jnp.zeros((2, *size), jnp.float32)
    if isinstance(model, type) or not hasattr(model, "init") or not hasattr(model, "apply"):
        raise _HintError("`model` must be a Linen module: MyNetwork(), with the brackets")
    outputs: list[Any] = []

    def run(key: jax.Array) -> Any:
        variables = model.init(key, images, train=False)
        outputs.append(model.apply(variables, images, train=False))
        return variables

    try:
        variables = jax.eval_shape(run, jax.random.key(0))
    except Exception as error:
        raise _HintError(f"`model(images, train=False)` fails, {_words(error)}") from error
    logits = outputs[0]
    if logits is None or logits is ...:
        raise _MissingError
    if getattr(logits, "shape", None) != (2, classes):
        raise _HintError(
            f"the output must have the shape (images, {classes}), this gives "
            f"{getattr(logits, 'shape', type(logits).__name__)}"
        )
    leaves = jax.tree.leaves(variables)
    if not any(len(leaf.shape) == 4 for leaf in leaves):
        raise _HintError("there is no convolution in it: use layers.Conv")
    count = sum(leaf.size for leaf in leaves)
    return f"images become {classes} logits; it has {count:,} values to learn or to keep"


@_check
def training(
    remedies: Any, model: Any, state: Any, validation: Any, preprocess: Any, bar: Any
) -> str:
    """A trained network with at least three remedies and a validation accuracy above a bar."""
    named = _named_remedies(remedies)
    if not isinstance(state, train.TrainState):
        raise _HintError("`state` must be what train.fit gives first: state, history = ...")
    if not hasattr(model, "apply") or isinstance(model, type):
        raise _HintError("`model` must be the network that you have trained: MyNetwork()")
    if "batch normalization" in named and not state.batch_stats:
        raise _HintError("you name batch normalization, but no layer of `model` keeps statistics")
    drawn = named & {"dropout", "noise injection"}
    if drawn == {"dropout"} and not _is_random(model, state, preprocess(validation.images[:4])):
        raise _HintError("you name dropout, but `model` gives the same twice while training")
    step = train.make_eval_step(model, preprocess=preprocess)
    accuracy = train.evaluate(step, state, data.batches(validation, 250))["accuracy"]
    if accuracy < bar:
        raise _HintError(
            f"validation accuracy is {accuracy:.1%}, the bar {bar:.0%}: compare the training "
            "accuracy in `history`. If that is low too, train longer or with larger steps, or "
            "make the network larger; if it is high, use more remedies or more images"
        )
    return f"validation accuracy {accuracy:.1%} with {', '.join(sorted(named))}"


@_check
def mistakes(wrong: Any, confused: Any, outputs: Any, labels: Any, classes: Any) -> str:
    """Which images are classified wrongly, and which class is most often taken for another."""
    logits, truth = np.asarray(outputs), np.asarray(labels)
    predicted = logits.argmax(-1)
    found = np.asarray(wrong)
    if found.dtype.kind not in "biu" or found.ndim != 1:
        raise _HintError("`wrong` must be a row of whole numbers, the places of the images")
    if found.dtype == bool:
        raise _HintError("`wrong` holds truth values; np.flatnonzero gives their places")
    if set(found.tolist()) != set(np.flatnonzero(predicted != truth).tolist()):
        raise _HintError("`wrong`: where does the class with the largest logit differ from labels?")
    matrix = np.array(metrics.confusion_matrix(truth, predicted, len(classes)))
    np.fill_diagonal(matrix, 0)
    pair = [str(name) for name in confused] if isinstance(confused, Sequence) else []
    if len(pair) != 2 or isinstance(confused, str) or not set(pair) <= set(classes):
        raise _HintError("`confused` must be two names of `classes`: (true, predicted)")
    row, column = (list(classes).index(name) for name in pair)
    if matrix[row, column] != matrix.max():
        turned = matrix[column, row] == matrix.max()
        raise _HintError(
            "`confused`: the true class comes first"
            if turned
            else "`confused`: count how often each true class is taken for each other one; which "
            "number off the diagonal is largest?"
        )
    return (
        f"{len(set(found.tolist()))} of {len(truth)} are wrong; {matrix.max()} times a "
        f"{pair[0]} is taken for a {pair[1]}, which even you may not tell apart at this size"
    )


def _named_remedies(remedies: Any) -> set[str]:
    """Those of the course's seven remedies that a list of words names."""
    words = [remedies] if isinstance(remedies, str) else remedies
    if not isinstance(words, list | tuple | set) or not all(isinstance(w, str) for w in words):
        raise _HintError("`remedies` must be a list of words, such as the course's slide has them")
    named = {
        remedy
        for remedy, signs in _REMEDIES.items()
        if any(sign in word.lower() for word in words for sign in signs)
    }
    if len(named) < 3:
        raise _HintError(
            f"`remedies` names {len(named)} of the course's seven, and three are asked for"
        )
    return named


def _is_random(model: Any, state: train.TrainState, images: jax.Array) -> bool:
    """Whether a network in training draws random numbers."""

    def run(seed: int) -> jax.Array:
        key = jax.random.key(seed)
        outputs, _ = model.apply(
            state.variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return outputs

    return not np.array_equal(run(0), run(1))


def _numbers(answer: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """The answer as an array of a shape, or a hint."""
    if isinstance(answer, str | bytes | bool) or answer is None:
        raise _HintError(f"{what} must be made of numbers, this is {answer!r:.40}")
    wanted = f"numbers of the shape {shape}" if shape else "one number"
    try:
        found = np.asarray(answer, np.float64)
    except Exception:  # an object may refuse in its own way
        kind = type(answer).__name__
        raise _HintError(f"{what} must be {wanted}, this is of type {kind}") from None
    if found.shape != shape:
        raise _HintError(f"{what} must be {wanted}, this has the shape {found.shape}")
    if not np.isfinite(found).all():
        raise _HintError(f"{what} must be {wanted}, some of these are infinite or no number")
    return found


def _is_open(answer: Any) -> bool:
    """Whether an Ellipsis is still in an answer."""
    if isinstance(answer, np.ndarray) and answer.dtype == object:
        answer = answer.ravel().tolist()
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    if isinstance(answer, list | tuple):
        return any(map(_is_open, answer))
    return answer is ...


def _words(error: Exception) -> str:
    """The first line of an error."""
    lines = str(error).splitlines() or [""]
    return f"Python says {type(error).__name__}: {lines[0][:200]}"
