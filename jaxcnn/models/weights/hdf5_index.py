"""Script run by `jaxcnn.models.weights.keras_files` to index the arrays in Keras's HDF5 files.

The HDF5 library loops forever on some damaged files and uses unlimited memory on others. This
script therefore runs in a separate process with limits. It prints the positions of each layer's
arrays, which are then read as plain bytes.

Only arrays are read, never configuration or code. Links are rejected, and so are arrays that are
not stored contiguously in the file itself.
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
SECONDS = 20  # of CPU time; a network with 1,000 layers takes 0.1 s
_MEMORY = 1 << 30  # bytes, in addition to the interpreter and the file
_DEEPEST = 16  # levels of nested groups
_LONGEST_NAME = 1000

Place = tuple[int, tuple[int, ...], str]
"""Offset in bytes, shape and NumPy dtype of an array."""


def index(path: Path, member: str) -> dict[str, list[Place]]:
    """Return the places of each layer's arrays by layer name; layers without weights are omitted.

    Args:
      path: an HDF5 file, or a zip file that contains one.
      member: name of the HDF5 file in the zip file; empty for a plain HDF5 file.
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
            raise ValueError(f"two layers have the name {name!r}")
        layers[name] = [
            _place(_child(group, str(number), h5py.Dataset)) for number in range(len(group))
        ]
    return layers


def _variables(
    group: h5py.Group, seen: set[int], *, depth: int
) -> Iterator[tuple[str, h5py.Group]]:
    """Yield each layer's name and ``vars`` group."""
    if depth > _DEEPEST:
        raise ValueError("its groups are nested too deeply")
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        raise ValueError("a group appears twice")
    seen.add(address)
    for key in group:
        child = _child(group, key, h5py.Group)
        if key == "vars":
            if len(child):
                if "name" not in child.attrs:
                    raise ValueError(
                        "its layers have no names; save it again with Keras 3.6 or later"
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
    """Return a member of a group; links are rejected."""
    found: Any = group
    for part in path.split("/"):
        if part not in found:
            raise ValueError(f"{found.name} has no {part}")
        if not isinstance(found.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{path} is a link")
        found = found[part]
    if not isinstance(found, kind):
        raise ValueError(f"{path} is not a {kind.__name__.lower()}")
    return found


def _place(dataset: h5py.Dataset) -> Place:
    if dataset.dtype.kind not in "fiub" or dataset.dtype.itemsize > 8:
        raise ValueError(f"{dataset.name} has dtype {dataset.dtype}, which is not supported")
    if dataset.dtype.byteorder == ">":
        raise ValueError(f"{dataset.name} was written on a big-endian machine")
    if dataset.shape is None:
        raise ValueError(f"{dataset.name} is not an array")
    properties = dataset.id.get_create_plist()
    if dataset.external or dataset.is_virtual or properties.get_nfilters():
        raise ValueError(f"{dataset.name} is compressed or stored in another file")
    offset = dataset.id.get_offset()
    if properties.get_layout() != h5py.h5d.CONTIGUOUS or (dataset.size and offset is None):
        raise ValueError(f"{dataset.name} is not stored in one piece")
    return offset or 0, dataset.shape, dataset.dtype.str


def _limit(size: int) -> None:
    """Limit the CPU time and memory of this process."""
    try:
        import resource
    except ImportError:  # not available on Windows
        return
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    used = Path("/proc/self/statm")
    if used.exists():
        most = int(used.read_text().split()[0]) * resource.getpagesize() + _MEMORY + size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """Print, as JSON, the index of the file given on the command line, or the error."""
    path, member = Path(sys.argv[1]), sys.argv[2]
    _limit(3 * path.stat().st_size if member else 0)
    try:
        answer: dict[str, Any] = {"layers": index(path, member)}
    except ValueError as error:
        answer = {"error": str(error)}
    # h5py raises many exception types for damaged files.
    except Exception as error:
        answer = {"error": f"it is damaged ({type(error).__name__}: {error})"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
