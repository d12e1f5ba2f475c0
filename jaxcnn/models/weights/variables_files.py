"""Files of the variables of any module, without its configuration."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxcnn.data.files import atomic_write
from jaxcnn.messages import printable
from jaxcnn.models.weights.safetensors_files import read_safetensors
from jaxcnn.parameters import fingerprint

_KEY = "variables_sha256"


def save_variables(path: str | Path, variables: Any) -> None:
    """Write a module's variables to a safetensors file, atomically.

    The names of the arrays are their paths, such as ``params/conv/kernel``, so other programs can
    read the file. The file also contains the SHA-256 of the arrays.

    Args:
      path: the file to write.
      variables: nested dictionaries of arrays, such as ``state.variables``, with a module's
        ``params`` and ``batch_stats``.

    Raises:
      ValueError: if ``variables`` is not a nonempty nested dictionary of arrays, or a name is not
        a string or contains ``/``.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "net.safetensors"
      >>> save_variables(path, {"params": {"bias": np.ones(2)}})
      >>> load_variables(path, {"params": {"bias": np.zeros(2)}})
      {'params': {'bias': array([1., 1.])}}
    """
    arrays = jax.device_get(_flat(variables, "variables"))
    stored = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    digest = fingerprint(unflatten_dict(stored, sep="/"))
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes(safetensors.numpy.save(stored, {_KEY: digest}))


def load_variables(path: str | Path, like: Any) -> dict[str, Any]:
    """Read variables written by `save_variables`.

    Args:
      path: the file.
      like: the expected variables: nested dictionaries of arrays or shapes, such as
        ``jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))``.

    Returns:
      The variables, as NumPy arrays.

    Raises:
      ValueError: if the file is damaged, was not written by `save_variables`, or contains arrays
        with other names, shapes or dtypes than ``like``.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "net.safetensors"
      >>> save_variables(path, {"params": {"bias": np.ones(2, np.float32)}})
      >>> like = {"params": {"bias": jax.ShapeDtypeStruct((2,), np.float32)}}
      >>> load_variables(path, like)["params"]["bias"].tolist()
      [1.0, 1.0]
    """
    tensors, metadata = read_safetensors(Path(path))
    name = f"file {printable(path)}"
    if _KEY not in metadata:
        raise ValueError(f"{name} was not written by save_variables")
    found: dict[str, Any] = unflatten_dict(tensors, sep="/")
    if fingerprint(found) != metadata[_KEY]:
        raise ValueError(f"{name} is damaged: its SHA-256 does not match its arrays")
    expected = _flat(like, "like")
    if missing := sorted(expected.keys() - tensors.keys()):
        raise ValueError(f"{name} does not contain {printable(missing[0])}")
    if unknown := sorted(tensors.keys() - expected.keys()):
        raise ValueError(f"{name} contains {printable(unknown[0])}, which the module does not have")
    for key, array in tensors.items():
        shape, dtype = np.shape(expected[key]), np.dtype(expected[key].dtype)
        if (array.shape, array.dtype) != (shape, dtype):
            raise ValueError(
                f"{printable(key)} must be {dtype} of shape {shape}, but {name} contains "
                f"{array.dtype} of shape {array.shape}"
            )
    return found


def holds_variables(metadata: dict[str, str]) -> bool:
    """Return whether a safetensors file was written by `save_variables`.

    Example:
      >>> holds_variables({"variables_sha256": "0"}), holds_variables({"format": "pt"})
      (True, False)
    """
    return _KEY in metadata


def _flat(variables: Any, argument: str) -> dict[str, Any]:
    """Return the arrays by path."""
    flat = flatten_dict(dict(variables)) if isinstance(variables, dict) else {}
    is_fine = flat and all(hasattr(leaf, "shape") for leaf in flat.values())
    names_are_fine = all(isinstance(part, str) and "/" not in part for key in flat for part in key)
    if not is_fine or not names_are_fine:
        raise ValueError(
            f"{argument} must be nested dictionaries of arrays with names without '/', got "
            f"{type(variables).__name__}"
        )
    return {"/".join(key): leaf for key, leaf in flat.items()}
