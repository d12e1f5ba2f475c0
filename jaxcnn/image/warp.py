"""Geometric transforms: affine matrices, and sampling images with them.

Coordinates are (right, down, 1) in pixels from the center of an image. A matrix therefore does not
depend on the image size, ``second @ first`` composes two transforms, and a chain of transforms
samples the images only once.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import shapes
from jaxcnn.image.borders import Border, pad
from jaxcnn.image.dtypes import back, check_images
from jaxcnn.messages import did_you_mean
from jaxcnn.ops.barriers import materialize

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Numbers = float | jax.Array | np.ndarray

_TAPS = {"nearest": 1, "bilinear": 2, "bicubic": 4}  # along each axis
_KEYS = -0.75  # parameter a of the cubic kernel, as in OpenCV and PyTorch


def affine_matrix(
    *,
    angles: Numbers = 0.0,
    shears: Numbers = 0.0,
    scales: Numbers = 1.0,
    shifts: Numbers = 0.0,
) -> jax.Array:
    """Return the matrices that scale, then shear, then rotate, then translate.

    Each argument is a single number for all images, ``[B]`` with one number per image, or (except
    ``angles``) ``[B, 2]`` with (down, right) for each image. All may be traced.

    Args:
      angles: degrees counterclockwise; multiples of 90 are exact.
      shears: degrees, between -90 and 90: each row moves right by the tangent of the angle per
        pixel down; in (down, right), ``down`` moves columns down. A single number per image moves
        rows only.
      scales: scale factors, not 0; a single number per image scales both axes.
      shifts: pixels; a single number per image moves both down and right.

    Returns:
      ``[B, 3, 3]``, or ``[3, 3]`` if all arguments are numbers.

    Raises:
      ValueError: if the shapes do not match a single batch size, or a scale is 0.

    Example:
      A quarter turn moves the pixel on the right to the top:

      >>> affine_matrix(angles=90.0)[:2, 0].tolist()
      [0.0, -1.0]

    Reference:
      torchvision's ``affine``, whose shears have the opposite sign.
    """
    angle = jnp.asarray(angles, jnp.float32)
    if angle.ndim > 1:
        raise ValueError(f"angles must be a number or [B], got shape {angle.shape}")
    if not isinstance(scales, jax.Array) and not np.all(scales):
        raise ValueError(f"scales must not be 0, got {scales!r}")
    right_alone = jnp.ndim(shears) < 2
    tangents = jnp.tan(jnp.deg2rad(_pairs(shears, "shears")))
    down = jnp.zeros_like(tangents[..., 0]) if right_alone else tangents[..., 0]
    right, factors, moves = tangents[..., 1], _pairs(scales, "scales"), _pairs(shifts, "shifts")
    try:
        batch = np.broadcast_shapes(angle.shape, right.shape, factors.shape[:-1], moves.shape[:-1])
    except ValueError:
        given = (angle.shape, right.shape, factors.shape[:-1], moves.shape[:-1])
        raise ValueError(
            f"angles, shears, scales and shifts must have matching batch sizes, got {given}"
        ) from None
    return _composed(angle, right, down, factors, moves, batch)


@functools.partial(jax.jit, static_argnums=5, inline=True)
def _composed(
    angle: jax.Array,
    right: jax.Array,
    down: jax.Array,
    factors: jax.Array,
    moves: jax.Array,
    batch: tuple[int, ...],
) -> jax.Array:
    cosine, sine = _cos_sin(angle)
    one, zero = jnp.ones_like(angle), jnp.zeros_like(angle)
    rotation = _matrix((cosine, sine), (-sine, cosine), batch)
    slant = _matrix((one, right), (down, one), batch)
    size = _matrix((factors[..., 1], zero), (zero, factors[..., 0]), batch)
    linear = jnp.matmul(jnp.matmul(rotation, slant, precision="highest"), size, precision="highest")
    moves = jnp.broadcast_to(moves[..., ::-1], (*batch, 2))
    upper = jnp.concatenate([linear, moves[..., None]], -1)
    last = jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0]), (*batch, 1, 3))
    return jnp.concatenate([upper, last], -2)


def warp(
    images: jax.Array,
    matrices: jax.Array | np.ndarray,
    *,
    size: shapes.IntOrInts | None = None,
    interpolation: Interpolation = "bilinear",
    border: Border = "constant",
    value: float | jax.Array = 0.0,
) -> jax.Array:
    """Transform each image with an affine matrix.

    Args:
      images: ``[B, H, W, C]``, floating point or uint8 (rounded and clipped); any dtype for
        ``"nearest"``, so that masks can be transformed too.
      matrices: ``[B, 3, 3]`` or ``[3, 3]``, invertible; maps (right, down, 1) coordinates in the
        image to coordinates in the result (see `affine_matrix`); the last row is assumed to be
        (0, 0, 1).
      size: (height, width) of the result, with the same center; None keeps the image size.
      interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      ``[B, *size, C]`` with the dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not ``[B, H, W, C]``, ``matrices`` has the wrong shape, or
        an option is unknown.

    Example:
      >>> images = jnp.arange(9.0).reshape(1, 3, 3, 1)
      >>> turned = warp(images, affine_matrix(angles=90.0))
      >>> turned[0, :, :, 0].tolist()
      [[2.0, 5.0, 8.0], [1.0, 4.0, 7.0], [0.0, 3.0, 6.0]]

    Reference:
      OpenCV's ``warpAffine``, whose coordinates start at the top left and whose positions are
      rounded to 1/32 pixel; PyTorch's ``grid_sample``.
    """
    check_samples(images, interpolation)
    matrices = jnp.asarray(matrices)
    if matrices.shape not in ((3, 3), (len(images), 3, 3)):
        raise ValueError(
            f"matrices must be [3, 3] or [{len(images)}, 3, 3], got shape {matrices.shape}"
        )
    matrices = jnp.broadcast_to(shapes.at_least_float32(matrices), (len(images), 3, 3))
    sizes = images.shape[1:3] if size is None else shapes.ints(size, 2, "size")
    rows, columns = _sources(matrices, sizes, images.shape[1:3])
    return _sampled(images, rows, columns, _TAPS[interpolation], border, value)


def remap(
    images: jax.Array,
    rows: jax.Array,
    columns: jax.Array,
    *,
    interpolation: Interpolation = "bilinear",
    border: Border = "constant",
    value: float | jax.Array = 0.0,
) -> jax.Array:
    """Sample each image at given positions, for transforms that are not affine.

    Args:
      images: ``[B, H, W, C]`` (see `warp`).
      rows: ``[B, H', W']``, source row for each pixel of the result, floating point; 0 is the
        center of the first row.
      columns: ``[B, H', W']``, source column for each pixel of the result, floating point; 0 is
        the center of the first column.
      interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      ``[B, H', W', C]`` with the dtype of ``images``.

    Raises:
      ValueError: if ``rows`` and ``columns`` are not ``[B, H', W']`` floating point with the
        same shape, or an option is unknown.

    Example:
      >>> images = jnp.arange(4.0).reshape(1, 2, 2, 1)
      >>> remap(images, jnp.array([[[0.5]]]), jnp.array([[[1.0]]])).item()
      2.0

    Reference:
      OpenCV's ``remap``; SciPy's ``map_coordinates``.
    """
    check_samples(images, interpolation)
    for name, places in (("rows", rows), ("columns", columns)):
        is_float = jnp.issubdtype(places.dtype, jnp.floating)
        if places.ndim != 3 or len(places) != len(images) or not is_float:
            raise ValueError(
                f"{name} must be [{len(images)}, H, W], floating point, got {places.dtype} of "
                f"shape {places.shape}"
            )
    if rows.shape != columns.shape:
        raise ValueError(
            f"rows and columns must have the same shape, got {rows.shape} and {columns.shape}"
        )
    return _sampled(images, rows, columns, _TAPS[interpolation], border, value)


def check_samples(images: jax.Array, interpolation: str) -> None:
    """Check the images and the name of the interpolation for `warp` and `remap`."""
    if interpolation not in _TAPS:
        hint = did_you_mean(str(interpolation), _TAPS)
        raise ValueError(f"interpolation must be a valid name, got {interpolation!r}. {hint}")
    check_images(images, any_dtype=interpolation == "nearest")


@functools.partial(jax.jit, static_argnums=(3, 4), inline=True)
def _sampled(
    images: jax.Array,
    rows: jax.Array,
    columns: jax.Array,
    taps: int,
    border: Border,
    value: float | jax.Array,
) -> jax.Array:
    reach = max(taps // 2, 1)  # pixels outside the image that a kernel can partly cover
    edges = (reach + taps // 2, reach + taps // 2)
    padded = pad(images, (edges, edges), border=border, value=value)
    places = [
        _fold(position, count, border, reach)
        for position, count in zip((rows, columns), images.shape[1:3], strict=True)
    ]
    offset = 0.5 if taps == 1 else 0.0
    firsts = [jnp.floor(place + offset) for place in places]
    starts = [first.astype(jnp.int32) + edges[0] - max(taps // 2 - 1, 0) for first in firsts]
    if taps == 1:
        return _seen(padded, *starts)
    weights = [_weights(place - first, taps) for place, first in zip(places, firsts, strict=True)]
    dtype = jnp.promote_types(images.dtype, jnp.float32)
    # Gather tap by tap: XLA for CPU takes twenty times as long to gather entire windows.
    result = sum(
        _seen(padded, starts[0] + i, starts[1] + j).astype(dtype)
        * (down * right).astype(dtype)[..., None]
        for i, down in enumerate(weights[0])
        for j, right in enumerate(weights[1])
    )
    return materialize(back(jnp.asarray(result), images.dtype))


def _pairs(numbers: Numbers, name: str) -> jax.Array:
    """Return ``[..., 2]``: (down, right)."""
    array = jnp.asarray(numbers, jnp.float32)
    if array.ndim < 2:
        return jnp.stack([array, array], -1)
    if array.ndim > 2 or array.shape[-1] != 2:
        raise ValueError(f"{name} must be a number, [B] or [B, 2], got shape {array.shape}")
    return array


def _cos_sin(degrees: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the cosine and sine, exact for multiples of 90 degrees."""
    turns = jnp.round(degrees / 90)
    rest = jnp.deg2rad(degrees - 90 * turns)
    cosine, sine = jnp.cos(rest), jnp.sin(rest)
    turn = turns % 4
    return (
        jnp.select([turn == 0, turn == 1, turn == 2], [cosine, -sine, -cosine], sine),
        jnp.select([turn == 0, turn == 1, turn == 2], [sine, cosine, -sine], -cosine),
    )


def _matrix(
    first: tuple[jax.Array, jax.Array], second: tuple[jax.Array, jax.Array], batch: tuple[int, ...]
) -> jax.Array:
    rows = [jnp.stack([jnp.broadcast_to(x, batch) for x in row], -1) for row in (first, second)]
    return jnp.stack(rows, -2)


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _sources(
    matrices: jax.Array, sizes: tuple[int, ...], source_sizes: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Return the source row and column for each pixel of the result, ``[B, *sizes]`` each."""
    (a, b, right), (c, d, down) = (
        [matrices[:, i, j, None, None] for j in range(3)] for i in range(2)
    )
    determinant = a * d - b * c
    height, width = sizes
    y = jnp.arange(height)[None, :, None] - (height - 1) / 2 - down
    x = jnp.arange(width)[None, None, :] - (width - 1) / 2 - right
    columns = (d * x - b * y) / determinant + (source_sizes[1] - 1) / 2
    rows = (a * y - c * x) / determinant + (source_sizes[0] - 1) / 2
    return rows, columns


def _fold(place: jax.Array, count: int, border: Border, reach: int) -> jax.Array:
    """Map positions outside ``count`` pixels to equivalent positions inside or close to them."""
    if border == "wrap":
        return place % count
    if border == "reflect":
        place = (place + 0.5) % (2 * count)
        return jnp.minimum(place, 2 * count - place) - 0.5
    if border == "reflect101":
        period = max(2 * (count - 1), 1)
        place = place % period
        return jnp.minimum(place, period - place) if count > 1 else jnp.zeros_like(place)
    return jnp.clip(place, -reach, count - 1 + reach)


def _seen(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Gather the pixels at ``[B, H, W]`` positions into ``[B, H, W, C]``."""
    batch, height, width, channels = images.shape
    flat = images.reshape(batch, height * width, channels)
    places = rows * width + columns

    def look(pixels: jax.Array, places: jax.Array) -> jax.Array:
        return pixels.at[places].get(mode="promise_in_bounds")

    return jax.vmap(look)(flat, places)


def _weights(fraction: jax.Array, taps: int) -> list[jax.Array]:
    """Return the weights of the ``taps`` pixels around a position."""
    if taps == 2:
        return [1 - fraction, fraction]

    def near(distance: jax.Array) -> jax.Array:
        return ((_KEYS + 2) * distance - (_KEYS + 3)) * distance**2 + 1

    def far(distance: jax.Array) -> jax.Array:
        return _KEYS * (((distance - 5) * distance + 8) * distance - 4)

    return [far(1 + fraction), near(fraction), near(1 - fraction), far(2 - fraction)]
