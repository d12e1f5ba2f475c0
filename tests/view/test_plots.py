"""Figures: every kind, for typical and extreme inputs, drawn, written and read back."""

import os

import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure

from jaxcnn import data
from jaxcnn.view import plots, run_figures

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Bag")


def drawn(figure, tmp_path):
    """Write the figure to a new folder and return its pixels."""
    assert isinstance(figure, Figure)
    path = tmp_path / "new" / "figure.png"
    plots.save_figure(figure, path)
    with PIL.Image.open(path) as file:
        assert file.format == "PNG"
        pixels = np.asarray(file.convert("RGB"))
    # 120 pixels per inch, up to rounding.
    np.testing.assert_allclose(pixels.shape[1::-1], figure.get_size_inches() * 120, atol=1)
    assert pixels.std() > 1, "the figure is empty"
    return pixels


def texts(figure):
    """Return all text in the figure: its own, and the titles, labels and text of its axes."""
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        found += [text.get_text() for text in axes.texts]
    return [*found, figure.get_suptitle(), figure.get_supxlabel()]


def shown(figure):
    """Return the arrays of the images in the figure."""
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def row(epoch, **values):
    """Return one epoch of a history."""
    values = {"train_gradient_norm": 2 / epoch, "parameter_norm": 10.0 + epoch} | values
    return {"epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": 1 - 1 / (epoch + 1)} | values


def validated(epoch):
    """Return one epoch of a history with validation."""
    return row(epoch, validation_loss=1.1 / epoch, validation_accuracy=0.9 - 1 / (epoch + 1))


HISTORIES = {
    "validated": [validated(epoch) for epoch in range(1, 11)],
    "not validated": [row(epoch) for epoch in range(1, 4)],
    "one epoch": [validated(1)],
    "no epoch": [],
    "not a number": [
        validated(1),
        validated(2) | dict.fromkeys(("train_loss", "train_gradient_norm"), float("nan")),
    ],
}


@pytest.mark.parametrize("name", HISTORIES)
def test_learning_curves(name, tmp_path):
    history = HISTORIES[name]
    figure = plots.learning_curves(history)
    for axes, metric in zip(figure.axes[:2], ("loss", "accuracy"), strict=True):
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


@pytest.mark.parametrize("name", HISTORIES)
def test_the_gap_is_training_minus_validation(name, tmp_path):
    history = HISTORIES[name]
    figure = plots.learning_curves(history)
    assert len(figure.axes) == 3
    zero, gap = figure.axes[2].lines
    np.testing.assert_array_equal(zero.get_ydata(), [0, 0])
    np.testing.assert_array_equal(gap.get_xdata(), [entry["epoch"] for entry in history])
    missing = {"validation_accuracy": np.nan}
    rows = [missing | entry for entry in history]
    expected = [entry["train_accuracy"] - entry["validation_accuracy"] for entry in rows]
    np.testing.assert_array_equal(gap.get_ydata(), expected)
    assert figure.axes[2].get_title() == "Overfitting gap"
    assert figure.axes[2].get_ylabel() == "train - validation accuracy"
    drawn(figure, tmp_path)


def test_curves_end_with_the_final_network(tmp_path):
    """The gap at the end is the one in a run's result."""
    history, final = HISTORIES["validated"], {"train_accuracy": 0.9, "validation_accuracy": 0.7}
    figure = plots.learning_curves(history, final=final)
    _, middle, right = figure.axes
    star = {line.get_label(): line for line in middle.lines}["train, final network"]
    assert (star.get_xdata(), star.get_ydata()) == ([history[-1]["epoch"]], [0.9])
    np.testing.assert_allclose(right.lines[-1].get_ydata(), [0.2])
    drawn(figure, tmp_path)


def test_learning_curves_of_another_score(tmp_path):
    history = [
        {"epoch": n, "train_loss": 1.0, "validation_loss": 2.0}
        | {"train_f1_macro": n / 4, "validation_f1_macro": n / 8}
        for n in (1, 2, 3)
    ]
    figure = plots.learning_curves(history, score="f1_macro")
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "F1 macro", "Overfitting gap"]
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[1].lines}
    np.testing.assert_array_equal(lines["train"], [0.25, 0.5, 0.75])
    np.testing.assert_array_equal(lines["validation"], [0.125, 0.25, 0.375])
    np.testing.assert_array_equal(figure.axes[2].lines[1].get_ydata(), [0.125, 0.25, 0.375])
    drawn(figure, tmp_path)


@pytest.mark.parametrize("name", HISTORIES)
def test_norms(name, tmp_path):
    history = HISTORIES[name]
    figure = run_figures.norms(history)
    metrics = {
        "train_gradient_norm": "Gradient (epoch mean)",
        "parameter_norm": "Parameters",
    }
    for axes, (metric, title) in zip(figure.axes, metrics.items(), strict=True):
        (line,) = axes.lines
        np.testing.assert_array_equal(line.get_xdata(), [entry["epoch"] for entry in history])
        np.testing.assert_array_equal(line.get_ydata(), [entry[metric] for entry in history])
        assert axes.get_title() == title
        # The axis starts at zero, so that heights can be compared.
        assert axes.get_ylim()[0] == 0
    drawn(figure, tmp_path)


@pytest.mark.parametrize("classes", [1, 2, 8, pytest.param(30, marks=pytest.mark.slow), 31])
def test_confusion_matrix(classes, tmp_path):
    matrix = np.random.default_rng(0).integers(0, 9, (classes, classes))
    matrix[0, :] = 0  # a class without test examples
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
    correct = np.trace(matrix)
    assert figure.axes[0].get_title() == (
        f"Test split: {correct:,} of {matrix.sum():,} correct ({correct / matrix.sum():.2%})"
    )
    drawn(figure, tmp_path)


def test_very_long_names_are_shortened():
    figure = plots.confusion_matrix(np.eye(2), ["cat" * 40_000, "dog"])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert [len(label) for label in labels] == [60, 3]


def test_names_are_drawn_literally(tmp_path):
    """Use formulas, control characters, non-UTF-8 bytes, and a script that the font lacks."""
    names = ["a$_$", "b\x1b[31m", os.fsdecode(b"caf\xe9"), "猫"]
    matrix = plots.confusion_matrix(np.eye(4, dtype=int), names)
    labels = [text.get_text() for text in matrix.axes[0].get_yticklabels()]
    assert labels == [r"a\$_\$", r"b\x1b[31m", r"caf\udce9", "猫"]
    curve = np.linspace(0, 1, 5)
    images = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3))
    for figure in (
        matrix,
        plots.pictures(images, [f"said: {name}\nis: {name}" for name in names], "Mistakes"),
        plots.curves(dict.fromkeys(names, (curve, curve)), xlabel="x", ylabel="y", title="ROC"),
        plots.regression_scatter(images[0, 0, :, :1], images[1, 0, :, :1], names[:1]),
        plots.attribution(images, images[..., 0], images[..., 1], names),
    ):
        drawn(figure, tmp_path)


def test_confusion_matrix_of_nothing(tmp_path):
    drawn(plots.confusion_matrix(np.zeros((3, 3), int), CLASSES[:3]), tmp_path)


def images_of(count, channels, dtype=np.uint8):
    """Return random images."""
    values = np.random.default_rng(0).integers(0, 256, (count, 12, 14, channels), np.uint8)
    return values if dtype == np.uint8 else (values / 255).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("count", "channels"), [(1, 1), (6, 3), (7, 1), (18, 3), (2, 2)])
def test_pictures(count, channels, dtype, tmp_path):
    images = images_of(count, channels, dtype)
    titles = [f"Pullover {n}%\nis Coat" for n in range(count)]
    figure = plots.pictures(images, titles, "Mistakes")
    assert figure.get_suptitle() == "Mistakes"
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == titles
    assert len(shown(figure)) == count
    for array, image in zip(shown(figure), images, strict=True):
        np.testing.assert_array_equal(array, image if channels == 3 else image.mean(-1))
    drawn(figure, tmp_path)


def test_pictures_without_images(tmp_path):
    figure = plots.pictures(np.zeros((0, 28, 28, 1), np.uint8), [], "Mistakes")
    assert "none" in texts(figure) and figure.get_suptitle() == "Mistakes"
    drawn(figure, tmp_path)


CORNERS = (np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]))
LINES = {
    "none": {},
    "one": {"cat (area 1.000)": CORNERS},
    "a point": {"cat": (np.ones(1), np.ones(1))},
    "ten": {f"class {n}": CORNERS for n in range(10)},
}


@pytest.mark.parametrize("name", LINES)
def test_curves(name, tmp_path):
    lines = LINES[name]
    figure = plots.curves(lines, xlabel="recall", ylabel="precision", title="Test split")
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == list(lines)
    for line, points in zip(axes.lines, lines.values(), strict=True):
        np.testing.assert_array_equal(line.get_data(), points)
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == list(lines) if lines else not legend
    assert {"recall", "precision", "Test split"} <= set(texts(figure))
    # The limits extend beyond the unit square, so that lines at its edges are not clipped.
    for low, high in (axes.get_xlim(), axes.get_ylim()):
        assert low < 0 and high > 1
    drawn(figure, tmp_path)


@pytest.mark.parametrize("filled", [0, 1, 2, 15])
def test_calibration(filled, tmp_path):
    examples = np.where(np.arange(15) < filled, 10 + np.arange(15), 0)
    confidence = np.where(examples > 0, (np.arange(15) + 0.5) / 15, np.nan)
    figure = plots.calibration(confidence, confidence**2, examples, 0.1234)
    above, below = figure.axes
    lines = {line.get_label(): line.get_data() for line in above.lines}
    np.testing.assert_array_equal(lines["perfect"], [[0, 1], [0, 1]])
    np.testing.assert_array_equal(lines["measured"], [confidence, confidence**2])
    assert above.get_title() == "Calibration (expected error 0.123)"
    bars = below.patches
    assert [bar.get_height() for bar in bars] == examples.tolist()
    centers = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    np.testing.assert_allclose(centers, (np.arange(15) + 0.5) / 15)
    assert above.get_xlim() == below.get_xlim() == (0, 1)
    drawn(figure, tmp_path)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (40, 1), (40, 3)])
def test_regression_scatter(rows, columns, tmp_path):
    rng = np.random.default_rng(0)
    outputs, targets = rng.standard_normal((2, rows, columns)).astype(np.float32)
    names = ["age", "height", "weight"][:columns]
    figure = plots.regression_scatter(outputs, targets, names)
    for column, axes in enumerate(figure.axes):
        (points,) = axes.collections
        expected = np.stack([targets[:, column], outputs[:, column]], -1)
        np.testing.assert_array_equal(points.get_offsets(), expected)
        # The line is the diagonal.
        (line,) = axes.lines
        x, y = line.get_xy1()
        assert x == y and line.get_slope() == 1
        assert axes.get_xlabel() == f"true {names[column]}"
        assert axes.get_ylabel() == f"predicted {names[column]}"
    assert len(figure.axes) == columns
    drawn(figure, tmp_path)


def test_regression_of_a_constant(tmp_path):
    ones = np.ones((5, 1), np.float32)
    drawn(plots.regression_scatter(ones, ones, ["age"]), tmp_path)


STEPS = np.arange(50)
LOSSES = {
    "falls and explodes": 2.3 - 0.04 * STEPS + np.maximum(STEPS - 40, 0) ** 2,
    "falls": 2.3 - 0.04 * STEPS,
    "falls to nothing": np.maximum(2.3 - 0.1 * STEPS, 0),
    "rises from the start": 2.3 + 0.1 * STEPS,
    "stays": np.full(50, 2.3),
}


@pytest.mark.parametrize("name", LOSSES)
def test_learning_rates(name, tmp_path):
    smoothed, rates = LOSSES[name], np.geomspace(1e-6, 1, 50)
    losses = smoothed + 0.1 * np.sin(STEPS)
    figure = plots.learning_rates(rates, losses, smoothed, 3e-3)
    (axes,) = figure.axes
    lines = {line.get_label(): line.get_data() for line in axes.lines}
    np.testing.assert_array_equal(lines["batch loss"], [rates, losses])
    np.testing.assert_array_equal(lines["moving average"], [rates, smoothed])
    np.testing.assert_array_equal(lines["suggestion 3.0e-03"][0], [3e-3, 3e-3])
    assert axes.get_xscale() == "log"
    # The minimum and the start are visible, and the divergence does not compress them.
    low, high = axes.get_ylim()
    assert low <= smoothed.min() <= smoothed[0] <= high
    assert high <= max(smoothed[0] + 2 * (smoothed[0] - smoothed.min()), smoothed.max()) + 1
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
    # One scale for the entire figure, symmetric about zero.
    if shape[2] != 3:
        limits = {image.get_clim() for axes in figure.axes for image in axes.images}
        limit = float(np.abs(kernel).max())
        assert limits == {(-limit, limit)}
    drawn(figure, tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_kernels_with_a_common_limit(channels):
    kernel = np.full((2, 2, channels, 1), 0.5, np.float32)
    strong, weak = (plots.kernels(kernel, limit=limit, title="Before") for limit in (0.25, 1.0))
    assert "Before" in texts(weak)
    if channels == 3:
        assert shown(strong)[0].min() == 1 and shown(weak)[0].max() == 0.75
    else:
        limits = [figure.axes[0].images[0].get_clim() for figure in (strong, weak)]
        assert limits == [(-0.25, 0.25), (-1, 1)]


def test_kernels_of_zeros(tmp_path):
    for channels in (1, 3):
        drawn(plots.kernels(np.zeros((3, 3, channels, 4), np.float32)), tmp_path)


@pytest.mark.parametrize(("channels", "maps"), [(1, 33), (3, 8), (1, 1), (1, 32), (4, 7)])
def test_feature_maps(channels, maps, tmp_path):
    (image,) = images_of(1, channels)
    values = np.random.default_rng(0).standard_normal((6, 7, maps)).astype(np.float32)
    figure = plots.feature_maps(image, values, "conv")
    kept = min(maps, 32)
    assert f"conv: {kept} of {maps} maps, 6x7" in texts(figure)
    first, *others = shown(figure)
    np.testing.assert_array_equal(first, image if channels == 3 else image.mean(-1))
    assert len(others) == kept
    for number, array in enumerate(others):
        np.testing.assert_array_equal(array, values[..., number])
    drawn(figure, tmp_path)


def test_three_feature_maps_are_not_shown_as_rgb(tmp_path):
    figure = plots.feature_maps(np.zeros((4, 4, 3), np.uint8), np.ones((2, 2, 3)), "block/conv")
    assert [array.shape for array in shown(figure)] == [(4, 4, 3), (2, 2), (2, 2), (2, 2)]
    drawn(figure, tmp_path)


def test_pictures_of_the_embedded_dataset(tmp_path):
    source = data.load("fashion_mnist_slice", split="test")
    titles = [source.classes[label] for label in source.labels[:6]]
    figure = plots.pictures(source.images[:6], titles, "The first six")
    assert drawn(figure, tmp_path).std() > 30


@pytest.mark.parametrize("channels", [1, 3])
def test_boxes_surround_their_pixels(channels, tmp_path):
    image = np.zeros((20, 30, channels), np.uint8)
    image[4:8, 10:15] = 255
    figure = plots.boxes(image, np.array([[4, 10, 8, 15], [0, 0, 1, 1]]), "two parts")
    drawn(figure, tmp_path)
    assert {"two parts", "1", "2"} <= set(texts(figure))
    first = figure.axes[0].patches[0]
    # Pixels are centered on integers.
    assert (first.get_x(), first.get_y()) == (9.5, 3.5)
    assert (first.get_width(), first.get_height()) == (5, 4)


def test_no_boxes(tmp_path):
    figure = plots.boxes(np.eye(9)[..., None], np.zeros((0, 4), int), "nothing")
    drawn(figure, tmp_path)
    assert not figure.axes[0].patches
