"""The training loop of an experiment: its settings and early stopping."""

import dataclasses
from typing import ClassVar

from jaxcnn import train
from jaxcnn.experiment.fields import Ranges, Relations, Section, is_count, is_finite

# Even small networks rarely learn in fewer steps.
_FEW_STEPS = 200


@dataclasses.dataclass(frozen=True)
class LoopConfig(Section):
    """Settings for the training loop."""

    epochs: int = 10
    """Number of passes over the training examples."""
    batch_size: int = 128
    """Number of examples per training step."""
    accumulate: int = 1
    """Number of microbatches per batch, to save memory; their gradients are accumulated."""
    steps_per_call: int = 1
    """Training steps per compiled call, with all examples kept on the device; for accelerators."""
    seed: int = 0
    """Seed for parameter initialization, example order, dropout and augmentation."""
    early_stopping: int | None = None
    """Stop after this many consecutive epochs without improvement in validation loss, and keep the
    network of the best epoch."""
    min_delta: float = 0.0
    """Early stopping: a decrease in validation loss must exceed this to count as an improvement."""
    start_epoch: int = 1
    """Early stopping: first epoch that may be kept as the best or count toward the patience."""
    on_nonfinite: train.OnNonfinite = "raise"
    """Action if a step's loss, gradients or updated variables are NaN or infinite: stop and report
    the step and its examples (raise), or skip the update and count it (skip)."""

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
            "0 unless early_stopping is set",
        ),
        (
            "start_epoch",
            lambda c: (
                c.start_epoch == 1 or (c.early_stopping is not None and c.start_epoch <= c.epochs)
            ),
            "at most epochs, and 1 unless early_stopping is set",
        ),
    )


def make_early_stopping(config: LoopConfig, *, frozen_epochs: int) -> train.EarlyStopping | None:
    """Make the early-stopping rule, or return None; it ignores frozen epochs.

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


def few_steps(epochs: int, steps_per_epoch: int) -> str | None:
    """Return a warning if a run has so few steps that it may not learn, or None.

    Example:
      >>> "the run has only 20 steps" in few_steps(10, 2)
      True
      >>> few_steps(10, 20) is None
      True
    """
    steps = epochs * steps_per_epoch
    if steps >= _FEW_STEPS:
        return None
    enough = -(-_FEW_STEPS // steps_per_epoch)
    return (
        f"warning: the run has only {steps} steps, too few for most networks; raise --epochs to "
        f"about {enough}, or lower --batch-size"
    )
