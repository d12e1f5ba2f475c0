"""`image` against torchvision, for the functions that agree (see image_references.md)."""

import functools
import importlib

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import image

pytestmark = pytest.mark.parity

SIZES = ((1, 1), (1, 7), (6, 1), (5, 4), (33, 48), (121, 160))
POSITION = 1e-4  # both compute source positions in float32, in different units
BYTE = 1.01 / 255  # one level


@functools.cache
def functional():
    """Import the functional API of torchvision's transforms v2."""
    return importlib.import_module("torchvision.transforms.v2.functional")


def make_images():
    """Yield noise and a photograph, ``[B, H, W, 3]`` with multiples of 1/255 in [0, 1]."""
    rng = np.random.default_rng(0)
    for size in SIZES:
        yield rng.integers(0, 256, (2, *size, 3)).astype(np.float32) / 255
    photograph = importlib.import_module("skimage.data").astronaut()[None, 50:200, 60:191]
    yield photograph.astype(np.float32) / 255


def by_torchvision(function, x):
    """Apply a function of (module, ``[B, C, H, W]`` planes) to ``[B, H, W, C]`` images."""
    torch = importlib.import_module("torch")
    planes = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
    return np.moveaxis(function(functional(), planes).numpy(), 1, -1)


def on_bytes(function):
    """Wrap a function of (module, planes) so that it runs on bytes."""
    return lambda f, x: function(f, (x * 255).round().byte()) / 255


def transformed(f, x, mode):
    return f.affine(x, -20.0, [2, -1], 1.2, [8.0, 0.0], interpolation=f.InterpolationMode(mode))


CASES = {
    "affine": (
        lambda x: image.affine(
            x, angles=20.0, shears=-8.0, scales=1.2, shifts=np.tile([-1.0, 2.0], (len(x), 1))
        ),
        lambda f, x: transformed(f, x, "bilinear"),
        POSITION,
    ),
    "rotate": (
        lambda x: image.rotate(x, 37.0),
        lambda f, x: f.rotate(x, 37.0, interpolation=f.InterpolationMode.BILINEAR),
        POSITION,
    ),
    "resize": (
        lambda x: image.resize(x, (9, 14)),
        lambda f, x: f.resize(x, [9, 14]),
        1e-5,
    ),
    "resize, bicubic": (
        lambda x: image.resize(x, (40, 30), method="bicubic"),
        lambda f, x: f.resize(x, [40, 30], interpolation=f.InterpolationMode.BICUBIC),
        1e-2,
    ),
    "gaussian_blur": (
        lambda x: image.gaussian_blur(x, 1.3, window=(3, 5)),
        lambda f, x: f.gaussian_blur(x, [5, 3], [1.3, 1.3]),
        1e-5,
    ),
    "to_grayscale": (
        lambda x: image.to_grayscale(x, channels=3),
        lambda f, x: f.rgb_to_grayscale(x, 3),
        3e-4,
    ),
    "adjust_gamma": (
        lambda x: image.adjust_gamma(x, 0.7),
        lambda f, x: f.adjust_gamma(x, 0.7),
        1e-5,
    ),
    "adjust_hue": (
        lambda x: image.adjust_hue(x, 0.2),
        lambda f, x: f.adjust_hue(x, 0.2),
        1e-4,
    ),
    "solarize": (
        lambda x: image.solarize(x, 0.6),
        lambda f, x: f.solarize(x, 0.6),
        1e-6,
    ),
    "posterize": (
        lambda x: image.posterize(x, 3),
        on_bytes(lambda f, x: f.posterize(x, 3)),
        1e-6,
    ),
    "equalize": (image.equalize, on_bytes(lambda f, x: f.equalize(x)), BYTE),
    "autocontrast": (image.autocontrast, lambda f, x: f.autocontrast(x), 1e-5),
    "flips": (
        lambda x: image.flip_up_down(image.flip_left_right(x)),
        lambda f, x: f.vertical_flip(f.horizontal_flip(x)),
        0.0,
    ),
    "normalize": (
        lambda x: image.normalize(x, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)),
        lambda f, x: f.normalize(x, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]),
        1e-6,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equals(name):
    own, theirs, tolerance = CASES[name]
    for x in make_images():
        if name == "gaussian_blur" and min(x.shape[1:3]) < 3:
            continue  # torch cannot reflect beyond the size of the image
        found, expected = own(jnp.asarray(x)), by_torchvision(theirs, x)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=str(x.shape))
