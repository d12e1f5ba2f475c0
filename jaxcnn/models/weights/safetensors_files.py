"""Reader for safetensors files."""

from pathlib import Path

import numpy as np
import safetensors


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the tensors and metadata in a safetensors file.

    Raises:
      ValueError: if the file is damaged, or has a dtype that NumPy lacks.

    Example:
      >>> import tempfile
      >>> import safetensors.numpy
      >>> path = Path(tempfile.mkdtemp()) / "weights.safetensors"
      >>> safetensors.numpy.save_file({"bias": np.ones(2)}, path)
      >>> read_safetensors(path)
      ({'bias': array([1., 1.])}, {})

    Reference:
      The ``safetensors`` package, which checks the header against the length of the data.
    """
    tensors = {}
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 - not a dictionary
                tensors[name] = file.get_tensor(name)
    # The format has dtypes that NumPy lacks.
    except AttributeError as error:
        raise ValueError(f"weights file {path} has an unknown dtype: {error}") from error
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"weights file {path} is damaged: {error}") from error
    return tensors, metadata
