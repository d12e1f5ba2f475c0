"""Weights in safetensors files."""

from pathlib import Path

import numpy as np
import safetensors


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

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
                tensors[name] = file.get_tensor(name)
    # NumPy has no type for some that the format has.
    except AttributeError as error:
        raise ValueError(f"pretrained file {path} is of an unknown dtype: {error}") from error
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"pretrained file {path} is damaged: {error}") from error
    return tensors, metadata
