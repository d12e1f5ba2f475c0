"""The geometry of a window that slides over images."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxcnn.shapes import Pairs

Ints = tuple[int, ...]

# The CPU formulations unroll the window; for a larger window the program would be too large.
MAX_UNROLLED_TAPS = 64


class Windows(NamedTuple):
    """The geometry of a sliding window, one entry per spatial dimension.

    Attributes:
      sizes: number of taps in the window.
      strides: step between windows.
      pairs: (low, high) padding, both >= 0.
      dilation: distance between neighboring taps.

    Example:
      >>> windows = Windows((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
      >>> windows.taps, windows.output((8, 8))
      (9, (4, 4))
    """

    sizes: Ints
    strides: Ints
    pairs: Pairs
    dilation: Ints

    @property
    def taps(self) -> int:
        """The number of taps in a window."""
        return math.prod(self.sizes)

    @property
    def can_unroll(self) -> bool:
        """True if the window is small enough to unroll tap by tap."""
        return self.taps <= MAX_UNROLLED_TAPS

    def offsets(self) -> Iterator[Ints]:
        """Yield the taps' distances from the window's first pixel, in raster order."""
        for position in itertools.product(*map(range, self.sizes)):
            yield tuple(i * step for i, step in zip(position, self.dilation, strict=True))

    def padded(self, sizes: Sequence[int]) -> Ints:
        """Return the spatial sizes with the padding added."""
        return tuple(n + low + high for n, (low, high) in zip(sizes, self.pairs, strict=True))

    def output(self, sizes: Sequence[int]) -> Ints:
        """Return the number of windows along each dimension of images with these spatial sizes."""
        return tuple(
            (n - (size - 1) * step - 1) // stride + 1
            for n, size, step, stride in zip(
                self.padded(sizes), self.sizes, self.dilation, self.strides, strict=True
            )
        )
