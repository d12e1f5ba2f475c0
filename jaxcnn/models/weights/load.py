"""Networks with trained weights: other libraries' files, and our own."""

import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxcnn.image import Preprocess
from jaxcnn.messages import printable
from jaxcnn.models.registry import create, info
from jaxcnn.models.resnet import ResNet
from jaxcnn.models.vgg import VGG
from jaxcnn.models.weights import conventions, jaxcnn_files
from jaxcnn.models.weights.array_names import Place, WeightSource, places
from jaxcnn.models.weights.formats import check_numbers, shown, weight_format
from jaxcnn.models.weights.hub import HUB, from_hub
from jaxcnn.models.weights.keras_files import read_keras
from jaxcnn.models.weights.pretrained import Pretrained
from jaxcnn.models.weights.safetensors_files import read_safetensors
from jaxcnn.models.weights.torch_files import read_torch

# Layers to which Keras's networks give no names.
_COUNTED = ("conv2d", "batch_normalization", "normalization")
_LONGEST_REASON = 500  # letters of a message, of which a file may have some
Arrays = dict[tuple[str, ...], Any]


def load_pretrained(
    name: str | None,
    path: str | Path,
    *,
    source: WeightSource | None = None,
    num_classes: int | None = None,
    channels: int | None = None,
    **options: Any,
) -> Pretrained:
    """A network with the weights of a file of torchvision, timm, Keras or jaxcnn.

    Every array is accounted for: one that is missing in the file, has no place in the network, or
    another shape is an error. Nothing of the file is executed.

    Args:
      name: the network, one of `jaxcnn.models.names`; None for what `save_pretrained` wrote or the
        hub has, which say it themselves.
      path: ``.pth`` or ``.safetensors`` of torchvision or timm, ``.weights.h5``, ``.keras`` or
        ``.h5`` of Keras, ``.safetensors`` of `save_pretrained`; or ``hf-hub:timm/...`` to download
        (extra ``hub``).
      source: who wrote the file: ``"torchvision"``, ``"timm"``, ``"timm_tf"`` (what timm calls
        ``tf_...``), ``"efficientnet_pytorch"`` or ``"keras"``; None to tell by its content. It
        decides about padding, epsilon and preprocessing.
      num_classes: None for the file's outputs; another number gives a new last layer, drawn from
        key 0; 0 leaves it out.
      channels: None for the file's input channels; for another number the first kernel is summed
        up, or spread, so that grey images give what their copies in red, green and blue gave.
      **options: further options of the network, for example ``drop_path=0.1``.

    Returns:
      The network; images are RGB and in [0, 1] before ``preprocess.normalize`` wherever they come
      from.

    Raises:
      ValueError: if the file is damaged, malicious, not of this network, or holds numbers that are
        not finite.

    Example:
      >>> import tempfile
      >>> from jaxcnn import models
      >>> options = {"depths": (1,), "width": 8}
      >>> model = models.create("resnet18", 10, **options)
      >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
      >>> preprocess = Preprocess(size=(32, 32), channels=3)
      >>> digits = tuple("0123456789")
      >>> network = Pretrained(model, variables, preprocess, digits, "resnet18", options)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     models.save_pretrained(f"{folder}/digits.safetensors", network)
      ...     loaded = load_pretrained("resnet18", f"{folder}/digits.safetensors")
      >>> loaded.classes == digits
      True

    Reference:
      torchvision, timm, Keras: their releases' names, conventions and preprocessing.
    """
    if name is not None:
        info(name)
    for number, what, least in ((num_classes, "num_classes", 0), (channels, "channels", 1)):
        if number is not None and (type(number) is not int or number < least):
            raise ValueError(f"{what} must be an integer >= {least}, got {number!r}")
    from_config: Preprocess | None = None
    if str(path).startswith(HUB):
        path, name, source, from_config = from_hub(str(path), name)
    path = Path(path)
    try:
        tensors, metadata, is_keras = _read(path)
        if jaxcnn_files.is_own(metadata):
            config, arrays = jaxcnn_files.unpack(metadata, tensors)
            if name not in (None, config.name):
                raise ValueError(f"it holds {config.name}, and not {name}")
            config = config._replace(options=config.options | options)
            size = config.preprocess.size
        elif name is None:
            raise ValueError("it does not say which network it is of: name (--model) must be given")
        else:
            source = source or conventions.guess_source(name, tensors, is_keras=is_keras)
            made = conventions.options(name, source, tensors) | options
            arrays = _from_source(name, made, tensors, source, without_head=num_classes is not None)
            kept = _input_channels(name, arrays)
            preprocess = from_config or conventions.preprocess(name, source, kept, tensors)
            config = jaxcnn_files.Config(name, made, preprocess, _class_names(name, arrays))
            size = info(name).size[:2]
        return _fitted(config, arrays, size, num_classes, channels)
    except ValueError as error:
        reason = _in_one_line(error)
        start = f"pretrained file {path}"  # which those that read files say too
        raise ValueError(reason if reason.startswith(start) else f"{start}: {reason}") from error
    # What else a damaged file may make those who read it raise.
    except Exception as error:
        raise ValueError(
            f"pretrained file {path} cannot be used ({type(error).__name__}): {_in_one_line(error)}"
        ) from error


def _in_one_line(error: Exception) -> str:
    """Its message on one line and not too long, whatever a file has put into it."""
    return printable(" ".join(str(error).split()))[:_LONGEST_REASON]


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], bool]:
    """The arrays of a file by the names they have there, its metadata, and whether it is Keras's.

    Raises:
      ValueError: if it cannot be read, or holds numbers that are not finite.
    """
    form = weight_format(path)
    metadata: dict[str, str] = {}
    if form == "torch":
        tensors = read_torch(path)
    elif form == "safetensors":
        tensors, metadata = read_safetensors(path)
    else:
        layers = read_keras(path)
        tensors = {
            f"{layer}/{number}": array
            for layer, arrays in _numbered(layers).items()
            for number, array in enumerate(arrays)
        }
    check_numbers(tensors, path)
    return tensors, metadata, form == "keras"


def _numbered(layers: dict[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """Layers that Keras named by counting, counted from 0 whatever was made before them."""
    counted: dict[str, list[tuple[int, str]]] = {}
    for layer in layers:
        kind, _, number = layer.rpartition("_")
        if layer in _COUNTED:
            kind, number = layer, "0"
        if kind in _COUNTED and number.isdecimal():
            counted.setdefault(kind, []).append((int(number), layer))
    new = {
        layer: f"{kind}_{index}" if index else kind
        for kind, numbers in counted.items()
        for index, (_, layer) in enumerate(sorted(numbers))
    }
    return {new.get(layer, layer): arrays for layer, arrays in layers.items()}


@functools.cache
def _shapes(
    model: nn.Module, channels: int, size: tuple[int, int]
) -> dict[tuple[str, ...], tuple[int, ...]]:
    images = jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), images)
    return {path: leaf.shape for path, leaf in flatten_dict(variables).items()}


def _shapes_with(
    name: str, outputs: int, options: dict[str, Any], channels: int, size: tuple[int, int]
) -> dict[tuple[str, ...], tuple[int, ...]]:
    """The shapes of a network's arrays.

    Raises:
      ValueError: if the options make none.
    """
    try:
        return _shapes(create(name, outputs, **options), channels, size)
    except ValueError:
        raise
    except Exception as error:  # whatever an option makes a layer do
        raise ValueError(f"{name} cannot be made with options {options}: {error}") from error


def _from_source(
    name: str,
    options: dict[str, Any],
    tensors: dict[str, np.ndarray],
    source: WeightSource,
    *,
    without_head: bool,
) -> Arrays:
    """The file's arrays by our paths, in our axes.

    Raises:
      ValueError: for one that is missing, extra or misshaped.
    """
    network = info(name).network
    # With any number of outputs, which the file decides; and of input channels.
    shapes = _shapes_with(name, 1, options, 3, info(name).size[:2])
    by_module = {"/".join(path[1:]): path for path in shapes}
    found = places(
        create(name, 1, **options), {key: shapes[path] for key, path in by_module.items()}, source
    )
    arrays, used = {}, set()
    for key, place in found.items():
        layer, path = key.rpartition("/")[0], by_module[key]
        is_output = layer in network.output_layers
        if place.name not in tensors:
            if is_output and without_head:
                continue
            raise ValueError(
                f"tensor {place.name} is missing"
                + ("; num_classes=0 leaves the last layer out" if is_output else "")
            )
        used.add(place.name)
        arrays[path] = _converted(
            place,
            tensors[place.name],
            shapes[path],
            free={-1} if is_output else {2} if key == f"{network.input_layer}/kernel" else set(),
        )
    extra = sorted(
        shown(tensor)
        for tensor in set(tensors) - used
        if not tensor.endswith("num_batches_tracked") and not tensor.startswith("normalization/")
    )
    if extra:
        more = f", and {len(extra) - 3} more" if len(extra) > 3 else ""
        raise ValueError(f"tensor {', '.join(extra[:3])}{more} has no place in {name}")
    kernel = ("params", *network.input_layer.split("/"), "kernel")
    if source == "keras" and network in (VGG, ResNet):
        # Caffe's networks see blue first. Ours see red first, whoever trained them.
        arrays[kernel] = arrays[kernel][:, :, ::-1]
    return arrays


def _converted(
    place: Place, tensor: np.ndarray, shape: tuple[int, ...], *, free: set[int]
) -> np.ndarray:
    axes = {axis % len(shape) for axis in free}
    try:
        array = place.convert(tensor)
    except ValueError:  # it cannot even be brought to our axes
        array = tensor
    fits = array.ndim == len(shape) and all(
        axis in axes or have == want
        for axis, (have, want) in enumerate(zip(array.shape, shape, strict=True))
    )
    if not fits:
        raise ValueError(
            f"tensor {place.name} of shape {tensor.shape} does not fit the network's {shape}"
        )
    return array


def _input_channels(name: str, arrays: Arrays) -> int:
    return arrays["params", *info(name).network.input_layer.split("/"), "kernel"].shape[2]


def _class_names(name: str, arrays: Arrays) -> tuple[str, ...]:
    path = ("params", *info(name).network.output_layers[0].split("/"), "bias")
    count = len(arrays[path]) if path in arrays else 0
    return conventions.imagenet_classes() if count == 1000 else tuple(map(str, range(count)))


def _fitted(
    config: jaxcnn_files.Config,
    arrays: Arrays,
    size: tuple[int, int],
    num_classes: int | None,
    channels: int | None,
) -> Pretrained:
    """The network, for images of a size, with the outputs and input channels that are asked for."""
    name, options, preprocess, classes = config
    network = info(name).network
    outputs = len(classes) if num_classes is None else num_classes
    arrays = {path: _widened(array) for path, array in arrays.items()}
    heads = [("params", *layer.split("/")) for layer in network.output_layers]
    has_new_head = outputs != len(classes)
    if has_new_head:
        arrays = {path: array for path, array in arrays.items() if path[:-1] not in heads}
        if not outputs:
            arrays = {path: array for path, array in arrays.items() if "AuxLogits" not in path}
        classes = tuple(map(str, range(outputs)))
    kernel = ("params", *network.input_layer.split("/"), "kernel")
    if channels is not None and channels != preprocess.channels:
        arrays[kernel] = _spread(arrays[kernel], channels)
        mean, std = float(np.mean(preprocess.mean)), float(np.mean(preprocess.std))
        preprocess = Preprocess(preprocess.size, channels, (mean,) * channels, (std,) * channels)
    expected = _shapes_with(name, outputs, options, preprocess.channels, size)
    model = create(name, outputs, **options)
    for path in expected:
        if path not in arrays and not (has_new_head and path[:-1] in heads):
            raise ValueError(f"array {'/'.join(path)} is missing")
    for path, array in arrays.items():
        label = shown("/".join(path))
        if array.shape != expected.get(path):
            raise ValueError(
                f"array {label} of shape {array.shape} does not fit the network's "
                f"{expected.get(path)}"
            )
        if not jax.dtypes.issubdtype(array.dtype, np.floating):
            raise ValueError(f"array {label} must be floating point, got {array.dtype}")
        if path[-1] == "var" and array.min() < 0:
            raise ValueError(f"array {label} holds variances, and some are negative")
    if has_new_head and outputs:
        arrays |= _new_heads(model, size, preprocess.channels, tuple(heads))
    arrays = {path: jnp.asarray(array) for path, array in arrays.items()}
    return Pretrained(model, unflatten_dict(arrays), preprocess, classes, name, options)


def _widened(array: np.ndarray) -> np.ndarray:
    """Half precision, of both kinds, as float32."""
    is_half = array.dtype == np.float16 or array.dtype.name == "bfloat16"
    return array.astype(np.float32) if is_half else array


def _spread(kernel: np.ndarray, channels: int) -> np.ndarray:
    """The kernel for another number of channels, with the same answer to the same grey images."""
    total = kernel.sum(2, keepdims=True)
    return np.repeat(total / channels, channels, axis=2).astype(kernel.dtype)


def _new_heads(
    model: nn.Module, size: tuple[int, int], channels: int, heads: tuple[tuple[str, ...], ...]
) -> Arrays:
    @jax.jit
    def draw(key: jax.Array) -> Arrays:
        images = jnp.zeros((1, *size, channels))
        variables = flatten_dict(model.init(key, images, train=False))
        # The compiler leaves out what the rest would take.
        return {path: array for path, array in variables.items() if path[:-1] in heads}

    return draw(jax.random.key(0))
