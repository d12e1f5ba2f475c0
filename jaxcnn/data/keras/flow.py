"""Endless streams of batches, as returned by the `ImageDataGenerator.flow` methods."""

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import PIL.Image

from jaxcnn.data.batches import batches
from jaxcnn.data.keras.listing import Listed
from jaxcnn.data.lazy import DecodedImages
from jaxcnn.data.sources import ArraySource

Transform = Callable[[jax.Array, int, np.ndarray, np.ndarray], jax.Array]
Standardize = Callable[[jax.Array], jax.Array]


class SavedCopies(NamedTuple):
    """Destination and format of copies of the transformed images.

    Attributes:
      folder: an existing folder, or None to save nothing.
      prefix: beginning of the file names.
      suffix: format of the files, as an extension without the period.
    """

    folder: str | Path | None = None
    prefix: str = ""
    suffix: str = "png"


class Flow:
    """An endless stream of batches of transformed and normalized images.

    ``next`` and ``for`` return the batches of one epoch after the other; ``flow[i]`` returns batch
    ``i`` of the current epoch.

    Attributes:
      batch_size: images per batch.
      shuffle: whether each epoch has its own order.
      seed: seed for the order and the transforms.
      image_shape: (height, width, channels).
      directory: folder of the image files; None for arrays.
      filenames: names of the image files, relative to their folder; empty for arrays.
      labels: the label of each image, before it takes the form of ``class_mode``; None for arrays.
      class_indices: mapping from class names to indices; empty for arrays.
    """

    def __init__(
        self,
        transform: Transform,
        standardize: Standardize,
        images: np.ndarray | DecodedImages,
        arrays: Sequence[Any],
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        listed: Listed | None = None,
        repeats_images: bool = False,
        saved: SavedCopies = SavedCopies(),  # noqa: B008 - immutable
    ):
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.image_shape = tuple(images.shape[1:])
        self.directory = None if listed is None else listed.root
        self.filenames = () if listed is None else tuple(listed.names)
        self.labels = None if listed is None else listed.labels
        names = () if listed is None else listed.classes
        self.class_indices = {name: label for label, name in enumerate(names)}
        self._transform, self._standardize, self._arrays = transform, standardize, arrays
        self._repeats_images, self._saved = repeats_images, saved
        if saved.folder is not None and not Path(saved.folder).is_dir():
            raise ValueError(f"save_to_dir must be an existing folder, got {saved.folder}")
        source = ArraySource(images=images, labels=np.arange(len(images)), classes=())
        self._batches = batches(source, batch_size, seed=seed if shuffle else None)
        self._root = jax.random.key(seed)
        self._endless = self._all_epochs()
        self._ahead: Any = None
        self._used = 0

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self._batches.source)

    samples = n

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for arrays and other labels."""
        return len(self.class_indices)

    @property
    def classes(self) -> Any:
        """The label of each image, like ``labels``."""
        return self.labels

    @property
    def filepaths(self) -> tuple[str, ...]:
        """Paths of the image files; empty for arrays."""
        return tuple(str((self.directory or Path()) / name) for name in self.filenames)

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return len(self._batches)

    def __iter__(self) -> "Flow":
        return self

    def __next__(self) -> Any:
        if self._ahead is None:
            self._ahead = next(self._endless)
        # The device computes the next batch while this one is used.
        batch, self._ahead = self._ahead, next(self._endless)
        self._used += 1
        return batch

    def __getitem__(self, number: int) -> Any:
        """Return one batch of the current epoch; negative numbers count from the end."""
        place = number + len(self) if number < 0 else number
        if not 0 <= place < len(self):
            raise IndexError(f"batch must be below {len(self)}, got {number}")
        (batch,) = self.epoch(self._used // len(self), place, place + 1)
        return batch

    def reset(self) -> None:
        """Start again with the first batch of the first epoch."""
        self._endless, self._ahead, self._used = self._all_epochs(), None, 0

    def _all_epochs(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(map(self.epoch, itertools.count()))

    def epoch(
        self, number: int, start: int = 0, stop: int | None = None
    ) -> Generator[Any, None, None]:
        """Iterate over batches ``start`` to ``stop - 1`` of an epoch.

        They are determined by the number of the epoch and the flow's seed.
        """
        for batch in self._batches.epoch(number, start, stop):
            pixels = batch.image.astype(np.float32, copy=False)
            transformed = self._transform(self._root, number, pixels, batch.index)
            real = batch.index[batch.mask]
            if len(real) < len(batch.index):
                transformed = transformed[: len(real)]
            images = self._standardize(transformed)
            if self._saved.folder is not None:
                self._save(np.asarray(images), real, number)
            parts = [jax.tree.map(lambda array, rows=real: array[rows], a) for a in self._arrays]
            if self._repeats_images:
                parts.insert(0, images)
            yield (images, *parts) if parts else images

    def _save(self, images: np.ndarray, rows: np.ndarray, epoch: int) -> None:
        """Save images, each scaled so that its smallest value is black and its largest white."""
        folder = Path(self._saved.folder or "")
        for image, row in zip(images, rows, strict=True):
            shifted = image - image.min()
            pixels = (255 * shifted / (shifted.max() or 1)).astype(np.uint8)
            picture = PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            picture.save(folder / f"{self._saved.prefix}_{epoch}_{row}.{self._saved.suffix}")
