"""Images as tiles in one figure, and text that matplotlib draws literally."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxcnn.messages import printable


def draw_mosaic(
    figure: Figure,
    tiles: Sequence[np.ndarray],
    *,
    titles: Sequence[str] = (),
    columns: int = 8,
    inches: float = 1.25,
    limit: float | None = None,
) -> None:
    """Draw tiles in rows: in grayscale or RGB, or, given ``limit``, in red (+) and blue (-).

    All tiles share one axes, in which each tile is one unit wide: separate axes would take ten
    times as long to draw.

    Args:
      figure: an empty figure, which will be resized.
      tiles: ``[h, w, C]`` arrays.
      titles: titles for the first tiles.
      columns: tiles per row.
      inches: width of a tile.
      limit: magnitude drawn in full color, for one-channel tiles; None draws grayscale.

    Example:
      >>> figure = Figure()
      >>> draw_mosaic(figure, [np.zeros((4, 4, 1))] * 3, columns=2)
      >>> len(figure.axes[0].images)
      3
    """
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    above = 0.14 * lines / inches  # room for the title
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
            title = literal(titles[number])
            axes.text(middle, top - 0.02, title, ha="center", va="bottom", fontsize=8)
    axes.set(xlim=(0, columns), ylim=(height, 0), aspect="equal")


def as_rgb(images: np.ndarray) -> np.ndarray:
    """Return ``[..., 3]`` images unchanged and others as gray RGB, so that all share one scale.

    Example:
      >>> as_rgb(np.zeros((4, 4, 1))).shape
      (4, 4, 3)
    """
    return images if images.shape[-1] == 3 else images.mean(-1, keepdims=True).repeat(3, -1)


def literal(text: str) -> str:
    r"""Escape ``$``, which would start a formula in matplotlib, and control characters.

    Lines longer than 60 characters, such as those with very long class names, are shortened.

    Example:
      >>> literal("a$b")
      'a\\$b'
    """
    lines = (line if len(line) <= 60 else f"{line[:59]}…" for line in text.split("\n"))
    return "\n".join(map(printable, lines)).replace("$", r"\$")
