"""`to_float`, `normalize` and `Preprocess`: exact values, errors, and JSON round trips."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcnn import data, image

BYTES = np.arange(256, dtype=np.uint8)
WAYS = {"eager": lambda function: function, "jit": jax.jit}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@every_way
# XLA compiles full vector registers and the remainder differently.
@pytest.mark.parametrize("copies", [1, 3])
def test_to_float_divides_by_255_exactly(way, copies):
    images = np.tile(BYTES, copies).reshape(1, 16, 16, copies)
    values = way(image.to_float)(images)
    expected = images.astype(np.float32) / np.float32(255)
    chex.assert_type(values, jnp.float32)
    np.testing.assert_array_equal(values, expected)


def test_to_float_is_exact_value_by_value():
    one = jax.jit(image.to_float)
    got = [one(np.full((1,), value, np.uint8)).item() for value in BYTES]
    assert got == [float(np.float32(value) / np.float32(255)) for value in BYTES]


@every_way
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_to_float_passes_floats_as_float32(way, dtype):
    images = jnp.array([[-1.0, 0.0], [0.1, 300.0]], dtype)
    values = way(image.to_float)(images)
    chex.assert_type(values, jnp.float32)
    np.testing.assert_array_equal(values, np.asarray(images, np.float32))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint16, np.bool_])
def test_to_float_rejects_dtypes_of_unknown_range(dtype):
    with pytest.raises(ValueError, match=f"images must be uint8 .* got {np.dtype(dtype)}"):
        image.to_float(np.ones((1, 2, 2, 1), dtype))


CHANNELS = st.integers(1, 4)


# With multiples of 1/8 and powers of two, subtraction and division are exact in any order.
@given(channels=CHANNELS, lead=st.sampled_from([(), (3,), (2, 3, 3)]), random=st.randoms())
def test_normalize_is_the_definition(channels, lead, random):
    mean = tuple(random.randint(-8, 8) / 8 for _ in range(channels))
    std = tuple(2.0 ** random.randint(-3, 3) for _ in range(channels))
    x = np.array([random.randint(0, 8) / 8 for _ in range(int(np.prod(lead)) * channels)])
    x = x.reshape(*lead, channels).astype(np.float32)
    chex.assert_trees_all_equal(image.normalize(jnp.asarray(x), mean, std), (x - mean) / std)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_normalize_with_imagenets_statistics(dtype):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    x = jnp.asarray(BYTES[:240].reshape(1, 4, 20, 3) / 255, dtype)
    expected = (np.asarray(x, np.float32) - np.float32(mean)) / np.float32(std)
    # Three roundings (mean, std, difference) of values up to 3, and one of the quotient.
    tolerance = 4 * float(jnp.finfo(dtype).eps) * 3
    for normalize in (image.normalize, jax.jit(image.normalize, static_argnums=(1, 2))):
        y = normalize(x, mean, std)
        chex.assert_type(y, dtype)
        chex.assert_trees_all_close(y.astype(jnp.float32), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5,), (1.0, 1.0, 1.0), r"mean must have shape \(3,\), got \(1,\)"),
        ((0.5,) * 3, (1.0,), r"std must have shape \(3,\), got \(1,\)"),
        ((), (1.0,) * 3, r"mean must have shape \(3,\), got \(0,\)"),
    ],
)
def test_normalize_rejects_wrong_lengths(mean, std, message):
    with pytest.raises(ValueError, match=message):
        image.normalize(jnp.zeros((2, 4, 4, 3)), mean, std)


def test_normalize_rejects_bytes():
    with pytest.raises(ValueError, match="images must be floating point, got uint8"):
        image.normalize(jnp.zeros((2, 4, 4, 3), jnp.uint8), (0.0,) * 3, (1.0,) * 3)


FASHION = image.Preprocess(size=(28, 28), channels=1, mean=(0.25,), std=(0.5,))
RGB = image.Preprocess(size=(2, 3), channels=3, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))


def test_preprocess_by_hand():
    pixel = np.array([255, 0, 51], np.uint8)
    images = np.broadcast_to(pixel, (2, 2, 3, 3))
    expected = np.broadcast_to(np.float32([1.0, -1.0, np.float32(51) / 255 / 2]), images.shape)
    chex.assert_trees_all_equal(RGB(images), expected)


@every_way
def test_preprocess_is_to_float_and_normalize(way):
    images = np.tile(BYTES, 4)[: 28 * 28].reshape(1, 28, 28, 1)
    whole = way(FASHION)(images)
    chex.assert_shape(whole, (1, 28, 28, 1))
    chex.assert_type(whole, jnp.float32)
    chex.assert_trees_all_equal(whole, FASHION.normalize(FASHION.to_float(images)))
    # Exact, because the mean is 1/4 and the standard deviation is 1/2.
    expected = (images.astype(np.float32) / np.float32(255) - np.float32(0.25)) * 2
    chex.assert_trees_all_equal(whole, expected)


def test_without_statistics_images_stay_in_0_to_1():
    plain = image.Preprocess(size=(2, 2), channels=3)
    assert (plain.mean, plain.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    images = np.full((1, 2, 2, 3), 51, np.uint8)
    chex.assert_trees_all_equal(plain(images), image.to_float(images))


def test_one_size_is_a_square():
    assert image.Preprocess(size=32, channels=1) == image.Preprocess(size=(32, 32), channels=1)


@pytest.mark.parametrize("shape", [(28, 28, 1), (4, 28, 28, 3), (4, 28, 27, 1), (4, 28, 28)])
def test_images_of_another_shape_are_rejected(shape):
    for call in (FASHION, FASHION.to_float, jax.jit(FASHION)):
        with pytest.raises(ValueError, match=r"images must be \[B, 28, 28, 1\], got shape"):
            call(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("size", (28, 28, 28), "size must be"),
        ("size", (0, 28), "size must be"),
        ("size", (28.0, 28), "size must be"),
        ("size", "28", "size must be"),
        ("channels", 0, "channels must be"),
        ("channels", 1.0, "channels must be"),
        ("channels", True, "channels must be"),
        ("mean", (0.5, 0.5), r"mean must be 1 finite numbers, got \(0.5, 0.5\)"),
        ("mean", (float("nan"),), r"mean must be 1 finite numbers, got \(nan,\)"),
        ("mean", 0.5, "mean must be"),
        ("mean", ("a",), "mean must be"),
        ("std", (1.0, 1.0, 1.0), "std must be 1 finite numbers"),
        ("std", (float("inf"),), "std must be 1 finite numbers"),
        ("std", (0.0,), r"std must be > 0, got \(0.0,\)"),
        ("std", (-1.0,), r"std must be > 0, got \(-1.0,\)"),
        ("std", 0.5, "std must be"),
    ],
)
def test_wrong_fields_are_rejected(field, value, message):
    with pytest.raises(ValueError, match=message):
        image.Preprocess(**{"size": (28, 28), "channels": 1, field: value})


def test_frozen_hashable_and_equal_by_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FASHION.channels = 3
    again = image.Preprocess(size=[28, 28], channels=1, mean=[0.25], std=[0.5])
    assert again == FASHION and hash(again) == hash(FASHION)
    assert dataclasses.replace(FASHION, mean=(0.5,)) != FASHION


@pytest.mark.parametrize(
    "preprocess",
    [
        FASHION,
        RGB,
        image.Preprocess(size=8, channels=2),
        # NumPy values, as computed from a dataset.
        image.Preprocess(
            size=(np.int64(8), 8), channels=np.int64(1), mean=np.float32([0.1]), std=[np.float64(2)]
        ),
    ],
    ids=["gray", "rgb", "default", "numpy"],
)
def test_json_round_trip(preprocess):
    text = json.dumps(dataclasses.asdict(preprocess))
    again = image.Preprocess(**json.loads(text))
    assert again == preprocess
    assert json.dumps(dataclasses.asdict(again)) == text


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(40, 61, 3), (90, 33, 3), (20, 20, 3)])
def test_resize_equals_the_decoding_of_files(shape, channels, tmp_path):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, shape, np.uint8)
    path = tmp_path / "image.png"
    PIL.Image.fromarray(coarse).save(path)
    preprocess = image.Preprocess(size=(20, 20), channels=channels)
    found = preprocess.resize(jnp.asarray(coarse)[None])
    assert found.shape == (1, 20, 20, channels) and found.dtype == jnp.uint8
    if (shape[0] - shape[1]) % 2 == 0:  # otherwise Pillow's crop cuts through a pixel
        expected = data.decode_image(path, size=(20, 20), channels=channels)
        assert np.abs(np.asarray(found[0], int) - expected).max() <= 2


def test_resize_repeats_gray_and_rejects_other_channels():
    preprocess = image.Preprocess(size=(4, 4), channels=3)
    gray = jnp.arange(16, dtype=jnp.uint8).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(preprocess.resize(gray), jnp.broadcast_to(gray, (1, 4, 4, 3)))
    with pytest.raises(
        ValueError, match=r"images must have 3 channels \(only .*\), got \(1, 4, 4, 2"
    ):
        preprocess.resize(gray.repeat(2, -1))
