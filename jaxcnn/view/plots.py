"""Matplotlib figures for a run, without pyplot: they need no display and are thread-safe."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from jaxcnn.data.files import atomic_write
from jaxcnn.view.mosaic import as_rgb, draw_mosaic, literal

_TRAIN, _VALIDATION = "tab:blue", "tab:orange"
_FRAME = "gold"  # color of boxes, visible on light and dark images


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, creating the folder if needed.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_figure(Figure(), Path(folder) / "new" / "figure.png")
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), atomic_write(path) as temporary:
        # Class names may be in any script; missing glyphs are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(temporary, format="png", dpi=120)


def learning_curves(
    history: Sequence[dict[str, float]],
    *,
    score: str = "accuracy",
    final: Mapping[str, float] | None = None,
) -> Figure:
    """Plot loss, score and overfitting gap by epoch, for training and validation.

    Args:
      history: rows with ``epoch``, ``train_loss``, ``train_<score>``, and optionally their
        ``validation_`` counterparts.
      score: name of a metric for which higher is better.
      final: ``train_<score>`` and ``validation_<score>`` of the final network in evaluation mode,
        drawn as stars, because training values are computed with dropout and augmentation, and
        while the network changes.

    Example:
      >>> rows = [{"epoch": n, "train_loss": 1 / n, "train_accuracy": 0.9} for n in (1, 2)]
      >>> [axes.get_title() for axes in learning_curves(rows).axes]
      ['Loss', 'Accuracy', 'Overfitting gap']
    """
    figure = Figure(figsize=(13, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    left, middle, right = figure.subplots(1, 3)
    for axes, metric in ((left, "loss"), (middle, score)):
        for part, color in (("train", _TRAIN), ("validation", _VALIDATION)):
            values = [row.get(f"{part}_{metric}") for row in history]
            if None not in values:
                axes.plot(epochs, values, marker="o", markersize=3, color=color, label=part)
        axes.set(xlabel="epoch", ylabel=metric, title=metric.capitalize().replace("_", " "))
        axes.legend()
    gaps = [
        row.get(f"train_{score}", math.nan) - row.get(f"validation_{score}", math.nan)
        for row in history
    ]
    right.axhline(0, color="gray", linewidth=0.8)
    right.plot(epochs, gaps, marker="o", markersize=3, color="tab:red")
    if final is not None:
        value = final[f"train_{score}"]
        gap = value - final[f"validation_{score}"]
        middle.plot(epochs[-1:], [value], "*", color=_TRAIN, label="train, final network")
        middle.legend()
        right.plot(epochs[-1:], [gap], "*", color="tab:red", label="final network")
        right.legend()
    right.set(xlabel="epoch", ylabel=f"train - validation {score}", title="Overfitting gap")
    for axes in (left, middle, right):
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
    note = "training values are computed during training, with dropout and augmentation"
    if final is not None:
        note += "; those of the final network are computed in evaluation mode"
    figure.supxlabel(note, fontsize=8, color="gray")
    return figure


def confusion_matrix(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Plot a confusion matrix, colored by the fraction within each row.

    Args:
      matrix: ``[K, K]`` counts, with true classes as rows and predicted classes as columns.
      classes: ``K`` names; with more than 30 classes, names and counts are not shown.

    Example:
      >>> figure = confusion_matrix(np.array([[3, 1], [0, 4]]), ("cat", "dog"))
      >>> figure.axes[0].get_title()
      'Test split: 7 of 8 correct (87.50%)'
    """
    size = max(4.5, 0.62 * len(classes) + 2)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 30:
        ticks = range(len(classes))
        names = [literal(name) for name in classes]
        axes.set_xticks(ticks, names, rotation=45, ha="right")
        axes.set_yticks(ticks, names)
        for (row, column), number in np.ndenumerate(matrix):
            color = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(number), ha="center", va="center", fontsize=8, color=color)
    accuracy = np.trace(matrix) / max(matrix.sum(), 1)
    title = f"Test split: {np.trace(matrix):,} of {matrix.sum():,} correct ({accuracy:.2%})"
    axes.set(xlabel="predicted", ylabel="true", title=title)
    return figure


def pictures(images: np.ndarray, titles: Sequence[str], heading: str) -> Figure:
    """Show images in rows of six, each with a title.

    Args:
      images: ``[N, H, W, C]``, uint8 or floating point in [0, 1].
      titles: ``N`` titles, which may have several lines.
      heading: title of the figure.

    Example:
      >>> figure = pictures(np.zeros((2, 8, 8, 1), np.uint8), ["cat", "dog"], "Two images")
      >>> [text.get_text() for text in figure.axes[0].texts]
      ['cat', 'dog']
    """
    figure = Figure(layout="constrained")
    if len(images):
        draw_mosaic(figure, list(images), titles=titles, columns=6, inches=1.8)
    else:
        figure.set_size_inches(11, 1)
        figure.text(0.5, 0.3, "none", ha="center")
    figure.suptitle(heading)
    return figure


def boxes(image: np.ndarray, found: np.ndarray, title: str) -> Figure:
    """Show an image with numbered boxes.

    Args:
      image: ``[H, W, C]``, grayscale or RGB, uint8 or floating point in [0, 1].
      found: ``[N, 4]`` (top, left, bottom, right) in pixels, the last two exclusive, as in
        `jaxcnn.image.Regions`.
      title: title of the figure.

    Example:
      >>> figure = boxes(np.zeros((8, 8, 1)), np.array([[1, 2, 4, 6]]), "one box")
      >>> len(figure.axes[0].patches)
      1
    """
    height, width = image.shape[:2]
    figure = Figure(figsize=(6, max(1.5, 6 * height / width + 0.4)), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    axes.imshow(image if image.shape[-1] == 3 else image.mean(-1), cmap="gray")
    for number, (top, left, bottom, right) in enumerate(found, start=1):
        corner = (left - 0.5, top - 0.5)
        axes.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, color=_FRAME))
        text = axes.text(left, top - 1, str(number), color=_FRAME, va="bottom", fontsize=11)
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])
    axes.set_title(title)
    return figure


def augmentations(images: np.ndarray) -> Figure:
    """Show images and their augmentations, one image per row.

    Args:
      images: ``[N, 1 + epochs, H, W, C]`` in [0, 1]: each image, then one augmentation per epoch.

    Example:
      >>> figure = augmentations(np.zeros((2, 3, 8, 8, 1)))
      >>> [text.get_text() for text in figure.axes[0].texts]
      ['image', 'epoch 1', 'epoch 2']
    """
    count, columns = images.shape[:2]
    figure = Figure(layout="constrained")
    images = as_rgb(images)
    tiles = list(images.reshape(count * columns, *images.shape[2:]))
    titles = ["image", *(f"epoch {epoch}" for epoch in range(1, columns))]
    draw_mosaic(figure, tiles, titles=titles, columns=columns)
    figure.suptitle("Training images and their augmentations")
    return figure


def curves(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]], *, xlabel: str, ylabel: str, title: str
) -> Figure:
    """Plot named curves in the unit square, such as ROC or precision-recall curves.

    Args:
      lines: (x, y) arrays in [0, 1], by name.
      xlabel: label of the x axis.
      ylabel: label of the y axis.
      title: title of the figure.

    Example:
      >>> line = (np.array([0.0, 1.0]), np.array([0.0, 1.0]))
      >>> figure = curves({"chance": line}, xlabel="FPR", ylabel="TPR", title="ROC")
      >>> figure.axes[0].get_title(), len(figure.axes[0].lines)
      ('ROC', 1)
    """
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    for name, (x, y) in lines.items():
        axes.plot(x, y, label=literal(name), linewidth=1.5)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect=1)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize=8)
    return figure


def calibration(
    confidence: np.ndarray, accuracy: np.ndarray, examples: np.ndarray, error: float
) -> Figure:
    """Plot a reliability diagram: accuracy against confidence, and the predictions per bin.

    Args:
      confidence: ``[bins]``, mean predicted probability; NaN for empty bins.
      accuracy: ``[bins]``, fraction of correct predictions.
      examples: ``[bins]``, number of predictions.
      error: expected calibration error.

    Example:
      >>> figure = calibration(np.array([0.2, 0.8]), np.array([0.3, 0.7]), np.array([5, 5]), 0.1)
      >>> figure.axes[0].get_title()
      'Calibration (expected error 0.100)'
    """
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    above.plot((0, 1), (0, 1), color="gray", linewidth=0.8, label="perfect")
    above.plot(confidence, accuracy, marker="o", markersize=4, label="measured")
    above.set(ylabel="accuracy", title=f"Calibration (expected error {error:.3f})")
    above.legend()
    above.grid(alpha=0.3)
    width = 1 / len(examples)
    below.bar((np.arange(len(examples)) + 0.5) * width, examples, width * 0.9)
    below.set(xlabel="predicted probability", ylabel="predictions", xlim=(0, 1))
    return figure


def regression_scatter(outputs: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> Figure:
    """Plot predicted against true values, one panel per target.

    Args:
      outputs: ``[N, D]`` predictions.
      targets: ``[N, D]`` true values.
      names: ``D`` names of the targets.

    Example:
      >>> figure = regression_scatter(np.ones((4, 1)), np.ones((4, 1)), ["age"])
      >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
      ('true age', 'predicted age')
    """
    figure = Figure(figsize=(5 * len(names), 5), layout="constrained")
    for column, axes in enumerate(figure.subplots(1, len(names), squeeze=False)[0]):
        true, predicted = targets[:, column], outputs[:, column]
        axes.scatter(true, predicted, s=5, alpha=0.5)
        axes.axline((float(true.mean()),) * 2, slope=1, color="gray", linewidth=0.8)
        name = literal(names[column])
        axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
        axes.grid(alpha=0.3)
    figure.suptitle("Test split: predicted vs. true")
    return figure


def learning_rates(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggestion: float
) -> Figure:
    """Plot a learning-rate range test and the suggested learning rate.

    Args:
      rates: ``[steps]``, increasing learning rates.
      losses: ``[steps]``, batch losses.
      smoothed: ``[steps]``, moving average of the losses.
      suggestion: the suggested learning rate.

    Example:
      >>> rates, losses = np.geomspace(1e-4, 1, 5), np.array([2.0, 1.8, 1.0, 0.9, 5.0])
      >>> figure = learning_rates(rates, losses, losses, 1e-2)
      >>> [line.get_label() for line in figure.axes[0].lines]
      ['batch loss', 'moving average', 'suggestion 1.0e-02']
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color="tab:blue", alpha=0.3, linewidth=1, label="batch loss")
    axes.plot(rates, smoothed, color="tab:blue", label="moving average")
    axes.axvline(suggestion, color="tab:red", linestyle="--", label=f"suggestion {suggestion:.1e}")
    low = smoothed.min()
    # Cut off the divergence at the end, which would hide the descent before it.
    high = low + 1.8 * (smoothed[0] - low) if smoothed[0] > low else smoothed.max() + 1e-6
    axes.set(xlabel="learning rate", ylabel="training loss", title="Learning-rate range test")
    axes.set(xscale="log", ylim=(low - 0.1 * (high - low), high))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def kernels(
    kernel: np.ndarray, *, limit: float | None = None, title: str = "Kernels of the first layer"
) -> Figure:
    """Show convolution kernels: positive weights in red, negative weights in blue.

    Three input channels are shown as RGB, where gray is 0; otherwise the channel mean is shown.

    Args:
      kernel: ``[h, w, in, out]`` weights.
      limit: magnitude shown in full color; defaults to the largest one. A common limit makes the
        figures of different kernels comparable.
      title: title of the figure.

    Example:
      >>> figure = kernels(np.ones((3, 3, 1, 8)), title="Eight kernels")
      >>> len(figure.axes[0].images)
      8
    """
    limit = limit or max(float(np.abs(kernel).max()), 1e-12)
    color = kernel.shape[2] == 3
    tiles = (kernel / limit + 1).clip(0, 2) / 2 if color else kernel.mean(2, keepdims=True)
    figure = Figure(layout="constrained")
    draw_mosaic(figure, list(np.moveaxis(tiles, -1, 0)), limit=None if color else limit)
    if color:
        figure.supxlabel(f"per channel, from {-limit:.2g} to {limit:.2g}", fontsize=8)
    else:
        (axes,) = figure.axes
        figure.set_figwidth(figure.get_figwidth() + 1)  # room for the color bar
        figure.colorbar(axes.images[0], ax=axes, aspect=30, label="weight")
    figure.suptitle(title)
    return figure


def feature_maps(image: np.ndarray, maps: np.ndarray, title: str) -> Figure:
    """Show an image and the first 32 feature maps of a layer.

    Each map is scaled separately, from its smallest value (black) to its largest (white).

    Args:
      image: ``[H, W, C]``, the input.
      maps: ``[h, w, c]``, the output of the layer.
      title: name of the layer.

    Example:
      >>> figure = feature_maps(np.zeros((8, 8, 1)), np.zeros((4, 4, 16)), "conv")
      >>> figure.get_suptitle()
      'conv: 16 of 16 maps, 4x4'
    """
    shown = min(maps.shape[-1], 32)
    figure = Figure(layout="constrained")
    tiles = [image, *np.moveaxis(maps[..., None, :shown], -1, 0)]
    draw_mosaic(figure, tiles, titles=["input"], columns=11, inches=1.0)
    figure.suptitle(f"{title}: {shown} of {maps.shape[-1]} maps, {maps.shape[0]}x{maps.shape[1]}")
    return figure


def attribution(
    images: np.ndarray, heat: np.ndarray, saliency: np.ndarray, titles: Sequence[str]
) -> Figure:
    """Show one row per image: the image, its Grad-CAM heat map, and its saliency map.

    Args:
      images: ``[N, H, W, C]`` in [0, 1].
      heat: ``[N, H, W]`` in [0, 1], drawn over the grayscale image from dark (0) to yellow (1).
      saliency: ``[N, H, W]``, >= 0, from black (0) to white (the 99th percentile of each map).
      titles: ``N`` titles, such as a class and its probability.

    Example:
      >>> images, maps = np.zeros((2, 8, 8, 1)), np.zeros((2, 8, 8))
      >>> figure = attribution(images, maps, maps, ["cat 90%", "dog 7%"])
      >>> len(figure.axes[0].images)
      6
    """
    images = as_rgb(images)
    hot = 0.4 * images.mean(-1, keepdims=True) + 0.6 * colormaps["inferno"](0.9 * heat)[..., :3]
    # Use a percentile, since the maximum is often an outlier that would make the rest black.
    white = np.maximum(np.quantile(saliency, 0.99, (1, 2), keepdims=True), 1e-30)
    shown = (saliency / white)[..., None].repeat(3, -1)
    tiles = [tile.clip(0, 1) for row in zip(images, hot, shown, strict=True) for tile in row]
    names = [name for title in titles for name in (title, "Grad-CAM", "saliency")]
    figure = Figure(layout="constrained")
    draw_mosaic(figure, tiles, titles=names, columns=3, inches=2.2)
    figure.suptitle("Attribution for each class")
    figure.supxlabel("each map has its own scale", fontsize=8, color="gray")
    return figure
