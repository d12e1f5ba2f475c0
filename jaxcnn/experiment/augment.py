"""Data augmentation for an experiment, during training and at test time."""

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn import image, ops, train
from jaxcnn.batch import Batch
from jaxcnn.experiment.fields import Ranges, Section, is_finite

_SHIFT = 2  # pixels
_MIXES = {"mixup": image.mixup, "cutmix": image.cutmix}

Augmentation = Literal[
    "crop", "flip", "shift", "affine", "color", "rand", "trivial", "erase", "mixup", "cutmix"
]
View = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class AugmentConfig(Section):
    """Augmentation settings."""

    augment: tuple[Augmentation, ...] = ()
    """Random augmentations of training images: random crops (crop), mirroring (flip), shifts by up
    to 2 pixels (shift), rotation, shear and scaling (affine), brightness, contrast and color
    (color), RandAugment (rand), TrivialAugment (trivial), random erasing (erase), and mixing pairs
    of examples (mixup, cutmix); applied in the order listed here."""
    input_noise: float = 0.0
    """Standard deviation of the Gaussian noise added to training images in [0, 1]."""
    test_views: tuple[Literal["flip", "shift"], ...] = ()
    """Test-time augmentation: average the outputs over the image and its mirror image (flip), four
    one-pixel shifts (shift), or both."""

    RANGES: ClassVar[Ranges] = {"input_noise": (is_finite, "finite and >= 0")}


def _color(key: jax.Array, images: jax.Array) -> jax.Array:
    """Change brightness and contrast and, for color images, saturation and hue."""
    transforms: list[image.RandomTransform] = [
        functools.partial(image.random_brightness, max_delta=0.2),
        functools.partial(image.random_contrast, factors=(0.6, 1.4)),
    ]
    if images.shape[-1] == 3:
        transforms += [
            functools.partial(image.random_saturation, factors=(0.6, 1.4)),
            functools.partial(image.random_hue, max_delta=0.05),
        ]
    return image.compose(*transforms)(key, images)


def _crop(key: jax.Array, images: jax.Array) -> jax.Array:
    return image.random_resized_crop(key, images, images.shape[1:3], area=(0.4, 1.0))


# Applied in this order, regardless of the order of the names in the configuration.
_TRANSFORMS: dict[str, image.RandomTransform] = {
    "crop": _crop,
    "flip": image.random_flip_left_right,
    "shift": functools.partial(image.random_translate, max_shift=_SHIFT),
    "affine": functools.partial(
        image.random_affine, max_angle=15, max_shear=10, scale=(0.85, 1.15), max_shift=0.1
    ),
    "color": _color,
    "rand": image.rand_augment,
    "trivial": image.trivial_augment,
    "erase": image.random_erasing,
}


def make_augment(config: AugmentConfig, num_classes: int) -> train.Augment | None:
    """Make a training step's ``augment(keys, batch) -> batch``, or None if nothing is configured.

    Images stay float32, and in [0, 1] unless noise is added. Mixing examples converts labels
    ``[B]`` to class probabilities ``[B, num_classes]``.

    Example:
      >>> from jaxcnn import data, image, train
      >>> batch = next(iter(data.batches(data.load("fashion_mnist_slice", split="test"), 8)))
      >>> batch = batch._replace(image=image.to_float(batch.image))
      >>> augment = make_augment(AugmentConfig(augment=("flip", "mixup")), 10)
      >>> keys = train.augment_keys(jax.random.key(0), batch)
      >>> jax.eval_shape(augment, keys, batch).label.shape
      (8, 10)
    """
    transforms = [transform for name, transform in _TRANSFORMS.items() if name in config.augment]
    if config.input_noise:
        transforms.append(functools.partial(_noise, stddev=config.input_noise))
    mixes = [mix for name, mix in _MIXES.items() if name in config.augment]
    if not transforms and not mixes:
        return None
    transform = image.compose(*transforms)

    def augment(keys: jax.Array, batch: Batch) -> Batch:
        batch = batch._replace(image=transform(keys, batch.image))
        if not mixes:
            return batch
        labels = jax.nn.one_hot(batch.label, num_classes)
        if batch.weight is not None:  # mixed like a label
            labels = jnp.concatenate([labels, batch.weight[:, None]], 1)
        # The transforms use the smaller indices.
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, len(transforms))
        results = [mix(keys, batch.image, labels) for mix in mixes]
        # One mix is drawn for the whole batch.
        chosen = jax.random.randint(jax.random.fold_in(keys[0], 3), (), 0, len(mixes))
        images, labels = (lax.select_n(chosen, *arrays) for arrays in zip(*results, strict=True))
        weight = None if batch.weight is None else labels[:, num_classes]
        return batch._replace(image=images, label=labels[:, :num_classes], weight=weight)

    return augment


def make_views(config: AugmentConfig) -> list[View]:
    """Make the test-time augmentation: functions that map images to additional views.

    Example:
      >>> len(make_views(AugmentConfig(test_views=("flip", "shift"))))
      5
    """
    views: list[View] = []
    if "flip" in config.test_views:
        views.append(image.flip_left_right)
    if "shift" in config.test_views:
        shifts = ((-1, 0), (1, 0), (0, -1), (0, 1))
        views += [functools.partial(_shifted, shift=shift) for shift in shifts]
    return views


def _noise(keys: jax.Array, images: jax.Array, *, stddev: float) -> jax.Array:
    return jax.vmap(functools.partial(ops.gaussian_noise, stddev=stddev))(keys, images)


def _shifted(images: jax.Array, shift: tuple[int, int]) -> jax.Array:
    return image.translate(images, jnp.broadcast_to(jnp.array(shift), (len(images), 2)))
