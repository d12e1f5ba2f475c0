"""Sources: the embedded slice, checks in `from_arrays`, splits, `load`, archives."""

import hashlib
import importlib.resources
import io
import re
from pathlib import Path

import chex
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcnn import data
from jaxcnn.data import lazy

NOTICE = Path(__file__).parents[2] / "NOTICE"

# (size, number of examples per class, SHA-256 of the pixels, SHA-256 of the labels as int32)
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
    """Make images whose pixels all differ."""
    return np.arange(size * np.prod(shape)).reshape(size, *shape).astype(dtype)


def numbered(size):
    """Make a source whose labels are the positions of its examples."""
    return data.from_arrays(pixels(size, 2, 3, 1), np.arange(size))


@pytest.mark.parametrize("split", SLICE)
def test_the_embedded_slice_is_unchanged(split):
    size, counts, pixels_sha, labels_sha = SLICE[split]
    options = {} if split == "train" else {"split": split}  # train is the default
    source = data.load("fashion_mnist_slice", **options)
    chex.assert_shape(source.images, (size, 28, 28, 1))
    chex.assert_type([source.images, source.labels], [np.uint8, np.int32])
    assert len(source) == size
    assert np.bincount(source.labels).tolist() == counts
    assert hashlib.sha256(source.images.tobytes()).hexdigest() == pixels_sha
    assert hashlib.sha256(source.labels.astype("<i4").tobytes()).hexdigest() == labels_sha
    assert len(source.classes) == 10
    assert source.classes[0] == "T-shirt/top" and source.classes[9] == "Ankle boot"


def test_the_embedded_file_is_small_and_its_license_is_in_the_notice():
    file = importlib.resources.files("jaxcnn.data") / "fashion_mnist_slice.npz"
    assert len(file.read_bytes()) <= 8_000_000
    notice = " ".join(NOTICE.read_text().split())
    assert "jaxcnn/data/fashion_mnist_slice.npz" in notice
    assert "The MIT License (MIT) Copyright (c) 2017 Zalando SE" in notice
    assert "The above copyright notice and this permission notice shall be included" in notice
    assert 'THE SOFTWARE IS PROVIDED "AS IS"' in notice


def test_an_example_is_its_image_and_label():
    source = numbered(5)
    example = source[3]
    np.testing.assert_array_equal(example["image"], source.images[3])
    assert example["label"] == 3


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6, 2), (4, 5, 3), (2, 3, 4, 1)])
def test_from_arrays_keeps_values(shape, dtype):
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


TARGETS = [[0.5, -2.0], [1.5, 3.0], [0.0, 1e30]]

# Input labels, and the expected dtype, labels and classes.
KINDS = {
    "classes": (np.array([2, 0, 1]), np.int32, [2, 0, 1], ("0", "1", "2")),
    "small integers": (np.array([2, 0, 1], np.uint8), np.int32, [2, 0, 1], ("0", "1", "2")),
    "labels": ([[0, 1], [1, 1], [0, 0]], np.int32, [[0, 1], [1, 1], [0, 0]], ("0", "1")),
    "booleans": (
        [[False, True], [True, True], [False, False]],
        np.int32,
        [[0, 1], [1, 1], [0, 0]],
        ("0", "1"),
    ),
    "one label": (np.array([[1], [0], [1]], np.uint8), np.int32, [[1], [0], [1]], ("0",)),
    "no positive label": (np.zeros((3, 4), bool), np.int32, [[0] * 4] * 3, ("0", "1", "2", "3")),
    "one target": ([0.5, -2.0, 7.0], np.float32, [[0.5], [-2.0], [7.0]], ("0",)),
    "a column of targets": ([[0.5], [-2.0], [7.0]], np.float32, [[0.5], [-2.0], [7.0]], ("0",)),
    "half precision": (np.float16([1, 2, 3]), np.float32, [[1.0], [2.0], [3.0]], ("0",)),
    "targets": (TARGETS, np.float32, np.float32(TARGETS).tolist(), ("0", "1")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_every_kind(kind):
    labels, dtype, expected, classes = KINDS[kind]
    source = data.from_arrays(GOOD, labels)
    chex.assert_type(source.labels, dtype)
    assert source.labels.tolist() == expected
    assert source.classes == classes
    names = [f"class {n}" for n in range(len(classes))]
    assert data.from_arrays(GOOD, labels, classes=names).classes == tuple(names)
    # Subsets keep the shape of the labels.
    assert source.take(np.array([2, 0])).labels.tolist() == [expected[2], expected[0]]
    assert source[1]["label"].tolist() == expected[1]


GOOD = pixels(3, 4, 4, 1)
FLOATS = GOOD / 255


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (pixels(3, 4), [0, 0, 0], "images must be .* got shape (3, 4)"),
        (pixels(3, 1, 1, 1, 1, 1), [0, 0, 0], "images must be .* got shape (3, 1, 1, 1, 1, 1)"),
        (np.zeros((3, 4, 0, 1)), [0, 0, 0], "images must be .* got shape (3, 4, 0, 1)"),
        (np.zeros((0, 4, 4, 1)), [], "images must hold at least one example"),
        (GOOD, [0, 1], "or floats of shape (3,) or (3, D), got int64 of shape (2,)"),
        (GOOD, [[0, 1]], "labels must be integers of shape (3,) or (3, L), .* of shape (1, 2)"),
        (GOOD, [0.5, 1.5], "labels must be .* got float64 of shape (2,)"),
        (GOOD, [[], [], []], "labels must be .* got float64 of shape (3, 0)"),
        (GOOD, [[[0]], [[1]], [[0]]], "labels must be .* got int64 of shape (3, 1, 1)"),
        (GOOD, 1, "labels must be .* got int64 of shape ()"),
        (GOOD, ["a", "b", "c"], "labels must be .* got <U1 of shape (3,)"),
        (GOOD, [1j, 0, 1], "labels must be .* got complex128 of shape (3,)"),
        (GOOD, [None, 0, 1], "labels must be .* got object of shape (3,)"),
        (GOOD, [[0], [1], [2]], "labels of shape [N, L] must be 0 or 1"),
        (GOOD, [[0], [1], [-1]], "labels of shape [N, L] must be 0 or 1"),
        (GOOD, [0.0, np.nan, 2.0], "floating-point labels must be finite"),
        (GOOD, [[0.0], [1.0], [-np.inf]], "floating-point labels must be finite"),
        (GOOD, [0.0, 1.0, 1e39], "floating-point labels must be finite"),
        (GOOD, [0, 1, -2], "labels must be in 0..1 (2 classes), got -2 at index 2"),
        (GOOD.astype(np.int32), [0, 1, 2], "images must be uint8 or floating point, got int32"),
        (GOOD > 3, [0, 1, 2], "images must be uint8 or floating point, got bool"),
        (GOOD * 1.0, [0, 1, 2], "got values from 0.0 to 47.0; divide 0..255 values by 255"),
        (FLOATS - 0.5, [0, 1, 2], "in [0, 1], got values from -0.5 to "),
        (np.where(GOOD == 5, np.nan, FLOATS), [0, 1, 2], "in [0, 1], got values from nan to nan"),
        (np.where(GOOD == 5, np.inf, FLOATS), [0, 1, 2], "in [0, 1], got values from 0.0 to inf"),
    ],
)
def test_wrong_arrays_are_rejected(images, labels, message):
    pattern = ".*".join(re.escape(part) for part in message.split(".*"))
    with pytest.raises(ValueError, match=pattern):
        data.from_arrays(images, np.array(labels, int) if labels == [] else np.array(labels))


def test_a_label_without_a_class_is_named():
    message = re.escape("labels must be in 0..1 (2 classes), got 2 at index 1")
    with pytest.raises(ValueError, match=message):
        data.from_arrays(GOOD, np.array([0, 2, 7]), classes=["a", "b"])


@pytest.mark.parametrize("labels", [[[0, 1, 1]] * 3, [[0.5, 1.5, 2.5]] * 3])
def test_every_column_needs_a_name(labels):
    message = re.escape("classes must have one name for each of 3 label columns, got 2 names")
    with pytest.raises(ValueError, match=message):
        data.from_arrays(GOOD, labels, classes=["a", "b"])


@pytest.mark.parametrize("largest", [100_000, 2**40, 2**63])
def test_huge_labels_are_rejected_quickly(largest):
    message = f"labels must be below 100000 unless classes is given, got {largest} at"
    with pytest.raises(ValueError, match=message):
        data.from_arrays(GOOD, np.array([0, largest, 1], np.uint64))
    assert len(data.from_arrays(GOOD, np.array([0, 99_999, 1])).classes) == 100_000


class Several:
    """A source that can return several examples at once, and counts calls of both kinds."""

    def __init__(self, rows):
        self.rows, self.single, self.several = rows, 0, 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        self.single += 1
        return self.rows[index]

    def __getitems__(self, indices):
        self.several += 1
        return [self.rows[index] for index in indices]


def rows_of(count):
    return [{"image": np.full((3, 3, 1), i % 256, np.uint8), "label": i % 2} for i in range(count)]


@pytest.mark.parametrize("cached", [True, False])
def test_several_examples_are_read_at_once(cached, monkeypatch):
    if not cached:
        monkeypatch.setattr(lazy, "free_memory", lambda: 0)
    monkeypatch.setattr(lazy, "workers", lambda: 2)
    several = Several(rows_of(640))
    source = data.from_source(several, size=(3, 3), channels=1)
    several.several = 0
    for epoch in range(2):
        for batch in data.batches(source, 32, seed=0).epoch(epoch):
            np.testing.assert_array_equal(batch.image[:, 0, 0, 0], batch.index % 256)
    np.testing.assert_array_equal(source.images[:][:, 0, 0, 0], np.arange(640) % 256)
    assert several.single == 0
    # 20 batches of 32 rows per epoch, each read by two threads; then all rows, at most 256 at once.
    assert several.several == (40 if cached else 40 * 2 + 4)


def test_an_unreadable_example_among_several_is_found():
    rows = rows_of(40)
    rows[7] = {"image": b"not an image", "label": 1}
    rows[20] = {"label": 0}
    source = data.from_source(Several(rows), size=(3, 3), channels=1, on_bad="skip")
    good = [i for b in data.batches(source, 16, seed=0).epoch(0) for i in b.index[b.mask]]
    assert sorted(good) == sorted(set(range(40)) - {7, 20})
    assert sorted(source.bad) == [7, 20]
    assert "got label at index 20" in source.bad[20].reason
    with pytest.raises(ValueError, match="image number 7 "):
        data.from_source(Several(rows), size=(3, 3), channels=1).images[5:9]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": GOOD[0]}, "must return mappings with image and label, got image at index 2"),
        ((GOOD[0], 1), "must return mappings with image and label, got tuple at index 2"),
        ({"image": GOOD[0], "label": [1, 0]}, r"got \(\) in the first and \(2,\) at index 2"),
    ],
)
def test_examples_without_a_label_are_named(row, message):
    with pytest.raises(ValueError, match=message):
        data.from_source([*rows_of(2), row], size=(3, 3), channels=1)


@given(size=st.integers(2, 60), count=st.data())
def test_hold_out_is_a_partition(size, count):
    wanted = count.draw(st.integers(1, size - 1))
    source = numbered(size)
    train, validation = data.hold_out(source, wanted / size)
    assert len(validation) == wanted
    assert sorted([*train.labels, *validation.labels]) == list(range(size))
    for part in (train, validation):
        # The examples are in the source's order, and each image is still with its label.
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
def test_hold_out_rejects_bad_fractions(fraction):
    with pytest.raises(ValueError, match=rf"fraction must .* got {fraction}$"):
        data.hold_out(numbered(5), fraction)


@given(size=st.integers(2, 60), draw=st.data())
def test_every_example_is_in_exactly_one_fold(size, draw):
    folds = draw.draw(st.integers(2, size))
    source, held = numbered(size), []
    for fold in range(folds):
        train, validation = data.take_fold(source, folds, fold)
        assert sorted([*train.labels, *validation.labels]) == list(range(size))
        assert len(validation) in (size // folds, -(-size // folds))
        for part in (train, validation):
            # The examples are in the source's order, and each image is still with its label.
            assert part.labels.tolist() == sorted(part.labels)
            np.testing.assert_array_equal(part.images, source.images[part.labels])
            assert part.classes == source.classes
        held += validation.labels.tolist()
    assert sorted(held) == list(range(size))


def test_folds_depend_on_the_size_alone_and_are_shuffled():
    other = data.from_arrays(np.ones((20, 3, 3, 2), np.float32), np.arange(20)[::-1])
    for fold in range(4):
        held = data.take_fold(numbered(20), 4, fold)[1].labels
        assert sorted(19 - data.take_fold(other, 4, fold)[1].labels) == held.tolist()
        assert held.max() - held.min() > 5
    # The first of four folds is the quarter that `hold_out` takes.
    assert data.take_fold(numbered(20), 4, 0)[1].labels.tolist() == [0, 3, 8, 9, 19]


@pytest.mark.parametrize(
    ("folds", "fold", "message"),
    [
        (1, 0, "folds must be an integer in \\[2, 5\\], got 1"),
        (0, 0, "folds must be an integer in \\[2, 5\\], got 0"),
        (-2, 0, "folds must be an integer in \\[2, 5\\], got -2"),
        (6, 0, "folds must be an integer in \\[2, 5\\], got 6"),
        (3, 3, "fold must be an integer in \\[0, 2\\], got 3"),
        (3, -1, "fold must be an integer in \\[0, 2\\], got -1"),
    ],
)
def test_take_fold_rejects_bad_numbers(folds, fold, message):
    with pytest.raises(ValueError, match=message):
        data.take_fold(numbered(5), folds, fold)


SPLITS = {
    "train_images": pixels(4, 3, 3, 1),
    "train_labels": np.array([0, 1, 1, 0]),
    "test_images": pixels(2, 3, 3, 1) + 1,
    "test_labels": np.array([1, 0]),
    "classes": np.array(["cat", "dog"]),
}


def saved(path, **arrays):
    """Write the arrays to an archive, and return its path as a string."""
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_archive_holds_both_splits(split, save, tmp_path):
    save(tmp_path / "x.npz", **SPLITS)
    source = data.load(str(tmp_path / "x.npz"), split=split)
    np.testing.assert_array_equal(source.images, SPLITS[f"{split}_images"])
    np.testing.assert_array_equal(source.labels, SPLITS[f"{split}_labels"])
    assert source.classes == ("cat", "dog")
    assert all(type(name) is str for name in source.classes)


@pytest.mark.parametrize("labels", [np.eye(4, 3, dtype=bool), np.linspace(-1, 1, 4)])
def test_archives_may_hold_any_labels_without_names(labels, tmp_path):
    path = saved(tmp_path / "x.npz", train_images=SPLITS["train_images"], train_labels=labels)
    source, expected = data.load(path), data.from_arrays(SPLITS["train_images"], labels)
    np.testing.assert_array_equal(source.labels, expected.labels)
    assert source.classes == expected.classes


def test_a_missing_archive_is_named(tmp_path):
    for path in (tmp_path / "absent.npz", tmp_path / "folder.npz"):
        (tmp_path / "folder.npz").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=re.escape(f"there is no file {path}")):
            data.load(str(path))


def without(*names):
    return {name: array for name, array in SPLITS.items() if name not in names}


ARCHIVES = {
    "no images": (without("test_images"), "it does not contain test_images, only train_images"),
    "no labels": (without("test_labels"), "it does not contain test_labels, only train_images"),
    "pickled labels": (
        SPLITS | {"test_labels": np.array([1, None], object)},
        "contains Python objects",
    ),
    "pickled images": (
        SPLITS | {"test_images": np.array([[1], [1, 2]], object)},
        "contains Python objects",
    ),
    "pickled names": (
        SPLITS | {"classes": np.array(["cat", None], object)},
        "contains Python objects",
    ),
    "wrong images": (
        SPLITS | {"test_images": np.ones((2, 3, 3, 1), int)},
        "images must be uint8 or floating point, got int64",
    ),
    "wrong labels": (SPLITS | {"test_labels": np.array([0, 2])}, "got 2 at index 1"),
    "too few labels": (SPLITS | {"test_labels": np.array([0])}, "labels must be .* of shape (1,)"),
    "number instead of class names": (SPLITS | {"classes": np.array(2)}, "classes"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_cannot_be_used_is_named(name, tmp_path):
    arrays, message = ARCHIVES[name]
    path = saved(tmp_path / "x.npz", **arrays)
    parts = [f"data file {path} cannot be used: ", *message.split(".*")]
    with pytest.raises(ValueError, match=".*".join(map(re.escape, parts))):
        data.load(path, split="test")


def archive(save, **arrays):
    """Return the bytes of an archive of the arrays."""
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def array(values):
    """Return the bytes of an ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


DAMAGED = {
    "empty": b"",
    "text": b"train_images",
    "one array": array(SPLITS["train_images"]),
    "a pickle": array(np.array([None])),
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_files_that_are_not_archives_are_rejected(content, tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"data file {path} cannot be used: ")):
        data.load(str(path))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_truncated_archive_is_rejected(save, tmp_path):
    whole, path = archive(save, **SPLITS), tmp_path / "x.npz"
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=re.escape(f"data file {path} cannot be used: ")):
            data.load(str(path))


def test_flipped_bits_of_an_archive_are_found(tmp_path):
    arrays = {name: array for name, array in SPLITS.items() if name.startswith("train")}
    whole, path = archive(np.savez_compressed, **arrays), tmp_path / "x.npz"
    path.write_bytes(whole)
    expected = data.load(str(path))
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            source = data.load(str(path))
        except ValueError as error:
            assert f"data file {path} cannot be used: " in str(error)
        else:
            # Undetected changes must be in bytes that hold no data, such as dates.
            np.testing.assert_array_equal(source.images, expected.images)
            np.testing.assert_array_equal(source.labels, expected.labels)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("fashion-mnist", "fashion_mnist"),
        ("fashion_mnist_slices", "fashion_mnist_slice"),
        ("photographs", None),
    ],
)
def test_an_unknown_name_gets_a_hint(name, meant):
    with pytest.raises(ValueError, match="data must name a dataset") as caught:
        data.load(name)
    assert repr(name) in str(caught.value)
    assert "Accepted: caltech101, caltech256, cifar10" in str(caught.value)
    assert (f"Did you mean {meant!r}?" in str(caught.value)) == (meant is not None)
    assert meant or "Did you mean" not in str(caught.value)


def test_an_unknown_split_is_rejected():
    with pytest.raises(
        ValueError, match="split of fashion_mnist_slice must be train or test, got 'validation'"
    ):
        data.load("fashion_mnist_slice", split="validation")


def test_an_unknown_name_to_prepare_gets_a_hint():
    with pytest.raises(ValueError, match=r"got 'fashion_mnits'.* mean 'fashion_mnist'"):
        data.prepare("fashion_mnits")
