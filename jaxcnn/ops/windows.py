"""The geometry of a window that slides over images."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxcnn.shapes import Pairs

Ints = tuple[int, ...]


class Windows(NamedTuple):
    """How a window slides over images, one entry per spatial dimension.

    Attributes:
      sizes: positions in a window.
      strides: step between windows.
      pairs: (low, high) padding, 0 or more.
      dilation: distance between a window's positions.
    """

    sizes: Ints
    strides: Ints
    pairs: Pairs
    dilation: Ints

    def offsets(self) -> Iterator[Ints]:
        """Where the positions are, in raster order, from the first pixel of the window."""
        for position in itertools.product(*map(range, self.sizes)):
            yield tuple(i * step for i, step in zip(position, self.dilation, strict=True))

    def padded(self, sizes: Sequence[int]) -> Ints:
        """Spatial sizes with the padding."""
        return tuple(n + low + high for n, (low, high) in zip(sizes, self.pairs, strict=True))

    def output(self, sizes: Sequence[int]) -> Ints:
        """How many windows there are along each dimension of images of these spatial sizes."""
        return tuple(
            (n - (size - 1) * step - 1) // stride + 1
            for n, size, step, stride in zip(
                self.padded(sizes), self.sizes, self.dilation, self.strides, strict=True
            )
        )
