"""All image functions lower for CUDA and TPU on a machine that has neither."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import pytest

from jaxcnn import image

KEY = jax.random.key(0)
PAIR = (0.5, 1.5)
CASES = {
    "add_gaussian_noise": lambda x: image.add_gaussian_noise(KEY, x, 0.1),
    "add_salt_pepper": lambda x: image.add_salt_pepper(KEY, x, 0.1),
    "add_speckle_noise": lambda x: image.add_speckle_noise(KEY, x, 0.1),
    "adjust_brightness": lambda x: image.adjust_brightness(x, 0.1),
    "adjust_contrast": lambda x: image.adjust_contrast(x, 0.1),
    "adjust_gamma": lambda x: image.adjust_gamma(x, 0.1),
    "adjust_hue": lambda x: image.adjust_hue(x, 0.1),
    "adjust_saturation": lambda x: image.adjust_saturation(x, 0.1),
    "affine": functools.partial(image.affine, angles=10.0),
    "affine_matrix": lambda x: image.affine_matrix(angles=x[:, 0, 0, 0]),
    "autocontrast": image.autocontrast,
    "box_blur": functools.partial(image.box_blur, window=3),
    "center_crop": functools.partial(image.center_crop, size=3),
    "closing": functools.partial(image.closing, window=3),
    "connected_components": lambda x: image.connected_components(_mask(x)),
    "crop_components": lambda x: image.crop_components(x, _regions(x), 3),
    "crop_to_square": image.crop_to_square,
    "cutmix": lambda x: image.cutmix(KEY, x, x[:, 0, 0]),
    "dilate": functools.partial(image.dilate, window=3),
    "draw_affine": lambda x: image.draw_affine(KEY, len(x), (9, 8), max_angle=3),
    "equalize": image.equalize,
    "erode": functools.partial(image.erode, window=3),
    "filter2d": functools.partial(image.filter2d, kernel=jnp.ones((2, 3))),
    "flip_left_right": image.flip_left_right,
    "flip_up_down": image.flip_up_down,
    "gaussian_blur": functools.partial(image.gaussian_blur, sigma=1.0),
    "laplacian": image.laplacian,
    "largest_component": lambda x: image.largest_component(_mask(x)),
    "median_blur": functools.partial(image.median_blur, window=3),
    "min_max_scale": image.min_max_scale,
    "mixup": lambda x: image.mixup(KEY, x, x[:, 0, 0]),
    "morphological_gradient": functools.partial(image.morphological_gradient, window=3),
    "normalize": functools.partial(image.normalize, mean=(0.0,) * 3, std=(1.0,) * 3),
    "one_of": lambda x: image.one_of(image.random_flip_left_right)(KEY, x),
    "opening": functools.partial(image.opening, window=3),
    "otsu": image.otsu,
    "pad": functools.partial(image.pad, padding=((1, 2), (3, 4))),
    "posterize": lambda x: image.posterize(x, 3),
    "rand_augment": lambda x: image.rand_augment(KEY, x),
    "random_affine": lambda x: image.random_affine(KEY, x, max_angle=3),
    "random_blur": lambda x: image.random_blur(KEY, x, sigmas=PAIR),
    "random_brightness": lambda x: image.random_brightness(KEY, x, max_delta=0.1),
    "random_contrast": lambda x: image.random_contrast(KEY, x, factors=PAIR),
    "random_crop": lambda x: image.random_crop(KEY, x, 3),
    "random_erasing": lambda x: image.random_erasing(KEY, x),
    "random_flip_left_right": lambda x: image.random_flip_left_right(KEY, x),
    "random_flip_up_down": lambda x: image.random_flip_up_down(KEY, x),
    "random_gamma": lambda x: image.random_gamma(KEY, x, gammas=PAIR),
    "random_grayscale": lambda x: image.random_grayscale(KEY, x),
    "random_hue": lambda x: image.random_hue(KEY, x, max_delta=0.1),
    "random_posterize": lambda x: image.random_posterize(KEY, x),
    "random_resized_crop": lambda x: image.random_resized_crop(KEY, x, 3),
    "random_rotation": lambda x: image.random_rotation(KEY, x, max_angle=3),
    "random_saturation": lambda x: image.random_saturation(KEY, x, factors=PAIR),
    "random_sharpness": lambda x: image.random_sharpness(KEY, x, amounts=PAIR),
    "random_solarize": lambda x: image.random_solarize(KEY, x),
    "random_translate": lambda x: image.random_translate(KEY, x, max_shift=1),
    "region_properties": lambda x: _regions(x),
    "remap": lambda x: image.remap(x, x[..., 0], x[..., 1]),
    "remove_small_components": lambda x: image.remove_small_components(_mask(x), 2),
    "resize": functools.partial(image.resize, size=5),
    "resize_with_pad": functools.partial(image.resize_with_pad, size=5),
    "reverse_channels": image.reverse_channels,
    "rot90": image.rot90,
    "rotate": functools.partial(image.rotate, angles=10.0),
    "scale": functools.partial(image.scale, factors=2.0),
    "scharr": image.scharr,
    "sharpen": image.sharpen,
    "shear": functools.partial(image.shear, angles=10.0),
    "similar_components": functools.partial(image.similar_components, tolerance=0.1),
    "sobel": image.sobel,
    "solarize": lambda x: image.solarize(x, 0.5),
    "sometimes": lambda x: image.sometimes(image.random_flip_left_right, 0.5)(KEY, x),
    "standardize": image.standardize,
    "threshold": functools.partial(image.threshold, value=0.5),
    "to_float": image.to_float,
    "to_grayscale": image.to_grayscale,
    "translate": functools.partial(image.translate, shifts=jnp.zeros((2, 2), int)),
    "trivial_augment": lambda x: image.trivial_augment(KEY, x),
    "unsharp_mask": functools.partial(image.unsharp_mask, sigma=1.0),
    "warp": lambda x: image.warp(x, jnp.eye(3)),
    "whiten": lambda x: image.whiten(x, WHITENING),
}
WHITENING = image.Whitening(jnp.zeros((9, 8, 3)), jnp.eye(216))
ON_THE_HOST = {"channel_statistics", "fit_whitening"}
TYPES = {"Components", "Preprocess", "RandomTransform", "Regions", "Whitening"}


def _mask(x):
    return x[..., 0] > 0.5


def _regions(x):
    return image.region_properties(image.connected_components(_mask(x)), x, max_count=2)


def test_the_table_is_complete():
    public = {name for name, value in vars(image).items() if callable(value)}
    static = {"compose", "is_square", "row_keys"}
    assert set(CASES) == public - TYPES - ON_THE_HOST - static


@pytest.mark.parametrize("name", CASES)
def test_lowers(name):
    images = jax.ShapeDtypeStruct((2, 9, 8, 3), jnp.float32)
    exported = jax.export.export(jax.jit(CASES[name]), platforms=["cuda", "tpu"])(images)
    assert "callback" not in exported.mlir_module()
