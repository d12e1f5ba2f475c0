"""Augmentation without tuning: RandAugment and TrivialAugment, for images in [0, 1].

A device has no branches. So what would be one of fourteen operations for each image is, for all of
them at once, one warp, one blend and a choice among the rest, with amounts that change nothing for
those images that drew something else.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxcnn import shapes
from jaxcnn.image.adjust import posterize, solarize
from jaxcnn.image.borders import Border
from jaxcnn.image.color import to_grayscale
from jaxcnn.image.dtypes import check_images
from jaxcnn.image.filters import filter2d
from jaxcnn.image.intensity import autocontrast, equalize
from jaxcnn.image.randomness import row_keys
from jaxcnn.image.warp import affine_matrix, warp

OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate",
    "brightness", "color", "contrast", "sharpness", "posterize", "solarize",
    "autocontrast", "equalize",
)  # fmt: skip
_SMOOTH = ((1 / 13, 1 / 13, 1 / 13), (1 / 13, 5 / 13, 1 / 13), (1 / 13, 1 / 13, 1 / 13))


class _Most(NamedTuple):
    """The amounts of magnitude 1."""

    shear: float  # pixels per pixel
    shift: float  # share of the image
    angle: float  # degrees
    factor: float  # away from 1
    bits: int  # fewer than 8


_RAND = _Most(shear=0.3, shift=150 / 331, angle=30, factor=0.9, bits=4)
_TRIVIAL = _Most(shear=0.99, shift=32 / 224, angle=135, factor=0.99, bits=6)


def rand_augment(
    key: jax.Array,
    images: jax.Array,
    *,
    operations: int = 2,
    magnitude: float = 0.3,
    border: Border = "constant",
    value: float = 0.0,
) -> jax.Array:
    """A number of operations for each image, drawn from fourteen, all of one magnitude.

    Shear, translate, rotate, brightness, colour, contrast and sharpness go either way.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, grey or RGB, floating point in [0, 1].
      operations: how many, one after the other.
      magnitude: share of the largest amount, in [0, 1]: 9 of 30 levels is 0.3.
      border: what comes in from outside (see `jaxcnn.image.pad`).
      value: what comes in for ``"constant"``.

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> rand_augment(jax.random.key(0), jnp.ones((2, 32, 32, 3))).shape
      (2, 32, 32, 3)

    Reference:
      Cubuk et al. 2020, "RandAugment: practical automated data augmentation with a reduced search
      space"; torchvision's ``RandAugment``, which shears about a corner, and not about the middle.
    """
    _check(images)
    (operations,) = shapes.ints(operations, 1, "operations")
    if not isinstance(magnitude, jax.Array) and not 0 <= magnitude <= 1:
        raise ValueError(f"magnitude must be in [0, 1], got {magnitude!r}")
    keys = row_keys(key, len(images))
    for number in range(operations):
        chosen, sign, _ = _draw(jax.vmap(jax.random.fold_in, (0, None))(keys, number))
        amounts = jnp.full(len(images), magnitude)
        images = _applied(images, chosen, amounts, sign, _RAND, border, value)
    return images


def trivial_augment(
    key: jax.Array, images: jax.Array, *, border: Border = "constant", value: float = 0.0
) -> jax.Array:
    """One operation for each image, of any magnitude: nothing to tune.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, grey or RGB, floating point in [0, 1].
      border: what comes in from outside (see `jaxcnn.image.pad`).
      value: what comes in for ``"constant"``.

    Returns:
      The shape and dtype of ``images``.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> trivial_augment(jax.random.key(0), jnp.ones((2, 32, 32, 3))).shape
      (2, 32, 32, 3)

    Reference:
      Müller and Hutter 2021, "TrivialAugment: tuning-free yet state-of-the-art data augmentation",
      the wide space; torchvision's ``TrivialAugmentWide`` (see `rand_augment`).
    """
    _check(images)
    chosen, sign, amounts = _draw(row_keys(key, len(images)))
    return _applied(images, chosen, amounts, sign, _TRIVIAL, border, value)


def _check(images: jax.Array) -> None:
    check_images(images)
    shapes.check_floating(images, "images")
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels, got shape {images.shape}")


@functools.partial(jax.jit, inline=True)
def _draw(keys: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For each image an operation, a sign, and one of 31 magnitudes up to 1."""

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        which, way, level = jax.random.split(key, 3)
        return (
            jax.random.randint(which, (), 0, len(OPERATIONS)),
            jnp.where(jax.random.bernoulli(way), 1.0, -1.0),
            jax.random.randint(level, (), 0, 31) / 30,
        )

    return jax.vmap(draw)(keys)


@functools.partial(jax.jit, static_argnums=(4, 5), inline=True)
def _applied(
    images: jax.Array,
    chosen: jax.Array,
    amounts: jax.Array,
    sign: jax.Array,
    most: _Most,
    border: Border,
    value: float | jax.Array,
) -> jax.Array:
    def where(name: str, changed: jax.Array, images: jax.Array) -> jax.Array:
        return jnp.where((chosen == OPERATIONS.index(name))[:, None, None, None], changed, images)

    signed = amounts * sign
    matrices = _matrices(chosen, signed, most, images.shape[1:3])
    images = warp(images, matrices, border=border, value=value)
    gray = to_grayscale(images, channels=3) if images.shape[-1] == 3 else images
    # What a factor of 0 leaves; the outermost pixels stay sharp, as in Pillow.
    plain = {
        "brightness": jnp.zeros_like(images),
        "color": gray,
        "contrast": jnp.broadcast_to(jnp.mean(gray, (1, 2, 3), keepdims=True), images.shape),
        "sharpness": images.at[:, 1:-1, 1:-1].set(filter2d(images, _SMOOTH)[:, 1:-1, 1:-1]),
    }
    factors = (1 + signed * most.factor)[:, None, None, None].astype(images.dtype)
    base = images
    for name, other in plain.items():
        base = where(name, other, base)
    images = jnp.clip(base + factors * (images - base), 0, 1)  # base is images for the others
    images = where("posterize", posterize(images, 8 - amounts * most.bits), images)
    images = where("solarize", solarize(images, 1 - amounts), images)
    images = where("autocontrast", autocontrast(images), images)
    return where("equalize", equalize(images), images)


def _matrices(chosen: jax.Array, signed: jax.Array, most: _Most, size: Sequence[int]) -> jax.Array:
    """Of the geometric operations; the others do not move anything."""

    def amount(name: str, largest: float) -> jax.Array:
        return jnp.where(chosen == OPERATIONS.index(name), signed * largest, 0)

    tangents = [amount("shear_y", most.shear), amount("shear_x", most.shear)]
    shifts = [
        amount(name, most.shift * count)
        for name, count in zip(("translate_y", "translate_x"), size, strict=True)
    ]
    return affine_matrix(
        angles=amount("rotate", most.angle),
        shears=jnp.rad2deg(jnp.arctan(jnp.stack(tangents, 1))),
        shifts=jnp.stack(shifts, 1),
    )
