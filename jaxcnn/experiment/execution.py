"""The execution of a run: settings that do not change its numbers."""

import dataclasses
from typing import ClassVar

from jaxcnn.experiment.fields import Ranges, Section


@dataclasses.dataclass(frozen=True)
class Execution(Section):
    """Settings of a run that may change when it is resumed, and are not part of its hash.

    Example:
      >>> Execution(tensorboard=True).checkpoint_seconds
      300.0
    """

    tensorboard: bool = False
    """Write TensorBoard event files too (extra tensorboard)."""
    checkpoint_seconds: float = 300.0
    """Seconds between checkpoints within an epoch, besides the one after each epoch."""

    RANGES: ClassVar[Ranges] = {"checkpoint_seconds": (lambda value: value > 0, "> 0")}
