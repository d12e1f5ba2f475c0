"""Rank filters: the minimum, maximum or median of each neighborhood.

They select existing values rather than compute new ones, so they are exact in every dtype.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import shapes
from jaxcnn.image.borders import Border, odd_window, pad, reach
from jaxcnn.image.dtypes import check_images
from jaxcnn.ops.barriers import materialize

Window = shapes.IntOrInts | np.ndarray
_Choice = Callable[[jax.Array, jax.Array], jax.Array]


def erode(
    images: jax.Array, window: Window, *, border: Border | None = None, value: float = 0.0
) -> jax.Array:
    """Take the minimum of each neighborhood, which shrinks bright areas.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8.
      window: size of the neighborhood, an integer or (height, width), or a boolean NumPy array
        ``[height, width]`` that is True for the pixels in the neighborhood. A window with an even
        size is centered on the pixel just past its midpoint.
      border: border mode (see `jaxcnn.image.pad`); None ignores pixels outside the image.
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``window`` is neither positive nor a boolean array with at least one True, or
        ``border`` is unknown.

    Example:
      >>> erode(jnp.array([5.0, 9, 2, 7, 8]).reshape(1, 1, 5, 1), 3).ravel().tolist()
      [5.0, 2.0, 2.0, 2.0, 7.0]

    Reference:
      OpenCV's ``erode``; SciPy's ``minimum_filter``.
    """
    return _extreme(images, window, border, value, jnp.minimum, _highest(images.dtype))


def dilate(
    images: jax.Array, window: Window, *, border: Border | None = None, value: float = 0.0
) -> jax.Array:
    """Take the maximum of each neighborhood, which enlarges bright areas.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8.
      window: size, (height, width), or a boolean array, as for `erode`; the array is not reflected.
      border: border mode (see `jaxcnn.image.pad`); None ignores pixels outside the image.
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``window`` is neither positive nor a boolean array with at least one True, or
        ``border`` is unknown.

    Example:
      >>> dilate(jnp.array([5.0, 9, 2, 7, 8]).reshape(1, 1, 5, 1), 3).ravel().tolist()
      [9.0, 9.0, 9.0, 8.0, 8.0]

    Reference:
      OpenCV's ``dilate``; SciPy's ``maximum_filter``.
    """
    return _extreme(images, window, border, value, jnp.maximum, _lowest(images.dtype))


def opening(images: jax.Array, window: Window) -> jax.Array:
    """Apply `erode`, then `dilate`, which removes bright spots smaller than the window.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8.
      window: size, (height, width), or a boolean array, as for `erode`.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``window`` is neither positive nor a boolean array with at least one True.

    Example:
      >>> opening(jnp.array([0.0, 9, 0, 7, 7, 7]).reshape(1, 1, 6, 1), 3).ravel().tolist()
      [0.0, 0.0, 0.0, 7.0, 7.0, 7.0]

    Reference:
      OpenCV's ``morphologyEx`` with ``MORPH_OPEN``.
    """
    return dilate(erode(images, window), window)


def closing(images: jax.Array, window: Window) -> jax.Array:
    """Apply `dilate`, then `erode`, which removes dark spots smaller than the window.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8.
      window: size, (height, width), or a boolean array, as for `erode`.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``window`` is neither positive nor a boolean array with at least one True.

    Example:
      >>> closing(jnp.array([9.0, 0, 9, 2, 2, 2]).reshape(1, 1, 6, 1), 3).ravel().tolist()
      [9.0, 9.0, 9.0, 2.0, 2.0, 2.0]

    Reference:
      OpenCV's ``morphologyEx`` with ``MORPH_CLOSE``.
    """
    return erode(dilate(images, window), window)


def morphological_gradient(images: jax.Array, window: Window) -> jax.Array:
    """Subtract the result of `erode` from that of `dilate`, which outlines bright areas.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8.
      window: size, (height, width), or a boolean array, as for `erode`.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``window`` is neither positive nor a boolean array with at least one True.

    Example:
      >>> morphological_gradient(
      ...     jnp.array([0.0, 0, 0, 7, 7]).reshape(1, 1, 5, 1), 3
      ... ).ravel().tolist()
      [0.0, 0.0, 7.0, 7.0, 0.0]

    Reference:
      OpenCV's ``morphologyEx`` with ``MORPH_GRADIENT``.
    """
    return dilate(images, window) - erode(images, window)


def median_blur(
    images: jax.Array,
    window: shapes.IntOrInts,
    *,
    border: Border = "replicate",
    value: float = 0.0,
) -> jax.Array:
    """Take the median of each neighborhood, which removes spots and preserves edges.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8, without NaN.
      window: size of the neighborhood, an odd integer or a (height, width) pair. The size
        of the compiled program grows with the number of pixels in the window, so keep that number
        below about 100.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``window`` is not odd and positive, or ``border`` is unknown.

    Example:
      >>> median_blur(jnp.array([5.0, 9, 2, 7, 8]).reshape(1, 1, 5, 1), 3).ravel().tolist()
      [5.0, 5.0, 7.0, 7.0, 8.0]

    Reference:
      OpenCV's ``medianBlur``. Values are sorted by Batcher's odd-even merge sort (Knuth, The Art of
      Computer Programming, 5.3.4), first within columns and then across them.
    """
    check_images(images)
    height, width = odd_window(window)
    return _median(images, height, width, border, value)


@functools.partial(jax.jit, static_argnums=(1, 2, 3), inline=True)
def _median(
    images: jax.Array, height: int, width: int, border: Border, value: float | jax.Array
) -> jax.Array:
    _, rows, columns, channels = images.shape
    padded = pad(images, reach((height, width)), border=border, value=value)
    if images.dtype.itemsize == 2:
        padded = padded.astype(jnp.float32)  # exact, and faster to compare on a CPU
    # XLA for CPU vectorizes this form as one loop: flat rows are read from and written to memory,
    # and all neighbors are sliced out at the start. Other forms take five times as long.
    flat = materialize(padded.reshape(*padded.shape[:2], padded.shape[2] * channels))
    places = [slice(j * channels, (j + columns) * channels) for j in range(width)]
    lists = [_sorted([flat[:, i : i + rows, place] for i in range(height)]) for place in places]
    # XLA removes the comparisons that only the other ranks need.
    middle = _merged_all(lists)[height * width // 2].astype(images.dtype)
    return materialize(middle).reshape(images.shape)


def _extreme(
    images: jax.Array,
    window: Window,
    border: Border | None,
    value: float,
    choice: _Choice,
    last: float,
) -> jax.Array:
    check_images(images)
    if border is None:
        border, value = "constant", last
    if not isinstance(window, np.ndarray):
        sizes = shapes.ints(window, 2, "window")
        padded = pad(images, reach(sizes), border=border, value=value)
        for axis, size in enumerate(sizes, start=1):
            padded = _running(padded, size, axis, choice)
        return padded
    if window.dtype != bool or window.ndim != 2 or not window.any():
        raise ValueError(
            "window must be a boolean array [height, width] with at least one True, "
            f"got {window.dtype} of shape {window.shape} "
            f"with {np.count_nonzero(window)} nonzero entries"
        )
    padded = pad(images, reach(window.shape), border=border, value=value)
    rows, columns = images.shape[1:3]
    places = np.argwhere(window).tolist()
    return functools.reduce(choice, (padded[:, i : i + rows, j : j + columns] for i, j in places))


@functools.partial(jax.jit, static_argnums=(1, 2, 3), inline=True)
def _running(x: jax.Array, size: int, axis: int, choice: _Choice) -> jax.Array:
    """Reduce each run of ``size`` neighbors with ``choice``, doubling the window at each step."""

    def with_later(x: jax.Array, distance: int) -> jax.Array:
        count = x.shape[axis] - distance
        earlier = jax.lax.slice_in_dim(x, 0, count, axis=axis)
        return choice(earlier, jax.lax.slice_in_dim(x, distance, distance + count, axis=axis))

    reached = 1
    while 2 * reached <= size:
        x, reached = with_later(x, reached), 2 * reached
    return x if reached == size else with_later(x, size - reached)


def _highest(dtype: np.dtype) -> float:
    return 255 if dtype == np.uint8 else np.inf


def _lowest(dtype: np.dtype) -> float:
    return 0 if dtype == np.uint8 else -np.inf


def _sorted(values: list[jax.Array]) -> list[jax.Array]:
    return _merged_all([[value] for value in values])


def _merged_all(lists: list[list[jax.Array]]) -> list[jax.Array]:
    """Merge sorted lists into one."""
    while len(lists) > 1:
        pairs = zip(lists[::2], lists[1::2], strict=False)
        rest = lists[-1:] if len(lists) % 2 else []
        lists = [_merged(*pair) for pair in pairs] + rest
    return lists[0]


def _merged(one: list[jax.Array], other: list[jax.Array]) -> list[jax.Array]:
    """Merge two sorted lists of any lengths with a fixed network of comparisons."""
    if not one or not other:
        return one or other
    if len(one) == len(other) == 1:
        return _in_order(one[0], other[0])
    first, *evens = _merged(one[::2], other[::2])
    odds = _merged(one[1::2], other[1::2])
    result = [first]
    for even, odd in zip(evens, odds, strict=False):
        result += _in_order(even, odd)
    return result + evens[len(odds) :] + odds[len(evens) :]


def _in_order(one: jax.Array, other: jax.Array) -> list[jax.Array]:
    """Return the smaller and larger value, with one instruction each: NaN need not propagate."""
    is_less = one < other
    return [jnp.where(is_less, one, other), jnp.where(is_less, other, one)]
