"""Pictures: every figure for typical and extreme input, drawn, written and read back."""

import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure

from jaxcnn import data, plots

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Bag")


def drawn(figure, tmp_path):
    """The figure as pixels, after it has been written to a folder that did not exist."""
    assert isinstance(figure, Figure)
    path = tmp_path / "pictures" / "figure.png"
    plots.save_figure(figure, path)
    with PIL.Image.open(path) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB"))
    # 120 pixels per inch of the figure, but for a rounded one at its edge.
    np.testing.assert_allclose(pixels.shape[1::-1], figure.get_size_inches() * 120, atol=1)
    assert pixels.std() > 1, "an empty picture"
    return pixels


def texts(figure):
    """All that is written in the figure itself and in titles and labels of its axes."""
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        found += [text.get_text() for text in axes.texts]
    return [*found, figure.get_suptitle(), figure.get_supxlabel()]


def shown(figure):
    """The arrays of the images in the figure."""
    return [np.asarray(picture.get_array()) for axes in figure.axes for picture in axes.images]


def row(epoch, **values):
    """One epoch of a history."""
    return {"epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": 1 - 1 / (epoch + 1)} | values


def validated(epoch):
    """One epoch of a history with validation."""
    return row(epoch, validation_loss=1.1 / epoch, validation_accuracy=0.9 - 1 / (epoch + 1))


HISTORIES = {
    "validated": [validated(epoch) for epoch in range(1, 11)],
    "not validated": [row(epoch) for epoch in range(1, 4)],
    "one epoch": [validated(1)],
    "no epoch": [],
    "not a number": [validated(1), validated(2) | {"train_loss": float("nan")}],
}


@pytest.mark.parametrize("name", HISTORIES)
def test_learning_curves(name, tmp_path):
    history = HISTORIES[name]
    figure = plots.learning_curves(history)
    for axes, metric in zip(figure.axes, ("loss", "accuracy"), strict=True):
        lines = {line.get_label(): line.get_ydata() for line in axes.lines}
        parts = ["train"] if name == "not validated" else ["train", "validation"]
        assert list(lines) == parts
        for part in parts:
            expected = [entry[f"{part}_{metric}"] for entry in history]
            np.testing.assert_array_equal(lines[part], expected)
        assert [text.get_text() for text in axes.get_legend().get_texts()] == parts
        assert axes.get_title() == metric.capitalize()
    drawn(figure, tmp_path)
    ticks = figure.axes[0].get_xticks()
    np.testing.assert_array_equal(ticks, np.round(ticks))


@pytest.mark.parametrize("classes", [1, 2, 8, 30, 31])
def test_confusion_matrix(classes, tmp_path):
    matrix = np.random.default_rng(0).integers(0, 9, (classes, classes))
    matrix[0, :] = 0  # a class that the test split lacks
    matrix[-1, -1] = 12345
    names = [CLASSES[n % len(CLASSES)] for n in range(classes)]
    figure = plots.confusion_matrix(matrix, names)
    (share,) = shown(figure)
    totals = matrix.sum(1)
    for n in range(classes):
        np.testing.assert_array_equal(share[n], matrix[n] / totals[n] if totals[n] else 0)
    written = [text.get_text() for text in figure.axes[0].texts]
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    if classes <= 30:
        assert written == [str(number) for number in matrix.ravel()]
        assert labels == names
    else:
        assert written == []
        assert set(labels).isdisjoint(names)
    right = np.trace(matrix)
    assert figure.axes[0].get_title() == (
        f"Test split: {right:,} of {matrix.sum():,} right ({right / matrix.sum():.2%})"
    )
    drawn(figure, tmp_path)


def test_confusion_matrix_of_nothing(tmp_path):
    drawn(plots.confusion_matrix(np.zeros((3, 3), int), CLASSES[:3]), tmp_path)


def pictures(count, channels, dtype):
    """Images that differ."""
    values = np.random.default_rng(0).integers(0, 256, (count, 12, 14, channels), np.uint8)
    return values if dtype == np.uint8 else (values / 255).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("count", "channels"), [(1, 1), (6, 3), (7, 1), (18, 3), (2, 2)])
def test_mistakes(count, channels, dtype, tmp_path):
    images = pictures(count, channels, dtype)
    logits = np.zeros((count, len(CLASSES)), np.float32)
    logits[:, 2] = np.log(7)  # against seven others at 1: a half
    figure = plots.mistakes(images, np.full(count, 4), logits, CLASSES)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["Pullover 50%\nis Coat"] * count + [""] * (-count % 6)
    assert len(shown(figure)) == count
    for array, image in zip(shown(figure), images, strict=True):
        np.testing.assert_array_equal(array, image if channels == 3 else image.mean(-1))
    drawn(figure, tmp_path)


def test_no_mistakes(tmp_path):
    nothing = np.zeros((0, 28, 28, 1), np.uint8)
    figure = plots.mistakes(nothing, np.zeros(0, int), np.zeros((0, 8)), CLASSES)
    assert "no mistakes" in texts(figure)
    drawn(figure, tmp_path)


@pytest.mark.parametrize(
    "shape", [(5, 5, 1, 32), (3, 3, 3, 64), (3, 3, 2, 8), (7, 3, 1, 1), (1, 1, 3, 9)]
)
def test_kernels(shape, tmp_path):
    kernel = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    figure = plots.kernels(kernel)
    assert len(shown(figure)) == shape[-1]
    for number, array in enumerate(shown(figure)):
        if shape[2] == 3:
            assert array.min() >= 0 and array.max() <= 1
            expected = (kernel[..., number] / np.abs(kernel).max() + 1) / 2
        else:
            expected = kernel[..., number].mean(-1)
        np.testing.assert_allclose(array, expected, rtol=1e-6)
    # One scale for all of a figure, symmetric about zero.
    if shape[2] != 3:
        limits = {picture.get_clim() for axes in figure.axes for picture in axes.images}
        limit = float(np.abs(kernel).max())
        assert limits == {(-limit, limit)}
    drawn(figure, tmp_path)


def test_kernels_of_zeros(tmp_path):
    for channels in (1, 3):
        drawn(plots.kernels(np.zeros((3, 3, channels, 4), np.float32)), tmp_path)


@pytest.mark.parametrize(("channels", "maps"), [(1, 32), (3, 8), (1, 1), (1, 31), (4, 7)])
def test_feature_maps(channels, maps, tmp_path):
    (image,) = pictures(1, channels, np.uint8)
    values = np.random.default_rng(0).standard_normal((6, 7, maps)).astype(np.float32)
    figure = plots.feature_maps(image, values, "conv")
    kept = min(maps, 31)
    assert f"conv: {kept} of {maps} maps, 6x7" in texts(figure)
    first, *others = shown(figure)
    np.testing.assert_array_equal(first, image if channels == 3 else image.mean(-1))
    assert len(others) == kept
    for number, array in enumerate(others):
        np.testing.assert_array_equal(array, values[..., number])
    drawn(figure, tmp_path)


def test_three_maps_are_three_maps_and_no_colour(tmp_path):
    figure = plots.feature_maps(np.zeros((4, 4, 3), np.uint8), np.ones((2, 2, 3)), "block/conv")
    assert [array.shape for array in shown(figure)] == [(4, 4, 3), (2, 2), (2, 2), (2, 2)]
    drawn(figure, tmp_path)


def test_pictures_of_the_embedded_slice_are_not_empty(tmp_path):
    source = data.load("fashion_mnist_slice", split="test")
    logits = np.eye(10, dtype=np.float32)[(source.labels[:6] + 1) % 10] * 5
    figure = plots.mistakes(source.images[:6], source.labels[:6], logits, source.classes)
    assert drawn(figure, tmp_path).std() > 30
