"""A folder of real photographs in eight classes, for training, evaluation and prediction.

Claim: getting from a folder of a few hundred photographs to a tested network and its predictions
takes three commands and about two minutes.

scikit-image ships with photographs of eight surfaces and scenes. Random-sized crops from the left
two thirds of each photograph are the training examples; crops from the right quarter, which share
no pixels with them, are the test examples. The task is thus to recognize a material from a
different piece of it.

Command: ``pip install scikit-image && python experiments/photographs.py photos``, then the commands
in experiments/README.md.
Result: the numbers in experiments/README.md.
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
PARTS = {"train": (0.0, 0.65), "test": (0.75, 1.0)}  # as fractions of the width
SIDES = (0.15, 0.24)  # size of a piece, as a fraction of the photograph's width


def main() -> None:
    """Write the photographs to the folder named on the command line."""
    if len(sys.argv) != 2 or Path(sys.argv[1]).exists():
        raise SystemExit("usage: python experiments/photographs.py NEW_FOLDER")
    write_pieces(Path(sys.argv[1]), COUNTS)


def write_pieces(folder: Path, counts: Mapping[str, int], *, seed: int = 0) -> None:
    """Write random pieces of each class to ``train/brick/00.jpg`` and so on."""
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
    """Return a random square piece from a range of columns, mirrored half of the time."""
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
