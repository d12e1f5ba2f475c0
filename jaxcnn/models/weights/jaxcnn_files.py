"""jaxcnn's weights files: safetensors with the network's configuration and a checksum."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxcnn.data.files import atomic_write
from jaxcnn.image import Preprocess
from jaxcnn.messages import printable
from jaxcnn.models.registry import create, names
from jaxcnn.models.weights.pretrained import Pretrained
from jaxcnn.parameters import fingerprint

_LARGEST_SIDE = 1 << 14  # maximum height or width of images
_LARGEST_OPTION = 1 << 20  # maximum of the numbers in the options
_DEEPEST = 16  # maximum number of parts in an array's name
# A single key: safetensors writes multiple keys in an order that varies between processes.
_KEY = "jaxcnn"
_DIGEST = "config_sha256"  # absent in files from earlier versions
_FIELDS = {"name", "options", "preprocess", "classes", "sha256"}
# Option names and values in files from earlier versions.
_RENAMED_OPTIONS = {"count_padding": "count_include_pad"}
_RENAMED_VALUES = {("padding", "centred"): "centered"}


def save_pretrained(path: str | Path, network: Pretrained) -> None:
    """Write a network to a safetensors file, atomically.

    The metadata contains the name, options, preprocessing and classes as JSON, the SHA-256 of the
    arrays (a run's ``params_sha256``), and the SHA-256 of all of these. The same network always
    produces the same bytes.

    Args:
      path: the file to write.
      network: the network, as returned by `load_pretrained`.

    Raises:
      ValueError: if the network is not one of `jaxcnn.models.names`, an option is not a JSON value,
        or the classes are not distinct printable strings.

    Example:
      >>> import tempfile
      >>> import jax.numpy as jnp
      >>> from jaxcnn import models
      >>> model, images = models.create("lenet5", 2), jnp.zeros((1, 12, 12, 1))
      >>> shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
      >>> variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
      >>> preprocess, classes = Preprocess(size=(12, 12), channels=1), ("cat", "dog")
      >>> network = Pretrained(model, variables, preprocess, classes, "lenet5", {})
      >>> path = Path(tempfile.mkdtemp()) / "network.safetensors"
      >>> save_pretrained(path, network)
      >>> models.load_pretrained(None, path).classes
      ('cat', 'dog')
    """
    if network.name not in names():
        raise ValueError(
            f"network.name must be one of {', '.join(names())}, got {network.name!r}; save the "
            "variables of other modules with jaxcnn.models.save_variables"
        )
    _check_classes(network.classes)
    variables = jax.tree.map(np.asarray, jax.device_get(network.variables))
    config = {
        "name": network.name,
        "options": network.options,
        "preprocess": vars(network.preprocess),
        "classes": network.classes,
        "sha256": fingerprint(variables),
    }
    try:
        text = json.dumps(config | {_DIGEST: _config_digest(config)})
    except TypeError as error:
        raise ValueError(f"options must be JSON values, got {network.options!r}") from error
    arrays = {"/".join(key): np.ascontiguousarray(a) for key, a in flatten_dict(variables).items()}
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes(safetensors.numpy.save(arrays, {_KEY: text}))


def is_own(metadata: dict[str, str]) -> bool:
    """Return whether a safetensors file was written by `save_pretrained`.

    Example:
      >>> is_own({"jaxcnn": "{}"}), is_own({"format": "pt"})
      (True, False)
    """
    return _KEY in metadata


def unpack(metadata: dict[str, str], tensors: dict[str, np.ndarray]) -> Pretrained:
    """Return the network in a file from `save_pretrained`; array shapes are not checked.

    Raises:
      ValueError: if the configuration cannot be read, or the checksum does not match.
    """
    arrays = {tuple(name.split("/")): array for name, array in tensors.items()}
    if any(len(path) > _DEEPEST for path in arrays):
        raise ValueError("the names of its arrays have too many parts")
    try:
        variables = unflatten_dict(arrays)
        digest = fingerprint(variables)
        config = json.loads(metadata[_KEY])
        _check_config(config)
        stored = config["preprocess"]
        size, channels = tuple(stored["size"]), stored["channels"]
        _check_options(config["options"], len(arrays))
        if max(size) > _LARGEST_SIDE or channels > max(
            array.shape[-2] for array in _kernels(arrays)
        ):
            raise ValueError(
                f"images of {channels} channels and size {size} do not match its kernels"
            )
        preprocess = Preprocess(size, channels, tuple(stored["mean"]), tuple(stored["std"]))
        _check_classes(config["classes"])
        name, classes = str(config["name"]), tuple(config["classes"])
        options = _current_options(config["options"])
        model = create(name, len(classes), **options)
    except (LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"its configuration cannot be read: {error!r}") from error
    if config.get("sha256") != digest:
        raise ValueError("its SHA-256 does not match its arrays")
    return Pretrained(model, variables, preprocess, classes, name, options)


def _check_config(config: dict[str, Any]) -> None:
    """Check the digest of a configuration, which includes the digest of the arrays.

    Raises:
      ValueError: if it does not match, or a field is unknown because its name may be damaged.
    """
    if unknown := sorted(set(config) - _FIELDS - {_DIGEST}):
        raise ValueError(f"its configuration has an unknown field: {printable(unknown[0])!r}")
    if _DIGEST in config and config[_DIGEST] != _config_digest(config):
        raise ValueError("its SHA-256 does not match its configuration")


def _config_digest(config: dict[str, Any]) -> str:
    """Return the SHA-256 of a configuration, excluding its digest field."""
    digested = {name: value for name, value in config.items() if name != _DIGEST}
    return hashlib.sha256(json.dumps(digested, sort_keys=True).encode()).hexdigest()


def _kernels(arrays: dict[tuple[str, ...], np.ndarray]) -> list[np.ndarray]:
    found = [array for path, array in arrays.items() if path[-1] == "kernel" and array.ndim > 1]
    if not found:
        raise ValueError("it contains no kernels")
    return found


def _check_options(options: dict[str, Any], arrays: int) -> None:
    """Reject numbers that would create a network with more layers than the file has arrays.

    Raises:
      ValueError: if a number is out of range.
    """
    for name, value in options.items():
        numbers = value if isinstance(value, list) else [value]
        numbers = [number for number in numbers if isinstance(number, int | float)]
        is_fine = all(0 <= number <= _LARGEST_OPTION for number in numbers)
        if not is_fine or (name.startswith("depth") and sum(numbers) > arrays):
            raise ValueError(f"option {name!r} is out of range")


def _check_classes(classes: Any) -> None:
    is_fine = isinstance(classes, list | tuple) and all(
        isinstance(name, str) and name.isprintable() for name in classes
    )
    if not is_fine or len(set(classes)) != len(classes):
        raise ValueError("classes must be distinct printable strings")


def _current_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options under their current names, with JSON's lists converted to tuples."""
    renamed = {_RENAMED_OPTIONS.get(name, name): _hashable(v) for name, v in options.items()}
    return {name: _RENAMED_VALUES.get((name, v), v) for name, v in renamed.items()}


def _hashable(value: Any) -> Any:
    """Convert lists, as read from JSON, to tuples, because module attributes must be hashable."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
