"""Figures for a run: its history, its predictions on the test split, and its network."""

from collections.abc import Mapping, Sequence
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


def history_figures(
    history: list[dict[str, float]], score: str, final: Mapping[str, float] | None = None
) -> Figures:
    """Draw learning curves with the overfitting gap, and gradient and parameter norms.

    Args:
      history: rows of metrics, one per epoch.
      score: name of the score.
      final: scores of the final network, as in `jaxcnn.view.plots.learning_curves`.

    Example:
      >>> row = {"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.8}
      >>> row |= {"train_gradient_norm": 1.0, "parameter_norm": 9.0}
      >>> sorted(history_figures([row], "accuracy"))
      ['learning_curves', 'norms']
    """
    return {
        "learning_curves": plots.learning_curves(history, score=score, final=final),
        "norms": norms(history),
    }


def norms(history: Sequence[dict[str, float]]) -> Figure:
    """Plot the norms of gradients and parameters by epoch.

    Args:
      history: rows with ``epoch``, ``train_gradient_norm`` and ``parameter_norm``.

    Example:
      >>> figure = norms([{"epoch": 1, "train_gradient_norm": 2.0, "parameter_norm": 9.0}])
      >>> [axes.get_title() for axes in figure.axes]
      ['Gradient (epoch mean)', 'Parameters']
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    epochs = [row["epoch"] for row in history]
    titles = {"train_gradient_norm": "Gradient (epoch mean)", "parameter_norm": "Parameters"}
    for axes, (name, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        axes.plot(epochs, [row[name] for row in history], marker="o", markersize=3)
        axes.set(xlabel="epoch", ylabel="Euclidean norm", title=title, ylim=(0, None))
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
    return figure


def result_figures(task: Task, predictions: np.ndarray, source: ArraySource) -> Figures:
    """Draw a task's predictions ``[N, K]`` on a split.

    multi_class: confusion matrix, most confident mistakes and calibration. binary: the same, plus
    ROC and precision-recall curves. multi_label: ROC and precision-recall curves, and calibration.
    regression: predicted against true values, and the largest errors. Other tasks: no figures.

    Args:
      task: the task.
      predictions: ``[N, K]``, as returned by `jaxcnn.train.predict`.
      source: the examples of the split, all readable.

    Example:
      >>> from jaxcnn import data, train
      >>> source = data.load("fashion_mnist_slice", split="test")
      >>> logits = np.eye(10, dtype=np.float32)[source.labels]
      >>> sorted(result_figures(train.multi_class(), logits, source))
      ['calibration', 'confusion_matrix', 'mistakes']
    """
    readable = np.asarray(task.activate(predictions))
    if task.name == "regression":
        return _regression_figures(readable, source)
    labels = source.labels if task.name == "multi_class" else source.labels.reshape(readable.shape)
    figures: Figures = {}
    if task.name == "multi_class":
        figures |= _class_figures(readable, source)
    elif task.name == "binary":
        figures |= _class_figures(np.concatenate([1 - readable, readable], 1), source)
        figures |= _curve_figures(readable, labels, source.classes[1:])
    elif task.name == "multi_label":
        figures |= _curve_figures(readable, labels, source.classes)
    else:
        return {}
    return figures | {"calibration": _calibration_figure(task, predictions, source)}


def network_figures(
    model: Any, variables: dict[str, Any], preprocess: image.Preprocess, picture: np.ndarray
) -> Figures:
    """Draw the first layer's kernels, and the first and last layers' feature maps for one image.

    Args:
      model: the network.
      variables: the network's variables.
      preprocess: converts pixels to the network's input.
      picture: ``[H, W, C]``, a raw image.

    Example:
      >>> from jaxcnn import data, models
      >>> picture = data.load("fashion_mnist_slice", split="test").images[0]
      >>> model, preprocess = models.create("lenet5", 10), image.Preprocess((28, 28), 1)
      >>> variables = model.init(jax.random.key(0), preprocess(picture[None]), train=False)
      >>> "kernels" in network_figures(model, variables, preprocess, picture)
      True
    """
    figures: Figures = {}
    kernel = inspection.first_kernel(model, variables["params"], preprocess.channels)
    if kernel is not None:
        figures["kernels"] = plots.kernels(kernel)
    maps = inspection.feature_maps(model, variables, preprocess(picture[None]))
    for name, layer in list(maps.items())[:1] + list(maps.items())[-1:]:
        figures[f"feature_maps_{name.replace('/', '_')}"] = plots.feature_maps(
            picture, np.asarray(layer[0], np.float32), f"Feature maps of layer {name!r}"
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
    """Draw attribution maps on one raw image for up to three of the most probable classes.

    Classes with a probability below 1% are omitted, except the most probable one. Nothing is drawn
    for non-classification tasks or for networks without feature maps. The single output of a binary
    task represents its second class.

    Args:
      task: the task.
      model: the network.
      variables: the network's variables.
      preprocess: converts pixels to the network's input.
      picture: ``[H, W, C]``, a raw image.
      classes: names of the classes.

    Example:
      >>> from jaxcnn import data, models, train
      >>> source = data.load("fashion_mnist_slice", split="test")
      >>> model, preprocess = models.create("lenet5", 10), image.Preprocess((28, 28), 1)
      >>> picture = source.images[0]
      >>> variables = model.init(jax.random.key(0), preprocess(picture[None]), train=False)
      >>> task, names = train.multi_class(), source.classes
      >>> list(attribution_figures(task, model, variables, preprocess, picture, names))
      ['attribution']
    """
    if task.name not in ("multi_class", "binary", "multi_label"):
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
    key: jax.Array, augment: Augment | None, source: ArraySource, preprocess: image.Preprocess
) -> Figures:
    """Plot eight training images with the augmentations of each of the first eight epochs.

    The augmentations are exactly those used in training, except with mixup and cutmix, which choose
    partners from the batch.

    Args:
      key: root key of the run, ``state.key``.
      augment: the training step's augmentation; None draws nothing.
      source: the training examples.
      preprocess: converts pixels to floats in [0, 1].

    Example:
      >>> from jaxcnn import data
      >>> source = data.load("fashion_mnist_slice", split="test")
      >>> preprocess = image.Preprocess((28, 28), 1)
      >>> keep = lambda keys, batch: batch
      >>> list(augmentation_figures(jax.random.key(0), keep, source, preprocess))
      ['augmentation']
    """
    if augment is None:
        return {}
    # Spread the rows over the source, since a folder lists one class after another.
    rows = np.linspace(0, len(source) - 1, min(EPOCHS, len(source))).astype(np.int32)
    pixels, readable = source.read(rows)
    rows, images = rows[readable], preprocess.to_float(pixels[readable])

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
        f"predicted: {classes[guesses[i]]} {probabilities[i].max():.0%}\ntrue: {classes[labels[i]]}"
        for i in wrong
    ]
    return {
        "confusion_matrix": plots.confusion_matrix(matrix, classes),
        "mistakes": plots.pictures(
            source.images[wrong], titles, "Most confident mistakes on the test split"
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
            recall, xlabel="recall", ylabel="precision", title="Precision-recall, test split"
        ),
    }


def _calibration_figure(task: Task, predictions: np.ndarray, source: ArraySource) -> Figure:
    measure = jax.jit(task.metrics["calibration_error"])
    bins = jax.device_get(measure(predictions, source.labels, np.ones(len(predictions), bool)))
    examples = np.where(bins.examples > 0, bins.examples, np.nan)
    return plots.calibration(
        bins.confidence / examples,
        bins.correct / examples,
        bins.examples,
        metrics.summarize({"calibration_error": bins})["calibration_error"],
    )


def _regression_figures(outputs: np.ndarray, source: ArraySource) -> Figures:
    # Targets may have different units, so each error is relative to the spread of its target.
    errors = np.abs(outputs - source.labels) / np.maximum(source.labels.std(0), 1e-12)
    worst = np.argsort(-errors.mean(1), kind="stable")[:SHOWN]
    titles = [
        "\n".join(
            f"{name} {outputs[i, column]:.3g}, true {source.labels[i, column]:.3g}"
            for column, name in enumerate(source.classes)
        )
        for i in worst
    ]
    return {
        "predicted_against_true": plots.regression_scatter(outputs, source.labels, source.classes),
        "mistakes": plots.pictures(
            source.images[worst], titles, "Largest errors on the test split"
        ),
    }
