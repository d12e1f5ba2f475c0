"""A folder of real photographs in eight classes, to train, evaluate and predict on.

Claim: from a folder of a few hundred photographs to a tested network and its predictions takes
three commands and about two minutes.

scikit-image ships photographs of eight surfaces and scenes. Pieces of random size, cut from the
left two thirds of each, are the training examples; pieces of the right quarter, which share no
pixel with them, are the test. So the task is to recognize a material from another piece of it.

Command: ``pip install scikit-image && python experiments/photographs.py photos``, then the commands
of experiments/README.md.
Result: the numbers there.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL.Image
import skimage

CLASSES = {
    "brick": "brick.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "motorcycle": "motorcycle_left.png",
    "stars": "hubble_deep_field.jpg",
    "tissue": "ihc.png",
}
COUNTS = {"train": 50, "test": 15}
PARTS = {"train": (0.0, 0.65), "test": (0.75, 1.0)}  # of the width
SIDES = (0.15, 0.24)  # of a piece, in widths of the photograph


def main() -> None:
    """Write the folder named on the command line."""
    if len(sys.argv) != 2 or Path(sys.argv[1]).exists():
        raise SystemExit("usage: python experiments/photographs.py NEW_FOLDER")
    write_pieces(Path(sys.argv[1]), COUNTS)


def write_pieces(folder: Path, counts: Mapping[str, int], *, seed: int = 0) -> None:
    """Write pieces of each class, ``train/brick/00.jpg`` and so on, drawn by the seed."""
    generator = np.random.default_rng(seed)
    for label, name in CLASSES.items():
        photograph = PIL.Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
        for split, count in counts.items():
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                path = folder / split / label / f"{number:02}.jpg"
                piece(photograph, PARTS[split], generator).save(path)


def piece(
    photograph: PIL.Image.Image, part: tuple[float, float], generator: np.random.Generator
) -> PIL.Image.Image:
    """A square piece between two columns, perhaps mirrored."""
    width, height = photograph.size
    side = min(generator.uniform(*SIDES) * width, height)
    left = generator.uniform(part[0] * width, part[1] * width - side)
    top = generator.uniform(0, height - side)
    cut = photograph.crop((round(left), round(top), round(left + side), round(top + side)))
    if generator.random() < 0.5:
        cut = cut.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    return cut


if __name__ == "__main__":
    main()
