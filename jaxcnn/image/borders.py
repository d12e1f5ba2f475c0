"""Border modes: the values that filters and warps see outside an image."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from jaxcnn import shapes
from jaxcnn.image.dtypes import back, check_images
from jaxcnn.messages import did_you_mean

Border = Literal["reflect101", "reflect", "replicate", "wrap", "constant"]
_PAD_MODES = {
    "reflect101": "reflect",
    "reflect": "symmetric",
    "replicate": "edge",
    "wrap": "wrap",
    "constant": "constant",
}


def odd_window(window: shapes.IntOrInts) -> tuple[int, ...]:
    """Return the (height, width) of a window, both odd so that it has a middle pixel.

    Raises:
      ValueError: if ``window`` is not a positive odd integer or a pair of such integers.
    """
    sizes = shapes.ints(window, 2, "window")
    if any(size % 2 == 0 for size in sizes):
        raise ValueError(f"window must be odd, got {window!r}")
    return sizes


def reach(sizes: Sequence[int]) -> shapes.Pairs:
    """Return how many pixels a window covers before and after its middle pixel.

    Example:
      >>> reach((3, 4))
      ((1, 1), (2, 1))
    """
    return tuple((size // 2, size - 1 - size // 2) for size in sizes)


def pad(
    images: jax.Array,
    padding: int | shapes.Pairs,
    *,
    border: Border = "constant",
    value: float | jax.Array = 0.0,
) -> jax.Array:
    """Pad images according to a border mode.

    The modes are named as in OpenCV and pad a row ``abcd`` as follows: reflect101 to
    ``dcb|abcd|cba``, reflect to ``cba|abcd|dcb``, replicate to ``aaa|abcd|ddd``, wrap to
    ``bcd|abcd|abc``, and constant to ``vvv|abcd|vvv``.

    Args:
      images: ``[B, H, W, C]``, any dtype.
      padding: pixels to add on all sides, or ((above, below), (left, right)); may exceed the
        image size.
      border: one of the five modes above.
      value: fill value for ``border="constant"``.

    Returns:
      ``[B, above + H + below, left + W + right, C]``.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]``, ``padding`` is negative, or ``border`` is
        unknown.

    Example:
      >>> row = jnp.arange(4).reshape(1, 1, 4, 1)
      >>> pad(row, ((0, 0), (3, 3)), border="reflect101").ravel().tolist()
      [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]

    Reference:
      OpenCV's ``copyMakeBorder``.
    """
    check_images(images, any_dtype=True)
    if border not in _PAD_MODES:
        hint = did_you_mean(str(border), _PAD_MODES)
        raise ValueError(f"border must be a valid mode, got {border!r}. {hint}")
    widths = ((0, 0), *shapes.explicit_pairs(padding, 2), (0, 0))
    if border == "constant":
        filling = back(jnp.asarray(value), images.dtype)
        return jnp.pad(images, widths, constant_values=filling)
    return jnp.pad(images, widths, mode=_PAD_MODES[border])
