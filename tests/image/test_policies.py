"""RandAugment and TrivialAugment: each result matches a Pillow operation, equally often."""

import functools

import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
import pytest

from jaxcnn import image

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
PIXELS[4:12, 3:9] //= 2  # so that the histogram is uneven
IMAGES = jnp.broadcast_to(jnp.asarray(PIXELS / 255, jnp.float32), (280, *PIXELS.shape))
LEVELS = np.arange(31) / 30
SIGNED = np.concatenate([LEVELS, -LEVELS[1:]])


def results_of_pillow(factor, bits):
    """Return ``{name: [results in [0, 1]]}`` for the operations that do not move pixels."""
    original = PIL.Image.fromarray(PIXELS)
    enhancers = {
        "brightness": PIL.ImageEnhance.Brightness(original),
        "color": PIL.ImageEnhance.Color(original),
        "contrast": PIL.ImageEnhance.Contrast(original),
        "sharpness": PIL.ImageEnhance.Sharpness(original),
    }
    results = {
        name: [enhancer.enhance(1 + factor * level) for level in SIGNED[1:]]
        for name, enhancer in enhancers.items()
    }
    results |= {
        "identity": [original],
        "posterize": [PIL.ImageOps.posterize(original, n) for n in range(8 - bits, 8)],
        "solarize": [PIL.ImageOps.solarize(original, 255 * (1 - level)) for level in LEVELS[1:]],
        "autocontrast": [PIL.ImageOps.autocontrast(original)],
        "equalize": [PIL.ImageOps.equalize(original)],
    }
    return {
        name: np.stack(list(map(np.asarray, several))).astype(np.float32) / 255
        for name, several in results.items()
    }


def results_of_warps(shear, shift, angle):
    """Return ``{name: [results]}`` for the operations that move pixels."""
    levels = jnp.asarray(SIGNED[1:])
    slants = jnp.rad2deg(jnp.arctan(levels * shear))
    none = jnp.zeros_like(levels)
    arguments = {
        "shear_x": {"shears": jnp.stack([none, slants], 1)},
        "shear_y": {"shears": jnp.stack([slants, none], 1)},
        "translate_x": {"shifts": jnp.stack([none, levels * shift * 16], 1)},
        "translate_y": {"shifts": jnp.stack([levels * shift * 16, none], 1)},
        "rotate": {"angles": levels * angle},
    }
    images = jnp.broadcast_to(PIXELS / 255, (len(levels), *PIXELS.shape))
    return {name: np.asarray(image.affine(images, **moves)) for name, moves in arguments.items()}


def count_operations(results, candidates):
    """Count how often each operation was applied; unrecognized results are counted under None."""
    counts = dict.fromkeys([*candidates, None], 0)
    for result in results:
        # Pillow rounds to bytes between steps, so a threshold can fall on either side of a level.
        names = [
            name
            for name, options in candidates.items()
            if ((np.abs(options - result) < 2.5 / 255).mean((1, 2, 3)) > 0.97).any()
        ]
        counts[names[0] if names else None] += 1
    return counts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "factor", "bits", "moves"),
    [
        (image.trivial_augment, 0.99, 6, (0.99, 32 / 224, 135)),
        (
            functools.partial(image.rand_augment, operations=1, magnitude=0.8),
            0.9,
            4,
            (0.3, 150 / 331, 30),
        ),
    ],
)
def test_every_result_is_an_operation(policy, factor, bits, moves, key):
    candidates = results_of_pillow(factor, bits) | results_of_warps(*moves)
    counts = count_operations(np.asarray(policy(key, IMAGES)), candidates)
    assert counts.pop(None) == 0
    # The expected count of each is 20, with a standard deviation of 4; operations at the weakest
    # magnitudes look like the identity.
    assert min(counts.values()) > 6 and max(counts.values()) < 52, counts


def test_operations_follow_each_other(key):
    weak = image.rand_augment(key, IMAGES, operations=2, magnitude=0.0)
    strong = image.rand_augment(key, IMAGES, operations=2, magnitude=1.0)
    alike = [np.isclose(x, IMAGES, atol=1e-6).all((1, 2, 3)).mean() for x in (weak, strong)]
    # At magnitude 0, only autocontrast and equalize change these images, so a fraction
    # (12 / 14) ** 2 = 0.735 stays unchanged, with a standard deviation of 0.026 over 280 images.
    # At magnitude 1, only the identity leaves them unchanged: (1 / 14) ** 2 = 0.005.
    assert 0.63 < alike[0] < 0.84 and alike[1] < 0.05


@pytest.mark.slow
def test_gray_images(key):
    gray = IMAGES[:50, ..., :1]
    changed = image.trivial_augment(key, gray)
    assert changed.shape == gray.shape and changed.min() >= 0 and changed.max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": jnp.zeros((2, 4, 4, 2))}, r"images must have 1 or 3 channels, got"),
        ({"images": jnp.zeros((2, 4, 4, 3), jnp.uint8)}, "images must be floating point"),
        ({"images": jnp.zeros((4, 4, 3))}, r"images must be \[B, H, W, C\]"),
        ({"operations": 0}, "operations must be"),
        ({"magnitude": 1.5}, r"magnitude must be in \[0, 1\], got 1.5"),
        ({"magnitude": float("nan")}, r"magnitude must be in \[0, 1\], got nan"),
        ({"border": "mirror"}, "border must be a valid mode, got 'mirror'"),
    ],
)
def test_bad_input(arguments, message, key):
    defaults = {"images": jnp.zeros((2, 4, 4, 3))}
    with pytest.raises(ValueError, match=message):
        image.rand_augment(key, **(defaults | arguments))
