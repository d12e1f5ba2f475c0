"""Monitors: decisions based on a run's history, such as when to stop.

Monitors are pure functions of the history, so a resumed run makes the same decisions as an
uninterrupted one.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

from jaxcnn import shapes

Row = dict[str, float]

THRESHOLD = 1e-4


class Monitor:
    """Base class for monitors; each method depends only on the rows of the history.

    Example:
      >>> Monitor().should_stop([]), Monitor().lr_scale([]), Monitor().best_epoch([])
      (False, 1.0, None)
    """

    def should_stop(self, history: Sequence[Row]) -> bool:
        """Return True to stop before the next epoch."""
        del history
        return False

    def lr_scale(self, history: Sequence[Row]) -> float:
        """Return the multiplier for the next epoch's learning rate."""
        del history
        return 1.0

    def best_epoch(self, history: Sequence[Row]) -> int | None:
        """Return the number of the epoch whose variables should be kept; None keeps the last."""
        del history
        return None


@dataclasses.dataclass(frozen=True)
class EarlyStopping(Monitor):
    """Stop when a metric no longer improves, and keep the network of the best epoch.

    Attributes:
      patience: number of consecutive epochs without improvement before stopping, >= 1.
      min_delta: a change must be larger than this to count as an improvement, >= 0. The network of
        the best epoch is kept even if its advantage is smaller.
      start_epoch: first epoch (numbered from 1) that may be kept as best or count toward the
        patience, >= 1.
      monitor: name of a metric in the history's rows.
      mode: ``"min"`` if smaller is better, ``"max"`` if larger is better.

    Raises:
      ValueError: if a field is out of range.

    Example:
      >>> stopping = EarlyStopping(patience=2)
      >>> history = [{"epoch": e, "validation_loss": v} for e, v in enumerate([3, 2, 2, 4], 1)]
      >>> stopping.best_epoch(history), stopping.should_stop(history)
      (2, True)
    """

    patience: int
    min_delta: float = 0.0
    start_epoch: int = 1
    monitor: str = "validation_loss"
    mode: Literal["min", "max"] = "min"

    def __post_init__(self) -> None:
        shapes.check_integer(self.patience, "patience", minimum=1)
        shapes.check_integer(self.start_epoch, "start_epoch", minimum=1)
        if not 0 <= self.min_delta < math.inf:
            raise ValueError(f"min_delta must be finite and >= 0, got {self.min_delta!r}")
        if self.mode not in ("min", "max"):
            raise ValueError(f"mode must be min or max, got {self.mode!r}")

    def best_epoch(self, history: Sequence[Row]) -> int | None:
        """Return the number of the best epoch (the first in a tie), or None if there is none."""
        values = self._values(history)
        return min(values, key=lambda epoch: values[epoch]) if values else None

    def should_stop(self, history: Sequence[Row]) -> bool:
        """Return True once patience has run out."""
        best, waited = math.inf, 0
        for value in self._values(history).values():
            improved = value < best - self.min_delta
            best, waited = (value, 0) if improved else (best, waited + 1)
        return waited >= self.patience

    def _values(self, history: Sequence[Row]) -> dict[int, float]:
        """Return the values to minimize, by epoch; NaN is treated as infinity."""
        sign = 1 if self.mode == "min" else -1
        values = {
            int(row["epoch"]): sign * monitored(row, self.monitor)
            for row in history
            if row["epoch"] >= self.start_epoch
        }
        return {epoch: math.inf if math.isnan(v) else v for epoch, v in values.items()}


@dataclasses.dataclass(frozen=True)
class ReduceOnPlateau(Monitor):
    """Reduce the learning rate when a metric no longer improves.

    Attributes:
      patience: number of consecutive epochs without improvement before a reduction, >= 1. An
        improvement must exceed one ten-thousandth of the best value.
      factor: factor by which each reduction multiplies the learning rate, in (0, 1).
      monitor: name of a metric in the history's rows; smaller is better.

    Raises:
      ValueError: if a field is out of range.

    Example:
      >>> plateau = ReduceOnPlateau(patience=2, factor=0.5)
      >>> plateau.lr_scale([{"epoch": e, "validation_loss": 1.0} for e in (1, 2, 3)])
      0.5

    Reference:
      ``optax.contrib.reduce_on_plateau`` and PyTorch's ``ReduceLROnPlateau``, implemented here as a
      function of the history.
    """

    patience: int
    factor: float = 0.1
    monitor: str = "validation_loss"

    def __post_init__(self) -> None:
        shapes.check_integer(self.patience, "patience", minimum=1)
        if not 0 < self.factor < 1:
            raise ValueError(f"factor must be in (0, 1), got {self.factor!r}")

    def lr_scale(self, history: Sequence[Row]) -> float:
        """Return the product of all reduction factors so far."""
        best, waited, scale = math.inf, 0, 1.0
        for row in history:
            value = monitored(row, self.monitor)
            improved = value < best * (1 - THRESHOLD)
            best, waited = (value, 0) if improved else (best, waited + 1)
            if waited == self.patience:
                scale, waited = scale * self.factor, 0
        return scale


def monitored(row: Row, name: str) -> float:
    """Return one metric from a row.

    Raises:
      ValueError: if the row has no such metric.
    """
    if name not in row:
        hint = " (does the run have a validation split?)" if name.startswith("validation") else ""
        raise ValueError(f"monitor must be one of {', '.join(row)}, got {name!r}{hint}")
    return row[name]
