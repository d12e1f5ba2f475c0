"""Windows, strides and padding in canonical form, and argument checks.

Arrays are channels-last: ``[B, *spatial, C]`` with 1, 2 or 3 spatial dimensions. The checks read
only shapes, dtypes and Python numbers, so under ``jit`` they run during tracing and add no cost to
the compiled function. Each raises ``ValueError`` with the argument's name, the accepted values and
the actual value.
"""

import math
import operator
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

IntOrInts = int | Sequence[int]
Padding = Literal["SAME", "VALID"] | int | Sequence[tuple[int, int]]
Pairs = tuple[tuple[int, int], ...]


def spatial_rank(images: jax.Array | jax.ShapeDtypeStruct, name: str = "images") -> int:
    """Return the number of spatial dimensions of ``[B, *spatial, C]`` floating-point images.

    Raises:
      ValueError: if that number is not 1, 2 or 3, a spatial or channel dimension is empty, or the
        dtype is not floating point.

    Example:
      >>> spatial_rank(jnp.zeros((2, 28, 28, 1)))
      2
    """
    if images.ndim not in (3, 4, 5):
        raise ValueError(
            f"{name} must be [B, *spatial, C] with 1, 2 or 3 spatial dimensions, "
            f"got shape {images.shape}"
        )
    if 0 in images.shape[1:]:
        raise ValueError(f"{name} must have no empty dimension, got shape {images.shape}")
    check_floating(images, name)
    return images.ndim - 2


def check_floating(x: jax.Array | jax.ShapeDtypeStruct, name: str) -> None:
    """Check that an array is floating point.

    Raises:
      ValueError: if the dtype is not floating point.

    Example:
      >>> check_floating(jnp.zeros(2), "images")
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{name} must be floating point, got {x.dtype}; "
            "use jaxcnn.image.to_float to convert uint8 images to float32"
        )


def check_same_dtype(x: jax.Array, other: jax.Array, name: str, other_name: str) -> None:
    """Check that operands have the same dtype: implicit promotion would hide a slow path.

    Raises:
      ValueError: if the dtypes differ.

    Example:
      >>> check_same_dtype(jnp.zeros(2), jnp.ones(3), "images", "kernel")
    """
    if x.dtype != other.dtype:
        raise ValueError(
            f"{other_name} must have the same dtype as {name} ({x.dtype}), got {other.dtype}; "
            "cast one of them"
        )


def check_bias(bias: jax.Array, features: int, name: str = "bias") -> None:
    """Check that a per-channel vector has shape ``[features]``.

    Raises:
      ValueError: if it has a different shape.

    Example:
      >>> check_bias(jnp.zeros(3), 3)
    """
    if bias.shape != (features,):
        raise ValueError(f"{name} must have shape ({features},), got {bias.shape}")


def check_shape(x: Any, shape: Sequence[int], name: str, meaning: str) -> None:
    """Check the shape of an array, where broadcasting would hide a mistake.

    Args:
      x: the array.
      shape: the only accepted shape.
      name: the argument's name.
      meaning: that shape in words, for the message.

    Raises:
      ValueError: if the shape differs.

    Example:
      >>> check_shape(jnp.zeros(2), (2,), "labels", "[B]")
    """
    if jnp.shape(x) != tuple(shape):
        raise ValueError(
            f"{name} must have shape {tuple(shape)}, {meaning}, got shape {jnp.shape(x)}"
        )


def check_probability(value: Any, name: str) -> None:
    """Check that a number is in [0, 1); JAX arrays may be traced, so they are not checked.

    Raises:
      ValueError: if the number is outside [0, 1).

    Example:
      >>> check_probability(0.5, "rate")
    """
    if not isinstance(value, jax.Array) and not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value!r}")


def check_integer(value: Any, name: str, *, minimum: int, maximum: int | None = None) -> int:
    """Return ``value`` as an ``int`` if it is an integer within bounds; booleans are rejected.

    Args:
      value: a Python or NumPy integer.
      name: the argument's name, used in the message.
      minimum: smallest accepted value.
      maximum: largest accepted value, or None for no limit.

    Raises:
      ValueError: if ``value`` is not an integer in ``[minimum, maximum]``.

    Example:
      >>> check_integer(3, "epochs", minimum=1)
      3
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        integer = operator.index(value)
    except TypeError:
        integer = minimum - 1
    if integer < minimum or (maximum is not None and integer > maximum):
        bounds = f">= {minimum}" if maximum is None else f"in [{minimum}, {maximum}]"
        raise ValueError(f"{name} must be an integer {bounds}, got {value!r}")
    return integer


def at_least_float32(x: jax.Array) -> jax.Array:
    """Cast an array to float32 if its dtype is narrower, so that sums keep their precision.

    Args:
      x: a floating-point or integer array; float64 stays float64.

    Example:
      >>> at_least_float32(jnp.zeros(2, jnp.bfloat16)).dtype
      dtype('float32')
    """
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def ints(value: IntOrInts, rank: int, name: str) -> tuple[int, ...]:
    """Convert one positive integer, or one per spatial dimension, to a tuple.

    Raises:
      ValueError: if ``value`` is neither.

    Example:
      >>> ints(2, 3, "strides")
      (2, 2, 2)
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        if isinstance(value, Sequence):
            result = tuple(operator.index(item) for item in value)
        else:
            result = (operator.index(value),) * rank
    except TypeError:
        result = ()
    if len(result) != rank or min(result) < 1:
        raise ValueError(
            f"{name} must be a positive integer or {rank} such integers, got {value!r}"
        )
    return result


def dilated(window: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Return the extent of a window whose taps are ``dilation`` apart: ``(w - 1) * d + 1``.

    Example:
      >>> dilated((3, 3), (1, 2))
      (3, 5)
    """
    return tuple((w - 1) * d + 1 for w, d in zip(window, dilation, strict=True))


def pairs(
    padding: Padding,
    sizes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
) -> Pairs:
    """Convert ``padding`` to one ``(low, high)`` pair per spatial dimension.

    ``"SAME"`` pads so that the output has ``ceil(size / stride)`` positions, with any extra pixel
    at the high end (as in TensorFlow and XLA). ``"VALID"`` adds no padding. An integer pads every
    dimension by that amount at both ends.

    Args:
      padding: ``"SAME"``, ``"VALID"``, an integer >= 0, or one ``(low, high)`` pair per dimension.
      sizes: input extent per spatial dimension.
      window: window extent per spatial dimension, including dilation.
      strides: stride per spatial dimension.

    Returns:
      One ``(low, high)`` pair of integers >= 0 per spatial dimension.

    Raises:
      ValueError: if ``padding`` is none of these, or the window is larger than the padded input.

    Example:
      >>> pairs("SAME", (28, 5), (5, 2), (1, 2))
      ((2, 2), (0, 1))
    """
    if isinstance(padding, str) and padding == "VALID":
        result: Pairs = ((0, 0),) * len(sizes)
    elif isinstance(padding, str) and padding == "SAME":
        totals = [
            max((math.ceil(n / s) - 1) * s + w - n, 0)
            for n, w, s in zip(sizes, window, strides, strict=True)
        ]
        result = tuple((total // 2, total - total // 2) for total in totals)
    else:
        result = explicit_pairs(padding, len(sizes))
    for n, w, (low, high) in zip(sizes, window, result, strict=True):
        if n + low + high < w:
            raise ValueError(
                f"a window of {tuple(window)} does not fit in images of size {tuple(sizes)} "
                f"with padding {padding!r}"
            )
    return result


def explicit_pairs(padding: Any, rank: int) -> Pairs:
    """Convert an integer, or one ``(low, high)`` pair per dimension, to pairs of integers >= 0.

    Raises:
      ValueError: if ``padding`` is neither.

    Example:
      >>> explicit_pairs(1, 2)
      ((1, 1), (1, 1))
    """
    try:
        if isinstance(padding, str | bool):
            raise TypeError
        if isinstance(padding, Sequence):
            result = tuple((operator.index(low), operator.index(high)) for low, high in padding)
        else:
            result = ((operator.index(padding),) * 2,) * rank
    except (TypeError, ValueError):
        result = ()
    if len(result) != rank or min(min(pair) for pair in result) < 0:
        raise ValueError(
            "padding must be 'SAME', 'VALID', an integer >= 0 or "
            f"{rank} (low, high) pairs of such integers, got {padding!r}"
        )
    return result


def window_sizes(
    sizes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    padding: Pairs,
) -> np.ndarray:
    """Return the number of real (unpadded) positions that each window covers, ``[*output]``.

    Example:
      >>> window_sizes((3, 3), (2, 2), (2, 2), ((0, 1), (0, 1)))
      array([[4, 2],
             [2, 1]])
    """
    counts = np.ones((), np.int64)
    for n, w, s, (low, high) in zip(sizes, window, strides, padding, strict=True):
        starts = np.arange(0, n + low + high - w + 1, s) - low
        covered = np.minimum(starts + w, n) - np.maximum(starts, 0)
        counts = np.multiply.outer(counts, np.maximum(covered, 0))
    return counts
