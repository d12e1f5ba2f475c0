"""Pictures of a run, each a matplotlib figure; `save_figure` writes a PNG.

Figures are made without pyplot: no window system, no global state, safe in threads.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from jaxcnn.messages import printable

_TRAIN, _VALIDATION = "tab:blue", "tab:orange"
_FRAME = "gold"  # of a box, seen on light and dark


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # Names of classes may be in any script; what the font has not is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(path, dpi=120)


def learning_curves(history: Sequence[dict[str, float]], score: str = "accuracy") -> Figure:
    """Loss, score and gap by epoch, training against validation: where they part, it over-fits.

    Args:
      history: rows with ``epoch``, ``train_loss``, ``train_<score>`` and their ``validation_``
        twins, if there are any.
      score: a metric of which more is better.
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
    right.set(xlabel="epoch", ylabel=f"train - validation {score}", title="Over-fitting gap")
    for axes in (left, middle, right):
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
    figure.supxlabel(
        "training values are measured while training, dropout and augmentation included",
        fontsize=8,
        color="gray",
    )
    return figure


def norms(history: Sequence[dict[str, float]]) -> Figure:
    """How large the parameters and their gradients are by epoch."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    epochs = [row["epoch"] for row in history]
    titles = {"train_gradient_norm": "Gradient (mean of the epoch)", "parameter_norm": "Parameters"}
    for axes, (name, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        axes.plot(epochs, [row[name] for row in history], marker="o", markersize=3)
        axes.set(xlabel="epoch", ylabel="Euclidean norm", title=title, ylim=(0, None))
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
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
        names = [_literal(name) for name in classes]
        axes.set_xticks(ticks, names, rotation=45, ha="right")
        axes.set_yticks(ticks, names)
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


def pictures(images: np.ndarray, titles: Sequence[str], heading: str) -> Figure:
    """Images ``[N, H, W, C]`` as in their source, six in a row, each with a title."""
    figure = Figure(layout="constrained")
    if len(images):
        _mosaic(figure, list(images), titles, columns=6, inches=1.8)
    else:
        figure.set_size_inches(11, 1)
        figure.text(0.5, 0.3, "none", ha="center")
    figure.suptitle(heading)
    return figure


def boxes(image: np.ndarray, found: np.ndarray, title: str) -> Figure:
    """An image ``[H, W, C]``, and a numbered frame around each of its parts.

    Args:
      image: grey or in colour, as in its source.
      found: ``[N, 4]`` (top, left, bottom, right) in pixels, the last two exclusive, as in
        `jaxcnn.image.Regions`.
      title: above the picture.
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
    """Images ``[N, 1 + epochs, H, W, C]`` in [0, 1], each row one and what epochs saw of it."""
    count, columns = images.shape[:2]
    figure = Figure(layout="constrained")
    if images.shape[-1] != 3:  # as grey, from the same black to the same white
        images = images.mean(-1, keepdims=True).repeat(3, -1)
    tiles = list(images.reshape(count * columns, *images.shape[2:]))
    titles = ["image", *(f"epoch {epoch}" for epoch in range(1, columns))]
    _mosaic(figure, tiles, titles, columns=columns)
    figure.suptitle("What the augmentation makes of training images")
    return figure


def curves(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]], *, xlabel: str, ylabel: str, title: str
) -> Figure:
    """Curves in the unit square by name, such as ROC or precision against recall."""
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    for name, (x, y) in lines.items():
        axes.plot(x, y, label=_literal(name), linewidth=1.5)
    axes.set(
        xlabel=xlabel, ylabel=ylabel, title=title, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect=1
    )
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize=8)
    return figure


def calibration(
    confidence: np.ndarray, accuracy: np.ndarray, examples: np.ndarray, error: float
) -> Figure:
    """How often predictions are right against how sure they are, with how many there are of each.

    Args:
      confidence: ``[bins]``, mean predicted probability; nan where a bin is empty.
      accuracy: ``[bins]``, the share that is right.
      examples: ``[bins]``, how many predictions.
      error: the expected calibration error.
    """
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    above.plot((0, 1), (0, 1), color="gray", linewidth=0.8, label="perfect")
    above.plot(confidence, accuracy, marker="o", markersize=4, label="measured")
    above.set(ylabel="observed share", title=f"Calibration (expected error {error:.3f})")
    above.legend()
    above.grid(alpha=0.3)
    width = 1 / len(examples)
    below.bar((np.arange(len(examples)) + 0.5) * width, examples, width * 0.9)
    below.set(xlabel="predicted probability", ylabel="predictions", xlim=(0, 1))
    return figure


def regression_scatter(outputs: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> Figure:
    """Predicted against true values, ``[N, D]`` each, one panel per target."""
    figure = Figure(figsize=(5 * len(names), 5), layout="constrained")
    for column, axes in enumerate(figure.subplots(1, len(names), squeeze=False)[0]):
        true, predicted = targets[:, column], outputs[:, column]
        axes.scatter(true, predicted, s=5, alpha=0.5)
        axes.axline((float(true.mean()),) * 2, slope=1, color="gray", linewidth=0.8)
        name = _literal(names[column])
        axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
        axes.grid(alpha=0.3)
    figure.suptitle("Test split: predicted against true")
    return figure


def learning_rates(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggestion: float
) -> Figure:
    """The loss by growing learning rate, and the rate at which it falls fastest."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color="tab:blue", alpha=0.3, linewidth=1, label="loss of the batch")
    axes.plot(rates, smoothed, color="tab:blue", label="moving average")
    axes.axvline(suggestion, color="tab:red", linestyle="--", label=f"suggestion {suggestion:.1e}")
    low = smoothed.min()
    # The explosion at the end would flatten the fall before it.
    high = low + 1.8 * (smoothed[0] - low) if smoothed[0] > low else smoothed.max() + 1e-6
    axes.set(
        xscale="log",
        xlabel="learning rate",
        ylabel="training loss",
        title="Learning-rate range test",
        ylim=(low - 0.1 * (high - low), high),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def kernels(
    kernel: np.ndarray, *, limit: float | None = None, title: str = "First layer's kernels"
) -> Figure:
    """The first layer's kernels ``[h, w, in, out]``: what it detects. Red adds, blue subtracts.

    Three input channels show as colour (grey is 0), any other number by their mean.

    Args:
      kernel: weights.
      limit: the weight that is full red; by default the largest magnitude. With one limit, pictures
        of several kernels can be compared.
      title: above the picture.
    """
    limit = limit or max(float(np.abs(kernel).max()), 1e-12)
    color = kernel.shape[2] == 3
    tiles = (kernel / limit + 1).clip(0, 2) / 2 if color else kernel.mean(2, keepdims=True)
    figure = Figure(layout="constrained")
    _mosaic(figure, list(np.moveaxis(tiles, -1, 0)), limit=None if color else limit)
    if color:
        figure.supxlabel(f"channel by channel, from {-limit:.2g} to {limit:.2g}", fontsize=8)
    else:
        (axes,) = figure.axes
        figure.set_figwidth(figure.get_figwidth() + 1)  # for the bar
        figure.colorbar(axes.images[0], ax=axes, aspect=30, label="weight")
    figure.suptitle(title)
    return figure


def feature_maps(image: np.ndarray, maps: np.ndarray, title: str) -> Figure:
    """One image ``[H, W, C]`` and what a layer makes of it, ``[h, w, c]`` (the first 32 maps).

    Each map has a grey scale of its own, from its smallest value (black) to its largest.
    """
    shown = min(maps.shape[-1], 32)
    figure = Figure(layout="constrained")
    tiles = [image, *np.moveaxis(maps[..., None, :shown], -1, 0)]
    _mosaic(figure, tiles, ["input"], columns=11, inches=1.0)
    figure.suptitle(f"{title}: {shown} of {maps.shape[-1]} maps, {maps.shape[0]}x{maps.shape[1]}")
    return figure


def attribution(
    images: np.ndarray, heat: np.ndarray, saliency: np.ndarray, titles: Sequence[str]
) -> Figure:
    """A row for each image: itself, Grad-CAM's heat laid over it, and its saliency map.

    Args:
      images: ``[N, H, W, C]`` in [0, 1].
      heat: ``[N, H, W]`` in [0, 1], from the dimmed image in grey (0) through red to yellow (1).
      saliency: ``[N, H, W]`` >= 0; each from black (0) to white (its 99th percentile).
      titles: ``N``, above each image: a class and its probability.
    """
    if images.shape[-1] != 3:  # as grey, from the same black to the same white
        images = images.mean(-1, keepdims=True).repeat(3, -1)
    hot = 0.4 * images.mean(-1, keepdims=True) + 0.6 * colormaps["inferno"](0.9 * heat)[..., :3]
    # Not of the largest value: single pixels stand out so far that the rest would be black.
    white = np.maximum(np.quantile(saliency, 0.99, (1, 2), keepdims=True), 1e-30)
    shown = (saliency / white)[..., None].repeat(3, -1)
    tiles = [tile.clip(0, 1) for row in zip(images, hot, shown, strict=True) for tile in row]
    names = [name for title in titles for name in (title, "Grad-CAM", "saliency")]
    figure = Figure(layout="constrained")
    _mosaic(figure, tiles, names, columns=3, inches=2.2)
    figure.suptitle("What speaks for each class")
    figure.supxlabel("each map has a scale of its own", fontsize=8, color="gray")
    return figure


def _mosaic(
    figure: Figure,
    tiles: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    *,
    columns: int = 8,
    inches: float = 1.25,
    limit: float | None = None,
) -> None:
    """Tiles ``[h, w, C]`` in rows, grey or in colour; with a limit in red (+) and blue (-).

    All are in one coordinate system, in which a tile is one unit wide: one for each would take ten
    times as long to draw.
    """
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    above = 0.14 * lines / inches  # for the title
    rows = math.ceil(len(tiles) / columns)
    height = rows * (1 + above)
    figure.set_size_inches(columns * inches, height * inches + 0.5)
    axes = figure.subplots()
    axes.axis("off")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        middle, top = column + 0.5, row * (1 + above) + above
        down, across = np.array(tile.shape[:2]) / max(tile.shape[:2]) * 0.94
        place = (middle - across / 2, middle + across / 2, top + down, top)
        if tile.shape[-1] == 3:
            axes.imshow(tile, extent=place)
        elif limit is None:
            axes.imshow(tile.mean(-1), cmap="gray", extent=place)
        else:
            axes.imshow(tile[..., 0], cmap="RdBu_r", vmin=-limit, vmax=limit, extent=place)
        if number < len(titles):
            title = _literal(titles[number])
            axes.text(middle, top - 0.02, title, ha="center", va="bottom", fontsize=8)
    axes.set(xlim=(0, columns), ylim=(height, 0), aspect="equal")


def _literal(text: str) -> str:
    """Lines of text as they are, where matplotlib would take ``$`` for the start of a formula."""
    return "\n".join(map(printable, text.split("\n"))).replace("$", r"\$")
