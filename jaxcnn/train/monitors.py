"""Decisions that look at the history of a run: when to stop, when to take smaller steps.

They are pure functions of the history, so a resumed run decides as an unbroken one.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

Row = dict[str, float]

THRESHOLD = 1e-4


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stop when validation no longer gets better, and keep the best epoch's network.

    Attributes:
      patience: stop after this many epochs in a row without an improvement, >= 1.
      min_delta: what counts as an improvement is better by more than this, >= 0. The network that
        is kept is the best one all the same.
      start_epoch: epochs before this one (the first is 1) are neither kept nor counted, >= 1.
      monitor: a metric of the history's rows.
      mode: whether smaller or larger is better.

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
        _check_whole("patience", self.patience)
        _check_whole("start_epoch", self.start_epoch)
        if not 0 <= self.min_delta < math.inf:
            raise ValueError(f"min_delta must be finite and >= 0, got {self.min_delta!r}")
        if self.mode not in ("min", "max"):
            raise ValueError(f"mode must be min or max, got {self.mode!r}")

    def best_epoch(self, history: Sequence[Row]) -> int | None:
        """The number of the best epoch, the first of equals; None before there is one."""
        values = self._values(history)
        return min(values, key=lambda epoch: values[epoch]) if values else None

    def should_stop(self, history: Sequence[Row]) -> bool:
        """Whether patience has run out."""
        best, waited = math.inf, 0
        for value in self._values(history).values():
            improved = value < best - self.min_delta
            best, waited = (value, 0) if improved else (best, waited + 1)
        return waited >= self.patience

    def _values(self, history: Sequence[Row]) -> dict[int, float]:
        """What to make small, by epoch; a value that is no number is the worst."""
        sign = 1 if self.mode == "min" else -1
        values = {
            int(row["epoch"]): sign * monitored(row, self.monitor)
            for row in history
            if row["epoch"] >= self.start_epoch
        }
        return {epoch: math.inf if math.isnan(v) else v for epoch, v in values.items()}


@dataclasses.dataclass(frozen=True)
class ReduceOnPlateau:
    """Take smaller steps when validation no longer gets better.

    Attributes:
      patience: epochs in a row without an improvement (by a ten-thousandth of the best value)
        before a reduction, >= 1.
      factor: what the learning rate is multiplied by then, in (0, 1).
      monitor: a metric of the history's rows, smaller is better.

    Raises:
      ValueError: if a field is out of range.

    Example:
      >>> plateau = ReduceOnPlateau(patience=2, factor=0.5)
      >>> plateau.scale([{"epoch": e, "validation_loss": 1.0} for e in (1, 2, 3)])
      0.5

    Reference:
      ``optax.contrib.reduce_on_plateau`` and torch's ``ReduceLROnPlateau``, here as a function of
      the history.
    """

    patience: int
    factor: float = 0.1
    monitor: str = "validation_loss"

    def __post_init__(self) -> None:
        _check_whole("patience", self.patience)
        if not 0 < self.factor < 1:
            raise ValueError(f"factor must be in (0, 1), got {self.factor!r}")

    def scale(self, history: Sequence[Row]) -> float:
        """The product of the reductions so far."""
        best, waited, scale = math.inf, 0, 1.0
        for row in history:
            value = monitored(row, self.monitor)
            improved = value < best * (1 - THRESHOLD)
            best, waited = (value, 0) if improved else (best, waited + 1)
            if waited == self.patience:
                scale, waited = scale * self.factor, 0
        return scale


def monitored(row: Row, name: str) -> float:
    """One metric of a row.

    Raises:
      ValueError: if the row has no such metric.
    """
    if name not in row:
        hint = " (is there a validation slice?)" if name.startswith("validation") else ""
        raise ValueError(f"monitor must name a metric of {', '.join(row)}, got {name!r}{hint}")
    return row[name]


def _check_whole(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
