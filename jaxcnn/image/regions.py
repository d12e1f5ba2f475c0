"""Measurements of connected components: position, size, brightness and shape."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import shapes
from jaxcnn.image.borders import Border
from jaxcnn.image.components import Components, Connectivity, connected_components
from jaxcnn.image.dtypes import check_images
from jaxcnn.image.warp import Interpolation, check_samples, warp


class Regions(NamedTuple):
    """Measurements of the first ``K`` components of each image, ordered by label.

    Where ``mask`` is False, the component does not exist and all other values are 0.

    Attributes:
      mask: ``[B, K]`` bool, True for components that exist.
      area: ``[B, K]`` int32, number of pixels.
      box: ``[B, K, 4]`` int32, (top, left, bottom, right), the last two exclusive.
      centroid: ``[B, K, 2]`` float32, mean (row, column).
      mean_intensity: ``[B, K, C]`` float32, mean of the image over the component; ``C`` is 0 if
        no images are given.
      perimeter: ``[B, K]`` float32, length of a line through the centers of the border pixels.
      eccentricity: ``[B, K]`` float32 in [0, 1], eccentricity of the ellipse with the same second
        moments; 0 for a circle.
    """

    mask: jax.Array
    area: jax.Array
    box: jax.Array
    centroid: jax.Array
    mean_intensity: jax.Array
    perimeter: jax.Array
    eccentricity: jax.Array


def region_properties(
    components: Components | jax.Array, images: jax.Array | None = None, *, max_count: int
) -> Regions:
    """Measure the components of each image.

    Args:
      components: from `connected_components` or `similar_components`, or any label images
        ``[B, H, W]`` of integers. Labels may have gaps; 0 and negative numbers are background.
      images: ``[B, H, W, C]``, used for ``mean_intensity``; None leaves it empty.
      max_count: ``K``, the fixed number of entries per image; components with larger labels are
        dropped.

    Returns:
      `Regions` with ``K`` entries per image.

    Raises:
      ValueError: if the labels are not ``[B, H, W]`` integers, the shapes do not match, or
        ``max_count`` is not an integer >= 1.

    Example:
      >>> mask = jnp.zeros((1, 5, 5), bool).at[0, 1:3, 1:4].set(True)
      >>> regions = region_properties(connected_components(mask), max_count=2)
      >>> regions.mask[0].tolist(), regions.area[0].tolist(), regions.box[0, 0].tolist()
      ([True, False], [6, 0], [1, 1, 3, 4])

    Reference:
      scikit-image's ``regionprops``.
    """
    max_count = shapes.check_integer(max_count, "max_count", minimum=1)
    labels = _as_int32(components.labels if isinstance(components, Components) else components)
    if images is not None:
        check_images(images)
        if images.shape[:3] != labels.shape:
            raise ValueError(
                f"images must be [{', '.join(map(str, labels.shape))}, C], got {images.shape}"
            )
        images = shapes.at_least_float32(images)
    else:
        images = jnp.zeros((*labels.shape, 0))
    return _measure(labels, images, max_count)


def remove_small_components(
    mask: jax.Array, least: int | jax.Array, *, connectivity: Connectivity = 8
) -> jax.Array:
    """Remove the components of a mask with fewer than ``least`` pixels.

    Args:
      mask: ``[B, H, W]``, booleans, or integers where nonzero means foreground.
      least: size in pixels of the smallest component to keep; may be traced.
      connectivity: 4 connects pixels sharing an edge; 8 also connects pixels sharing a corner.

    Returns:
      ``[B, H, W]`` bool.

    Raises:
      ValueError: if ``mask`` is not ``[B, H, W]`` booleans or integers.

    Example:
      >>> remove_small_components(jnp.array([[[1, 0, 1, 1]]]), 2)[0, 0].tolist()
      [False, False, True, True]

    Reference:
      scikit-image's ``remove_small_objects``.
    """
    labels = connected_components(mask, connectivity=connectivity).labels
    return (labels > 0) & (_at_labels(_areas(labels), labels) >= least)


def largest_component(mask: jax.Array, *, connectivity: Connectivity = 8) -> jax.Array:
    """Keep only the largest component of each mask; ties go to the first one.

    Args:
      mask: ``[B, H, W]``, booleans, or integers where nonzero means foreground.
      connectivity: 4 connects pixels sharing an edge; 8 also connects pixels sharing a corner.

    Returns:
      ``[B, H, W]`` bool; all False for an empty mask.

    Raises:
      ValueError: if ``mask`` is not ``[B, H, W]`` booleans or integers.

    Example:
      >>> largest_component(jnp.array([[[1, 0, 1, 1]]]))[0, 0].tolist()
      [False, False, True, True]
    """
    labels = connected_components(mask, connectivity=connectivity).labels
    largest = jnp.argmax(_areas(labels), 1)
    return (labels > 0) & (labels == largest[:, None, None])


def crop_components(
    images: jax.Array,
    regions: Regions,
    size: shapes.IntOrInts,
    *,
    interpolation: Interpolation = "bilinear",
    border: Border = "replicate",
    value: float = 0.0,
) -> jax.Array:
    """Crop the box of each component and resize it to a fixed size, for example for a classifier.

    Args:
      images: ``[B, H, W, C]``.
      regions: `Regions` of the same images, from `region_properties`.
      size: (height, width) of the crops, or one number for both.
      interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.
      border: border mode outside the image (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      ``[B, K, *size, C]`` with the dtype of ``images``; 0 for components that do not exist.

    Raises:
      ValueError: if ``images`` and ``regions`` have different batch sizes, ``size`` is not
        positive, or an option is unknown.

    Example:
      >>> image = jnp.arange(16.0).reshape(1, 4, 4, 1)
      >>> regions = region_properties(connected_components(image[..., 0] > 13), max_count=1)
      >>> crop_components(image, regions, (1, 2))[0, 0, 0, :, 0].tolist()
      [14.0, 15.0]
    """
    check_samples(images, interpolation)
    if regions.box.ndim != 3 or len(regions.box) != len(images):
        raise ValueError(
            f"regions must describe {len(images)} images, got boxes of shape {regions.box.shape}"
        )
    height, width = shapes.ints(size, 2, "size")
    top, left, bottom, right = jnp.moveaxis(regions.box.astype(jnp.float32), -1, 0)
    # The boxes of missing components also need invertible matrices.
    factors = height / jnp.maximum(bottom - top, 1), width / jnp.maximum(right - left, 1)
    middles = (top + bottom - images.shape[1]) / 2, (left + right - images.shape[2]) / 2
    one, zero = jnp.ones_like(top), jnp.zeros_like(top)
    rows = (
        (factors[1], zero, -middles[1] * factors[1]),
        (zero, factors[0], -middles[0] * factors[0]),
        (zero, zero, one),
    )
    matrices = jnp.stack([jnp.stack(row, -1) for row in rows], -2)

    def crop(matrices: jax.Array) -> jax.Array:
        return warp(
            images,
            matrices,
            size=(height, width),
            interpolation=interpolation,
            border=border,
            value=value,
        )

    crops = jax.vmap(crop, 1, 1)(matrices)
    exists = regions.mask[..., None, None, None]
    return jnp.where(exists, crops, jnp.zeros_like(crops))


def _as_int32(labels: jax.Array) -> jax.Array:
    """Check label images and convert them to int32, with 0 for the background."""
    labels = labels if isinstance(labels, jax.Array) else np.asarray(labels)
    if labels.ndim != 3 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels must be [B, H, W] integers, got {labels.dtype} with shape {labels.shape}"
        )
    largest = min(jnp.iinfo(labels.dtype).max, jnp.iinfo(jnp.int32).max)
    return jnp.asarray(labels.clip(0, largest).astype(jnp.int32))


def _areas(labels: jax.Array) -> jax.Array:
    """Return the area of each label, ``[B, H * W + 1]``, with 0 for the background."""
    bins = math.prod(labels.shape[1:]) + 1
    flat = labels.reshape(len(labels), -1)
    counts = jax.vmap(lambda one: jnp.zeros(bins, jnp.int32).at[one].add(1))(flat)
    return counts.at[:, 0].set(0)


def _at_labels(values: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the value for each pixel's label."""
    flat = labels.reshape(len(labels), -1)
    return jnp.take_along_axis(values, flat, 1).reshape(labels.shape)


@functools.partial(jax.jit, static_argnums=2)  # about a hundred small operations
def _measure(labels: jax.Array, images: jax.Array, count: int) -> Regions:
    return jax.vmap(lambda labels, image: _measured(labels, image, count))(labels, images)


def _measured(labels: jax.Array, image: jax.Array, count: int) -> Regions:
    """Measure the components of one image: ``labels`` ``[H, W]``, ``image`` ``[H, W, C]``."""
    height, width = labels.shape
    # Bin 0 is the background; labels above ``count`` go to an extra bin that is dropped.
    bins = jnp.where(labels <= count, labels, count + 1).ravel()
    rows = jnp.repeat(jnp.arange(height), width)
    columns = jnp.tile(jnp.arange(width), height)

    def total(values: jax.Array) -> jax.Array:
        empty = jnp.zeros((count + 1, *values.shape[1:]), values.dtype)
        return empty.at[bins].add(values, mode="drop")

    def mean(values: jax.Array) -> jax.Array:
        """Compute a mean, then add the mean residual: a long float32 sum loses precision."""
        first = total(values) / pixels
        return first + total(values - first.at[bins].get(mode="clip")) / pixels

    def ends(values: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        first = jnp.full(count + 1, size).at[bins].min(values, mode="drop")
        last = jnp.full(count + 1, -1).at[bins].max(values, mode="drop")
        return first, last + 1

    area = total(jnp.ones_like(bins))
    pixels = jnp.maximum(area, 1).astype(jnp.float32)[:, None]
    places = jnp.stack([rows, columns], -1)
    # Sum integers, which do not overflow for images of up to 4096 x 4096 pixels.
    centroid = total(places >> 7) / pixels * 128 + total(places & 127) / pixels
    # Compute second moments about the centroid, to preserve precision.
    offsets = places - centroid.at[bins].get(mode="clip")
    products = jnp.stack([offsets[:, 0] ** 2, offsets[:, 1] ** 2, offsets[:, 0] * offsets[:, 1]], 1)
    (top, bottom), (left, right) = ends(rows, height), ends(columns, width)
    exists = area > 0
    found = Regions(
        mask=exists,
        area=area,
        box=jnp.stack([top, left, bottom, right], -1),
        centroid=centroid,
        mean_intensity=mean(image.reshape(labels.size, image.shape[-1])),
        perimeter=total(_border_lengths(labels).ravel()),
        eccentricity=_eccentricity(total(products) / pixels),
    )
    # Drop the background, and set missing components to 0.
    exists = exists[1:]
    return Regions(
        *(
            jnp.where(exists.reshape(-1, *(1,) * (value.ndim - 1)), value[1:], 0).astype(
                value.dtype
            )
            for value in found
        )
    )


def _border_lengths(labels: jax.Array) -> jax.Array:
    """Return the contribution of each border pixel to its component's perimeter, ``[H, W]``.

    The contribution depends on which neighbors are also border pixels: 1 along a row or column,
    sqrt(2) along a diagonal, and the average of 1 and sqrt(2) where a straight step meets a
    diagonal one.
    """
    padded = jnp.pad(labels, 1)
    height, width = labels.shape

    def seen(x: jax.Array, down: int, right: int) -> jax.Array:
        return x[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    sides, corners = ((-1, 0), (1, 0), (0, -1), (0, 1)), ((-1, -1), (-1, 1), (1, -1), (1, 1))
    inside = jnp.stack([seen(padded, *step) == labels for step in sides]).all(0)
    border = ~inside & (labels > 0)
    marked = jnp.pad(jnp.where(border, labels, 0), 1)

    def number(steps: tuple[tuple[int, int], ...]) -> jax.Array:
        joined = [seen(marked, *step) == labels for step in steps]
        return jnp.sum(jnp.stack(joined), 0, dtype=jnp.int32)

    code = 2 * number(sides) + 10 * number(corners) + 1
    weights = np.zeros(50, np.float32)
    weights[[5, 7, 15, 17, 25, 27]] = 1
    weights[[21, 33]] = math.sqrt(2)
    weights[[13, 23]] = (1 + math.sqrt(2)) / 2
    return jnp.where(border, jnp.asarray(weights)[code], 0)


def _eccentricity(moments: jax.Array) -> jax.Array:
    """Return eccentricities from the central second moments (rows, columns, product) ``[K, 3]``."""
    rows, columns, product = jnp.moveaxis(moments, -1, 0)
    middle = (rows + columns) / 2
    spread = jnp.sqrt(((rows - columns) / 2) ** 2 + product**2)
    large, small = middle + spread, jnp.maximum(middle - spread, 0)
    safe = jnp.where(large > 0, large, 1)
    return jnp.where(large > 0, jnp.sqrt(jnp.maximum(1 - small / safe, 0)), 0)
