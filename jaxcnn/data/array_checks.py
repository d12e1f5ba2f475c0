"""Checks of a source's arrays: images, labels, groups and weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcnn.data.groups import group_indices

# Limit on labels without class names: larger values are probably not class indices.
UNNAMED_CLASSES = 100_000


def checked_pixels(images: np.ndarray) -> np.ndarray:
    """Return uint8 images unchanged, and floating-point images as float32.

    Raises:
      ValueError: if the dtype is another, or floating-point pixels are outside [0, 1].

    Example:
      >>> checked_pixels(np.ones((1, 2, 2, 1))).dtype
      dtype('float32')
    """
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"images must be uint8 or floating point, got {images.dtype}")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"floating-point images must be in [0, 1], got values from {low} to {high}; "
            "divide 0..255 values by 255"
        )
    return images.astype(np.float32)


def checked_labels(labels: np.ndarray, rows: int, names: int | None) -> tuple[np.ndarray, int]:
    """Return the labels in their final dtype and the number of classes, labels or targets.

    Args:
      labels: as in `jaxcnn.data.from_arrays`.
      rows: number of examples.
      names: number of class names, or None if there are none.

    Raises:
      ValueError: if the shape, the dtype or a value is not accepted.

    Example:
      >>> checked_labels(np.array([0, 2, 1]), 3, None)
      (array([0, 2, 1], dtype=int32), 3)
    """
    floats = np.issubdtype(labels.dtype, np.floating)
    integers = np.issubdtype(labels.dtype, np.integer) or labels.dtype == np.bool_
    has_shape = labels.ndim in (1, 2) and len(labels) == rows and 0 not in labels.shape
    if not has_shape or not floats | integers:
        raise ValueError(
            f"labels must be integers of shape ({rows},) or ({rows}, L), or floats of shape "
            f"({rows},) or ({rows}, D), got {labels.dtype} of shape {labels.shape}"
        )
    if floats:
        with np.errstate(over="ignore"):
            labels = labels.reshape(rows, -1).astype(np.float32)
        if not np.isfinite(labels).all():
            raise ValueError(
                "floating-point labels must be finite when cast to float32, got non-finite values"
            )
    if labels.ndim == 2:
        count = labels.shape[1]
        if names not in (None, count):
            raise ValueError(
                f"classes must have one name for each of {count} label columns, got {names} names"
            )
        if not floats and not np.isin(labels, (0, 1)).all():
            raise ValueError("integer labels of shape [N, L] must be 0 or 1, got other values")
        return labels if floats else labels.astype(np.int32), count
    if names is None and labels.max() >= UNNAMED_CLASSES:
        raise ValueError(
            f"labels must be below {UNNAMED_CLASSES} unless classes is given, "
            f"got {labels.max()} at index {labels.argmax()}"
        )
    count = int(labels.max()) + 1 if names is None else names
    wrong = np.flatnonzero((labels < 0) | (labels >= count))
    if wrong.size:
        raise ValueError(
            f"labels must be in 0..{count - 1} ({count} classes), "
            f"got {labels[wrong[0]]} at index {wrong[0]}"
        )
    return labels.astype(np.int32), count


def checked_groups(groups: Sequence[object] | np.ndarray, rows: int) -> np.ndarray:
    """Convert the group of each example to ``[N]`` int32.

    Raises:
      ValueError: if there is not one integer or string per example.

    Example:
      >>> checked_groups(["ann", "bob", "ann"], 3).tolist()
      [0, 1, 0]
    """
    found = stacked(groups, "groups")
    names = found.tolist()
    are_names = found.dtype.kind in "iuUST" or all(isinstance(name, str | int) for name in names)
    if found.shape != (rows,) or not are_names:
        raise ValueError(
            f"groups must be {rows} integers or strings, one per example, got {found.dtype} of "
            f"shape {found.shape}"
        )
    return group_indices(names)


def checked_weights(weights: Sequence[float] | np.ndarray, rows: int) -> np.ndarray:
    """Convert the weight of each example to ``[N]`` float32.

    Raises:
      ValueError: if there is not one finite number >= 0 per example, or all are 0.

    Example:
      >>> checked_weights([1, 0.5], 2).tolist()
      [1.0, 0.5]
    """
    found = stacked(weights, "weights")
    if found.shape != (rows,) or found.dtype.kind not in "iuf":
        raise ValueError(
            f"weights must be {rows} numbers, one per example, got {found.dtype} of shape "
            f"{found.shape}"
        )
    wrong = np.flatnonzero(~((found >= 0) & (found <= np.finfo(np.float32).max)))
    if wrong.size:
        raise ValueError(
            f"weights must be finite and >= 0, got {found[wrong[0]]} at index {wrong[0]}"
        )
    if not found.any():
        raise ValueError("weights must not all be 0")
    return found.astype(np.float32)


def stacked(rows: Any, name: str) -> np.ndarray:
    """Stack rows of values into an array.

    Raises:
      ValueError: if the rows differ in shape.

    Example:
      >>> stacked([[1, 0], [0, 1]], "labels").shape
      (2, 2)
    """
    try:
        return np.asarray(rows)
    except ValueError as error:
        sizes = [np.shape(row) for row in rows]
        index = next(index for index, size in enumerate(sizes) if size != sizes[0])
        raise ValueError(
            f"{name} must have the same shape in all rows, got {sizes[0]} in the first and "
            f"{sizes[index]} at index {index}"
        ) from error
