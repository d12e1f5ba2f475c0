"""Keras's image transforms, and random draws of their parameters, on the device.

Parameters are ``{name: [B]}`` with Keras's names: ``theta`` and ``shear`` in degrees, ``tx``
(columns) and ``ty`` (rows) in pixels, ``zx`` and ``zy``, ``flip_horizontal`` and ``flip_vertical``,
``channel_shift_intensity`` and ``brightness``. Omitted parameters have no effect.
"""

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.image.geometry import flip_left_right, flip_up_down
from jaxcnn.image.randomness import extent
from jaxcnn.image.warp import remap

FillMode = Literal["nearest", "reflect", "wrap", "constant"]
Parameters = dict[str, jax.Array]

UNCHANGED = {
    "theta": 0.0,
    "tx": 0.0,
    "ty": 0.0,
    "shear": 0.0,
    "zx": 1.0,
    "zy": 1.0,
    "flip_horizontal": False,
    "flip_vertical": False,
    "channel_shift_intensity": None,
    "brightness": None,
}
"""Parameters that leave an image unchanged."""

_MOVES = ("theta", "tx", "ty", "shear", "zx", "zy")
_EPSILON = 1e-6  # added to divisors, as in Keras
_ROUNDING = 1e-4  # tolerance in pixels for positions at the border


class Shift(NamedTuple):
    """Range of an image's shift along one axis.

    Attributes:
      choices: distances to draw from, in both directions; if empty, any distance up to ``most``.
      most: largest distance.
      is_share: True if distances are fractions of the image size, False if they are in pixels.
    """

    choices: tuple[float, ...]
    most: float
    is_share: bool

    @classmethod
    def of(cls, value: float | Sequence[float], name: str) -> "Shift | None":
        """Convert one of Keras's shift ranges; return None if it allows no shift.

        Raises:
          ValueError: if ``value`` is neither a number >= 0 nor a sequence of numbers.
        """
        choices: tuple[float, ...] = ()
        if isinstance(value, Sequence | np.ndarray):
            choices = tuple(extent(abs(number), name) for number in value) or (0.0,)
            most = max(choices)
        else:
            most = extent(value, name)
            if isinstance(value, int | np.integer):
                choices = tuple(map(float, range(value)))
                most = max(choices, default=0.0)
        return cls(choices, most, most < 1) if most else None


class Ranges(NamedTuple):
    """Ranges from which parameters are drawn; parameters without effect are not drawn."""

    theta: float
    tx: Shift | None
    ty: Shift | None
    shear: float
    zoom: tuple[float, ...]
    flip_horizontal: bool
    flip_vertical: bool
    channel_shift_intensity: float
    brightness: tuple[float, ...] | None


@functools.partial(jax.jit, static_argnums=(3, 4))
def draw(
    key: jax.Array, epoch: int, rows: jax.typing.ArrayLike, ranges: Ranges, size: tuple[int, int]
) -> Parameters:
    """Draw the parameters for the images at the given rows of the data, in one epoch.

    Args:
      key: root key.
      epoch: epoch number.
      rows: ``[B]`` indices of the images.
      ranges: ranges of the parameters.
      size: (height, width) of the images.
    """
    key = jax.random.fold_in(key, epoch)

    def of_one(row: jax.Array) -> Parameters:
        # Each parameter has its own numbers in [0, 1), so that options do not affect each other.
        numbers = jax.random.uniform(jax.random.fold_in(key, row), (len(UNCHANGED), 2))
        uniform = dict(zip(UNCHANGED, numbers, strict=True))

        def within(name: str, low: float, high: float) -> jax.Array:
            return low + (high - low) * uniform[name][0]

        drawn = {}
        for name in ("theta", "shear", "channel_shift_intensity"):
            if most := getattr(ranges, name):
                drawn[name] = within(name, -most, most)
        for name, count in (("tx", size[1]), ("ty", size[0])):
            if shift := getattr(ranges, name):
                drawn[name] = _distance(uniform[name], shift) * (count if shift.is_share else 1)
        if ranges.zoom != (1, 1):
            drawn |= {name: within(name, *ranges.zoom) for name in ("zx", "zy")}
        for name in ("flip_horizontal", "flip_vertical"):
            if getattr(ranges, name):
                drawn[name] = uniform[name][0] < 0.5
        if ranges.brightness is not None:
            drawn["brightness"] = within("brightness", *ranges.brightness)
        return drawn

    return jax.vmap(of_one)(jnp.asarray(rows))


@functools.partial(jax.jit, static_argnums=(2, 3))
def change(
    images: jax.Array, parameters: Parameters, fill_mode: FillMode, order: int, cval: float
) -> jax.Array:
    """Move, channel-shift, flip and brighten images ``[B, H, W, C]`` float32, in this order.

    Reference:
      Keras's ``apply_transform``, with ``scipy.ndimage.affine_transform``.
    """
    is_moved = any(name in parameters for name in _MOVES)
    if is_moved:
        images = _moved(images, parameters, fill_mode, order, cval)
    if "channel_shift_intensity" in parameters:
        axes = (1, 2, 3)
        least, most = (f(images, axes, keepdims=True) for f in (jnp.min, jnp.max))
        shifted = images + _column(parameters["channel_shift_intensity"])
        images = jnp.clip(shifted, least, most)
    for name, flip in (("flip_horizontal", flip_left_right), ("flip_vertical", flip_up_down)):
        if name in parameters and not is_moved:  # `_moved` flips too
            images = jnp.where(_column(parameters[name]), flip(images), images)
    if "brightness" in parameters:
        images = _brightened(images, _column(parameters["brightness"]))
    return images


@functools.partial(jax.jit, static_argnums=(1, 2))
def normalize(
    images: jax.Array,
    samplewise_center: bool,
    samplewise_std: bool,
    rescale: float | None,
    mean: np.ndarray | None,
    std: np.ndarray | None,
    matrix: np.ndarray | None,
) -> jax.Array:
    """Normalize images ``[B, H, W, C]`` as Keras's ``standardize`` does, in the same order."""
    axes = (1, 2, 3)
    if rescale is not None:
        images = images * rescale
    if samplewise_center:
        images = images - images.mean(axes, keepdims=True)
    if samplewise_std:
        images = images / (images.std(axes, keepdims=True) + _EPSILON)
    if mean is not None:
        images = images - mean[None]
    if std is not None:
        images = images / (std[None] + _EPSILON)
    if matrix is not None:
        flat = images.reshape(len(images), -1)
        images = jnp.dot(flat, matrix, precision="highest").reshape(images.shape)
    return images


def _distance(uniform: jax.Array, shift: Shift) -> jax.Array:
    """Return a shift computed from two numbers in [0, 1)."""
    which, way = uniform
    if not shift.choices:
        return (2 * which - 1) * shift.most
    distance = jnp.array(shift.choices)[(which * len(shift.choices)).astype(jnp.int32)]
    return jnp.where(way < 0.5, distance, -distance)


def _moved(
    images: jax.Array, parameters: Parameters, fill_mode: FillMode, order: int, cval: float
) -> jax.Array:
    """Sample each pixel at the position given by Keras's rotation, shift, shear and zoom."""
    batch, height, width, _ = images.shape

    def number(name: str) -> jax.Array:
        default = jnp.full(batch, 1.0 if name in ("zx", "zy") else 0.0)
        return parameters.get(name, default).astype(jnp.float32).reshape(-1, 1, 1)

    theta, shear = (jnp.deg2rad(number(name)) for name in ("theta", "shear"))
    down, right = (
        (jnp.arange(count) - (count - 1) / 2).reshape(1, *shape)
        for count, shape in ((height, (-1, 1)), (width, (1, -1)))
    )
    if "flip_vertical" in parameters:
        down = jnp.where(parameters["flip_vertical"].reshape(-1, 1, 1), -down, down)
    if "flip_horizontal" in parameters:
        right = jnp.where(parameters["flip_horizontal"].reshape(-1, 1, 1), -right, right)
    x, y = number("zx") * right, number("zy") * down
    x, y = x - jnp.sin(shear) * y, jnp.cos(shear) * y
    x, y = x + number("tx"), y + number("ty")
    x, y = jnp.cos(theta) * x - jnp.sin(theta) * y, jnp.sin(theta) * x + jnp.cos(theta) * y
    places = [y + (height - 1) / 2, x + (width - 1) / 2]
    outside = jnp.zeros((), bool)
    for axis, count in enumerate((height, width)):
        place, last = places[axis], count - 1
        outside |= (place < -_ROUNDING) | (place > last + _ROUNDING)
        if fill_mode == "wrap" and last:
            # SciPy's "wrap" identifies the first pixel with the last.
            before = place + last * (jnp.floor(-place / last) + 1)
            after = place - last * jnp.floor(place / last)
            places[axis] = jnp.where(place < 0, before, jnp.where(place > last, after, place))
    moved = remap(
        images,
        *places,
        interpolation="bilinear" if order else "nearest",
        border="reflect" if fill_mode == "reflect" else "replicate",
    )
    return jnp.where(outside[..., None], cval, moved) if fill_mode == "constant" else moved


def _brightened(images: jax.Array, factors: jax.Array) -> jax.Array:
    """Brighten as Pillow does, in integers from 0 to 255; other ranges are scaled and restored."""
    axes = (1, 2, 3)
    least, most = (f(images, axes, keepdims=True) for f in (jnp.min, jnp.max))
    exceeds = (least < 0) | (most > 255)
    span = jnp.where(most > least, most - least, 1)
    levels = jnp.floor(jnp.where(exceeds, (images - least) / span * 255, images))
    lit = jnp.floor(jnp.clip(levels * factors, 0, 255))
    if images.shape[-1] == 4:  # leave the alpha channel unchanged
        lit = lit.at[..., 3].set(levels[..., 3])
    return jnp.where(exceeds, lit / 255 * (most - least) + least, lit)


def _column(numbers: jax.Array) -> jax.Array:
    return numbers.reshape(-1, 1, 1, 1)
