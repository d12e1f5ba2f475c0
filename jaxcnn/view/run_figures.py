"""Which pictures a run gets: of its history, of its answers on the test split, of its network."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from jaxcnn import image, metrics
from jaxcnn.batch import Batch
from jaxcnn.data import ArraySource
from jaxcnn.train import Augment, Task, augment_keys
from jaxcnn.view import attribution, inspection, plots

Figures = dict[str, Figure]
SHOWN = 18
CURVES = 10
EPOCHS = 8
EXPLAINED = 3
LEAST_PROBABLE = 0.01


def history_figures(history: list[dict[str, float]], score: str) -> Figures:
    """Learning curves with the over-fitting gap, and norms."""
    return {
        "learning_curves": plots.learning_curves(history, score),
        "norms": plots.norms(history),
    }


def result_figures(task: Task, outputs: np.ndarray, source: ArraySource) -> Figures:
    """What a task shows of its outputs ``[N, K]`` on a split.

    multi_class: confusion matrix, the most confident mistakes, calibration. binary: the same, and
    ROC and precision-recall curves. multi_label: those curves and calibration. regression:
    predicted against true, and the worst errors.
    """
    readable = np.asarray(task.activate(outputs))
    if task.name == "regression":
        return _regression_figures(readable, source)
    labels = source.labels if task.name == "multi_class" else source.labels.reshape(outputs.shape)
    figures: Figures = {}
    if task.name == "multi_class":
        figures |= _class_figures(readable, source)
    elif task.name == "binary":
        figures |= _class_figures(np.concatenate([1 - readable, readable], 1), source)
        figures |= _curve_figures(readable, labels, source.classes[1:])
    else:
        figures |= _curve_figures(readable, labels, source.classes)
    return figures | {"calibration": _calibration_figure(task, outputs, source)}


def network_figures(
    model: Any, variables: dict[str, Any], preprocess: image.Preprocess, picture: np.ndarray
) -> Figures:
    """The first layer's kernels, and what the first and the last layer make of one raw image."""
    figures: Figures = {}
    kernel = inspection.first_kernel(model, variables["params"], preprocess.channels)
    if kernel is not None:
        figures["kernels"] = plots.kernels(kernel)
    maps = inspection.feature_maps(model, variables, preprocess(picture[None]))
    for name, layer in list(maps.items())[:1] + list(maps.items())[-1:]:
        figures[f"feature_maps_{name.replace('/', '_')}"] = plots.feature_maps(
            picture, np.asarray(layer[0], np.float32), f"What layer {name!r} gives"
        )
    return figures


def attribution_figures(
    task: Task,
    model: Any,
    variables: dict[str, Any],
    preprocess: image.Preprocess,
    picture: np.ndarray,
    classes: Sequence[str],
) -> Figures:
    """What speaks for the most probable classes in one raw image: at most three, of at least 1 %.

    Nothing for regression, and for a network without a `jaxcnn.view.attribution.grad_cam`. The one
    output of a binary task speaks for its second class.
    """
    if task.name == "regression":
        return {}
    images = preprocess(picture[None])
    outputs = jax.jit(lambda *arguments: model.apply(*arguments, train=False))(variables, images)
    probabilities = np.asarray(task.activate(outputs))[0]
    best = np.argsort(-probabilities, kind="stable")[:EXPLAINED]
    best = best[probabilities[best] >= min(LEAST_PROBABLE, probabilities.max())]
    several = images.repeat(len(best), 0)
    try:
        heat = attribution.grad_cam(model, variables, several, best)
    except attribution.NoFeatureMapsError:
        return {}
    saliency = attribution.saliency(model, variables, several, best)
    names = classes[1:] if task.name == "binary" else classes
    figure = plots.attribution(
        np.clip(preprocess.to_float(picture[None]).repeat(len(best), 0), 0, 1),
        np.asarray(heat),
        np.asarray(saliency),
        [f"{names[k]}\n{probabilities[k]:.1%}" for k in best],
    )
    return {"attribution": figure}


def augmentation_figures(
    augment: Augment | None, source: ArraySource, preprocess: image.Preprocess, key: jax.Array
) -> Figures:
    """Eight of the training images, and what eight epochs made of them: 64 in all.

    Exactly those that were trained with, but for mixup and cutmix, which find partners in a batch.

    Args:
      augment: of the training step; for None there is nothing to see.
      source: the training examples.
      preprocess: from their pixels to [0, 1].
      key: the run's root key, ``state.key``.
    """
    if augment is None:
        return {}
    # From everywhere, because a folder has its classes one after the other.
    rows = np.linspace(0, len(source) - 1, min(EPOCHS, len(source))).astype(np.int32)
    pixels = source.images[rows]
    good = ~np.isin(rows, list(source.bad))  # known now
    rows, images = rows[good], preprocess.to_float(pixels[good])

    @jax.jit
    def seen(epoch: int) -> jax.Array:
        batch = Batch(images, source.labels[rows], np.ones(len(rows), bool), rows, epoch)
        return augment(augment_keys(key, batch), batch).image

    columns = [images, *(seen(epoch) for epoch in range(EPOCHS))]
    shown = np.clip(np.stack([np.asarray(column) for column in columns], 1), 0, 1)
    return {"augmentation": plots.augmentations(shown)}


def _class_figures(probabilities: np.ndarray, source: ArraySource) -> Figures:
    labels, classes = source.labels, source.classes
    guesses = probabilities.argmax(-1)
    matrix = metrics.confusion_matrix(labels, guesses, len(classes))
    wrong = inspection.confident_mistakes(probabilities, labels, SHOWN)
    titles = [
        f"said: {classes[guesses[i]]} {probabilities[i].max():.0%}\nis: {classes[labels[i]]}"
        for i in wrong
    ]
    return {
        "confusion_matrix": plots.confusion_matrix(matrix, classes),
        "mistakes": plots.pictures(
            source.images[wrong], titles, "The most confident mistakes on the test split"
        ),
    }


def _curve_figures(
    probabilities: np.ndarray, labels: np.ndarray, names: tuple[str, ...]
) -> Figures:
    roc, recall = {}, {}
    for name, scores, column in list(zip(names, probabilities.T, labels.T, strict=True))[:CURVES]:
        if 0 < column.sum() < len(column):
            area, precision = (
                metrics.roc_auc(scores, column),
                metrics.average_precision(scores, column),
            )
            roc[f"{name} (area {area:.3f})"] = metrics.roc_curve(scores, column)[:2]
            points = metrics.precision_recall_curve(scores, column)
            recall[f"{name} (average {precision:.3f})"] = points[:2]
    return {
        "roc": plots.curves(
            roc, xlabel="false positive rate", ylabel="true positive rate", title="ROC, test split"
        ),
        "precision_recall": plots.curves(
            recall, xlabel="recall", ylabel="precision", title="Precision and recall, test split"
        ),
    }


def _calibration_figure(task: Task, outputs: np.ndarray, source: ArraySource) -> Figure:
    rows = len(outputs)
    counts = jax.jit(task.details)(outputs, source.labels, np.zeros(rows), np.ones(rows, bool))
    counts = jax.device_get(counts)
    examples = counts["bin_examples"]
    several = np.where(examples > 0, examples, np.nan)
    return plots.calibration(
        counts["bin_confidence"] / several,
        counts["bin_correct"] / several,
        examples,
        metrics.summarize(counts)["calibration_error"],
    )


def _regression_figures(outputs: np.ndarray, source: ArraySource) -> Figures:
    # Targets may have different units, so each error is taken against its own spread.
    errors = np.abs(outputs - source.labels) / np.maximum(source.labels.std(0), 1e-12)
    worst = np.argsort(-errors.mean(1), kind="stable")[:SHOWN]
    titles = [
        "\n".join(
            f"{name} {outputs[i, column]:.3g}, is {source.labels[i, column]:.3g}"
            for column, name in enumerate(source.classes)
        )
        for i in worst
    ]
    return {
        "predicted_against_true": plots.regression_scatter(outputs, source.labels, source.classes),
        "mistakes": plots.pictures(
            source.images[worst], titles, "The largest errors on the test split"
        ),
    }
