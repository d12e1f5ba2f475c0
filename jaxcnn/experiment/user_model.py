"""Custom models from a Python file, which is executed only if the user names it."""

import difflib
import importlib.util
from pathlib import Path
from typing import Any


def model_from_file(name: str, num_classes: int, **options: Any) -> Any:
    """Call ``file.py:function`` with the number of outputs and the options.

    Raises:
      ValueError: if the file or function does not exist, or the function does not return a model.
        Exceptions raised by the file itself are not caught.
    """
    path, _, function = name.rpartition(":")
    file = Path(path)
    if file.suffix != ".py" or not file.is_file():
        raise ValueError(
            f"model must be a name or file.py:function, got {name!r}; {path} is not a Python file"
        )
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"model file {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make = getattr(module, function, None)
    if not callable(make):
        close = difflib.get_close_matches(function, vars(module), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"model file {path} has no function {function!r}{hint}")
    model = make(num_classes, **options)
    if not (hasattr(model, "init") and hasattr(model, "apply")):
        raise ValueError(
            f"{name} must return a Linen module or jaxcnn.train.from_functions(...), "
            f"got {type(model).__name__}"
        )
    return model
