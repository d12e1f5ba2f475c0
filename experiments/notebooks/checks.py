"""Checks for the answers in CNN_Exercise.ipynb: one function for each exercise.

Each check prints a line: ``not answered yet``, ``right: ...`` with the reason, or ``not yet: ...``
with a hint. A wrong answer of any type raises no error, and missing or additional axes of length 1
are accepted. The right answers are computed with jaxcnn from the inputs of the exercise, so this
file contains no solutions. Checks for networks and their training are in ``network_checks``, and
the functions that read an answer are in ``answers``.
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
    """Check the convolution of a small image with a kernel, without padding."""
    require(answer)
    batch = jnp.asarray(pixels, jnp.float32)[None, ..., None]
    weights = jnp.asarray(kernel, jnp.float32)[..., None, None]
    truth = np.asarray(ops.conv(batch, weights, padding="VALID"))[0, ..., 0]
    found = numbers(answer, truth.shape, "the matrix")
    wrong = np.argwhere(~np.isclose(found, truth))
    if np.allclose(found, truth[::-1, ::-1]) and len(wrong):
        raise HintError("the values are right, but not in the order in which the kernel moves")
    if len(wrong):
        row, column = wrong[0]
        raise HintError(
            f"look at row {row + 1}, column {column + 1} again: place the kernel there, multiply "
            "pair by pair, and sum all the products (some are negative)"
        )
    return (
        "each value is the dot product of the kernel and the pixels under it; where the left and "
        "right sides of a patch are equally bright, they cancel"
    )


@check
def output_shapes(valid: Any, same: Any, size: Any, filters: Any, window: Any, strides: Any) -> str:
    """Check the shapes of a convolution's output without padding and with SAME padding."""
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
            raise HintError(f"`{name}`: each filter produces one feature map; how many are there?")
        if tuple(found[:2]) == tuple(size[:2]) and strides > 1:
            raise HintError(f"`{name}`: the filter moves {strides} pixels at a time, not 1")
        if tuple(found) != truth and padding == "VALID":
            raise HintError(
                "`valid`: at how many positions in a row can the filter's left edge be, so that "
                "the whole filter is inside the image? And which of these does the stride use?"
            )
        if tuple(found) != truth:
            raise HintError("`same`: with this padding, only the stride reduces the size")
    return (
        "without padding, the height and width are (size - window) / stride, rounded down, plus 1; "
        "with SAME padding, size / stride, rounded up; there are as many channels as filters"
    )


@check
def vertical_edges(kernel: Any) -> str:
    """Check a 3x3 kernel that detects vertical edges, but not uniform areas or horizontal edges."""
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
            "it also responds to uniform areas: what must the weights add up to, so that equal "
            "pixels give 0?"
        )
    if answer <= limit:
        raise HintError("it does not detect a vertical edge: compare the left and right sides")
    if response(step.T) > limit:
        raise HintError(
            "it also detects horizontal edges: compare pixels only from left to right, not from "
            "top to bottom"
        )
    if answer < 0.1:
        raise HintError(
            f"a step from black (0) to white (1) gives only {answer:.2g}: use larger weights"
        )
    return (
        "the weights of each row add up to 0, so equal pixels within a row cancel, and a step from "
        f"black (0) to white (1) gives {answer:.2g}"
    )


@check
def pooling(maximum: Any, total: Any, average: Any, feature_map: Any) -> str:
    """Check max, sum and average pooling of a small feature map with a 2x2 window."""
    batch = jnp.asarray(feature_map, jnp.float32)[None, ..., None]
    functions = {"maximum": ops.max_pool, "total": ops.sum_pool, "average": ops.avg_pool}
    for name, answer in parts({"maximum": maximum, "total": total, "average": average}):
        truth = np.asarray(functions[name](batch, 2))[0, ..., 0]
        found = numbers(answer, truth.shape, f"`{name}`")
        wrong = np.argwhere(~np.isclose(found, truth))
        if len(wrong):
            row, column = wrong[0]
            raise HintError(
                f"`{name}`, row {row + 1}, column {column + 1}: use only the four values of that "
                "window; windows do not overlap"
            )
    return (
        "the three differ only in how they combine the four values of a window; each reduces the "
        "feature map, and its memory, to a quarter"
    )


@check
def parameters(answer: Any, size: Any) -> str:
    """Check the number of parameters in each layer of the classical network."""
    model = models.ClassicCNN(num_classes=10)
    shape = jax.ShapeDtypeStruct((1, *size), jnp.float32)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), shape)
    hints = {
        "conv": "every filter has one weight for each pixel under it, and a bias",
        "hidden": "how many values does Flatten return after pooling? Each value has a weight for "
        "each neuron, and each neuron has a bias",
        "output": "each neuron of the layer before has a weight for each output",
    }
    for name, value in parts(entries(answer, hints)):
        truth = sum(leaf.size for leaf in jax.tree.leaves(variables["params"][name]))
        found = float(numbers(value, (), f"{name!r}"))
        without_bias = variables["params"][name]["kernel"].size
        if found == without_bias:
            raise HintError(f"{name!r}: this is the number of weights; something small is missing")
        if found != truth:
            raise HintError(f"{name!r}: {hints[name]}")
    return (
        "a filter uses the same few weights at every position; nearly all parameters are in the "
        "first fully connected layer, which has one weight for each pair of value and neuron"
    )


@check
def output_layer(answer: Any) -> str:
    """Check the activation after the last layer for each kind of target."""
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
            raise HintError(f"{kind!r}: must the probabilities add up to 1, or are they separate?")
    return (
        "softmax divides a probability of 1 among the classes, exactly one of which is true; a "
        "sigmoid answers each yes-or-no question separately"
    )


@check
def preprocessing(
    unit: Any, symmetric: Any, standardized: Any, small: Any, pixels: Any, size: Any
) -> str:
    """Check a photograph normalized in three ways, and resized to a small grayscale square."""
    floats = image.to_float(pixels)
    mean, std = image.channel_statistics(pixels)
    half = (0.5,) * 3
    truths = {
        "unit": (floats, "divide by the largest value that a byte can have, as a float"),
        "symmetric": (
            image.normalize(floats, half, half),
            "0 must become -1 and the largest byte 1: multiply by a constant, and add another",
        ),
        "standardized": (
            image.normalize(floats, mean.tolist(), std.tolist()),
            "for each channel separately, subtract its mean and divide by its standard deviation "
            "(the result has mean 0 and standard deviation 1)",
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
        "all four show the same scene; they differ in size and in the range of values, which "
        "should be the same for all images that a network sees"
    )


@check
def augmentation(augment: Any, images: Any) -> str:
    """Check a random transform ``augment(key, images) -> images``."""
    require(augment)
    if not callable(augment):
        raise HintError("`augment` must be a function of (key, images)")
    row = jnp.asarray(images)[:1]
    same = jnp.repeat(row, 8, 0)  # the same image eight times
    try:
        results = [augment(jax.random.key(number), same) for number in (0, 0, 1)]
    except Exception as error:
        raise HintError(f"`augment(key, images)` fails: {first_line(error)}") from error
    if results[0] is None or results[0] is ...:
        raise MissingError
    first, again, other = (
        numbers(result, same.shape, "the result of `augment`") for result in results
    )
    if not np.array_equal(first, again):
        raise HintError("the same key must give the same images: use only the key for randomness")
    if first.min() < -0.01 or first.max() > 1.01:
        raise HintError("some values are outside [0, 1]: the results must be valid images")
    changed = [float(np.abs(one - np.asarray(row[0])).mean()) for one in first]
    if max(changed) < 1e-3:
        raise HintError("the images are unchanged")
    if max(changed) < 0.01:
        raise HintError(
            f"the values change by only {max(changed):.2g} on a scale of 0 to 1, which is not "
            "visible: change them more"
        )
    if np.mean([_likeness(one, np.asarray(row[0])) for one in first]) < 0.1:
        raise HintError(
            "the results have nothing to do with the original images: change them only so much "
            "that they still show the same object"
        )
    if len({one.tobytes() for one in first}) < 2:
        raise HintError("each image of the batch must change differently; here all are the same")
    if np.array_equal(first, other):
        raise HintError("a different key must give different images: is the key used?")
    return (
        "one image has become many that still show the same object; the key alone determines the "
        "changes, so a run can be repeated exactly"
    )


@check
def noise(cleaned: Any, noisy: Any, original: Any) -> str:
    """Check that salt-and-pepper noise was removed better than by any average."""
    require(cleaned)
    found = numbers(cleaned, np.shape(original), "`cleaned`")

    def error(picture: Any) -> float:
        return float(np.mean((np.asarray(picture) - np.asarray(original)) ** 2))

    if np.array_equal(found, np.asarray(original)):
        raise HintError("start from the noisy image: in practice you do not have the original")
    if error(found) >= error(noisy):
        raise HintError("the result is no closer to the original than the noisy image is")
    averages = [image.box_blur(noisy, side) for side in (3, 5, 7)]
    averages += [image.gaussian_blur(noisy, sigma) for sigma in (0.5, 1.0, 1.5, 2.0)]
    if error(found) >= 0.7 * min(map(error, averages)):
        medians = (np.asarray(image.median_blur(noisy, side)) for side in (5, 7, 9, 11))
        if any(np.abs(found - median).mean() < 1e-3 for median in medians):
            raise HintError(
                "this is the right filter, but its window is too large: it also removes details "
                "smaller than half the window, so try a smaller one"
            )
        raise HintError(
            "an average spreads the noisy pixels over their neighbors; which filter selects one of "
            "the existing values?"
        )
    return (
        f"the mean squared error is {error(noisy) / error(found):.0f} times smaller than before: "
        "when neighboring pixels are sorted, a white or black one is hardly ever in the middle"
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
                f"`{name}`: color one pixel that is on, then keep coloring pixels that share "
                f"{joined} with a colored one until none is left; how often do you have to start "
                "with a new pixel?"
            )
    return (
        "two of the shapes touch only at a corner, which connects them with 8-connectivity but not "
        "with 4-connectivity"
    )


@check
def coins(mask: Any, picture: Any, count: Any) -> str:
    """Check a mask whose connected components are the coins in a photograph."""
    require(mask)
    shape = np.shape(picture)[:3]
    found = np.asarray(mask)
    if found.dtype == object or found.dtype.kind not in "biuf":
        raise HintError("`mask` must be an array of booleans")
    if long_axes(found.shape) != long_axes(shape):
        raise HintError(f"`mask` must have the shape {shape}, got {found.shape}")
    labeled = image.connected_components(jnp.asarray(found != 0).reshape(shape))
    number = labeled.count.item()
    if number > 2 * count:
        raise HintError(
            f"it has {number} components, many of them specks: how can you remove small components?"
        )
    if number != count:
        raise HintError(
            f"it has {number} components: is each coin in one piece, and separate from other coins "
            "and from the background?"
        )
    smallest = min(np.bincount(np.asarray(labeled.labels).ravel())[1:])
    if smallest < 200:
        raise HintError("the number is right, but at least one component is smaller than any coin")
    return f"{number} components, one for each coin: blur, threshold, clean up, count"


def _judge_small(answer: Any, square: jax.Array, size: int) -> None:
    """Raise a hint unless an answer is this square photograph, small and in grayscale."""
    truth = image.resize(image.to_grayscale(square), size)
    plain_mean = image.resize(jnp.mean(square, -1, keepdims=True), size)
    found = numbers(answer, truth.shape, "`small`")
    if found.max() > 1.5:
        raise HintError("`small`: start from the image in [0, 1]")
    distance = np.abs(found - truth).mean()
    if distance > 0.04:  # resizing methods differ slightly
        raise HintError(
            "`small`: crop the centered square before resizing, so that nothing is stretched, and "
            "weight red, green and blue as the eye does"
        )
    if np.abs(found - plain_mean).mean() < distance:
        raise HintError(
            "`small`: to the eye, green is brighter than red, and red is brighter than blue, so do "
            "not use a plain mean of the three: image.to_grayscale weights them"
        )


def _likeness(changed: np.ndarray, picture: np.ndarray) -> float:
    """Return the largest correlation of two images in grayscale, with one mirrored or not."""
    found, gray = changed.mean(-1), picture.mean(-1)
    if found.std() < 1e-6:
        return 0.0
    mirrored = (gray, gray[:, ::-1], gray[::-1], gray[::-1, ::-1])
    # A photograph's negative still shows the same object, so negative correlations count too.
    return max(abs(np.corrcoef(found.ravel(), one.ravel())[0, 1]) for one in mirrored)
