"""Properties of all random transforms: a row's result depends only on its own key."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import image

TRANSFORMS = {
    "add_gaussian_noise": functools.partial(image.add_gaussian_noise, stddev=0.1),
    "add_salt_pepper": functools.partial(image.add_salt_pepper, amount=0.1),
    "add_speckle_noise": functools.partial(image.add_speckle_noise, stddev=0.1),
    "rand_augment": image.rand_augment,
    "random_affine": functools.partial(
        image.random_affine, max_angle=20, max_shear=10, scale=(0.8, 1.2), max_shift=0.1
    ),
    "random_blur": functools.partial(image.random_blur, sigmas=(0.1, 1.0), window=3),
    "random_brightness": functools.partial(image.random_brightness, max_delta=0.2),
    "random_contrast": functools.partial(image.random_contrast, factors=(0.5, 1.5)),
    "random_crop": functools.partial(image.random_crop, size=(6, 7), padding=2),
    "random_erasing": image.random_erasing,
    "random_flip_left_right": image.random_flip_left_right,
    "random_flip_up_down": image.random_flip_up_down,
    "random_gamma": functools.partial(image.random_gamma, gammas=(0.5, 1.5)),
    "random_grayscale": functools.partial(image.random_grayscale, probability=0.5),
    "random_hue": functools.partial(image.random_hue, max_delta=0.2),
    "random_posterize": functools.partial(image.random_posterize, bits=(2, 6)),
    "random_resized_crop": functools.partial(image.random_resized_crop, size=5),
    "random_rotation": functools.partial(image.random_rotation, max_angle=30),
    "random_saturation": functools.partial(image.random_saturation, factors=(0.5, 1.5)),
    "random_sharpness": functools.partial(image.random_sharpness, amounts=(-0.1, 1.0)),
    "random_solarize": image.random_solarize,
    "random_translate": functools.partial(image.random_translate, max_shift=2),
    "trivial_augment": image.trivial_augment,
    "compose": image.compose(
        image.random_flip_left_right, functools.partial(image.random_brightness, max_delta=0.2)
    ),
    "one_of": image.one_of(image.random_flip_left_right, image.random_flip_up_down),
    "sometimes": image.sometimes(image.random_flip_left_right, 0.5),
}


# These draw in the same way as random_affine, random_flip_left_right or random_brightness.
ALIKE = {"random_rotation", "random_flip_up_down", "random_contrast", "random_gamma"}
ALIKE |= {"random_saturation", "random_solarize", "random_posterize", "random_sharpness"}
ALIKE |= {"random_translate", "random_hue", "one_of"}


def make_images(count):
    return jnp.asarray(np.random.default_rng(0).random((count, 8, 9, 3)), jnp.float32)


def test_the_table_is_complete():
    names = {name for name, value in vars(image).items() if callable(value)}
    assert {name for name in names if name.startswith(("rand", "add_"))} <= set(TRANSFORMS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name.endswith("_augment") or name in ALIKE))
        for name in TRANSFORMS
    ],
)
def test_a_row_depends_on_its_own_key_alone(name, key):
    images = make_images(6)
    transform = jax.jit(TRANSFORMS[name])
    whole = transform(key, images)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(6))
    np.testing.assert_array_equal(transform(keys, images), whole)
    np.testing.assert_allclose(transform(keys[2:4], images[2:4]), whole[2:4], atol=1e-6)
    rows = {row.tobytes() for row in np.asarray(transform(key, images[:1].repeat(6, 0)))}
    assert len(rows) > 1, "every image was transformed in the same way"
    assert whole.dtype == images.dtype
    chex.assert_tree_all_finite(whole)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (not name.startswith("add_")))
        for name in TRANSFORMS
    ],
)
def test_half_precision_stays_half(name, key):
    changed = jax.jit(TRANSFORMS[name])(key, make_images(2).astype(jnp.bfloat16))
    assert changed.dtype == jnp.bfloat16
    chex.assert_tree_all_finite(changed)
