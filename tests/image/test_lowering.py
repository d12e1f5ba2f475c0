"""Every function of images lowers for cuda and tpu from a machine that has neither."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import pytest

from jaxcnn import image

KEY = jax.random.key(0)
CASES = {
    "add_gaussian_noise": lambda x: image.add_gaussian_noise(KEY, x, 0.1),
    "add_salt_pepper": lambda x: image.add_salt_pepper(KEY, x, 0.1),
    "add_speckle_noise": lambda x: image.add_speckle_noise(KEY, x, 0.1),
    "box_blur": functools.partial(image.box_blur, window=3),
    "closing": functools.partial(image.closing, window=3),
    "dilate": functools.partial(image.dilate, window=3),
    "erode": functools.partial(image.erode, window=3),
    "extend": functools.partial(image.extend, pairs=((1, 2), (3, 4))),
    "filter2d": functools.partial(image.filter2d, kernel=jnp.ones((2, 3))),
    "flip_left_right": image.flip_left_right,
    "gaussian_blur": functools.partial(image.gaussian_blur, sigma=1.0),
    "laplacian": image.laplacian,
    "median_blur": functools.partial(image.median_blur, window=3),
    "morphological_gradient": functools.partial(image.morphological_gradient, window=3),
    "normalize": functools.partial(image.normalize, mean=(0.0, 0.0), std=(1.0, 1.0)),
    "opening": functools.partial(image.opening, window=3),
    "random_flip_left_right": lambda x: image.random_flip_left_right(KEY, x),
    "random_translate": lambda x: image.random_translate(KEY, x, max_shift=1),
    "scharr": image.scharr,
    "sharpen": image.sharpen,
    "sobel": image.sobel,
    "to_float": image.to_float,
    "translate": functools.partial(image.translate, shifts=jnp.zeros((2, 2), int)),
    "unsharp_mask": functools.partial(image.unsharp_mask, sigma=1.0),
}


def test_the_table_holds_every_function():
    public = {name for name, value in vars(image).items() if callable(value)}
    assert set(CASES) == public - {"Preprocess", "compose", "row_keys"}


@pytest.mark.parametrize("name", CASES)
def test_lowers(name):
    images = jax.ShapeDtypeStruct((2, 9, 8, 2), jnp.float32)
    exported = jax.export.export(jax.jit(CASES[name]), platforms=["cuda", "tpu"])(images)
    assert "callback" not in exported.mlir_module()
