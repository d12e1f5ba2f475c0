"""TensorBoard event files for a run's history; requires the tensorboard extra."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SPLITS = ("train", "validation")


class EventFiles:
    """Write rows of a history to event files; `close` flushes them.

    Raises:
      ValueError: if tensorboardX is not installed.
    """

    def __init__(self) -> None:
        try:
            import tensorboardX
        except ImportError:
            raise ValueError(
                'tensorboard requires tensorboardX: pip install "jaxcnn[tensorboard]"'
            ) from None
        self._make_writer = tensorboardX.SummaryWriter
        self._writer: Any = None

    def open(self, folder: Path, history: Sequence[dict[str, float]]) -> None:
        """Replace a folder with event files for the history so far, to which `write` appends."""
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = self._make_writer(str(folder), flush_secs=5)
        for row in history:
            self.write(row)

    def write(self, row: dict[str, float]) -> None:
        """Write one row: every metric under its name, at the row's step."""
        for name, value in row.items():
            if name in ("epoch", "step"):
                continue
            part, _, metric = name.partition("_")
            tag = f"{metric}/{part}" if part in _SPLITS else name
            self._writer.add_scalar(tag, value, int(row["step"]))

    def close(self) -> None:
        """Wait until the writer's thread has written everything, which ``flush`` does not do."""
        self._writer.close()
