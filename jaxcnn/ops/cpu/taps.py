"""The pixels under each tap of a sliding window, and the adjoint that adds them back.

Each array contains the pixels of all windows at one tap. It is a shifted view of the images, so XLA
fuses it with its consumers.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.ops.windows import Ints, Windows


def take(images: jax.Array, windows: Windows, *, filler: float) -> list[jax.Array]:
    """Return one array of values per tap, ``[B, *output, C]``; padding has the value ``filler``."""
    edges = [(0, 0, 0), *((*pair, 0) for pair in windows.pairs), (0, 0, 0)]
    padded = lax.pad(images, np.asarray(filler, images.dtype), edges)
    if padded.shape != images.shape:
        # Otherwise, XLA recomputes the images for taps without padding (RECOMPUTED PADDING).
        padded = lax.optimization_barrier(padded)
    counts = windows.output(images.shape[1:-1])
    return [
        lax.slice(
            padded,
            (0, *offset, 0),
            (
                padded.shape[0],
                *(
                    start + (count - 1) * stride + 1
                    for start, count, stride in zip(offset, counts, windows.strides, strict=True)
                ),
                padded.shape[-1],
            ),
            (1, *windows.strides, 1),
        )
        for offset in windows.offsets()
    ]


def put_back(values: Sequence[jax.Array], windows: Windows, sizes: Sequence[int]) -> jax.Array:
    """Add each tap's values to the pixels that `take` read them from (the adjoint of `take`).

    Pixels whose coordinates agree modulo the strides lie under the same taps, and each tap is one
    shifted array. The pixels are therefore computed group by group, without the zeros of a strided
    scatter.

    Args:
      values: one array ``[B, *output, C]`` per tap.
      windows: the geometry.
      sizes: spatial sizes of the images.
    """
    padded = windows.padded(sizes)
    strides = windows.strides
    counts = [-(-n // stride) for n, stride in zip(padded, strides, strict=True)]
    groups: dict[Ints, list[jax.Array]] = {
        phase: [] for phase in itertools.product(*map(range, strides))
    }
    for offset, array in zip(windows.offsets(), values, strict=True):
        phase = tuple(start % stride for start, stride in zip(offset, strides, strict=True))
        shifts = [start // stride for start, stride in zip(offset, strides, strict=True)]
        edges = [
            (shift, count - shift - n, 0)
            for shift, count, n in zip(shifts, counts, array.shape[1:-1], strict=True)
        ]
        zero = np.asarray(0, array.dtype)
        groups[phase].append(lax.pad(array, zero, [(0, 0, 0), *edges, (0, 0, 0)]))
    batch, channels, dtype = values[0].shape[0], values[0].shape[-1], values[0].dtype
    empty = jnp.zeros((batch, *counts, channels), dtype)
    sums = {
        phase: functools.reduce(jnp.add, arrays) if arrays else empty
        for phase, arrays in groups.items()
    }
    total = interleave(sums, strides)
    lows = [low for low, _ in windows.pairs]
    ends = [low + n for low, n in zip(lows, sizes, strict=True)]
    return lax.slice(total, (0, *lows, 0), (batch, *ends, channels))


def interleave(planes: dict[Ints, jax.Array], strides: Ints) -> jax.Array:
    """Merge planes of pixels into images; each key is a plane's coordinates modulo the strides."""
    for axis in reversed(range(len(strides))):
        joined = {}
        for phase in dict.fromkeys(key[:axis] for key in planes):
            rows = [planes[(*phase, number)] for number in range(strides[axis])]
            if len(rows) > 1:
                shape = list(rows[0].shape)
                shape[axis + 1] *= len(rows)
                rows = [jnp.stack(rows, axis + 2).reshape(shape)]
            joined[phase] = rows[0]
        planes = joined
    return planes[()]
