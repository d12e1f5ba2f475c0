"""The loop of an experiment: its settings, and when it stops early."""

import dataclasses
from typing import ClassVar

from jaxcnn import train
from jaxcnn.experiment.fields import Ranges, Relations, Section, is_count, is_finite


@dataclasses.dataclass(frozen=True)
class LoopConfig(Section):
    """Settings of the training loop."""

    epochs: int = 10
    """Passes over the training examples."""
    batch_size: int = 128
    """Examples per step."""
    accumulate: int = 1
    """Microbatches per batch, to save memory; the gradient is that of the whole batch."""
    steps_per_call: int = 1
    """Steps per call of a compiled loop, over examples kept on the device; for accelerators."""
    seed: int = 0
    """Seed of the initial parameters, the order of examples, dropout and augmentation."""
    early_stopping: int | None = None
    """Stop after this many epochs without a better validation loss, and keep the best epoch."""
    min_delta: float = 0.0
    """Early stopping: smallest decrease of the validation loss that counts as better."""
    start_epoch: int = 1
    """Early stopping: first epoch that may be kept or counted."""

    RANGES: ClassVar[Ranges] = {
        "epochs": (is_count, ">= 1"),
        "batch_size": (is_count, ">= 1"),
        "accumulate": (is_count, ">= 1"),
        "steps_per_call": (is_count, ">= 1"),
        "seed": (lambda value: 0 <= value < 2**32, "from 0 to 2**32 - 1"),
        "early_stopping": (is_count, ">= 1"),
        "min_delta": (is_finite, "finite and >= 0"),
        "start_epoch": (is_count, ">= 1"),
    }
    RELATIONS: ClassVar[Relations] = (
        ("accumulate", lambda c: c.batch_size % c.accumulate == 0, "a divisor of batch_size"),
        (
            "min_delta",
            lambda c: not c.min_delta or c.early_stopping is not None,
            "0 without early_stopping",
        ),
        (
            "start_epoch",
            lambda c: (
                c.start_epoch == 1 or (c.early_stopping is not None and c.start_epoch <= c.epochs)
            ),
            "at most epochs, and 1 without early_stopping",
        ),
    )


def make_early_stopping(config: LoopConfig, *, frozen_epochs: int) -> train.EarlyStopping | None:
    """Make the early stopping rule, or return None; frozen epochs are never kept or counted.

    Example:
      >>> make_early_stopping(LoopConfig(early_stopping=3), frozen_epochs=2).start_epoch
      3
    """
    if config.early_stopping is None:
        return None
    return train.EarlyStopping(
        config.early_stopping,
        min_delta=config.min_delta,
        start_epoch=max(config.start_epoch, frozen_epochs + 1),
    )
