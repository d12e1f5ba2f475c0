"""Command that measures speed: benchmark."""

import dataclasses
from typing import Literal

from jaxcnn import models
from jaxcnn.commands.tables import print_table
from jaxcnn.view.benchmark import benchmark


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Time a network's training step and forward pass, and compare them with plain XLA."""

    model: str = "classic_cnn"
    """Name of the network."""
    size: tuple[int, int, int] = (28, 28, 1)
    """Height, width and channels of an image."""
    batch_size: int = 128
    """Number of images per step."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Computation dtype of the network."""
    rounds: int = 5
    """Number of times to alternate between jaxcnn and plain XLA; medians are reported."""
    seconds: float = 1.0
    """Approximate duration of each timing, in seconds."""

    def __call__(self) -> None:
        """Print the table."""
        if min(self.size) < 1:
            raise ValueError(f"--size must be three integers >= 1, got {self.size}")
        timings = benchmark(
            models.create(self.model, 10, dtype=self.precision),
            self.size,
            batch_size=self.batch_size,
            rounds=self.rounds,
            seconds=self.seconds,
        )
        print_table(
            ("", "ms", "images/s", "plain XLA ms", "floor ms", "GFLOP", "compile s"),
            [
                (
                    timing.name,
                    f"{timing.seconds * 1000:.2f}",
                    f"{self.batch_size / timing.seconds:,.0f}",
                    f"{timing.xla_seconds * 1000:.2f}",
                    f"{timing.floor_seconds * 1000:.2f}",
                    f"{timing.flops / 1e9:.2f}",
                    f"{timing.compile_seconds:.1f}",
                )
                for timing in timings
            ],
        )
