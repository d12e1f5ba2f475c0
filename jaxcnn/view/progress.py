"""Training progress: a live bar in a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

import jax
import rich.console
import rich.progress

from jaxcnn.metrics import Counts, summarize


class Progress:
    """Report progress on a console; `on_step` and `on_epoch` are hooks for `jaxcnn.train.fit`.

    Args:
      epochs: total number of epochs.
      steps_per_epoch: number of steps in each epoch.
      console: the console.
      score: the metric shown next to the loss.
    """

    def __init__(
        self, epochs: int, steps_per_epoch: int, console: rich.console.Console, *, score: str
    ):
        self.epochs = epochs
        self.shown = ("loss", score)
        self.steps_per_epoch = steps_per_epoch
        self.console = console
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[status]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=epochs * steps_per_epoch, status="")
        self._began = self._read = 0.0
        self._first = True

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._bar.start()
        self._bar.update(self._task, description="compiling the training step ...")
        if not self.console.is_terminal:
            self.say("compiling the training step ...")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """Print one line, above the progress bar if it is shown."""
        self.console.print(line, soft_wrap=True, markup=False)

    def on_step(self, step: int, counts: Counts) -> None:
        """Advance the bar; the loss is read from the device at most twice a second."""
        if self._first:
            self._first = False
            jax.block_until_ready(counts)
            self.say(f"compiled and took the first step in {time.monotonic() - self._began:.1f} s")
        if self._bar.disable:
            return
        now = time.monotonic()
        if now - self._read > 0.5:
            self._read = now
            # No metrics are available yet if no image could be read.
            status = self._values(summarize(counts)) if int(counts["examples"]) else ""
            epoch = min((step - 1) // self.steps_per_epoch + 1, self.epochs)
            self._bar.update(
                self._task,
                completed=step,
                description=f"epoch {epoch}/{self.epochs}",
                status=status,
            )

    def on_epoch(self, row: dict[str, float]) -> None:
        """Print one line per epoch."""
        parts = [f"epoch {row['epoch']:>{len(str(self.epochs))}}/{self.epochs}"]
        for part in ("train", "validation"):
            values = {
                name.removeprefix(f"{part}_"): value
                for name, value in row.items()
                if name.startswith(f"{part}_")
            }
            if values:
                parts.append(f"{part} {self._values(values)}")
        self.say(" | ".join([*parts, f"{row['seconds']:.1f} s"]))

    def _values(self, values: dict[str, float]) -> str:
        return " ".join(f"{name} {values[name]:.4f}" for name in self.shown if name in values)
