"""Execution settings of a run, which do not affect its results."""

import dataclasses
from typing import ClassVar

from jaxcnn.experiment.fields import Ranges, Section


@dataclasses.dataclass(frozen=True)
class Execution(Section):
    """Settings that may be changed when a run is resumed, and are not part of its hash.

    Example:
      >>> Execution(tensorboard=True).checkpoint_seconds
      300.0
    """

    tensorboard: bool = False
    """Also write TensorBoard event files (requires the tensorboard extra)."""
    checkpoint_seconds: float = 300.0
    """Seconds between checkpoints during an epoch, in addition to the one after each epoch."""
    keep_best: bool = False
    """Also keep the checkpoint of the epoch with the best validation score, for
    `jaxcnn evaluate --checkpoint best`."""

    deterministic: bool = False
    """On a GPU, use only deterministic operations, which may be slower; CPUs and TPUs always do."""

    RANGES: ClassVar[Ranges] = {"checkpoint_seconds": (lambda value: value > 0, "> 0")}
