"""Pictures of a run, each a matplotlib figure; `save_figure` writes a PNG.

Figures are made without pyplot: no window system, no global state, safe in threads.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_TRAIN, _VALIDATION = "tab:blue", "tab:orange"


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def learning_curves(history: Sequence[dict[str, float]]) -> Figure:
    """Loss and accuracy by epoch, training against validation: where they part, it over-fits."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, color in (("train", _TRAIN), ("validation", _VALIDATION)):
            values = [row.get(f"{part}_{metric}") for row in history]
            if None not in values:
                axes.plot(epochs, values, marker="o", markersize=3, color=color, label=part)
        axes.set(xlabel="epoch", ylabel=metric, title=metric.capitalize())
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.supxlabel(
        "training values are measured while training, dropout included", fontsize=8, color="gray"
    )
    return figure


def confusion_matrix(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """True classes by row, predicted ones by column; colour is the share of the row."""
    size = max(4.5, 0.62 * len(classes) + 2)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 30:
        ticks = range(len(classes))
        axes.set_xticks(ticks, classes, rotation=45, ha="right")
        axes.set_yticks(ticks, classes)
        for (row, column), number in np.ndenumerate(matrix):
            color = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(number), ha="center", va="center", fontsize=8, color=color)
    accuracy = np.trace(matrix) / max(matrix.sum(), 1)
    axes.set(
        xlabel="predicted",
        ylabel="true",
        title=f"Test split: {np.trace(matrix):,} of {matrix.sum():,} right ({accuracy:.2%})",
    )
    return figure


def mistakes(
    images: np.ndarray, labels: np.ndarray, logits: np.ndarray, classes: Sequence[str]
) -> Figure:
    """Wrongly classified images with what was predicted, how surely, and what is true.

    Args:
      images: ``[N, H, W, C]`` as in the source, most confident mistake first.
      labels: ``[N]`` true classes.
      logits: ``[N, K]``.
      classes: names of the classes.
    """
    figure = Figure(figsize=(11, 2.05 * math.ceil(len(images) / 6) + 0.5), layout="constrained")
    if not len(images):
        figure.text(0.5, 0.5, "no mistakes", ha="center")
        return figure
    probabilities = np.asarray(jax.nn.softmax(logits, axis=-1))
    rows = math.ceil(len(images) / 6)
    for number, axes in enumerate(figure.subplots(rows, 6, squeeze=False).flat):
        axes.axis("off")
        if number < len(images):
            guess = int(logits[number].argmax())
            _show(axes, images[number])
            axes.set_title(
                f"{classes[guess]} {probabilities[number, guess]:.0%}\n"
                f"is {classes[labels[number]]}",
                fontsize=8,
            )
    figure.suptitle("The most confident mistakes on the test split")
    return figure


def kernels(kernel: np.ndarray) -> Figure:
    """The first layer's kernels ``[h, w, in, out]``: what it detects. Red adds, blue subtracts."""
    limit = max(float(np.abs(kernel).max()), 1e-12)
    # Three input channels show as colour, any other number by their mean.
    color = kernel.shape[2] == 3
    tiles = (kernel / limit + 1) / 2 if color else kernel.mean(2, keepdims=True)
    figure = _grid(np.moveaxis(tiles, -1, 0), None if color else limit)
    figure.suptitle("First layer's kernels: its feature detectors")
    return figure


def feature_maps(image: np.ndarray, maps: np.ndarray, title: str) -> Figure:
    """One image ``[H, W, C]`` and what a layer makes of it, ``[h, w, c]`` (the first 31 maps).

    Each map has a grey scale of its own, from its smallest value (black) to its largest.
    """
    figure = _grid(np.moveaxis(maps[..., None, :31], -1, 0), None, first=image)
    shown = min(maps.shape[-1], 31)
    figure.suptitle(f"{title}: {shown} of {maps.shape[-1]} maps, {maps.shape[0]}x{maps.shape[1]}")
    return figure


def _grid(tiles: np.ndarray, limit: float | None, first: np.ndarray | None = None) -> Figure:
    columns = 8
    pictures = ([] if first is None else [first]) + list(tiles)
    rows = math.ceil(len(pictures) / columns)
    figure = Figure(figsize=(columns * 1.1, rows * 1.1 + 0.6), layout="constrained")
    for number, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if number >= len(pictures):
            continue
        if first is not None and number == 0:
            _show(axes, pictures[0])
            axes.set_title("input", fontsize=8)
        elif limit is None:
            _show(axes, pictures[number])
        else:
            axes.imshow(pictures[number][..., 0], cmap="RdBu_r", vmin=-limit, vmax=limit)
    return figure


def _show(axes: Axes, picture: np.ndarray) -> None:
    if picture.shape[-1] == 3:
        axes.imshow(picture)
    else:
        axes.imshow(picture.mean(-1), cmap="gray")
