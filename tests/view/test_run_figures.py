"""Figures of a run: the documented ones for each task, for any labels and outputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxcnn import data, image, metrics, models, train
from jaxcnn.models.layers import Conv
from jaxcnn.view import plots, run_figures

ROWS = 40
IMAGES = np.random.default_rng(0).integers(0, 256, (ROWS, 6, 7, 1), np.uint8)
TASKS = {
    "multi_class": train.multi_class(),
    "binary": train.binary(),
    "multi_label": train.multi_label(),
    "regression": train.regression(mean=[20.0, -1.0, 3.0], std=[10.0, 0.5, 2.0]),
}
EXPECTED = {
    "multi_class": ["confusion_matrix", "mistakes", "calibration"],
    "binary": ["confusion_matrix", "mistakes", "roc", "precision_recall", "calibration"],
    "multi_label": ["roc", "precision_recall", "calibration"],
    "regression": ["predicted_against_true", "mistakes"],
}
every_task = pytest.mark.parametrize("name", TASKS)


def example(name, rows=ROWS, constant=False):
    """Return random outputs, as from an untrained network, and the source that they belong to."""
    rng = np.random.default_rng(1)
    labels = {
        "multi_class": rng.integers(0, 1 if constant else 3, rows),
        "binary": rng.integers(0, 1 if constant else 2, rows),
        "multi_label": rng.integers(0, 1 if constant else 2, (rows, 3)),
        "regression": np.full((rows, 3), 5.0) if constant else rng.normal(5, 3, (rows, 3)),
    }[name]
    classes = ("cat", "dog") if name == "binary" else ("cat", "dog", "cow")
    outputs = rng.standard_normal((rows, 1 if name == "binary" else 3)).astype(np.float32)
    return outputs, data.from_arrays(IMAGES[:rows], labels, classes=classes)


def save(figures, tmp_path):
    """Draw all figures: errors in a figure appear only when it is drawn."""
    for name, figure in figures.items():
        assert isinstance(figure, Figure)
        plots.save_figure(figure, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def titles(figure):
    """Return the titles above the pictures."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def pixels(figure):
    """Return the arrays of the images in the figure."""
    return [np.asarray(picture.get_array()) for axes in figure.axes for picture in axes.images]


@every_task
def test_a_task_gets_its_pictures(name, tmp_path):
    figures = run_figures.result_figures(TASKS[name], *example(name))
    assert list(figures) == EXPECTED[name]
    save(figures, tmp_path)


@pytest.mark.slow
@every_task
@pytest.mark.parametrize("rows", [1, ROWS])
def test_labels_without_variety_have_pictures_too(name, rows, tmp_path):
    figures = run_figures.result_figures(TASKS[name], *example(name, rows, constant=True))
    assert list(figures) == EXPECTED[name]
    if "roc" in figures:
        assert not figures["roc"].axes[0].lines and not figures["precision_recall"].axes[0].lines
    save(figures, tmp_path)


def test_all_positive_labels_have_pictures_too(tmp_path):
    for name in ("binary", "multi_label"):
        outputs, source = example(name)
        source = data.from_arrays(IMAGES, np.ones_like(source.labels), classes=source.classes)
        figures = run_figures.result_figures(TASKS[name], outputs, source)
        assert not figures["roc"].axes[0].lines
        save(figures, tmp_path)


@pytest.mark.parametrize("name", ["multi_class", "binary"])
def test_perfect_answers_have_no_mistakes(name, tmp_path):
    _, source = example(name)
    right = np.eye(3)[source.labels] if name == "multi_class" else source.labels[:, None] - 0.5
    figures = run_figures.result_figures(TASKS[name], np.float32(9 * right), source)
    assert "none" in [text.get_text() for text in figures["mistakes"].texts]
    assert figures["confusion_matrix"].axes[0].get_title().endswith("(100.00%)")
    save(figures, tmp_path)


def test_the_most_confident_mistakes_come_first():
    logits = np.log(
        np.float32([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.05, 0.05, 0.9], [0.6, 0.4, 0]]).clip(1e-9)
    )
    source = data.from_arrays(IMAGES[:4], np.array([1, 1, 0, 2]), classes=("cat", "dog", "cow"))
    figures = run_figures.result_figures(TASKS["multi_class"], logits, source)
    expected = [
        "predicted: cow 90%\ntrue: cat",
        "predicted: cat 70%\ntrue: dog",
        "predicted: cat 60%\ntrue: cow",
    ]
    assert titles(figures["mistakes"]) == expected
    for array, number in zip(pixels(figures["mistakes"]), (2, 0, 3), strict=True):
        np.testing.assert_array_equal(array, IMAGES[number, ..., 0])
    written = [text.get_text() for text in figures["confusion_matrix"].axes[0].texts]
    assert written == ["0", "0", "1", "1", "1", "0", "1", "0", "0"]


def test_a_binary_answer_is_named_by_the_more_probable_class():
    # 80%, 30% and 40% dog; all are cats except the second.
    logits = np.log(np.float32([[4.0], [3 / 7], [2 / 3]]))
    source = data.from_arrays(IMAGES[:3], np.array([0, 1, 0]), classes=("cat", "dog"))
    figures = run_figures.result_figures(TASKS["binary"], logits, source)
    assert titles(figures["mistakes"]) == [
        "predicted: dog 80%\ntrue: cat",
        "predicted: cat 70%\ntrue: dog",
    ]
    (line,) = figures["roc"].axes[0].lines
    # The only dog is ranked below both cats.
    assert line.get_label() == "dog (area 0.000)"
    (line,) = figures["precision_recall"].axes[0].lines
    assert line.get_label() == "dog (average 0.333)"


def test_at_most_eighteen_mistakes_are_shown():
    source = data.from_arrays(IMAGES, np.zeros(ROWS, int), classes=("cat", "dog"))
    figures = run_figures.result_figures(
        TASKS["multi_class"], np.tile([0.0, 1.0], (ROWS, 1)), source
    )
    assert len(pixels(figures["mistakes"])) == 18


def test_curves_of_the_labels_that_have_both_answers():
    outputs, source = example("multi_label")
    labels = source.labels.copy()
    labels[:, 1] = 1
    source = data.from_arrays(IMAGES, labels, classes=source.classes)
    figures = run_figures.result_figures(TASKS["multi_label"], outputs, source)
    lines = figures["roc"].axes[0].lines
    areas = [metrics.roc_auc(outputs[:, n], labels[:, n]) for n in (0, 2)]
    expected = [f"cat (area {areas[0]:.3f})", f"cow (area {areas[1]:.3f})"]
    assert [line.get_label() for line in lines] == expected
    for line, column in zip(lines, (0, 2), strict=True):
        # Probabilities have the same order as logits.
        curve = metrics.roc_curve(outputs[:, column], labels[:, column])
        np.testing.assert_array_equal(line.get_data(), curve[:2])


def test_ten_labels_are_enough_for_one_picture(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (ROWS, 12))
    outputs = rng.standard_normal((ROWS, 12)).astype(np.float32)
    figures = run_figures.result_figures(
        TASKS["multi_label"], outputs, data.from_arrays(IMAGES, labels)
    )
    assert len(figures["roc"].axes[0].lines) == 10
    save(figures, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["multi_class", "binary", "multi_label"])
def test_calibration_matches_the_metrics(name):
    outputs, source = example(name)
    task = TASKS[name]
    mask = np.ones(ROWS, bool)
    bins = jax.device_get(task.metrics["calibration_error"](outputs, source.labels, mask))
    figure = run_figures.result_figures(task, outputs, source)["calibration"]
    error = metrics.summarize({"calibration_error": bins})["calibration_error"]
    above, below = figure.axes
    assert above.get_title() == f"Calibration (expected error {error:.3f})"
    assert [bar.get_height() for bar in below.patches] == bins.examples.tolist()
    assert bins.examples.sum() == (3 * ROWS if name == "multi_label" else ROWS)
    measured = above.lines[1]
    empty = bins.examples == 0
    for values, sums in zip(measured.get_data(), (bins.confidence, bins.correct), strict=True):
        np.testing.assert_array_equal(np.isnan(values), empty)
        expected = sums[~empty] / bins.examples[~empty]
        np.testing.assert_allclose(values[~empty], expected, rtol=1e-6)


def test_regression_is_shown_in_the_unit_of_the_targets():
    task = train.regression(mean=[20.0], std=[10.0])
    outputs = np.float32([[0.0], [1.0], [-1.0]])  # standardized; 20, 30, 10 in the targets' unit
    source = data.from_arrays(IMAGES[:3], np.array([21.0, 25.5, 30.0]), classes=["age"])
    figures = run_figures.result_figures(task, outputs, source)
    (points,) = figures["predicted_against_true"].axes[0].collections
    np.testing.assert_array_equal(points.get_offsets(), [[21, 20], [25.5, 30], [30, 10]])
    # The largest error comes first.
    expected = ["age 10, true 30", "age 30, true 25.5", "age 20, true 21"]
    assert titles(figures["mistakes"]) == expected
    for array, number in zip(pixels(figures["mistakes"]), (2, 1, 0), strict=True):
        np.testing.assert_array_equal(array, IMAGES[number, ..., 0])


def test_history_has_curves_and_norms(tmp_path):
    history = [
        {"epoch": n, "train_loss": 1 / n, "train_r2": 0.5, "validation_r2": 0.25}
        | {"validation_loss": 2 / n, "train_gradient_norm": 1.0, "parameter_norm": 9.0}
        for n in (1, 2)
    ]
    figures = run_figures.history_figures(history, "r2")
    assert list(figures) == ["learning_curves", "norms"]
    panels = [axes.get_title() for axes in figures["learning_curves"].axes]
    assert panels == ["Loss", "R2", "Overfitting gap"]
    save(figures, tmp_path)


@pytest.mark.slow
def test_a_network_shows_its_first_kernels_and_first_and_last_maps(tmp_path):
    model = models.create("small_vgg", 3, widths=(2, 3), norm="none")
    picture = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    preprocess = image.Preprocess((8, 9), 3)
    variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(
        jnp.zeros((1, 8, 9, 3))
    )
    figures = run_figures.network_figures(model, variables, preprocess, picture)
    assert list(figures) == ["kernels", "feature_maps_convs_0", "feature_maps_convs_3"]
    assert len(pixels(figures["kernels"])) == 2
    title = "Feature maps of layer 'convs_3': 3 of 3 maps, 4x5"
    assert figures["feature_maps_convs_3"].get_suptitle() == title
    np.testing.assert_array_equal(pixels(figures["feature_maps_convs_0"])[0], picture)
    save(figures, tmp_path)


def test_a_layer_inside_another_is_one_file_name_and_the_only_one_is_shown_once(tmp_path):
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            return jnp.sum(Conv(2, 3, name="conv")(x), (1, 2))

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return Block(name="block")(x)

    variables = Model().init(jax.random.key(0), jnp.zeros((1, 6, 7, 1)), train=False)
    preprocess = image.Preprocess((6, 7), 1)
    figures = run_figures.network_figures(Model(), variables, preprocess, IMAGES[0])
    assert list(figures) == ["kernels", "feature_maps_block_conv"]
    save(figures, tmp_path)


def test_a_network_without_convolutions_has_nothing_to_show():
    def model(variables, images, train):
        return images.reshape(len(images), -1) @ variables["params"]["w"]

    variables = {"params": {"w": np.ones((42, 3), np.float32)}}
    preprocess = image.Preprocess((6, 7), 1)
    assert run_figures.network_figures(model, variables, preprocess, IMAGES[0]) == {}
