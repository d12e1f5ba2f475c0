"""Weights in safetensors files."""

from pathlib import Path

import numpy as np
import safetensors


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the metadata of a safetensors file; half precision becomes float32.

    Raises:
      ValueError: if it is damaged.

    Reference:
      The ``safetensors`` package, which checks that the header and the data are of one length.
    """
    tensors = {}
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 - it is no dictionary
                tensors[name] = widened(file.get_tensor(name))
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"pretrained file {path} is damaged: {error}") from error
    return tensors, metadata


def widened(array: np.ndarray) -> np.ndarray:
    """Half precision, of both kinds, as float32."""
    is_half = array.dtype == np.float16 or array.dtype.name == "bfloat16"
    return array.astype(np.float32) if is_half else array
