"""Conversion of weights to a network's arrays: axes, output layer and input channels."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxcnn.image import Preprocess
from jaxcnn.models.registry import Entry, create, info
from jaxcnn.models.resnet import ResNet
from jaxcnn.models.vgg import VGG
from jaxcnn.models.weights.array_names import Place, WeightSource, places
from jaxcnn.models.weights.formats import short_name
from jaxcnn.models.weights.pretrained import Pretrained

Path = tuple[str, ...]
Arrays = dict[Path, Any]


def input_kernel(entry: Entry) -> Path:
    """Return the path of the kernel that is applied to the images.

    Example:
      >>> input_kernel(info("resnet18"))
      ('params', 'conv1', 'kernel')
    """
    return ("params", *entry.network.input_layer.split("/"), "kernel")


def from_source(
    entry: Entry,
    options: dict[str, Any],
    tensors: dict[str, np.ndarray],
    source: WeightSource,
    *,
    without_head: bool,
) -> Arrays:
    """Convert another library's arrays to jaxcnn's paths and axes.

    Args:
      entry: the network.
      options: the network's options.
      tensors: the file's arrays, keyed by the library's names.
      source: the library that wrote the file.
      without_head: whether the output layer may be missing.

    Returns:
      The arrays by path, with the file's output layer and input channels.

    Raises:
      ValueError: if an array is missing, unexpected, or has the wrong shape.
    """
    network, name = entry.network, entry.name
    # The numbers of outputs and input channels here are arbitrary: the file determines both.
    shapes = _shapes_with(name, 1, options, 3, entry.size[:2])
    by_module = {"/".join(path[1:]): path for path in shapes}
    by_module_shape = {key: shapes[path] for key, path in by_module.items()}
    arrays, used = {}, set()
    for key, place in places(create(name, 1, **options), by_module_shape, source).items():
        layer, path = key.rpartition("/")[0], by_module[key]
        is_output = layer in network.output_layers
        if place.name not in tensors:
            if is_output and without_head:
                continue
            raise ValueError(
                f"tensor {place.name} is missing"
                + ("; num_classes=0 omits the output layer" if is_output else "")
            )
        used.add(place.name)
        free = {-1} if is_output else {2} if key == f"{network.input_layer}/kernel" else set()
        arrays[path] = _converted(place, tensors[place.name], shapes[path], free=free)
    extra = sorted(
        short_name(tensor)
        for tensor in set(tensors) - used
        if not tensor.endswith("num_batches_tracked") and not tensor.startswith("normalization/")
    )
    if extra:
        more = f", and {len(extra) - 3} more" if len(extra) > 3 else ""
        raise ValueError(
            f"it contains tensors that {name} does not have: {', '.join(extra[:3])}{more}"
        )
    if source == "keras" and network in (VGG, ResNet):
        # These weights come from Caffe and expect BGR images; jaxcnn's networks expect RGB.
        kernel = input_kernel(entry)
        arrays[kernel] = arrays[kernel][:, :, ::-1]
    return arrays


def adapt(
    network: Pretrained, size: tuple[int, int], num_classes: int | None, channels: int | None
) -> Pretrained:
    """Check a network from a file, and adapt its output layer and input channels as requested.

    Args:
      network: the network as read from the file; its model is recreated.
      size: (height, width) of the images used to compute the expected shapes.
      num_classes: number of classes; None means the file's number.
      channels: number of input channels; None means the file's number.

    Raises:
      ValueError: if an array is missing, unexpected, not floating point, or has the wrong shape.
    """
    _, variables, preprocess, classes, name, options = network
    entry = info(name)
    outputs = len(classes) if num_classes is None else num_classes
    arrays: Arrays = {path: _widened(array) for path, array in flatten_dict(variables).items()}
    heads = tuple(("params", *layer.split("/")) for layer in entry.network.output_layers)
    has_new_head = outputs != len(classes)
    if has_new_head:
        arrays = {path: array for path, array in arrays.items() if path[:-1] not in heads}
        if not outputs:
            arrays = {path: array for path, array in arrays.items() if "AuxLogits" not in path}
        classes = tuple(map(str, range(outputs)))
    if channels is not None and channels != preprocess.channels:
        kernel = input_kernel(entry)
        arrays[kernel] = _spread(arrays[kernel], channels)
        mean, std = float(np.mean(preprocess.mean)), float(np.mean(preprocess.std))
        preprocess = Preprocess(preprocess.size, channels, (mean,) * channels, (std,) * channels)
    expected = _shapes_with(name, outputs, options, preprocess.channels, size)
    for path in expected:
        if path not in arrays and not (has_new_head and path[:-1] in heads):
            raise ValueError(f"array {'/'.join(path)} is missing")
    for path, array in arrays.items():
        _check_array(short_name("/".join(path)), array, expected.get(path))
    model = create(name, outputs, **options)
    if has_new_head and outputs:
        arrays |= _new_heads(model, size, preprocess.channels, heads)
    arrays = {path: jnp.asarray(array) for path, array in arrays.items()}
    return Pretrained(model, unflatten_dict(arrays), preprocess, classes, name, options)


def _check_array(label: str, array: np.ndarray, shape: tuple[int, ...] | None) -> None:
    if array.shape != shape:
        raise ValueError(
            f"array {label} of shape {array.shape} does not match the network's shape {shape}"
        )
    if not jax.dtypes.issubdtype(array.dtype, np.floating):
        raise ValueError(f"array {label} must be floating point, got {array.dtype}")
    if label.endswith("/var") and array.min() < 0:
        raise ValueError(f"array {label} must contain variances >= 0, got {array.min()}")


@functools.cache
def _shapes(model: nn.Module, channels: int, size: tuple[int, int]) -> dict[Path, tuple[int, ...]]:
    images = jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), images)
    return {path: leaf.shape for path, leaf in flatten_dict(variables).items()}


def _shapes_with(
    name: str, outputs: int, options: dict[str, Any], channels: int, size: tuple[int, int]
) -> dict[Path, tuple[int, ...]]:
    """Return the shapes of a network's arrays.

    Raises:
      ValueError: if the network cannot be created with the options.
    """
    try:
        return _shapes(create(name, outputs, **options), channels, size)
    except ValueError:
        raise
    except Exception as error:  # layers raise many exception types for bad options
        raise ValueError(f"{name} cannot be created with options {options}: {error}") from error


def _converted(
    place: Place, tensor: np.ndarray, shape: tuple[int, ...], *, free: set[int]
) -> np.ndarray:
    """Convert an array's axes, and check its shape except for the ``free`` axes."""
    axes = {axis % len(shape) for axis in free}
    try:
        array = place.convert(tensor)
    except ValueError:  # the wrong number of axes
        array = tensor
    fits = array.ndim == len(shape) and all(
        axis in axes or have == want
        for axis, (have, want) in enumerate(zip(array.shape, shape, strict=True))
    )
    if not fits:
        raise ValueError(
            f"tensor {place.name} of shape {tensor.shape} does not match "
            f"the network's shape {shape}"
        )
    return array


def _widened(array: np.ndarray) -> np.ndarray:
    """Convert float16 and bfloat16 to float32."""
    is_half = array.dtype == np.float16 or array.dtype.name == "bfloat16"
    return array.astype(np.float32) if is_half else array


def _spread(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Return a kernel for ``channels`` inputs that has the same outputs for grayscale images."""
    total = kernel.sum(2, keepdims=True)
    return np.repeat(total / channels, channels, axis=2).astype(kernel.dtype)


def _new_heads(
    model: nn.Module, size: tuple[int, int], channels: int, heads: tuple[Path, ...]
) -> Arrays:
    """Initialize the output layers with key 0."""

    @jax.jit
    def draw(key: jax.Array) -> Arrays:
        images = jnp.zeros((1, *size, channels))
        variables = flatten_dict(model.init(key, images, train=False))
        # The compiler removes the initialization of the other arrays.
        return {path: array for path, array in variables.items() if path[:-1] in heads}

    return draw(jax.random.key(0))
