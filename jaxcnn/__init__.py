"""jaxcnn: convolutional networks in JAX, functional and reproducible.

The subpackages are imported when they are first used.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxcnn import data as data
    from jaxcnn import image as image
    from jaxcnn import losses as losses
    from jaxcnn import metrics as metrics
    from jaxcnn import models as models
    from jaxcnn import ops as ops
    from jaxcnn import regularizers as regularizers
    from jaxcnn import train as train

__all__ = ["data", "image", "losses", "metrics", "models", "ops", "regularizers", "train"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"jaxcnn.{name}")
    raise AttributeError(f"module 'jaxcnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
