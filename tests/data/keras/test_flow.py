"""`flow_from_directory` and `flow_from_dataframe`: files through the generator, as in Keras."""

import itertools
import os

import numpy as np
import PIL.Image
import pytest

from jaxcnn.data import ImageDataGenerator

CLASSES = ("ant", "bee", "cow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Class folders of 4, 5 and 6 images, each with a different color."""
    root = tmp_path_factory.mktemp("animals")
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for number in range(4 + label):
            value = (40 * label, 20 * number, 100)
            PIL.Image.new("RGB", (12, 9), value).save(root / name / f"{number}.png")
    return root


def table(folder):
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    return {
        "filename": names,
        "class": [name.split("/")[0] for name in names],
        "weight": np.arange(len(names)) / 2,
        "age": np.arange(len(names)) * 1.5,
    }


def whole(flow):
    """Concatenate all batches of an epoch."""
    batches = list(flow.epoch(0))
    if not isinstance(batches[0], tuple):
        return np.concatenate(batches)
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


def color(name):
    label, number = name.removesuffix(".png").split("/")
    return (40 * CLASSES.index(label), 20 * int(number), 100)


def test_files_are_in_order_with_their_classes(folder):
    flow = ImageDataGenerator().flow_from_directory(
        folder, target_size=(9, 12), batch_size=4, shuffle=False
    )
    images, labels = whole(flow)
    assert flow.samples == len(flow.filenames) == 15
    assert len(flow) == 4
    assert flow.class_indices == {"ant": 0, "bee": 1, "cow": 2}
    assert images.shape == (15, 9, 12, 3)
    assert images.dtype == labels.dtype == np.float32
    for name, pixels, label in zip(flow.filenames, images, labels, strict=True):
        np.testing.assert_array_equal(pixels, np.broadcast_to(np.float32(color(name)), (9, 12, 3)))
        assert label.tolist() == [float(name.startswith(known)) for known in CLASSES]


def test_each_file_once_per_epoch_in_a_new_order(folder):
    def orders(seed, batch_size):
        flow = ImageDataGenerator().flow_from_directory(
            folder, target_size=(4, 4), class_mode=None, seed=seed, batch_size=batch_size
        )
        batches = itertools.islice(flow, 2 * len(flow))
        pixels = np.concatenate(list(batches))[:, 0, 0].reshape(2, 15, 3)
        return [[tuple(row) for row in epoch.tolist()] for epoch in pixels]

    first, second = orders(0, 4)
    assert first != second
    assert sorted(first) == sorted(second)
    assert len(set(first)) == 15
    assert orders(0, 7) == [first, second]
    assert orders(1, 4)[0] != first


@pytest.mark.parametrize(
    ("mode", "classes", "expected"),
    [
        ("sparse", None, [0] * 4 + [1] * 5 + [2] * 6),
        ("sparse", ["cow", "ant"], [0] * 6 + [1] * 4),
        ("binary", ["ant", "cow"], [0] * 4 + [1] * 6),
    ],
)
def test_class_modes(folder, mode, classes, expected):
    flow = ImageDataGenerator().flow_from_directory(
        folder, target_size=(4, 4), class_mode=mode, classes=classes, shuffle=False
    )
    assert whole(flow)[1].tolist() == expected


def test_input_mode_returns_the_images_twice(folder):
    flow = ImageDataGenerator(rescale=1 / 255).flow_from_directory(
        folder, target_size=(4, 4), class_mode="input"
    )
    images, again = whole(flow)
    np.testing.assert_array_equal(images, again)


def test_validation_is_the_first_part_of_each_class(folder):
    generator = ImageDataGenerator(validation_split=0.25)
    parts = {
        subset: generator.flow_from_directory(
            folder, target_size=(4, 4), subset=subset, shuffle=False
        ).filenames
        for subset in ("training", "validation")
    }
    assert parts["validation"] == ("ant/0.png", "bee/0.png", "cow/0.png")
    assert len(parts["training"]) == 12
    assert not set(parts["training"]) & set(parts["validation"])


def test_images_are_stretched_or_cropped(folder, tmp_path):
    pixels = np.zeros((10, 30), np.uint8)
    pixels[:, 10:20] = 255
    (tmp_path / "a").mkdir()
    PIL.Image.fromarray(pixels).save(tmp_path / "a" / "1.png")

    def read(**options):
        flow = ImageDataGenerator().flow_from_directory(
            tmp_path, target_size=(10, 10), color_mode="grayscale", class_mode=None, **options
        )
        return next(flow)[0, :, :, 0]

    stretched = np.asarray(
        PIL.Image.fromarray(pixels).resize((10, 10), PIL.Image.Resampling.NEAREST)
    )
    np.testing.assert_array_equal(read(), stretched)
    assert (read(keep_aspect_ratio=True) == 255).all()
    smooth = np.asarray(PIL.Image.fromarray(pixels).resize((10, 10), PIL.Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(read(interpolation="bicubic"), smooth)


def test_files_are_transformed_like_arrays(folder):
    generator = ImageDataGenerator(rotation_range=30, horizontal_flip=True, featurewise_center=True)
    files = generator.flow_from_directory
    plain = ImageDataGenerator().flow_from_directory(folder, target_size=(8, 8), shuffle=False)
    images, labels = whole(plain)
    generator.fit(images)
    ours = whole(files(folder, target_size=(8, 8), seed=3, batch_size=5))
    arrays = whole(generator.flow(images, labels, batch_size=5, seed=3))
    for one, other in zip(ours, arrays, strict=True):
        np.testing.assert_array_equal(one, other)


def test_dataframes(folder):
    rows = table(folder)
    flow = ImageDataGenerator(validation_split=0.2).flow_from_dataframe(
        rows,
        folder,
        weight_col="weight",
        target_size=(4, 4),
        class_mode="sparse",
        shuffle=False,
        subset="training",
    )
    images, labels, weights = whole(flow)
    assert flow.filenames == tuple(rows["filename"][3:])
    assert weights.tolist() == rows["weight"][3:].tolist()
    assert [CLASSES[int(label)] for label in labels] == rows["class"][3:]
    np.testing.assert_array_equal(images[:, 0, 0], [color(name) for name in flow.filenames])
    raw = ImageDataGenerator().flow_from_dataframe(
        rows, folder, y_col="age", target_size=(4, 4), class_mode="raw", shuffle=False
    )
    assert whole(raw)[1].tolist() == rows["age"].tolist()
    assert raw.class_indices == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directory": "no such folder"}, "directory must be a folder, got no such folder"),
        ({"classes": ["ant", "fly"]}, "has no folder for class 'fly'"),
        ({"classes": ["ant", "ant"]}, r"classes must have distinct names, got \['ant', 'ant'\]"),
        ({"class_mode": "categoric"}, "class_mode must be .* got 'categoric'. Did you mean"),
        ({"class_mode": "binary"}, "class_mode binary requires two classes, got 3"),
        ({"color_mode": "bgr"}, "color_mode must be rgb, rgba or grayscale, got 'bgr'"),
        ({"interpolation": "cubic"}, "interpolation must be one of nearest, .* got 'cubic'"),
        ({"target_size": (0, 4)}, "target_size"),
        ({"subset": "test"}, "subset must be training, validation or None, got 'test'"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
    ],
)
def test_bad_directories(folder, options, message):
    options = {"directory": folder} | options
    with pytest.raises(ValueError, match=message):
        next(ImageDataGenerator().flow_from_directory(**options))


RAW = {"y_col": "age", "class_mode": "raw"}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"x_col": "name"}, "dataframe must have the column 'name'"),
        ({}, {"y_col": "label"}, "dataframe must have the column 'label'"),
        (
            {"filename": ["ant/0.png", "x.png"], "class": ["a", "b"]},
            {},
            "1 file that .* such as x.png",
        ),
        (
            {},
            {"classes": ["ant", "bee"]},
            "classes must contain all values of class, but 'cow' is missing",
        ),
        ({}, {"classes": [*CLASSES, "ant"]}, "classes must have distinct names"),
        ({}, {"weight_col": "size"}, "dataframe must have the column 'size'"),
        ({"class": ["a"] * 3}, {}, "must have the same length, 15, got 3 in class"),
        ({"weight": [1.0]}, {"weight_col": "weight"}, "same length, 15, got 1 in weight"),
        (
            {"weight": ["x"] * 15},
            {"weight_col": "weight"},
            "must contain numbers, got 'x' at index 0",
        ),
        ({"class": ["a", None] * 7 + ["b"]}, {}, "not contain missing values, got None at index 1"),
        (
            {"class": [np.nan] * 15},
            {},
            "column class .* not contain missing values, got nan at index 0",
        ),
        ({"class": [["a"], [None]] + [["b"]] * 13}, {}, r"values, got \[None\] at index 1"),
        ({"age": [1.5, np.nan] * 7 + [2.0]}, RAW, "column age .* values, got nan at index 1"),
        (
            {"age": [[1.5], [2.0, 3.0]] * 7 + [[2.0]]},
            RAW,
            r"shape in .*, got \(1,\) .* \(2,\) at index 1",
        ),
        (
            {"class": [[]] * 15},
            {},
            "class must contain a class in at least one row, got only empty lists",
        ),
        ({"class": [["a"], ["b"]] * 7 + [[]]}, {"class_mode": "sparse"}, "must be categorical for"),
        ({}, {"class_mode": "binary"}, "requires two classes, got 3"),
    ],
)
def test_bad_dataframes(folder, change, options, message):
    with pytest.raises(ValueError, match=message):
        ImageDataGenerator().flow_from_dataframe(table(folder) | change, folder, **options)


def test_lists_of_classes_in_a_dataframe(folder):
    rows = table(folder) | {"class": [["b", "a"], ("c",), []] * 5}
    options = {"target_size": (4, 4), "shuffle": False}
    flow = ImageDataGenerator().flow_from_dataframe(rows, folder, **options)
    assert flow.class_indices == {"a": 0, "b": 1, "c": 2}
    assert whole(flow)[1].tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]] * 5
    flow = ImageDataGenerator().flow_from_dataframe(
        rows, folder, classes=["c", "x", "b", "a"], **options
    )
    assert whole(flow)[1][:2].tolist() == [[0, 0, 1, 1], [1, 0, 0, 0]]


def test_hidden_folders_are_skipped(tmp_path):
    for name in (".ipynb_checkpoints", "__MACOSX", "cat", "dog"):
        (tmp_path / name).mkdir()
        PIL.Image.new("RGB", (3, 3)).save(tmp_path / name / "1.png")
    flow = ImageDataGenerator().flow_from_directory(tmp_path, target_size=(3, 3))
    assert flow.class_indices == {"cat": 0, "dog": 1}
    assert flow.samples == 2


def test_pipes_are_rejected(tmp_path):
    (tmp_path / "cat").mkdir()
    os.mkfifo(tmp_path / "cat" / "1.jpg")
    with pytest.raises(ValueError, match=r"1\.jpg .* cannot be read: it is not a regular file"):
        next(ImageDataGenerator().flow_from_directory(tmp_path, target_size=(4, 4)))


def test_statistics_must_be_fitted_first(folder):
    with pytest.raises(ValueError, match="featurewise_center requires the data's statistics"):
        ImageDataGenerator(featurewise_center=True).flow_from_directory(folder)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "bad.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"a/bad\.png .* cannot be read: it is not an image"):
        next(ImageDataGenerator().flow_from_directory(tmp_path, target_size=(4, 4)))


def test_a_class_that_a_subset_lacks_is_named(tmp_path):
    for number in range(50):
        PIL.Image.new("L", (4, 4), number).save(tmp_path / f"{number}.png")
    rows = {"file": [f"{i}.png" for i in range(50)], "label": ["abcde"[i // 10] for i in range(50)]}
    generator = ImageDataGenerator(validation_split=0.2)

    def flow(subset, **options):
        return generator.flow_from_dataframe(
            rows,
            tmp_path,
            x_col="file",
            y_col="label",
            target_size=(4, 4),
            subset=subset,
            **options,
        )

    for subset, lost in (("training", "a"), ("validation", "b, c, d, e")):
        with pytest.warns(UserWarning, match=f"the {subset} subset has no image of class {lost};"):
            flow(subset)
    rows["label"] = [[label] for label in rows["label"]]
    with pytest.warns(UserWarning, match="the training subset has no image of class a;"):
        flow("training")
    rows["label"] = ["abcde"[i % 5] for i in range(50)]
    assert flow("training").samples == 40
    rows["label"] = list(range(50))
    assert flow("validation", class_mode="raw").samples == 10


def test_a_small_class_folder_that_a_subset_lacks_is_named(tmp_path):
    for name, count in (("few", 3), ("many", 10)):
        (tmp_path / name).mkdir()
        for number in range(count):
            PIL.Image.new("L", (4, 4), number).save(tmp_path / name / f"{number}.png")
    generator = ImageDataGenerator(validation_split=0.2)
    with pytest.warns(UserWarning, match="the validation subset has no image of class few;"):
        generator.flow_from_directory(tmp_path, target_size=(4, 4), subset="validation")
    generator.flow_from_directory(tmp_path, target_size=(4, 4), subset="training")


def test_a_similar_file_is_suggested(tmp_path):
    PIL.Image.new("L", (4, 4)).save(tmp_path / "00017.png")
    with pytest.raises(ValueError, match=r"1 file that .* such as 17; did you mean 00017.png\?"):
        ImageDataGenerator().flow_from_dataframe(
            {"file": ["17"], "label": ["a"]}, tmp_path, x_col="file", y_col="label"
        )


def test_attributes_of_a_flow_from_a_directory(folder):
    flow = ImageDataGenerator().flow_from_directory(folder, (6, 8), "grayscale", batch_size=4)
    assert flow.class_indices == {"ant": 0, "bee": 1, "cow": 2} and flow.num_classes == 3
    assert flow.n == flow.samples == len(flow.filenames) == 15 and len(flow) == 4
    assert flow.labels.tolist() == flow.classes.tolist() == [0] * 4 + [1] * 5 + [2] * 6
    assert flow.image_shape == (6, 8, 1) and flow.batch_size == 4 and flow.shuffle
    assert flow.filenames[4] == "bee/0.png" and flow.filepaths[4] == str(folder / "bee/0.png")
    assert flow.directory == folder
    arrays = ImageDataGenerator().flow(np.zeros((3, 4, 4, 1)), shuffle=False)
    assert arrays.n == 3 and arrays.num_classes == 0 and arrays.labels is None
    assert arrays.filenames == arrays.filepaths == () and arrays.directory is None


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_by_number(folder, shuffle):
    flow = ImageDataGenerator(rotation_range=30).flow_from_directory(
        folder, target_size=(6, 6), batch_size=4, shuffle=shuffle, seed=3
    )
    for epoch in range(2):
        for number, expected in enumerate(flow.epoch(epoch)):
            for found in (flow[number], flow[number - len(flow)]):
                for one, other in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(next(flow)[1], expected[1])
    for number in (4, -5):
        with pytest.raises(IndexError, match=f"batch must be below 4, got {number}"):
            flow[number]
    flow.reset()
    for one, other in zip(next(flow), next(flow.epoch(0)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_copies_are_saved(folder, tmp_path):
    flow = ImageDataGenerator(horizontal_flip=True).flow_from_directory(
        folder, target_size=(6, 6), batch_size=4, save_to_dir=tmp_path, save_prefix="x"
    )
    for _ in flow.epoch(1):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"x_1_{row}.png" for row in range(15)
    )
    pixels = np.random.default_rng(0).uniform(-3, 7, (2, 5, 4, 1))
    flow = ImageDataGenerator().flow(
        pixels, shuffle=False, save_to_dir=str(tmp_path), save_prefix="y", save_format="bmp"
    )
    next(flow.epoch(0))
    saved = np.asarray(PIL.Image.open(tmp_path / "y_0_1.bmp"))
    expected = pixels[1, ..., 0] - pixels[1].min()
    np.testing.assert_allclose(saved, 255 * expected / expected.max(), atol=1)
    with pytest.raises(ValueError, match=r"save_to_dir must be an existing folder, got .*absent"):
        ImageDataGenerator().flow(pixels, save_to_dir=tmp_path / "absent")


def test_linked_folders_are_read_on_request(folder, tmp_path):
    (tmp_path / "bee" / "inner").mkdir(parents=True)
    PIL.Image.new("L", (4, 4)).save(tmp_path / "bee" / "inner" / "1.png")
    (tmp_path / "bee" / "linked").symlink_to(folder / "ant")
    (tmp_path / "cow").symlink_to(folder / "cow")  # Keras reads linked class folders
    for follow_links, count in ((False, 7), (True, 11)):
        flow = ImageDataGenerator().flow_from_directory(
            tmp_path, target_size=(4, 4), follow_links=follow_links
        )
        assert flow.samples == count


def test_transparency_is_kept(tmp_path):
    (tmp_path / "a").mkdir()
    PIL.Image.new("RGBA", (4, 4), (10, 20, 30, 40)).save(tmp_path / "a" / "1.png")
    PIL.Image.new("L", (4, 4), 7).save(tmp_path / "a" / "2.png")
    flow = ImageDataGenerator().flow_from_directory(
        tmp_path, target_size=(4, 4), color_mode="rgba", shuffle=False
    )
    assert flow.image_shape == (4, 4, 4)
    assert next(flow)[0][:, 0, 0].tolist() == [[10, 20, 30, 40], [7, 7, 7, 255]]


def test_several_columns(folder):
    rows = table(folder) | {"x": np.arange(15.0), "y": np.arange(15) % 2}

    def first(**options):
        flow = ImageDataGenerator(validation_split=0.2).flow_from_dataframe(
            rows, folder, target_size=(4, 4), batch_size=4, shuffle=False, subset="training",
            **options,
        )  # fmt: skip
        return next(flow)

    _, targets = first(y_col=["x", "y"], class_mode="raw")
    np.testing.assert_array_equal(targets, [[3, 1], [4, 0], [5, 1], [6, 0]])
    _, targets = first(y_col=["x", "y"], class_mode="multi_output")
    assert [column.tolist() for column in targets] == [[3, 4, 5, 6], [1, 0, 1, 0]]
    assert targets[1].dtype.kind == "i"
    _, targets, weights = first(y_col=("x",), class_mode="multi_output", weight_col="y")
    assert [column.tolist() for column in targets] == [[3, 4, 5, 6]]
    assert weights.tolist() == [1, 0, 1, 0]
    # As in Keras, weights are omitted along with labels.
    assert first(class_mode=None, weight_col="y").shape == (4, 4, 4, 3)
    with pytest.raises(ValueError, match="y_col must be one column for class_mode sparse, got"):
        first(y_col=["x", "y"], class_mode="sparse")


def test_columns_with_lists_and_single_classes(folder):
    rows = {"filename": ["ant/0.png", "bee/0.png"], "class": ["ant", ["bee", "ant"]]}
    flow = ImageDataGenerator().flow_from_dataframe(rows, folder, target_size=(4, 4), shuffle=False)
    assert flow.class_indices == {"ant": 0, "bee": 1}
    assert next(flow)[1].tolist() == [[1, 0], [1, 1]]


def test_names_of_a_dataframe_are_checked(tmp_path):
    for name in ("0.png", "x.fbd"):
        PIL.Image.new("L", (4, 4)).save(tmp_path / name, "png")

    def flow(name, **options):
        rows = {"filename": ["0.png", name], "class": ["a", "b"]}
        return ImageDataGenerator().flow_from_dataframe(rows, tmp_path, **options)

    for options in ({}, {"validate_filenames": False}):
        with pytest.raises(ValueError, match=r"must name images, got 1 other names, such as x.fbd"):
            flow("x.fbd", **options)
    with pytest.raises(ValueError, match=r"1 file that does not exist, such as 9.png"):
        flow("9.png")
    assert flow("9.png", validate_filenames=False).samples == 2


def test_arguments_may_be_positional(folder):
    generator = ImageDataGenerator(data_format="channels_last", dtype="float32")
    flow = generator.flow_from_directory(
        folder, (4, 4), "rgb", None, "sparse", 5, False, 7, None, "", "png", False, None, "bilinear"
    )
    images, labels = next(flow)
    assert images.shape == (5, 4, 4, 3) and labels.tolist() == [0, 0, 0, 0, 1] and flow.seed == 7
    rows = table(folder)
    flow = generator.flow_from_dataframe(rows, folder, "filename", "class", None, (4, 4), "rgb")
    assert flow.image_shape == (4, 4, 3)
    flow = generator.flow(np.zeros((3, 4, 4, 1)), np.arange(3), 2, False, np.ones(3), 1)
    assert [part.shape for part in next(flow)] == [(2, 4, 4, 1), (2,), (2,)]
    for options, message in (
        ({"data_format": "channels_first"}, "data_format must be None or 'channels_last', got"),
        ({"dtype": "float16"}, "dtype must be None or 'float32', got 'float16'"),
    ):
        with pytest.raises(ValueError, match=message):
            ImageDataGenerator(**options)


@pytest.mark.parametrize("subset", ["training", "validation"])
def test_a_class_that_a_part_of_arrays_lacks_is_named(subset):
    images, labels = np.zeros((10, 4, 4, 1)), np.repeat([3, 7], 5)
    generator = ImageDataGenerator(validation_split=0.5)
    lost = {"training": 3, "validation": 7}[subset]
    with pytest.warns(UserWarning, match=f"the {subset} subset has no image of class {lost};"):
        generator.flow(images, labels, subset=subset)
    generator.flow(images, labels, subset=subset, ignore_class_split=True)
    generator.flow(images, labels / 2, subset=subset)  # targets
    generator.flow(images, np.arange(10) % 2, subset=subset)


def test_links_in_circles_are_ignored_unless_followed(tmp_path):
    (tmp_path / "cat" / "inner").mkdir(parents=True)
    PIL.Image.new("L", (4, 4)).save(tmp_path / "cat" / "inner" / "1.png")
    (tmp_path / "cat" / "link").symlink_to(tmp_path / "cat" / "inner")
    generator = ImageDataGenerator()
    assert generator.flow_from_directory(tmp_path, target_size=(4, 4)).samples == 1
    with pytest.raises(ValueError, match="are the same folder because of a link"):
        generator.flow_from_directory(tmp_path, target_size=(4, 4), follow_links=True)


def test_flows_without_labels_have_none(folder):
    generator = ImageDataGenerator()
    flow = generator.flow_from_dataframe(table(folder), folder, class_mode=None)
    assert flow.labels is None and flow.classes is None
    for class_mode in ("raw", "categorical", "multi_output"):
        with pytest.raises(
            ValueError, match=f"name a column for class_mode {class_mode}, got None"
        ):
            generator.flow_from_dataframe(table(folder), folder, y_col=None, class_mode=class_mode)
    for class_mode in ("raw", "multi_output"):
        with pytest.raises(ValueError, match=f"must not be {class_mode} for a directory"):
            generator.flow_from_directory(folder, class_mode=class_mode)
