"""Weights in Keras's files: ``.weights.h5`` and ``.keras`` of Keras 3, and the older ``.h5``.

Only arrays are read: no configuration, no code. A group or array that leads to another file is
refused, and so is one that takes more memory than the file has bytes.
"""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

_WEIGHTS = "model.weights.h5"
_DEEPEST = 16  # groups in groups; a link may lead back to where it stands


def read_keras(path: Path) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer that has some, by the layer's name.

    Raises:
      ValueError: if the file is damaged, does not name its layers, or leads to other files.

    Reference:
      ``keras.src.saving.saving_lib`` and ``keras.src.legacy.saving.legacy_h5_format``.
    """
    try:
        with path.open("rb") as file, h5py.File(_weights(file, path), "r") as content:
            layers = _layers(content)
    # h5py raises all of these, and SystemError, for damaged files.
    except (
        OSError, KeyError, TypeError, RuntimeError, SystemError, MemoryError, zipfile.BadZipFile,
        NotImplementedError, AttributeError, UnicodeDecodeError, OverflowError, EOFError,
    ) as error:  # fmt: skip
        raise ValueError(f"pretrained file {path} is damaged: {error}") from error
    except ValueError as error:
        raise ValueError(f"pretrained file {path}: {error}") from error
    if not layers:
        raise ValueError(f"pretrained file {path} holds no layers with weights")
    return layers


def _weights(file: Any, path: Path) -> Any:
    """The HDF5 file, which a ``.keras`` file holds in a zip file."""
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return file
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo(_WEIGHTS)
        # Arrays of weights hardly shrink.
        if member.file_size > 2 * path.stat().st_size:
            raise ValueError(f"{_WEIGHTS} would be {member.file_size:,} bytes: that is no weights")
        return io.BytesIO(archive.read(member))


def _layers(content: h5py.File) -> dict[str, list[np.ndarray]]:
    if "layer_names" in content.attrs:
        return _old_layers(content)
    if "model_weights" in content:
        return _old_layers(_child(content, "model_weights", h5py.Group))
    layers: dict[str, list[np.ndarray]] = {}
    for name, group in _variables(content, depth=0):
        if name in layers:
            raise ValueError(f"there are two layers {name!r}")
        layers[name] = [
            _array(_child(group, str(number), h5py.Dataset)) for number in range(len(group))
        ]
    return layers


def _variables(group: h5py.Group, *, depth: int) -> Iterator[tuple[str, h5py.Group]]:
    """The ``vars`` group of each layer, which bears the layer's name."""
    if depth > _DEEPEST:
        raise ValueError("its groups lie too deep")
    for key in group:
        child = _child(group, key, h5py.Group)
        if key == "vars":
            if len(child):
                if "name" not in child.attrs:
                    raise ValueError(
                        "its layers have no names, which Keras writes since 3.6: save it anew"
                    )
                yield str(child.attrs["name"]), child
        else:
            yield from _variables(child, depth=depth + 1)


def _old_layers(group: h5py.Group) -> dict[str, list[np.ndarray]]:
    layers = {}
    for layer in _names(group.attrs["layer_names"]):
        inside = _child(group, layer, h5py.Group)
        names = _names(inside.attrs["weight_names"])
        if names:
            layers[layer] = [_array(_child(inside, name, h5py.Dataset)) for name in names]
    return layers


def _names(attribute: Any) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in attribute]


def _child(group: h5py.Group, path: str, kind: type) -> Any:
    """What a group holds, if it is in this very file."""
    found: Any = group
    for part in path.split("/"):
        if part not in found:
            raise ValueError(f"{found.name} holds no {part}")
        if not isinstance(found.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{path} leads to another place")
        found = found[part]
    if not isinstance(found, kind):
        raise ValueError(f"{path} is no {kind.__name__.lower()}")
    return found


def _array(dataset: h5py.Dataset) -> np.ndarray:
    if dataset.dtype.kind not in "fiub":
        raise ValueError(f"{dataset.name} holds {dataset.dtype}, and not numbers")
    properties = dataset.id.get_create_plist()
    if dataset.external or dataset.is_virtual or properties.get_nfilters():
        raise ValueError(f"{dataset.name} is compressed, or lies in another file")
    if dataset.id.get_storage_size() < dataset.nbytes:
        raise ValueError(f"{dataset.name} is larger than what the file holds of it")
    return dataset[()]
