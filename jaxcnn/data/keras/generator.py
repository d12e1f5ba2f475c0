"""Keras's `ImageDataGenerator`: batches of arrays, folders and tables, made on the device."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.data.decode import Interpolation
from jaxcnn.data.keras.flow import (
    ClassMode,
    ColorMode,
    Flow,
    Listed,
    Subset,
    decoded_files,
    listed_by_dataframe,
    listed_by_directory,
    part_of,
    targets,
    weights_of,
)
from jaxcnn.data.keras.options import ImageTransforms, checked_images
from jaxcnn.data.lazy import DecodedImages
from jaxcnn.data.sources import stacked


class ImageDataGenerator(ImageTransforms):
    """Random transforms and normalisation of images ``[N, H, W, C]``, as in Keras.

    What it does on purpose unlike Keras: ``height_shift_range`` moves rows and
    ``width_shift_range`` columns (Keras 3 has them the wrong way round); images that are not square
    turn about their middle; statistics that were never fitted are an error, not a warning.

    The knobs, all by name (see `ImageTransforms` for each): ``featurewise_center``,
    ``samplewise_center``, ``featurewise_std_normalization``, ``samplewise_std_normalization``,
    ``zca_whitening``, ``zca_epsilon``, ``rotation_range``, ``width_shift_range``,
    ``height_shift_range``, ``brightness_range``, ``shear_range``, ``zoom_range``,
    ``channel_shift_range``, ``fill_mode``, ``cval``, ``horizontal_flip``, ``vertical_flip``,
    ``rescale``, ``preprocessing_function``, ``validation_split``, ``interpolation_order``.

    Raises:
      ValueError: if an option is out of range.

    Example:
      >>> images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 1))
      >>> generator = ImageDataGenerator(rotation_range=20, horizontal_flip=True, rescale=1 / 255)
      >>> batch, labels = next(generator.flow(images, np.arange(10), batch_size=4, seed=0))
      >>> batch.shape, len(labels)
      ((4, 8, 8, 1), 4)

    Reference:
      ``keras.src.legacy.preprocessing.image.ImageDataGenerator``.
    """

    def flow(
        self,
        x: np.ndarray,
        y: np.ndarray | None = None,
        batch_size: int = 32,
        *,
        shuffle: bool = True,
        sample_weight: np.ndarray | None = None,
        seed: int | None = None,
        subset: Subset | None = None,
    ) -> Flow:
        """Endless batches of transformed and normalised images.

        Args:
          x: ``[N, H, W, C]``, any numbers.
          y: ``[N, ...]``, what goes with them.
          batch_size: images in a batch; the last of an epoch may have fewer.
          shuffle: a new order in each epoch.
          sample_weight: ``[N]``, handed out too.
          seed: of order and transforms; None is 0, so that a program gives the same each time.
          subset: the validation split, or the rest of the data; None for all.

        Returns:
          An iterator over ``images``, ``(images, y)`` or ``(images, y, sample_weight)``, with
          ``len`` (batches in an epoch) and ``epoch(number)``.

        Raises:
          ValueError: if an argument is not as described, or statistics are needed and not fitted.
        """
        images = checked_images(x, "x")
        arrays = []
        for name, given in (("y", y), ("sample_weight", sample_weight)):
            if given is None:
                continue
            arrays.append(stacked(given, name))
            if arrays[-1].shape[:1] != images.shape[:1]:
                raise ValueError(f"{name} must be as long as x, {len(images)}, got {len(given)}")
        if sample_weight is not None and y is None:
            raise ValueError("sample_weight needs y, got None")
        part = part_of(len(images), subset, self.validation_split)
        images, *arrays = (array[part] for array in (images, *arrays))
        if not len(images):
            raise ValueError(f"x must hold images for subset {subset!r}, got none")
        return self._flow(images, arrays, batch_size, shuffle, seed)

    def flow_from_directory(
        self,
        directory: str | Path,
        *,
        target_size: tuple[int, int] = (256, 256),
        color_mode: ColorMode = "rgb",
        classes: Sequence[str] | None = None,
        class_mode: ClassMode | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        subset: Subset | None = None,
        interpolation: Interpolation = "nearest",
        keep_aspect_ratio: bool = False,
    ) -> Flow:
        """Endless batches of the images in a folder of class folders.

        Files are decoded in threads as everywhere in jaxcnn: turned upright, transparency on white.

        Args:
          directory: holds a folder for each class.
          target_size: (height, width) of the images.
          color_mode: ``"rgb"`` or ``"grayscale"``.
          classes: which folders, in the order of their indices; None for all, by name.
          class_mode: labels as ``"categorical"`` (``[B, K]`` of 0 and 1), ``"sparse"`` or
            ``"binary"`` (``[B]``), ``"input"`` (the images again) or None.
          batch_size: images in a batch.
          shuffle: as for `flow`.
          seed: as for `flow`.
          subset: the first ``validation_split`` of each class, or the rest.
          interpolation: how images are resized.
          keep_aspect_ratio: cut out the middle instead of stretching.

        Returns:
          An iterator as `flow` gives, with ``class_indices``, ``filenames`` and ``samples``.

        Raises:
          ValueError: if an argument is not as described, or a file cannot be read.
        """
        listed = listed_by_directory(directory, classes, subset, self.validation_split)
        images = decoded_files(
            listed, target_size, color_mode, interpolation, keep_aspect_ratio=keep_aspect_ratio
        )
        return self._flow_of_files(listed, images, class_mode, [], batch_size, shuffle, seed)

    def flow_from_dataframe(
        self,
        dataframe: Any,
        directory: str | Path | None = None,
        *,
        x_col: str = "filename",
        y_col: str = "class",
        weight_col: str | None = None,
        target_size: tuple[int, int] = (256, 256),
        color_mode: ColorMode = "rgb",
        classes: Sequence[str] | None = None,
        class_mode: ClassMode | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        subset: Subset | None = None,
        interpolation: Interpolation = "nearest",
        keep_aspect_ratio: bool = False,
    ) -> Flow:
        """Endless batches of the images that a table names.

        Args:
          dataframe: a pandas ``DataFrame``, or a dictionary of columns.
          directory: what the names are relative to.
          x_col: the column of names.
          y_col: the column of labels; lists of classes, several in a row, with ``"categorical"``.
          weight_col: a column of weights, handed out too.
          target_size: this and what is not named below as for `flow_from_directory`.
          color_mode: see there.
          classes: names of the classes, in the order of their indices; None for those in the table.
          class_mode: ``"raw"`` too: the column's own values.
          batch_size: see there.
          shuffle: see there.
          seed: see there.
          subset: the first ``validation_split`` of the table, or the rest.
          interpolation: see there.
          keep_aspect_ratio: see there.

        Returns:
          As `flow_from_directory`.

        Raises:
          ValueError: if an argument is not as described, or a file does not exist.
        """
        listed = listed_by_dataframe(
            dataframe,
            directory,
            x_col,
            y_col if class_mode not in ("input", None) else None,
            classes,
            subset,
            self.validation_split,
            are_classes=class_mode not in ("raw", "input", None),
        )
        images = decoded_files(
            listed, target_size, color_mode, interpolation, keep_aspect_ratio=keep_aspect_ratio
        )
        weights = []
        if weight_col is not None:
            weights = [weights_of(dataframe, weight_col, x_col, subset, self.validation_split)]
        return self._flow_of_files(listed, images, class_mode, weights, batch_size, shuffle, seed)

    def _flow_of_files(
        self,
        listed: Listed,
        images: DecodedImages,
        class_mode: ClassMode | None,
        weights: list[np.ndarray],
        batch_size: int,
        shuffle: bool,
        seed: int | None,
    ) -> Flow:
        arrays = [*targets(listed, class_mode), *weights]
        flow = self._flow(images, arrays, batch_size, shuffle, seed, class_mode == "input")
        flow.filenames = tuple(listed.names)
        flow.class_indices = {name: label for label, name in enumerate(listed.classes)}
        return flow

    def _flow(
        self,
        images: np.ndarray | DecodedImages,
        arrays: Sequence[np.ndarray],
        batch_size: int,
        shuffle: bool,
        seed: int | None,
        repeats_images: bool = False,
    ) -> Flow:
        self._check_fitted()
        return Flow(
            self._transformed,
            self._standardized,
            images,
            arrays,
            batch_size,
            shuffle=shuffle,
            seed=seed or 0,
            repeats_images=repeats_images,
        )
