"""Image functions to time: their batches and the peers that support them. Requires only NumPy."""

from typing import NamedTuple

import numpy as np

ANGLE, SHEAR = 15.0, 10.0  # maximum degrees in each direction
SHIFT, ZOOM, FACTOR = 0.1, 0.2, 0.2  # maximum relative change in each direction
MEAN, STD = 0.5, 0.25

# Kinds of tasks with random results, which are compared on average over several calls.
RANDOM = ("affine", "chain", "generator")


class Task(NamedTuple):
    """A batch and the operation on it.

    Attributes:
      kind: name of the peer's method.
      shape: ``[B, H, W, C]``.
      dtype: ``"uint8"``, or ``"float32"`` in [0, 1] (in [0, 255] for Keras's generator).
      peers: peers that support the operation.
      noise: whether each pixel of a mask is drawn independently.
    """

    kind: str
    shape: tuple[int, int, int, int]
    dtype: str
    peers: tuple[str, ...]
    noise: bool = False

    def images(self) -> np.ndarray:
        """Return images that are the same in every process, and smooth like photographs."""
        rng = np.random.default_rng(0)
        batch, height, width, channels = self.shape
        if self.noise:
            return (rng.random(self.shape) < 0.5).astype(np.uint8)
        coarse = rng.random((batch, height // 4, width // 4, channels), np.float32)
        pixels: np.ndarray = coarse.repeat(4, 1).repeat(4, 2)
        for axis in (1, 2):
            for _ in range(2):
                pixels = (np.roll(pixels, 1, axis) + pixels + np.roll(pixels, -1, axis)) / 3
        if self.kind == "components":
            return (pixels > 0.5).astype(np.uint8)
        scale = 255 if self.kind == "generator" else 1
        return np.round(pixels * 255).astype(np.uint8) if self.dtype == "uint8" else pixels * scale


def _tasks() -> dict[str, Task]:
    sizes = {
        "28x28x1": (128, 28, 28, 1),
        "32x32x3": (128, 32, 32, 3),
        "224x224x3": (32, 224, 224, 3),
    }
    tasks = {}
    peers: tuple[str, ...]
    for dtype in ("uint8", "float32"):
        on_bytes = ("jaxcnn", "albumentations", "torchvision", "opencv")
        peers = on_bytes if dtype == "uint8" else (*on_bytes, "kornia")
        for size, shape in sizes.items():
            tasks[f"random affine {size} {dtype}"] = Task("affine", shape, dtype, peers)
    for size in ("32x32x3", "224x224x3"):
        peers = ("jaxcnn", "torchvision", "keras")
        tasks[f"training chain {size} float32"] = Task("chain", sizes[size], "float32", peers)
    for size, shape in sizes.items():
        task = Task("generator", shape, "float32", ("jaxcnn", "keras"))
        tasks[f"ImageDataGenerator {size} float32"] = task
    for kind, name in (
        ("median3", "median 3x3"),
        ("median5", "median 5x5"),
        ("gaussian", "Gaussian 5x5"),
        ("sobel", "Sobel"),
    ):
        for dtype in ("uint8", "float32"):
            # kornia's median supports only zero borders.
            is_kornias = dtype == "float32" and kind == "gaussian"
            peers = ("jaxcnn", "opencv", *(("kornia",) if is_kornias else ()))
            tasks[f"{name} 64x256x256x3 {dtype}"] = Task(kind, (64, 256, 256, 3), dtype, peers)
    for batch, side in ((128, 28), (64, 128), (8, 512)):
        for noise in (False, True):
            what = "noise" if noise else "blobs"
            peers = ("jaxcnn", "opencv", "kornia")
            task = Task("components", (batch, side, side, 1), "uint8", peers, noise)
            tasks[f"components, {what}, {batch}x{side}x{side}"] = task
    return tasks


TASKS = _tasks()
