"""Keras's generator: meaning of the options, seeded randomness, epochs, bad input."""

import itertools

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxcnn.data import ImageDataGenerator

IMAGES = np.random.default_rng(0).integers(0, 256, (23, 9, 9, 3)).astype(np.float32)
LABELS = np.arange(23) % 4
EVERYTHING = {
    "rotation_range": 30,
    "width_shift_range": 0.2,
    "height_shift_range": 0.2,
    "shear_range": 20.0,
    "zoom_range": 0.3,
    "channel_shift_range": 40.0,
    "brightness_range": (0.5, 1.5),
    "horizontal_flip": True,
    "vertical_flip": True,
}


# Applying brightness rounds to integers, so small rounding errors can change the result.
CONTINUOUS = {name: value for name, value in EVERYTHING.items() if name != "brightness_range"}


def inverse(parameters, size):
    """Return the map from a (row, column) in the result to one in the image, as in Keras."""
    theta, shear = (np.deg2rad(parameters[name]) for name in ("theta", "shear"))
    cosine, sine = np.cos(theta), np.sin(theta)
    linear = (
        np.array([[cosine, -sine], [sine, cosine]])
        @ np.array([[1, -np.sin(shear)], [0, np.cos(shear)]])
        @ np.diag([parameters["zx"], parameters["zy"]])
    )[::-1, ::-1]
    moved = np.array([[cosine, sine], [-sine, cosine]]) @ [parameters["ty"], parameters["tx"]]
    middle = (np.array(size) - 1) / 2
    return linear, middle - linear @ middle + moved


@pytest.mark.parametrize("mode", ["nearest", "reflect", "wrap", "constant"])
def test_moved_images_equal_those_of_scipy(mode):
    generator = ImageDataGenerator(**EVERYTHING, fill_mode=mode, cval=7.0)
    images = (IMAGES[0], IMAGES[1, :5]) if mode == "nearest" else (IMAGES[1, :5],)
    for image, seed in itertools.product(images, range(4)):
        drawn = generator.get_random_transform(image.shape, seed)
        moves = {name: drawn[name] for name in ("theta", "tx", "ty", "shear", "zx", "zy")}
        linear, offset = inverse(moves, image.shape[:2])
        expected = [
            scipy.ndimage.affine_transform(plane, linear, offset, order=1, mode=mode, cval=7.0)
            for plane in np.moveaxis(image, -1, 0).astype(np.float64)
        ]
        found = generator.apply_transform(image, moves)
        np.testing.assert_allclose(found, np.moveaxis(expected, 0, -1), atol=0.02)


def test_the_rest_of_a_transform_by_hand():
    generator, image = ImageDataGenerator(), IMAGES[0]
    shifted = generator.apply_transform(image, {"channel_shift_intensity": 30.0})
    np.testing.assert_allclose(shifted, np.clip(image + 30, image.min(), image.max()))
    np.testing.assert_array_equal(
        generator.apply_transform(image, {"flip_horizontal": True, "flip_vertical": True}),
        image[::-1, ::-1],
    )
    dark = generator.apply_transform(image, {"brightness": 0.5})
    np.testing.assert_array_equal(dark, np.floor(image * 0.5))
    nothing = {"brightness": None, "channel_shift_intensity": None, "theta": 0, "zx": 1}
    np.testing.assert_array_equal(generator.apply_transform(image, nothing), image)


@pytest.mark.parametrize(
    ("option", "value", "name", "expected"),
    [
        ("rotation_range", 30, "theta", lambda v: (np.abs(v) <= 30) & (v != 0)),
        ("width_shift_range", 0.25, "tx", lambda v: np.abs(v) <= 0.25 * 8),
        ("height_shift_range", 0.25, "ty", lambda v: np.abs(v) <= 0.25 * 16),
        ("width_shift_range", 3, "tx", lambda v: np.isin(v, [-2, -1, 0, 1, 2])),
        ("height_shift_range", 3.0, "ty", lambda v: (np.abs(v) <= 3) & (v != np.round(v))),
        ("height_shift_range", [1, 4], "ty", lambda v: np.isin(v, [-4, -1, 1, 4])),
        ("width_shift_range", [0.25, 0.5], "tx", lambda v: np.isin(v, [-4, -2, 2, 4])),
        ("shear_range", 10.0, "shear", lambda v: np.abs(v) <= 10),
        ("zoom_range", 0.2, "zx", lambda v: (v >= 0.8) & (v <= 1.2)),
        ("zoom_range", (1.5, 2.0), "zy", lambda v: (v >= 1.5) & (v <= 2)),
        ("channel_shift_range", 9.0, "channel_shift_intensity", lambda v: np.abs(v) <= 9),
        ("brightness_range", (0.2, 0.4), "brightness", lambda v: (v >= 0.2) & (v <= 0.4)),
        ("horizontal_flip", True, "flip_horizontal", lambda v: np.isin(v, [0, 1])),
        ("vertical_flip", True, "flip_vertical", lambda v: np.isin(v, [0, 1])),
    ],
)
def test_an_option_draws_only_its_parameter(option, value, name, expected):
    generator = ImageDataGenerator(**{option: value})
    drawn = [generator.get_random_transform((16, 8, 3)) for _ in range(20)]
    values = np.array([parameters[name] for parameters in drawn], float)
    assert expected(values).all() and len(set(values)) > 1
    still = ImageDataGenerator().get_random_transform((16, 8, 3))
    partner = {"zx": "zy", "zy": "zx"}.get(name)  # zoom is drawn separately for each axis
    for parameters in drawn:
        others = {key for key in still if parameters[key] != still[key]} - {name, partner}
        assert not others


@pytest.mark.slow
def test_an_image_of_an_epoch_is_the_same_in_any_batch():
    generator = ImageDataGenerator(**CONTINUOUS)
    seen = {}
    for size in (4, 23):
        flow = generator.flow(IMAGES, np.arange(23), batch_size=size, seed=5)
        for epoch in (0, 1):
            for images, rows in flow.epoch(epoch):
                for image, row in zip(np.asarray(images), rows.tolist(), strict=True):
                    other = seen.setdefault((epoch, row), image)
                    np.testing.assert_allclose(image, other, atol=1e-3)
    assert len(seen) == 46
    assert np.abs(seen[0, 3] - seen[1, 3]).max() > 1


def test_each_image_once_in_an_epoch():
    flow = ImageDataGenerator().flow(
        IMAGES, LABELS, batch_size=5, sample_weight=np.arange(23), seed=1
    )
    assert len(flow) == 5
    epochs = [list(itertools.islice(flow, 5)) for _ in range(2)]
    for batches in epochs:
        assert [len(images) for images, _, _ in batches] == [5, 5, 5, 5, 3]
        rows = np.concatenate([weights for _, _, weights in batches])
        assert sorted(rows) == list(range(23))
        for images, labels, weights in batches:
            np.testing.assert_array_equal(images, IMAGES[weights])
            np.testing.assert_array_equal(labels, LABELS[weights])
    assert not np.array_equal(epochs[0][0][2], epochs[1][0][2])
    (first, *_) = ImageDataGenerator().flow(IMAGES, shuffle=False).epoch(0)
    np.testing.assert_array_equal(first, IMAGES)


def test_a_validation_split_is_the_first_part():
    generator = ImageDataGenerator(validation_split=0.3)
    parts = {
        subset: np.concatenate(
            [rows for _, rows in generator.flow(IMAGES, np.arange(23), subset=subset).epoch(0)]
        )
        for subset in ("training", "validation")
    }
    assert sorted(parts["validation"]) == list(range(6))
    assert sorted(parts["training"]) == list(range(6, 23))


def test_statistics_make_features_normal():
    generator = ImageDataGenerator(featurewise_std_normalization=True, rescale=1 / 255)
    generator.fit(IMAGES)
    values = np.asarray(generator.standardize(IMAGES))
    np.testing.assert_allclose(values.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(values.std((0, 1, 2)), 1, atol=1e-3)
    one = ImageDataGenerator(samplewise_std_normalization=True).standardize(IMAGES[3])
    np.testing.assert_allclose([np.mean(one), np.std(one)], [0, 1], atol=1e-4)
    white = ImageDataGenerator(zca_whitening=True)
    small = np.random.default_rng(0).normal(size=(500, 3, 3, 1)) * np.arange(1, 10).reshape(3, 3, 1)
    white.fit(small)
    flat = np.asarray(white.standardize(small)).reshape(500, -1)
    np.testing.assert_allclose(np.cov(flat.T, bias=True), np.eye(9), atol=0.02)


def test_statistics_of_augmented_images():
    generator = ImageDataGenerator(channel_shift_range=50.0, featurewise_center=True)
    generator.fit(IMAGES[:1])
    plain = generator.mean
    generator.fit(IMAGES[:1], augment=True, rounds=300, seed=3)
    assert 0 < np.abs(generator.mean - plain).max() < 10
    again = ImageDataGenerator(channel_shift_range=50.0, featurewise_center=True)
    again.fit(IMAGES[:1], augment=True, rounds=300, seed=3)
    np.testing.assert_array_equal(again.mean, generator.mean)


def test_preprocessing_function_sees_each_image():
    shapes = []

    def invert(image):
        shapes.append((type(image), image.shape))
        return 255 - image

    generator = ImageDataGenerator(preprocessing_function=invert, rescale=1 / 255)
    (images,) = generator.flow(IMAGES[:4], shuffle=False).epoch(0)
    assert len(shapes) == 4, "padding is not passed"
    np.testing.assert_allclose(images, (255 - IMAGES[:4]) / 255, rtol=1e-5)
    assert set(shapes) == {(np.ndarray, (9, 9, 3))}


def test_transforms_compile_once():
    generator = ImageDataGenerator(**CONTINUOUS)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if "backend_compile" in event else None
    )
    flow = generator.flow(IMAGES, batch_size=23)
    next(flow)
    count = len(compiled)
    next(flow)
    generator.flow(IMAGES + 1, batch_size=23, seed=9).__next__()
    assert len(compiled) == count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation_range": -1}, "rotation_range must be finite and >= 0, got -1"),
        ({"rotation_range": float("nan")}, "rotation_range must be finite and >= 0, got nan"),
        (
            {"width_shift_range": [1, float("nan")]},
            "width_shift_range must be finite and >= 0, got nan",
        ),
        ({"height_shift_range": -0.5}, "height_shift_range must be finite and >= 0, got -0.5"),
        ({"shear_range": float("inf")}, "shear_range must be finite"),
        ({"zoom_range": (2.0, 1.0)}, r"zoom_range must be \(low, high\) > 0, got \(2.0, 1.0\)"),
        ({"zoom_range": 1.5}, r"zoom_range must be \(low, high\) > 0"),
        ({"channel_shift_range": -3.0}, "channel_shift_range must be finite and >= 0"),
        ({"brightness_range": (0.5,)}, r"brightness_range must be \(low, high\) >= 0"),
        ({"fill_mode": "mirror"}, "fill_mode must be a known mode, got 'mirror'"),
        ({"interpolation_order": 3}, "interpolation_order must be 0 or 1, got 3"),
        ({"validation_split": 1.0}, r"validation_split must be in \[0, 1\), got 1.0"),
        ({"zca_epsilon": 0.0}, "zca_epsilon must be finite and > 0, got 0.0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        ImageDataGenerator(**options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.flow(IMAGES[0]), r"x must be non-empty numeric images \[N, H, W, C\]"),
        (lambda g: g.flow(np.zeros((0, 3, 3, 1))), "x must be non-empty numeric images"),
        (lambda g: g.flow(np.full((2, 2, 2, 1), "a")), "x must be non-empty numeric images"),
        (lambda g: g.flow(IMAGES * np.nan), "x must be finite, got"),
        (
            lambda g: g.standardize(IMAGES[0, 0]),
            r"x must be non-empty numeric images \[N, H, W, C\]",
        ),
        (lambda g: g.flow(IMAGES, LABELS[:-1]), r"y must be as long as x \(23\), got 22"),
        (
            lambda g: g.flow(IMAGES, [[1], [1, 2]] * 11 + [[1]]),
            r"y must have the same shape in all rows.* index 1",
        ),
        (lambda g: g.flow(IMAGES, sample_weight=LABELS), "sample_weight requires y"),
        (lambda g: g.flow(IMAGES, subset="test"), "subset must be training, validation or None"),
        (lambda g: g.flow(IMAGES, subset="validation"), "x must contain images for subset"),
        (lambda g: g.flow(IMAGES, batch_size=0), "batch_size must be an integer >= 1, got 0"),
        (lambda g: g.flow(IMAGES, seed=-1), "seed must be"),
        (lambda g: g.fit(IMAGES[0]), r"x must be non-empty numeric images \[N, H, W, C\]"),
        (lambda g: g.fit(IMAGES, augment=True, rounds=0), "rounds must be"),
        (
            lambda g: g.apply_transform(IMAGES[0], {"angle": 3}),
            "must have known names, got 'angle'",
        ),
        (
            lambda g: g.apply_transform(IMAGES, {"theta": 3}),
            r"x must be non-empty numeric images \[N, H, W, C\]",
        ),
    ],
)
def test_bad_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call(ImageDataGenerator())


@pytest.mark.parametrize(
    "option", ["featurewise_center", "featurewise_std_normalization", "zca_whitening"]
)
def test_statistics_that_were_not_fitted(option):
    generator = ImageDataGenerator(**{option: True})
    for call in (generator.standardize, generator.flow):
        with pytest.raises(
            ValueError, match=r"requires the data's statistics: call fit\(x\) first"
        ):
            call(jnp.asarray(IMAGES))


def test_shapes_must_equal_the_fitted_ones():
    generator = ImageDataGenerator(featurewise_center=True)
    generator.fit(IMAGES)
    with pytest.raises(ValueError, match="x must have 3 channels, got shape"):
        generator.standardize(IMAGES[..., :1])
    generator = ImageDataGenerator(zca_whitening=True)
    generator.fit(IMAGES)
    with pytest.raises(ValueError, match="x must have 243 values per image, got shape"):
        generator.standardize(IMAGES[:, 1:])


def test_signs_in_a_list_of_shifts_do_not_matter():
    one, other = (ImageDataGenerator(width_shift_range=list_) for list_ in ([-3, 3, 1], [3, 3, 1]))
    for seed in range(5):
        assert one.get_random_transform((9, 9, 1), seed) == other.get_random_transform(
            (9, 9, 1), seed
        )
