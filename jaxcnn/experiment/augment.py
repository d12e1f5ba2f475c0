"""What an experiment's names of augmentations mean, in training and in testing."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn import image, ops
from jaxcnn.batch import Batch
from jaxcnn.experiment.config import Experiment

_SHIFT = 2  # pixels
_MIXES = {"mixup": image.mixup, "cutmix": image.cutmix}

View = Callable[[jax.Array], jax.Array]


def _color(key: jax.Array, images: jax.Array) -> jax.Array:
    """Light and contrast; saturation and hue where there is colour."""
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


# In the order in which they are applied, whatever the order they are named in.
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


def make_augment(experiment: Experiment, num_classes: int) -> Any:
    """The experiment's ``augment(keys, batch) -> batch`` for a training step; None for nothing.

    Images come out as they came in: float32, and but for noise in [0, 1]. Mixing two examples
    turns labels ``[B]`` into shares of the classes, ``[B, num_classes]``.
    """
    transforms = [
        transform for name, transform in _TRANSFORMS.items() if name in experiment.augment
    ]
    if experiment.input_noise:
        transforms.append(functools.partial(_noise, stddev=experiment.input_noise))
    mixes = [mix for name, mix in _MIXES.items() if name in experiment.augment]
    if not transforms and not mixes:
        return None
    transform = image.compose(*transforms)

    def augment(keys: jax.Array, batch: Batch) -> Batch:
        batch = batch._replace(image=transform(keys, batch.image))
        if not mixes:
            return batch
        labels = jax.nn.one_hot(batch.label, num_classes)
        # The transforms drew from the numbers before this one.
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, len(transforms))
        results = [mix(keys, batch.image, labels) for mix in mixes]
        # One of them for the whole batch.
        chosen = jax.random.randint(jax.random.fold_in(keys[0], 3), (), 0, len(mixes))
        images, labels = (lax.select_n(chosen, *arrays) for arrays in zip(*results, strict=True))
        return batch._replace(image=images, label=labels)

    return augment


def make_views(experiment: Experiment) -> list[View]:
    """The experiment's test-time augmentation: what else is shown of each image."""
    views: list[View] = []
    if "flip" in experiment.test_views:
        views.append(image.flip_left_right)
    if "shift" in experiment.test_views:
        shifts = ((-1, 0), (1, 0), (0, -1), (0, 1))
        views += [functools.partial(_moved, shift=shift) for shift in shifts]
    return views


def _noise(keys: jax.Array, images: jax.Array, *, stddev: float) -> jax.Array:
    return jax.vmap(functools.partial(ops.gaussian_noise, stddev=stddev))(keys, images)


def _moved(images: jax.Array, shift: tuple[int, int]) -> jax.Array:
    return image.translate(images, jnp.broadcast_to(jnp.array(shift), (len(images), 2)))
