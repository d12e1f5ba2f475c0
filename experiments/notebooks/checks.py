"""Checks of the answers in CNN_Exercise.ipynb: one function for each exercise.

Each prints one line: ``not answered yet``, ``right: ...`` with the reason, or ``not yet: ...`` with
a hint. None of them raises for a wrong answer, whatever its type, nor minds axes of length 1 that
are missing or too many. What is right is computed here with jaxcnn from what the exercise gave, so
you find no solutions below. Those of networks and their training are in ``network_checks``, what
reads any answer is in ``answers``.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from answers import (
    HintError,
    MissingError,
    check,
    entries,
    first_line,
    long_axes,
    numbers,
    parts,
    require,
)
from network_checks import mistakes as mistakes
from network_checks import network as network
from network_checks import overfitting as overfitting
from network_checks import training as training

from jaxcnn import image, models, ops, train


@check
def convolution(answer: Any, pixels: Any, kernel: Any) -> str:
    """The convolved matrix of a small image and a kernel, without padding."""
    require(answer)
    batch = jnp.asarray(pixels, jnp.float32)[None, ..., None]
    weights = jnp.asarray(kernel, jnp.float32)[..., None, None]
    truth = np.asarray(ops.conv(batch, weights, padding="VALID"))[0, ..., 0]
    found = numbers(answer, truth.shape, "the matrix")
    wrong = np.argwhere(~np.isclose(found, truth))
    if np.allclose(found, truth[::-1, ::-1]) and len(wrong):
        raise HintError("the values are there, but not in the order in which the kernel moves")
    if len(wrong):
        row, column = wrong[0]
        raise HintError(
            f"look at row {row + 1}, column {column + 1} again: lay the kernel there, multiply "
            "pair by pair, and add all the products up (some are negative)"
        )
    return (
        "each value is the dot product of the kernel with the pixels under it; where the "
        "patch is as bright on the left as on the right, the two sides cancel"
    )


@check
def output_shapes(valid: Any, same: Any, size: Any, filters: Any, window: Any, strides: Any) -> str:
    """The shapes of a convolution's output without padding, and with SAME padding."""
    images = jax.ShapeDtypeStruct((1, *size), jnp.float32)
    kernel = jax.ShapeDtypeStruct((window, window, size[-1], filters), jnp.float32)
    paddings: dict[str, Literal["VALID", "SAME"]] = {"valid": "VALID", "same": "SAME"}
    for name, answer in parts({"valid": valid, "same": same}):
        padding = paddings[name]
        convolve = functools.partial(ops.conv, strides=strides, padding=padding)
        truth = jax.eval_shape(convolve, images, kernel).shape[1:]
        found = numbers(answer, (3,), f"`{name}`, (height, width, channels),")
        if found[2] != truth[2] and found[0] == truth[2]:
            raise HintError(f"`{name}`: channels come last, (height, width, channels)")
        if found[2] != truth[2]:
            raise HintError(f"`{name}`: each filter gives one feature map; how many are there?")
        if tuple(found[:2]) == tuple(size[:2]) and strides > 1:
            raise HintError(f"`{name}`: the filter moves {strides} pixels at a time, not 1")
        if tuple(found) != truth and padding == "VALID":
            raise HintError(
                "`valid`: in how many places of a row can the filter's left edge stand, so that "
                "all of the filter is inside? And which of these are visited?"
            )
        if tuple(found) != truth:
            raise HintError("`same`: with this padding only the stride makes the image smaller")
    return (
        "without padding (size - window) / stride, rounded down, plus 1 in each direction; with "
        "SAME padding size / stride, rounded up; as many channels as there are filters"
    )


@check
def vertical_edges(kernel: Any) -> str:
    """A 3x3 kernel that answers vertical edges, and neither plain areas nor horizontal edges."""
    require(kernel)
    weights = numbers(kernel, (3, 3), "the kernel")
    step = np.zeros((9, 9), np.float32)
    step[:, 5:] = 1

    def response(picture: np.ndarray) -> float:
        filtered = image.filter2d(jnp.asarray(picture)[None, ..., None], weights, border="reflect")
        return float(np.abs(filtered).max())

    limit = 1e-5 * max(float(np.abs(weights).max()), 1e-30)
    answer = response(step)
    if response(np.ones((9, 9), np.float32)) > limit:
        raise HintError(
            "it answers a plain wall too: what must the weights add up to, so that equal pixels "
            "give 0?"
        )
    if answer <= limit:
        raise HintError("it does not see a vertical edge: compare the left with the right side")
    if response(step.T) > limit:
        raise HintError("it sees horizontal edges too: what is above must not matter, only beside")
    if answer < 0.1:
        raise HintError(
            f"it answers a step from black (0) to white (1) with {answer:.2g} only: larger weights"
        )
    return (
        "the weights of each row add up to 0, so pixels that are equal from left to right cancel, "
        f"and a step from black (0) to white (1) between them gives {answer:.2g}"
    )


@check
def pooling(maximum: Any, total: Any, average: Any, feature_map: Any) -> str:
    """Max, sum and average pooling of a small feature map with a 2x2 window."""
    batch = jnp.asarray(feature_map, jnp.float32)[None, ..., None]
    functions = {"maximum": ops.max_pool, "total": ops.sum_pool, "average": ops.avg_pool}
    for name, answer in parts({"maximum": maximum, "total": total, "average": average}):
        truth = np.asarray(functions[name](batch, 2))[0, ..., 0]
        found = numbers(answer, truth.shape, f"`{name}`")
        wrong = np.argwhere(~np.isclose(found, truth))
        if len(wrong):
            row, column = wrong[0]
            raise HintError(
                f"`{name}`, row {row + 1}, column {column + 1}: take the four values of that "
                "window alone; windows do not overlap"
            )
    return (
        "the three differ only in what they do with the four values of a window; each leaves a "
        "quarter of the feature map, and so of the memory"
    )


@check
def parameters(answer: Any, size: Any) -> str:
    """Check the number of parameters of each layer of the classical network."""
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
    for name, value in parts(entries(answer, hints)):
        truth = sum(leaf.size for leaf in jax.tree.leaves(variables["params"][name]))
        found = float(numbers(value, (), f"{name!r}"))
        without_bias = variables["params"][name]["kernel"].size
        if found == without_bias:
            raise HintError(f"{name!r}: these are the weights; something small is added at the end")
        if found != truth:
            raise HintError(f"{name!r}: {hints[name]}")
    return (
        "a filter is used at every place with the same few weights; nearly all parameters are in "
        "the first fully connected layer, which has one weight for each pair"
    )


@check
def output_layer(answer: Any) -> str:
    """Check the activation after the last layer, by kind of target."""
    logits = jnp.array([[2.0, -1.0, 0.5]])
    kinds: dict[str, tuple[train.Task, jax.Array]] = {
        "binary": (train.binary(), logits[:, :1]),
        "multi-class": (train.multi_class(), logits),
        "multi-label": (train.multi_label(), logits),
    }
    functions = {"sigmoid": jax.nn.sigmoid, "softmax": jax.nn.softmax}
    for kind, chosen in parts(entries(answer, kinds)):
        task, outputs = kinds[kind]
        if not isinstance(chosen, str) or chosen.lower() not in functions:
            raise HintError(f"{kind!r}: answer with one of the words {', '.join(functions)}")
        if not jnp.allclose(functions[chosen.lower()](outputs), task.activate(outputs)):
            raise HintError(f"{kind!r}: must the probabilities add up to 1, or is each on its own?")
    return (
        "softmax shares a probability of 1 out among the classes, of which exactly one is true; a "
        "sigmoid answers each yes-or-no question by itself"
    )


@check
def preprocessing(
    unit: Any, symmetric: Any, standardized: Any, small: Any, pixels: Any, size: Any
) -> str:
    """Check a photograph normalized in three ways, and resized to a small gray square."""
    floats = image.to_float(pixels)
    mean, std = image.channel_statistics(pixels)
    half = (0.5,) * 3
    truths = {
        "unit": (floats, "divide by the largest value that a byte can have, as a float"),
        "symmetric": (
            image.normalize(floats, half, half),
            "0 must go to -1 and the largest byte to 1: one factor and one shift",
        ),
        "standardized": (
            image.normalize(floats, mean.tolist(), std.tolist()),
            "each channel by itself: subtract its mean, divide by its standard deviation (the "
            "mean of the result is 0, its deviation 1)",
        ),
    }
    answers = {"unit": unit, "symmetric": symmetric, "standardized": standardized, "small": small}
    for name, answer in parts(answers):
        if name == "small":
            _judge_small(answer, image.crop_to_square(floats), size)
            continue
        truth, hint = truths[name]
        found = numbers(answer, truth.shape, f"`{name}`")
        if not np.allclose(found, truth, atol=1e-3):
            raise HintError(f"`{name}`: {hint}")
    return (
        "all four hold the same picture; what changes is the range of the values, which should be "
        "alike for all images that a network sees, and the number of them"
    )


@check
def augmentation(augment: Any, images: Any) -> str:
    """A random transform ``augment(key, images) -> images``."""
    require(augment)
    if not callable(augment):
        raise HintError("`augment` must be a function of (key, images)")
    row = jnp.asarray(images)[:1]
    same = jnp.repeat(row, 8, 0)  # eight times the same image
    try:
        results = [augment(jax.random.key(number), same) for number in (0, 0, 1)]
    except Exception as error:
        raise HintError(f"`augment(key, images)` cannot be called, {first_line(error)}") from error
    if results[0] is None or results[0] is ...:
        raise MissingError
    first, again, other = (
        numbers(result, same.shape, "what `augment` gives") for result in results
    )
    if not np.array_equal(first, again):
        raise HintError("the same key must give the same images: draw nothing without the key")
    if first.min() < -0.01 or first.max() > 1.01:
        raise HintError("the values leave [0, 1]: they must stay images")
    changed = [float(np.abs(one - np.asarray(row[0])).mean()) for one in first]
    if max(changed) < 1e-3:
        raise HintError("the images come out as they went in")
    if max(changed) < 0.01:
        raise HintError(
            f"the values change by {max(changed):.2g} of 1, which nobody sees: change more"
        )
    if np.mean([_likeness(one, np.asarray(row[0])) for one in first]) < 0.1:
        raise HintError(
            "what comes out has nothing to do with the images that went in: change them only so "
            "much that they still show the same thing"
        )
    if len({one.tobytes() for one in first}) < 2:
        raise HintError("every image of the batch must draw its own change; here they are alike")
    if np.array_equal(first, other):
        raise HintError("another key must give other images: is the key used?")
    return (
        "one image has become many that still show the same thing, each from its own key, so a "
        "run can be repeated exactly"
    )


@check
def noise(cleaned: Any, noisy: Any, original: Any) -> str:
    """An image freed of salt-and-pepper noise, better than any average does."""
    require(cleaned)
    found = numbers(cleaned, np.shape(original), "`cleaned`")

    def error(picture: Any) -> float:
        return float(np.mean((np.asarray(picture) - np.asarray(original)) ** 2))

    if np.array_equal(found, np.asarray(original)):
        raise HintError("begin with the noisy picture; nobody gives you the original")
    if error(found) >= error(noisy):
        raise HintError("it is further from the original than the noisy picture was")
    averages = [image.box_blur(noisy, side) for side in (3, 5, 7)]
    averages += [image.gaussian_blur(noisy, sigma) for sigma in (0.5, 1.0, 1.5, 2.0)]
    if error(found) >= 0.7 * min(map(error, averages)):
        medians = (np.asarray(image.median_blur(noisy, side)) for side in (5, 7, 9, 11))
        if any(np.abs(found - median).mean() < 1e-3 for median in medians):
            raise HintError(
                "the right filter, but its window is too large: it takes away what is finer than "
                "half the window too, so try a smaller one"
            )
        raise HintError(
            "an average spreads the wrong pixels over their neighbors; which filter takes a value "
            "that is really there?"
        )
    return (
        f"the error is {error(noisy) / error(found):.0f} times smaller than it was: a white or "
        "black pixel is hardly ever the one in the middle when its neighbors are sorted"
    )


@check
def components(four: Any, eight: Any, matrix: Any) -> str:
    """Check the number of connected components of a matrix, with 4- and 8-connectivity."""
    mask = jnp.asarray(matrix)[None] != 0
    connectivities: dict[str, Literal[4, 8]] = {"four": 4, "eight": 8}
    for name, answer in parts({"four": four, "eight": eight}):
        connectivity = connectivities[name]
        joined = "an edge" if connectivity == 4 else "an edge or a corner"
        truth = image.connected_components(mask, connectivity=connectivity).count.item()
        if float(numbers(answer, (), f"`{name}`")) != truth:
            raise HintError(
                f"`{name}`: color one pixel that is on, then all that share {joined} with a "
                "colored one, until none is left; how often do you have to begin anew?"
            )
    return (
        "two of the shapes touch at a corner alone, which joins them for 8-connectivity and not "
        "for 4"
    )


@check
def coins(mask: Any, picture: Any, count: Any) -> str:
    """A mask whose connected components are the coins of a photograph."""
    require(mask)
    shape = np.shape(picture)[:3]
    found = np.asarray(mask)
    if found.dtype == object or found.dtype.kind not in "biuf":
        raise HintError("`mask` must be an array of booleans")
    if long_axes(found.shape) != long_axes(shape):
        raise HintError(f"`mask` must have the shape {shape}, this has {found.shape}")
    labeled = image.connected_components(jnp.asarray(found != 0).reshape(shape))
    number = labeled.count.item()
    if number > 2 * count:
        raise HintError(
            f"it has {number} components: many are specks; what removes those that are small?"
        )
    if number != count:
        raise HintError(
            f"it has {number} components: does every coin hang together, and none with another or "
            "with the background?"
        )
    smallest = min(np.bincount(np.asarray(labeled.labels).ravel())[1:])
    if smallest < 200:
        raise HintError("the number is right, but one component is smaller than any coin")
    return f"{number} components, one for each coin: blur, threshold, tidy up, count"


def _judge_small(answer: Any, square: jax.Array, size: int) -> None:
    """Raise a hint unless an answer is this square photograph, small and gray."""
    truth = image.resize(image.to_grayscale(square), size)
    plain_mean = image.resize(jnp.mean(square, -1, keepdims=True), size)
    found = numbers(answer, truth.shape, "`small`")
    if found.max() > 1.5:
        raise HintError("`small`: begin with the image in [0, 1]")
    distance = np.abs(found - truth).mean()
    if distance > 0.04:  # each way to resize has its own small differences
        raise HintError(
            "`small`: cut out the square in the middle before resizing, so that nothing is "
            "stretched, and weigh red, green and blue as the eye does"
        )
    if np.abs(found - plain_mean).mean() < distance:
        raise HintError(
            "`small`: to the eye green is brighter than red, and red than blue, so a plain mean of "
            "the three is not the gray that it sees: image.to_grayscale weighs them"
        )


def _likeness(changed: np.ndarray, picture: np.ndarray) -> float:
    """The correlation of an image's grays with a picture's, or with those of its mirror images."""
    found, gray = changed.mean(-1), picture.mean(-1)
    if found.std() < 1e-6:
        return 0.0
    mirrored = (gray, gray[:, ::-1], gray[::-1], gray[::-1, ::-1])
    # A negative of a photograph still shows what the photograph does.
    return max(abs(np.corrcoef(found.ravel(), one.ravel())[0, 1]) for one in mirrored)
