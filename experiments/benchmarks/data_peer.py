"""Process for one loader of JPEG files, which answers one JSON request per line.

Usage: ``python data_peer.py LOADER``; data_speed.py starts it. A loader is a class that reads a
folder of class folders and yields an epoch's batches: uint8 images ``[B, 224, 224, 3]`` and labels.
Images are the largest centered square, resized with an antialiased bilinear filter.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 224
BATCH = 64
WORKERS = 2
SEED = 0

Batches = Iterator[tuple[Any, Any]]


class Jaxcnn:
    """The reader of `jaxcnn train --data FOLDER`, without its cache."""

    def __init__(self, folder: str):
        from jaxcnn import data
        from jaxcnn.data import lazy

        lazy.free_memory = lambda: 0  # read every epoch from files, not from memory
        splits = data.from_folder(folder, size=(SIZE, SIZE))
        self._data, self._source = data, splits["train"]

    def epoch(self, shuffled: bool) -> Batches:
        """Yield batches on the device."""
        batches = self._data.batches(self._source, BATCH, seed=SEED if shuffled else None)
        for batch in self._data.prefetch(batches):
            yield batch.image, batch.label

    def versions(self) -> str:
        """Return the versions."""
        import PIL

        return f"jaxcnn, Pillow {PIL.__version__}"


class Torch:
    """`torch.utils.data.DataLoader` with worker processes."""

    def __init__(self, folder: str):
        import torch
        from peer_torch import torchvision  # imports it without its operators
        from torchvision.transforms import v2

        self._torch, self._torchvision, self._v2 = torch, torchvision, v2
        self._dataset = torchvision.datasets.ImageFolder(
            str(Path(folder) / "train"), transform=self.transform()
        )

    def transform(self) -> Any:
        """Crop and resize with Pillow."""
        v2 = self._v2
        return v2.Compose([_square_of_pillow, v2.Resize((SIZE, SIZE)), v2.PILToTensor()])

    def epoch(self, shuffled: bool) -> Batches:
        """Yield batches in host memory (stored channels first)."""
        loader = self._torch.utils.data.DataLoader(
            self._dataset, batch_size=BATCH, shuffle=shuffled, num_workers=WORKERS
        )
        for images, labels in loader:
            yield images.permute(0, 2, 3, 1), labels

    def versions(self) -> str:
        """Return the versions."""
        return f"torch {self._torch.__version__}, torchvision {self._torchvision.__version__}"


class TorchTensors(Torch):
    """The same loader with tensors, which are faster to resize.

    Not every torchvision wheel includes its decoder; the wheel from the package index does not.
    """

    def transform(self) -> Any:
        """Crop and resize as a uint8 tensor."""
        v2 = self._v2
        resize = v2.Resize((SIZE, SIZE), antialias=True)
        return v2.Compose([v2.PILToTensor(), _square_of_tensor, resize])


class TensorFlow:
    """`tf.data` with AUTOTUNE parallelism."""

    def __init__(self, folder: str):
        import tensorflow as tf

        self._tf = tf
        names, labels = _listed(folder)
        files = tf.data.Dataset.from_tensor_slices((names, labels))
        self._files, self._count = files, len(names)

    def epoch(self, shuffled: bool) -> Batches:
        """Yield batches as arrays."""
        files = self._files.shuffle(self._count) if shuffled else self._files
        tf = self._tf
        batches = files.map(self._decoded, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH)
        yield from batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()

    def _decoded(self, name: Any, label: Any) -> Any:
        tf = self._tf
        image = tf.io.decode_jpeg(tf.io.read_file(name), channels=3)
        shape = tf.shape(image)
        side = tf.minimum(shape[0], shape[1])
        top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
        image = tf.image.crop_to_bounding_box(image, top, left, side, side)
        image = tf.image.resize(image, (SIZE, SIZE), antialias=True)
        return tf.cast(tf.round(image), tf.uint8), label

    def versions(self) -> str:
        """Return the version."""
        return f"tensorflow {self._tf.__version__}"


class Grain:
    """grain with reader threads and Pillow decoding."""

    def __init__(self, folder: str):
        import grain

        self._grain = grain
        names, labels = _listed(folder)
        self._examples = list(zip(names, labels, strict=True))

    def epoch(self, shuffled: bool) -> Batches:
        """Yield batches as arrays."""
        grain = self._grain
        examples = grain.MapDataset.source(self._examples)
        if shuffled:
            examples = examples.shuffle(seed=SEED)
        options = grain.ReadOptions(num_threads=WORKERS, prefetch_buffer_size=2 * BATCH)
        yield from examples.map(_decoded_by_pillow).to_iter_dataset(options).batch(BATCH)

    def versions(self) -> str:
        """Return the version."""
        return f"grain {self._grain.__version__}"


LOADERS = {
    "jaxcnn": Jaxcnn,
    "torch": Torch,
    "torch_tensors": TorchTensors,
    "tensorflow": TensorFlow,
    "grain": Grain,
}


def _listed(folder: str) -> tuple[list[str], list[int]]:
    """Return the files in order of their names, and their class indices."""
    paths = sorted((Path(folder) / "train").glob("*/*.jpg"))
    classes = sorted({path.parent.name for path in paths})
    return [str(path) for path in paths], [classes.index(path.parent.name) for path in paths]


def _square_of_pillow(picture: Any) -> Any:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _square_of_tensor(image: Any) -> Any:
    side = min(image.shape[-2:])
    top, left = (image.shape[-2] - side) // 2, (image.shape[-1] - side) // 2
    return image[..., top : top + side, left : left + side]


def _decoded_by_pillow(example: tuple[str, int]) -> tuple[np.ndarray, int]:
    import PIL.Image

    with PIL.Image.open(example[0]) as picture:
        square = _square_of_pillow(picture.convert("RGB"))
        resized = square.resize((SIZE, SIZE), PIL.Image.Resampling.BILINEAR)
        return np.asarray(resized), example[1]


def main() -> None:
    """Answer requests: load a folder, save its first batch, run an epoch."""
    answers = os.fdopen(os.dup(1), "w")  # only responses may go to the real standard output
    os.dup2(2, 1)
    loader: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        if request["do"] == "load":
            loader = LOADERS[sys.argv[1]](request["folder"])
        elif request["do"] == "versions":
            answer = {"versions": loader.versions()}
        elif request["do"] == "show":
            images, labels = next(loader.epoch(False))
            np.savez(request["file"], images=np.asarray(images), labels=np.asarray(labels))
        else:
            began, count = time.perf_counter(), 0
            for images, _ in loader.epoch(True):
                count += len(images)
            answer = {"seconds": time.perf_counter() - began, "images": count}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
