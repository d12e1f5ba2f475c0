"""`ImageDataGenerator` against Keras's: equal images and statistics for equal parameters."""

import importlib
import os

import numpy as np
import PIL.Image
import pytest

from jaxcnn.data import ImageDataGenerator

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:.*scipy.ndimage.*:DeprecationWarning"),
]

OPTIONS = {
    "rotation_range": 40,
    "width_shift_range": 0.3,
    "height_shift_range": 0.3,
    "shear_range": 30.0,
    "zoom_range": 0.4,
    "channel_shift_range": 60.0,
    "brightness_range": (0.4, 1.6),
    "horizontal_flip": True,
    "vertical_flip": True,
}


@pytest.fixture(scope="module")
def keras_generator():
    os.environ["KERAS_BACKEND"] = "torch"
    return importlib.import_module("keras.src.legacy.preprocessing.image").ImageDataGenerator


def images_of(*shape):
    """Make values from 0 to 255 that are not close to a rounding boundary."""
    return (np.random.default_rng(0).integers(0, 255, shape) + 0.3).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("fill_mode", ["nearest", "reflect", "wrap", "constant"])
@pytest.mark.parametrize("size", [1, 7, 16])
def test_a_transform_of_given_parameters(keras_generator, size, fill_mode, order, channels):
    options = {"fill_mode": fill_mode, "cval": 9.0, "interpolation_order": order}
    theirs = keras_generator(**OPTIONS, **options)
    ours = ImageDataGenerator(**OPTIONS, **options)
    x = images_of(size, size, channels)
    for seed in range(20):
        parameters = theirs.get_random_transform(x.shape, seed)
        if seed % 2:
            parameters["brightness"] = None  # rounding to integers would hide small differences
        expected = theirs.apply_transform(x.copy(), parameters)
        found = np.asarray(ours.apply_transform(x, parameters))
        alike = np.abs(found - expected) < 0.02
        # Rounding errors can change rounded integers, and which of two pixels is nearest.
        assert alike.mean() > (0.97 if order == 0 or not seed % 2 else 1 - 1e-9), parameters
        assert order == 0 or np.abs(found - expected).max() < 2.7


def test_brightness_outside_the_range_of_bytes(keras_generator):
    x = images_of(6, 6, 3) * 3 - 200
    for factor in (0.5, 1.0, 1.7):
        expected = keras_generator().apply_transform(x.copy(), {"brightness": factor})
        found = ImageDataGenerator().apply_transform(x, {"brightness": factor})
        step = (x.max() - x.min()) / 255
        assert np.abs(found - expected).max() < 1.01 * step * max(factor, 1)
        assert np.isclose(found, expected, atol=1e-2).mean() > 0.9


@pytest.mark.filterwarnings("ignore:This ImageDataGenerator specifies")
@pytest.mark.parametrize(
    "options",
    [
        {"rescale": 1 / 255},
        {"samplewise_center": True},
        {"samplewise_std_normalization": True},
        {"featurewise_center": True, "rescale": 1 / 255},
        {"featurewise_std_normalization": True},
        {"zca_whitening": True, "zca_epsilon": 1e-2},
        {"preprocessing_function": lambda x: x**2 / 100, "rescale": 0.5},
    ],
)
def test_normalization(keras_generator, options):
    x = images_of(300, 6, 5, 3)
    ours, theirs = ImageDataGenerator(**options), keras_generator(**options)
    ours.fit(x)
    theirs.fit(x.copy())
    for name in ("mean", "std"):
        if getattr(theirs, name) is not None:
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-4)
    expected = np.stack([theirs.standardize(image.copy()) for image in x[:10]])
    found = ours.standardize(x[:10])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore:the validation subset has no image of class b")
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "box"])
@pytest.mark.parametrize("color_mode", ["rgb", "rgba", "grayscale"])
@pytest.mark.parametrize("subset", [None, "training", "validation"])
def test_files_of_a_directory(keras_generator, tmp_path, interpolation, color_mode, subset):
    rng = np.random.default_rng(0)
    for label, sizes in (("b", [(30, 20), (9, 50), (16, 12)]), ("a", [(8, 8)] * 4)):
        (tmp_path / label).mkdir()
        for number, size in enumerate(sizes):
            pixels = rng.integers(0, 256, (*size, 3), np.uint8)
            PIL.Image.fromarray(pixels).save(tmp_path / label / f"{number}.png")
    options = {
        "target_size": (16, 12),
        "color_mode": color_mode,
        "interpolation": interpolation,
        "class_mode": "categorical",
        "shuffle": False,
        "subset": subset,
        "batch_size": 10,
    }
    ours = ImageDataGenerator(validation_split=0.3).flow_from_directory(tmp_path, **options)
    theirs = keras_generator(validation_split=0.3).flow_from_directory(tmp_path, **options)
    assert list(ours.filenames) == theirs.filenames
    assert ours.class_indices == theirs.class_indices
    for one, other in zip(next(iter(ours)), theirs[0], strict=True):
        np.testing.assert_array_equal(one, other)


def alike(ours, theirs, *names):
    """Compare attributes, and the batches by number."""
    for name in names:
        one, other = getattr(ours, name), getattr(theirs, name)
        if isinstance(other, str | dict | int):
            assert one == other, name
        else:
            np.testing.assert_array_equal(one, other, name)
    assert len(ours) == len(theirs)
    for number in range(len(theirs)):
        for one, other in zip(ours[number], theirs[number], strict=True):
            if isinstance(other, list):
                for column, expected in zip(one, other, strict=True):
                    np.testing.assert_array_equal(column, expected)
            else:
                np.testing.assert_array_equal(one, other)
    first = next(theirs)
    theirs.reset()
    ours.reset()
    np.testing.assert_array_equal(next(ours)[0], first[0])


def test_attributes_and_batches_by_number(keras_generator, tmp_path):
    pandas = importlib.import_module("pandas")  # only in this environment
    names = []
    for label, count in (("a", 4), ("b", 3)):
        (tmp_path / label).mkdir()
        for number in range(count):
            PIL.Image.new("RGB", (8, 6), (40 * number, 0, 9)).save(
                tmp_path / label / f"{number}.png"
            )
            names.append(f"{label}/{number}.png")
    options = {"target_size": (6, 8), "batch_size": 3, "shuffle": False}
    shared = ("n", "samples", "batch_size", "image_shape", "filenames", "filepaths", "labels")
    for class_mode in ("categorical", "sparse", "binary"):
        ours, theirs = (
            make().flow_from_directory(tmp_path, class_mode=class_mode, **options)
            for make in (ImageDataGenerator, keras_generator)
        )
        alike(ours, theirs, *shared, "classes", "class_indices", "num_classes")
    table = pandas.DataFrame({"filename": names, "x": np.arange(7.0), "y": np.arange(7) % 2})
    for class_mode in ("raw", "multi_output"):
        ours, theirs = (
            make().flow_from_dataframe(
                table, tmp_path, y_col=["x", "y"], class_mode=class_mode, **options
            )
            for make in (ImageDataGenerator, keras_generator)
        )
        alike(ours, theirs, "n", "samples", "batch_size", "image_shape", "filenames", "filepaths")
