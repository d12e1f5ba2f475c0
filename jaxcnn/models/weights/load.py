"""Load pretrained networks from files written by other libraries or jaxcnn."""

from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from jaxcnn.image import Preprocess
from jaxcnn.messages import printable
from jaxcnn.models.registry import Entry, create, info
from jaxcnn.models.weights import conventions, convert, jaxcnn_files, variables_files
from jaxcnn.models.weights.array_names import WeightSource
from jaxcnn.models.weights.formats import check_numbers, weight_format
from jaxcnn.models.weights.hub import HUB, from_hub
from jaxcnn.models.weights.keras_files import number_from_zero, read_keras
from jaxcnn.models.weights.pretrained import Pretrained
from jaxcnn.models.weights.safetensors_files import read_safetensors
from jaxcnn.models.weights.torch_files import read_torch
from jaxcnn.shapes import check_integer

_LONGEST_REASON = 500  # characters in a message, which may quote the file


def load_pretrained(
    name: str | None,
    path: str | Path,
    *,
    source: WeightSource | None = None,
    num_classes: int | None = None,
    channels: int | None = None,
    **options: Any,
) -> Pretrained:
    """Load a network with weights from a torchvision, timm, Keras or jaxcnn file.

    All arrays must match the network: a missing or unexpected array, or one with the wrong shape,
    is an error. Nothing in the file is executed.

    Args:
      name: the network, one of `jaxcnn.models.names`; may be None for files from `save_pretrained`
        or the Hub, which specify it.
      path: ``.pth`` or ``.safetensors`` from torchvision or timm; ``.weights.h5``, ``.keras`` or
        ``.h5`` from Keras; ``.safetensors`` from `save_pretrained`; or ``hf-hub:timm/...`` to
        download (requires the ``hub`` extra).
      source: library that wrote the file: ``"torchvision"``, ``"timm"``, ``"timm_tf"`` (networks
        that timm calls ``tf_...``), ``"efficientnet_pytorch"`` or ``"keras"``; None detects it.
        The source determines padding, epsilon and preprocessing.
      num_classes: number of classes. None keeps the file's output layer; a different number
        replaces it with a new layer, initialized with key 0; 0 removes it.
      channels: number of input channels. None keeps the file's number; for a different number, the
        first kernel is averaged over its input channels, so grayscale images produce the same
        outputs as when repeated in the file's number of channels.
      **options: additional options for the network, for example ``drop_path=0.1``.

    Returns:
      The network. For every source, ``preprocess.normalize`` expects RGB images in [0, 1].

    Raises:
      ValueError: if the file is damaged or malicious, or contains a different network or non-finite
        values.

    Example:
      >>> import tempfile
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxcnn import models
      >>> model, images = models.create("lenet5", 2), jnp.zeros((1, 12, 12, 1))
      >>> shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
      >>> variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
      >>> preprocess, classes = Preprocess(size=(12, 12), channels=1), ("cat", "dog")
      >>> network = Pretrained(model, variables, preprocess, classes, "lenet5", {})
      >>> path = f"{tempfile.mkdtemp()}/pets.safetensors"
      >>> models.save_pretrained(path, network)
      >>> load_pretrained("lenet5", path).classes
      ('cat', 'dog')

    Reference:
      The names, conventions and preprocessing of the torchvision, timm and Keras releases.
    """
    if name is not None:
        info(name)
    if num_classes is not None:
        check_integer(num_classes, "num_classes", minimum=0)
    if channels is not None:
        check_integer(channels, "channels", minimum=1)
    preprocess: Preprocess | None = None
    if str(path).startswith(HUB):
        path, name, source, preprocess = from_hub(str(path), name)
    path = Path(path)
    try:
        tensors, metadata, is_keras = _read(path)
        if jaxcnn_files.is_own(metadata):
            network = jaxcnn_files.unpack(metadata, tensors)
            if name not in (None, network.name):
                raise ValueError(f"it contains {network.name}, not {name}")
            network = network._replace(options=network.options | options)
            size = network.preprocess.size
        elif variables_files.holds_variables(metadata):
            raise ValueError(
                "it contains the variables of a module without its configuration; read it with "
                "jaxcnn.models.load_variables"
            )
        elif name is None:
            raise ValueError("it does not contain the network's name; name (--model) must be given")
        else:
            entry = info(name)
            source = source or conventions.guess_source(entry, tensors, is_keras=is_keras)
            options = conventions.options(entry, source, tensors) | options
            has_new_head = num_classes is not None
            network = _from_source(
                entry, options, tensors, source, preprocess, has_new_head=has_new_head
            )
            size = entry.size[:2]
        return convert.adapt(network, size, num_classes, channels)
    except ValueError as error:
        reason = _in_one_line(error)
        start = f"weights file {path}"  # the readers' errors already start with this
        raise ValueError(reason if reason.startswith(start) else f"{start}: {reason}") from error
    # Readers raise many exception types for damaged files.
    except Exception as error:
        raise ValueError(
            f"weights file {path} cannot be loaded ({type(error).__name__}): {_in_one_line(error)}"
        ) from error


def _in_one_line(error: Exception) -> str:
    """Return an error's message as one printable line of limited length."""
    return printable(" ".join(str(error).split()))[:_LONGEST_REASON]


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], bool]:
    """Return a file's arrays by name, its metadata, and whether it is a Keras file.

    Raises:
      ValueError: if the file cannot be read, or contains non-finite values.
    """
    form = weight_format(path)
    metadata: dict[str, str] = {}
    if form == "torch":
        tensors = read_torch(path)
    elif form == "safetensors":
        tensors, metadata = read_safetensors(path)
    else:
        tensors = {
            f"{layer}/{index}": array
            for layer, arrays in number_from_zero(read_keras(path)).items()
            for index, array in enumerate(arrays)
        }
    check_numbers(tensors, path)
    return tensors, metadata, form == "keras"


def _from_source(
    entry: Entry,
    options: dict[str, Any],
    tensors: dict[str, np.ndarray],
    source: WeightSource,
    preprocess: Preprocess | None,
    *,
    has_new_head: bool,
) -> Pretrained:
    """Build the network from another library's file, with its number of outputs and channels."""
    arrays = convert.from_source(entry, options, tensors, source, without_head=has_new_head)
    if preprocess is None:
        channels = arrays[convert.input_kernel(entry)].shape[2]
        preprocess = conventions.preprocess(entry, source, channels, tensors)
    bias = arrays.get(("params", *entry.network.output_layers[0].split("/"), "bias"))
    count = 0 if bias is None else len(bias)
    is_imagenet = count == 1000
    classes = conventions.imagenet_classes() if is_imagenet else tuple(map(str, range(count)))
    model = create(entry.name, count, **options)
    return Pretrained(model, unflatten_dict(arrays), preprocess, classes, entry.name, options)
