"""Sources: the embedded slice bit by bit, `from_arrays` at the door, `hold_out` and `load`."""

import hashlib
import importlib.resources
import re
from pathlib import Path

import chex
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcnn import data

NOTICE = Path(__file__).parents[2] / "NOTICE"

# (size, examples of each class, SHA-256 of the pixels, SHA-256 of the labels as int32)
SLICE = {
    "train": (
        10_000,
        [942, 1027, 1016, 1019, 974, 989, 1021, 1022, 990, 1000],
        "2929ae1c7b89e0ee6587bbe4911fd5f0a5dafe21ae6ed9b737173cbfe20c12c9",
        "64b3f6a2187dc1bd09fd7cf5d1eeba0c5fb33b36eaaa556da3aa6cb0868230a7",
    ),
    "test": (
        2_000,
        [200, 203, 214, 190, 219, 195, 197, 200, 194, 188],
        "09bbac78738f0229a68f7ca74e62665d7fb34f45ea7a3509ab5c4a202c1370de",
        "3520902d993df25b4551a166d9d41081a8bd3a06ef7ce86c39c1459229f9c6f4",
    ),
}


def pixels(size, *shape, dtype=np.uint8):
    """Images that differ everywhere."""
    return np.arange(size * np.prod(shape)).reshape(size, *shape).astype(dtype)


def numbered(size):
    """A source whose labels are the positions of its examples."""
    return data.from_arrays(pixels(size, 2, 3, 1), np.arange(size))


@pytest.mark.parametrize("split", SLICE)
def test_the_embedded_slice_is_the_one_that_was_shipped(split):
    size, counts, pixels_sha, labels_sha = SLICE[split]
    source = data.load("fashion_mnist_slice", split=split)
    chex.assert_shape(source.images, (size, 28, 28, 1))
    chex.assert_type([source.images, source.labels], [np.uint8, np.int32])
    assert len(source) == size
    assert np.bincount(source.labels).tolist() == counts
    assert hashlib.sha256(source.images.tobytes()).hexdigest() == pixels_sha
    assert hashlib.sha256(source.labels.astype("<i4").tobytes()).hexdigest() == labels_sha
    assert len(source.classes) == 10
    assert source.classes[0] == "T-shirt/top" and source.classes[9] == "Ankle boot"


def test_the_embedded_file_is_small_and_its_licence_is_in_the_notice():
    file = importlib.resources.files("jaxcnn.data") / "fashion_mnist_slice.npz"
    assert len(file.read_bytes()) <= 8_000_000
    notice = " ".join(NOTICE.read_text().split())
    assert "jaxcnn/data/fashion_mnist_slice.npz" in notice
    assert "The MIT License (MIT) Copyright (c) 2017 Zalando SE" in notice
    assert "The above copyright notice and this permission notice shall be included" in notice
    assert 'THE SOFTWARE IS PROVIDED "AS IS"' in notice


def test_train_is_the_default_split():
    default, train = (
        data.load("fashion_mnist_slice"),
        data.load("fashion_mnist_slice", split="train"),
    )
    np.testing.assert_array_equal(default.labels, train.labels)


def test_an_example_is_its_image_and_label():
    source = numbered(5)
    example = source[3]
    np.testing.assert_array_equal(example["image"], source.images[3])
    assert example["label"] == 3


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6, 2), (4, 5, 3), (2, 3, 4, 1)])
def test_arrays_arrive_as_they_are(shape, dtype):
    images = pixels(3, *shape, dtype=dtype)
    if dtype != np.uint8:
        images = images / images.max()
    source = data.from_arrays(images, np.array([2, 0, 1], np.int64))
    chex.assert_type(source.images, np.uint8 if dtype == np.uint8 else np.float32)
    chex.assert_type(source.labels, np.int32)
    np.testing.assert_array_equal(source.images, images.astype(source.images.dtype))
    assert source.labels.tolist() == [2, 0, 1]
    assert source.classes == ("0", "1", "2")


def test_lists_and_the_ends_of_the_float_range_are_accepted():
    source = data.from_arrays([[[0.0], [1.0]]], [1], classes=["cat", "dog"])
    assert source.images.tolist() == [[[0.0], [1.0]]]
    assert source.classes == ("cat", "dog")


@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 5), (3, 2, 4, 5)])
def test_channels_first_is_a_transposition(shape):
    images = pixels(2, *shape)
    source = data.from_arrays(images, np.zeros(2, int), channels_first=True)
    last = np.transpose(images, (0, *range(2, images.ndim), 1))
    np.testing.assert_array_equal(source.images, last)
    assert source.images.flags.c_contiguous
    again = data.from_arrays(last, np.zeros(2, int))
    np.testing.assert_array_equal(source.images, again.images)


GOOD = pixels(3, 4, 4, 1)
FLOATS = GOOD / 255


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (pixels(3, 4), [0, 0, 0], "images must be .* got shape (3, 4)"),
        (pixels(3, 1, 1, 1, 1, 1), [0, 0, 0], "images must be .* got shape (3, 1, 1, 1, 1, 1)"),
        (np.zeros((3, 4, 0, 1)), [0, 0, 0], "images must be .* got shape (3, 4, 0, 1)"),
        (np.zeros((0, 4, 4, 1)), [], "images must hold at least one example"),
        (GOOD, [0, 1], "labels must be integers of shape (3,), got int64 of shape (2,)"),
        (GOOD, [[0], [1], [2]], "labels must be integers of shape (3,), .* of shape (3, 1)"),
        (GOOD, [0.0, 1.0, 2.0], "labels must be integers of shape (3,), got float64"),
        (GOOD, [True, False, True], "labels must be integers of shape (3,), got bool"),
        (GOOD, [0, 1, -2], "labels must be in 0..1 (2 classes), got -2 at index 2"),
        (GOOD.astype(np.int32), [0, 1, 2], "images must be uint8 or floating point, got int32"),
        (GOOD > 3, [0, 1, 2], "images must be uint8 or floating point, got bool"),
        (GOOD * 1.0, [0, 1, 2], "in [0, 1], got values from 0.0 to 47.0; divide 0..255 by 255"),
        (FLOATS - 0.5, [0, 1, 2], "in [0, 1], got values from -0.5 to "),
        (np.where(GOOD == 5, np.nan, FLOATS), [0, 1, 2], "in [0, 1], got values from nan to nan"),
        (np.where(GOOD == 5, np.inf, FLOATS), [0, 1, 2], "in [0, 1], got values from 0.0 to inf"),
    ],
)
def test_wrong_arrays_are_refused(images, labels, message):
    pattern = ".*".join(re.escape(part) for part in message.split(".*"))
    with pytest.raises(ValueError, match=pattern):
        data.from_arrays(images, np.array(labels, int) if labels == [] else np.array(labels))


def test_a_label_without_a_class_is_named():
    message = re.escape("labels must be in 0..1 (2 classes), got 2 at index 1")
    with pytest.raises(ValueError, match=message):
        data.from_arrays(GOOD, np.array([0, 2, 7]), classes=["a", "b"])


@given(size=st.integers(2, 60), count=st.data())
def test_hold_out_is_a_partition(size, count):
    wanted = count.draw(st.integers(1, size - 1))
    source = numbered(size)
    train, validation = data.hold_out(source, wanted / size)
    assert len(validation) == wanted
    assert sorted([*train.labels, *validation.labels]) == list(range(size))
    for part in (train, validation):
        # In the source's order, and each image still with its label.
        assert part.labels.tolist() == sorted(part.labels)
        np.testing.assert_array_equal(part.images, source.images[part.labels])
        assert part.classes == source.classes


def test_hold_out_depends_on_size_and_fraction_alone():
    other = data.from_arrays(np.ones((20, 3, 3, 2), np.float32), np.arange(20)[::-1])
    held = data.hold_out(numbered(20), 0.25)[1].labels
    assert held.tolist() == [0, 3, 8, 9, 19]
    assert sorted(19 - data.hold_out(other, 0.25)[1].labels) == held.tolist()


def test_hold_out_of_nothing_keeps_everything():
    train, validation = data.hold_out(numbered(4), 0.0)
    assert train.labels.tolist() == [0, 1, 2, 3]
    assert len(validation) == 0


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan"), 0.01, 0.99])
def test_hold_out_refuses(fraction):
    with pytest.raises(ValueError, match=rf"fraction must .* got {fraction}$"):
        data.hold_out(numbered(5), fraction)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("fashion-mnist", "fashion_mnist"),
        ("fashion_mnist_slices", "fashion_mnist_slice"),
        ("MNIST", None),
    ],
)
def test_an_unknown_name_is_refused_with_a_hint(name, meant):
    with pytest.raises(ValueError, match="data must name a data set") as caught:
        data.load(name)
    assert repr(name) in str(caught.value)
    assert "Accepted: fashion_mnist, fashion_mnist_slice" in str(caught.value)
    assert (f"Did you mean {meant!r}?" in str(caught.value)) == (meant is not None)
    assert meant or "Did you mean" not in str(caught.value)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split must be one of train, test, got 'validation'"):
        data.load("fashion_mnist_slice", split="validation")


def test_an_unknown_name_to_prepare_is_refused_with_a_hint():
    with pytest.raises(ValueError, match=r"got 'fashion_mnits'.* mean 'fashion_mnist'"):
        data.prepare("fashion_mnits")
