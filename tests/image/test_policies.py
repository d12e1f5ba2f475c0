"""RandAugment and TrivialAugment: every result is one of Pillow's operations, all as often."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
import pytest

from jaxcnn import image

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
PIXELS[4:12, 3:9] //= 2  # so that shares of the histogram differ
LEVELS = np.arange(31) / 30
SIGNED = np.concatenate([LEVELS, -LEVELS[1:]])


def pillows(factor, bits):
    """Of the operations that leave pixels where they are: ``{name: [results in [0, 1]]}``."""
    picture = PIL.Image.fromarray(PIXELS)
    enhancers = {
        "brightness": PIL.ImageEnhance.Brightness(picture),
        "color": PIL.ImageEnhance.Color(picture),
        "contrast": PIL.ImageEnhance.Contrast(picture),
        "sharpness": PIL.ImageEnhance.Sharpness(picture),
    }
    results = {
        name: [enhancer.enhance(1 + factor * level) for level in SIGNED[1:]]
        for name, enhancer in enhancers.items()
    }
    results |= {
        "identity": [picture],
        "posterize": [PIL.ImageOps.posterize(picture, n) for n in range(8 - bits, 8)],
        "solarize": [PIL.ImageOps.solarize(picture, 255 * (1 - level)) for level in LEVELS[1:]],
        "autocontrast": [PIL.ImageOps.autocontrast(picture)],
        "equalize": [PIL.ImageOps.equalize(picture)],
    }
    return {name: np.stack(list(map(np.asarray, list_))) / 255 for name, list_ in results.items()}


def warps(shear, shift, angle):
    """Of the operations that move pixels."""
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


def recognised(results, candidates):
    """How many results are of each operation; those of none under None."""
    counts = dict.fromkeys([*candidates, None], 0)
    for result in results:
        # Bytes are rounded by Pillow in between, and a limit can fall on either side of one level.
        names = [
            name
            for name, options in candidates.items()
            if ((np.abs(options - result) < 2.5 / 255).mean((1, 2, 3)) > 0.97).any()
        ]
        counts[names[0] if names else None] += 1
    return counts


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
    candidates = pillows(factor, bits) | warps(*moves)
    images = jnp.broadcast_to(jnp.asarray(PIXELS / 255, jnp.float32), (560, *PIXELS.shape))
    counts = recognised(np.asarray(jax.jit(policy)(key, images)), candidates)
    assert counts.pop(None) == 0
    # 40 expected of each, with a deviation of 6; the weakest magnitudes look like the identity.
    assert min(counts.values()) > 15 and max(counts.values()) < 100, counts


def test_operations_follow_each_other(key):
    """Two of magnitude 0 leave what few operations change without one."""
    images = jnp.broadcast_to(jnp.asarray(PIXELS / 255, jnp.float32), (200, *PIXELS.shape))
    weak = image.rand_augment(key, images, operations=2, magnitude=0.0)
    strong = image.rand_augment(key, images, operations=2, magnitude=1.0)
    alike = [np.isclose(x, images, atol=1e-6).all((1, 2, 3)).mean() for x in (weak, strong)]
    # Autocontrast and equalize know no magnitude, solarize turns white at any: (11 / 14) ** 2 is
    # 0.62; of the strongest, (1 / 14) ** 2 is 0.005.
    assert 0.5 < alike[0] < 0.75 and alike[1] < 0.05


def test_grey_images_too(key):
    grey = jnp.asarray(PIXELS[None, ..., :1] / 255, jnp.float32).repeat(50, 0)
    for policy in (image.rand_augment, image.trivial_augment):
        changed = policy(key, grey)
        assert changed.shape == grey.shape and changed.min() >= 0 and changed.max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": jnp.zeros((2, 4, 4, 2))}, r"images must have 1 or 3 channels, got"),
        ({"images": jnp.zeros((2, 4, 4, 3), jnp.uint8)}, "images must be floating point"),
        ({"images": jnp.zeros((4, 4, 3))}, r"images must be \[B, H, W, C\]"),
        ({"operations": 0}, "operations must be"),
        ({"magnitude": 1.5}, r"magnitude must be in \[0, 1\], got 1.5"),
        ({"magnitude": float("nan")}, r"magnitude must be in \[0, 1\], got nan"),
        ({"border": "mirror"}, "border must be known, got 'mirror'"),
    ],
)
def test_bad_input(arguments, message, key):
    defaults = {"images": jnp.zeros((2, 4, 4, 3))}
    with pytest.raises(ValueError, match=message):
        image.rand_augment(key, **(defaults | arguments))
