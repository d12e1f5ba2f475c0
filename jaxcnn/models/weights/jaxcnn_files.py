"""Our own files: safetensors with the network's configuration and a checksum inside."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxcnn.data.files import atomic_write
from jaxcnn.image import Preprocess
from jaxcnn.models.weights.pretrained import Pretrained
from jaxcnn.parameters import fingerprint

# Of what a file may say: sides of images, and the number behind an option.
_LARGEST_SIDE = 1 << 14
_LARGEST_OPTION = 1 << 20
_DEEPEST = 16  # parts of an array's name
# The only one: several are written in an order that changes from process to process.
_KEY = "jaxcnn"


class Config(NamedTuple):
    """What a file says of its network beside the weights."""

    name: str
    options: dict[str, Any]
    preprocess: Preprocess
    classes: tuple[str, ...]


def save_pretrained(path: str | Path, network: Pretrained) -> None:
    """Write a network to a safetensors file, so that it is, at any moment, the old one or the new.

    Its metadata hold name, options, preprocessing and classes as JSON, and the SHA-256 of the
    arrays that runs call ``params_sha256``. The same network gives the same bytes.

    Args:
      path: the file.
      network: as `load_pretrained` gives it.

    Raises:
      ValueError: if an option has no form in JSON, or the classes are not texts of one line each,
        all different.

    Example:
      See `load_pretrained`.
    """
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
        text = json.dumps(config)
    except TypeError as error:
        raise ValueError(f"options must be JSON values, got {network.options!r}") from error
    arrays = {"/".join(key): np.ascontiguousarray(a) for key, a in flatten_dict(variables).items()}
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes(safetensors.numpy.save(arrays, {_KEY: text}))


def is_own(metadata: dict[str, str]) -> bool:
    """Whether a safetensors file is one of ours."""
    return _KEY in metadata


def unpack(
    metadata: dict[str, str], tensors: dict[str, np.ndarray]
) -> tuple[Config, dict[tuple[str, ...], np.ndarray]]:
    """The configuration and arrays of one of our files.

    Raises:
      ValueError: if the configuration cannot be read, or the checksum is another.
    """
    arrays = {tuple(name.split("/")): array for name, array in tensors.items()}
    if any(len(path) > _DEEPEST for path in arrays):
        raise ValueError("the names of its arrays have too many parts")
    try:
        digest = fingerprint(unflatten_dict(arrays))
        config = json.loads(metadata[_KEY])
        preprocess = config["preprocess"]
        size, channels = tuple(preprocess["size"]), preprocess["channels"]
        _check_options(config["options"], len(arrays))
        if max(size) > _LARGEST_SIDE or channels > max(
            array.shape[-2] for array in _kernels(arrays)
        ):
            raise ValueError(f"images of {channels} channels and size {size} fit no kernel of it")
        read = Config(
            name=str(config["name"]),
            options={key: _hashable(value) for key, value in config["options"].items()},
            preprocess=Preprocess(
                size, channels, tuple(preprocess["mean"]), tuple(preprocess["std"])
            ),
            classes=tuple(config["classes"]),
        )
    except (
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RecursionError,
        OverflowError,
    ) as error:
        raise ValueError(f"its configuration cannot be read: {error!r}") from error
    _check_classes(config["classes"])
    if config.get("sha256") != digest:
        raise ValueError("its SHA-256 is not that of its arrays")
    return read, arrays


def _kernels(arrays: dict[tuple[str, ...], np.ndarray]) -> list[np.ndarray]:
    found = [array for path, array in arrays.items() if path[-1] == "kernel" and array.ndim > 1]
    if not found:
        raise ValueError("it holds no kernels")
    return found


def _check_options(options: dict[str, Any], arrays: int) -> None:
    """Refuse numbers that would make a network of more layers than the file has arrays.

    Raises:
      ValueError: if there are some.
    """
    for name, value in options.items():
        numbers = value if isinstance(value, list) else [value]
        numbers = [number for number in numbers if isinstance(number, int | float)]
        is_fine = all(0 <= number <= _LARGEST_OPTION for number in numbers)
        if not is_fine or (name.startswith("depth") and sum(numbers) > arrays):
            raise ValueError(f"options {name!r} are out of range")


def _check_classes(classes: Any) -> None:
    is_fine = isinstance(classes, list | tuple) and all(
        isinstance(name, str) and name.isprintable() for name in classes
    )
    if not is_fine or len(set(classes)) != len(classes):
        raise ValueError("classes must be texts of one line each, all different")


def _hashable(value: Any) -> Any:
    """A JSON value as an attribute of a module may be: JSON has no tuples."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
