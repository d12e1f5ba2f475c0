"""Command that lists the networks: models."""

import dataclasses
from typing import Annotated

import tyro

from jaxcnn import models
from jaxcnn.view.model_table import describe

_COLUMNS = ("network", "images", "classes", "parameters", "multiply-adds", "activation memory")
_WIDTHS = (18, 9, 7, 10, 13, 17)


@dataclasses.dataclass(frozen=True)
class Models:
    """List the networks: image size, parameters, multiply-adds and activation memory per image."""

    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME")] = ()
    """Networks to list; by default, all of them, which takes minutes."""

    def __call__(self) -> None:
        """Print a Markdown table, row by row."""
        names = self.names or models.names()
        for name in names:
            models.info(name)
        print(_row(_COLUMNS))
        print(f"|{'|'.join('-' * (width + 2) for width in _WIDTHS)}|")
        for name in names:
            found = describe(name)
            cells = (
                name,
                "x".join(map(str, found.size)),
                str(found.classes),
                f"{found.parameters / 1e6:.2f} M",
                f"{found.multiply_adds / 1e6:,.1f} M",
                f"{found.kept_bytes / 2**20:,.1f} MiB",
            )
            print(_row(cells), flush=True)


def _row(cells: tuple[str, ...]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    return f"| {' | '.join(padded)} |"
