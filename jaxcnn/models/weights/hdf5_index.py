"""Where the arrays of Keras's HDF5 files lie; a script, run by `jaxcnn.models.weights.keras_files`.

The HDF5 library does not return from some damaged files, and takes any amount of memory for others.
So it runs in a process of its own, with limits, and tells where each layer's arrays are. They are
then read as plain bytes.

Only arrays are looked for: no configuration, no code. A group or array that leads to another place
is refused, and so is one that does not lie in the file as it is.
"""

import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

MEMBER = "model.weights.h5"
SECONDS = 20  # of a processor; a network of a thousand layers takes a tenth of one
_MEMORY = 1 << 30
_DEEPEST = 16  # groups in groups
_LONGEST_NAME = 1000

Place = tuple[int, tuple[int, ...], str]
"""Offset in bytes, shape and NumPy's name of the type of an array."""


def index(path: Path, member: str) -> dict[str, list[Place]]:
    """The places of the arrays of each layer that has some, by the layer's name.

    Args:
      path: an HDF5 file, or a zip file with one.
      member: its name in the zip file; empty if it is in none.
    """
    file: Any = path.open("rb")
    if member:
        with zipfile.ZipFile(file) as archive:
            file = io.BytesIO(archive.read(member))
    with file, h5py.File(file, "r") as content:
        return _layers(content)


def _layers(content: h5py.File) -> dict[str, list[Place]]:
    if "layer_names" in content.attrs:
        return _old_layers(content)
    if "model_weights" in content:
        return _old_layers(_child(content, "model_weights", h5py.Group))
    layers: dict[str, list[Place]] = {}
    for name, group in _variables(content, set(), depth=0):
        if name in layers:
            raise ValueError(f"there are two layers {name!r}")
        layers[name] = [
            _place(_child(group, str(number), h5py.Dataset)) for number in range(len(group))
        ]
    return layers


def _variables(
    group: h5py.Group, seen: set[int], *, depth: int
) -> Iterator[tuple[str, h5py.Group]]:
    """The ``vars`` group of each layer, which bears the layer's name."""
    if depth > _DEEPEST:
        raise ValueError("its groups lie too deep")
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        raise ValueError("a group stands in two places")
    seen.add(address)
    for key in group:
        child = _child(group, key, h5py.Group)
        if key == "vars":
            if len(child):
                if "name" not in child.attrs:
                    raise ValueError(
                        "its layers have no names, which Keras writes since 3.6: save it anew"
                    )
                yield _name(child.attrs["name"]), child
        else:
            yield from _variables(child, seen, depth=depth + 1)


def _old_layers(group: h5py.Group) -> dict[str, list[Place]]:
    layers = {}
    for layer in map(_name, group.attrs["layer_names"]):
        inside = _child(group, layer, h5py.Group)
        names = [_name(name) for name in inside.attrs["weight_names"]]
        if names:
            layers[layer] = [_place(_child(inside, name, h5py.Dataset)) for name in names]
    return layers


def _name(attribute: Any) -> str:
    name = attribute.decode() if isinstance(attribute, bytes) else str(attribute)
    if len(name) > _LONGEST_NAME:
        raise ValueError("the name of a layer is too long")
    return name


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


def _place(dataset: h5py.Dataset) -> Place:
    if dataset.dtype.kind not in "fiub" or dataset.dtype.itemsize > 8:
        raise ValueError(f"{dataset.name} holds {dataset.dtype}, and not numbers")
    if dataset.dtype.byteorder == ">":
        raise ValueError(f"{dataset.name} was written on a big-endian machine")
    if dataset.shape is None:
        raise ValueError(f"{dataset.name} is no array")
    properties = dataset.id.get_create_plist()
    if dataset.external or dataset.is_virtual or properties.get_nfilters():
        raise ValueError(f"{dataset.name} is compressed, or lies in another file")
    offset = dataset.id.get_offset()
    if properties.get_layout() != h5py.h5d.CONTIGUOUS or (dataset.size and offset is None):
        raise ValueError(f"{dataset.name} does not lie in the file in one piece")
    return offset or 0, dataset.shape, dataset.dtype.str


def _limit(size: int) -> None:
    """Let the system end this process if it takes too long or too much memory."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    used = Path("/proc/self/statm")
    if used.exists():
        most = int(used.read_text().split()[0]) * resource.getpagesize() + _MEMORY + size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """Print the index of the file on the command line as JSON, or what is wrong with it."""
    path, member = Path(sys.argv[1]), sys.argv[2]
    _limit(3 * path.stat().st_size if member else 0)
    try:
        answer: dict[str, Any] = {"layers": index(path, member)}
    except ValueError as error:
        answer = {"error": str(error)}
    # h5py raises nearly everything for damaged files.
    except Exception as error:
        answer = {"error": f"it is damaged ({type(error).__name__}: {error})"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
