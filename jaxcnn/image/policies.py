"""RandAugment and TrivialAugment: augmentation with little or no tuning, for images in [0, 1].

A device cannot branch per image, so all fourteen operations are computed for all images at once, as
one warp, one blend, and a selection among the rest. The warp and the blend do not change images
that drew a different operation.
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
from jaxcnn.image.dtypes import check_floating_images
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


class _Ranges(NamedTuple):
    """Amounts at magnitude 1."""

    shear: float  # pixels per pixel
    shift: float  # fraction of the image
    angle: float  # degrees
    factor: float  # distance from 1
    bits: int  # number of bits removed from 8


_RAND = _Ranges(shear=0.3, shift=150 / 331, angle=30, factor=0.9, bits=4)
_TRIVIAL = _Ranges(shear=0.99, shift=32 / 224, angle=135, factor=0.99, bits=6)


def rand_augment(
    key: jax.Array,
    images: jax.Array,
    *,
    operations: int = 2,
    magnitude: float = 0.3,
    border: Border = "constant",
    value: float = 0.0,
) -> jax.Array:
    """Apply randomly drawn operations, all with the same magnitude, to each image.

    All fourteen operations are equally likely. Shear, translation, rotation, brightness, color,
    contrast and sharpness are applied with a random sign.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, grayscale or RGB, floating point in [0, 1].
      operations: number of operations per image, applied one after the other.
      magnitude: fraction of each operation's largest amount, in [0, 1]; 0.3 is level 9 of 30.
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not floating point with 1 or 3 channels, ``operations`` is not an
        integer >= 1, ``magnitude`` is outside [0, 1], or ``border`` is unknown.

    Example:
      >>> rand_augment(jax.random.key(0), jnp.ones((2, 32, 32, 3))).shape
      (2, 32, 32, 3)

    Reference:
      Cubuk et al. 2020, "RandAugment: practical automated data augmentation with a reduced search
      space"; torchvision's ``RandAugment``, which shears about a corner instead of the center.
    """
    _check(images)
    operations = shapes.check_integer(operations, "operations", minimum=1)
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
    """Apply one randomly drawn operation with a random magnitude to each image.

    Args:
      key: one key, or ``[B]`` keys.
      images: ``[B, H, W, C]``, grayscale or RGB, floating point in [0, 1].
      border: border mode (see `jaxcnn.image.pad`).
      value: fill value for ``border="constant"``.

    Returns:
      Array with the shape and dtype of ``images``.

    Raises:
      ValueError: if ``images`` is not floating point with 1 or 3 channels, or ``border`` is
        unknown.

    Example:
      >>> trivial_augment(jax.random.key(0), jnp.ones((2, 32, 32, 3))).shape
      (2, 32, 32, 3)

    Reference:
      Müller and Hutter 2021, "TrivialAugment: tuning-free yet state-of-the-art data augmentation",
      with its wide augmentation space; torchvision's ``TrivialAugmentWide``, which shears about a
      corner.
    """
    _check(images)
    chosen, sign, amounts = _draw(row_keys(key, len(images)))
    return _applied(images, chosen, amounts, sign, _TRIVIAL, border, value)


def _check(images: jax.Array) -> None:
    check_floating_images(images)
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels, got shape {images.shape}")


@functools.partial(jax.jit, inline=True)
def _draw(keys: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draw an operation, a sign, and one of 31 magnitudes in [0, 1] for each image."""

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
    ranges: _Ranges,
    border: Border,
    value: float | jax.Array,
) -> jax.Array:
    def where(name: str, changed: jax.Array, images: jax.Array) -> jax.Array:
        return jnp.where((chosen == OPERATIONS.index(name))[:, None, None, None], changed, images)

    signed = amounts * sign
    matrices = _matrices(chosen, signed, ranges, images.shape[1:3])
    images = warp(images, matrices, border=border, value=value)
    gray = to_grayscale(images, channels=3) if images.shape[-1] == 3 else images
    # The results for factor 0; the outermost pixels are not smoothed, as in Pillow.
    blended = {
        "brightness": jnp.zeros_like(images),
        "color": gray,
        "contrast": jnp.broadcast_to(jnp.mean(gray, (1, 2, 3), keepdims=True), images.shape),
        "sharpness": images.at[:, 1:-1, 1:-1].set(filter2d(images, _SMOOTH)[:, 1:-1, 1:-1]),
    }
    factors = (1 + signed * ranges.factor)[:, None, None, None].astype(images.dtype)
    base = images
    for name, other in blended.items():
        base = where(name, other, base)
    images = jnp.clip(
        base + factors * (images - base), 0, 1
    )  # for other operations, base equals images
    images = where("posterize", posterize(images, 8 - amounts * ranges.bits), images)
    images = where("solarize", solarize(images, 1 - amounts), images)
    images = where("autocontrast", autocontrast(images), images)
    return where("equalize", equalize(images), images)


def _matrices(
    chosen: jax.Array, signed: jax.Array, ranges: _Ranges, size: Sequence[int]
) -> jax.Array:
    """Return each image's matrix for its geometric operation, or the identity for other ones."""

    def amount(name: str, largest: float) -> jax.Array:
        return jnp.where(chosen == OPERATIONS.index(name), signed * largest, 0)

    tangents = [amount("shear_y", ranges.shear), amount("shear_x", ranges.shear)]
    shifts = [
        amount(name, ranges.shift * count)
        for name, count in zip(("translate_y", "translate_x"), size, strict=True)
    ]
    return affine_matrix(
        angles=amount("rotate", ranges.angle),
        shears=jnp.rad2deg(jnp.arctan(jnp.stack(tangents, 1))),
        shifts=jnp.stack(shifts, 1),
    )
