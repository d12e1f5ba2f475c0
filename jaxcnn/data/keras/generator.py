"""Keras's `ImageDataGenerator`: batches from arrays, folders and tables, computed on the device."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.data.array_checks import stacked
from jaxcnn.data.decode import Interpolation
from jaxcnn.data.keras.flow import Flow, SavedCopies
from jaxcnn.data.keras.listing import (
    ClassMode,
    ColorMode,
    Listed,
    Subset,
    decoded_files,
    listed_by_dataframe,
    listed_by_directory,
    part_of,
    targets,
    warn_of_missing_classes,
    weights_of,
)
from jaxcnn.data.keras.options import ImageTransforms, checked_images
from jaxcnn.data.lazy import DecodedImages


class ImageDataGenerator(ImageTransforms):
    """Random transforms and normalization of images ``[N, H, W, C]``, as in Keras.

    It intentionally differs from Keras: ``height_shift_range`` shifts rows and
    ``width_shift_range`` shifts columns (Keras 3 swaps them), non-square images rotate about their
    center, and missing statistics raise an error instead of a warning.

    The options are keyword-only and described in `ImageTransforms`: ``featurewise_center``,
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
        shuffle: bool = True,
        sample_weight: np.ndarray | None = None,
        seed: int | None = None,
        save_to_dir: str | Path | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        ignore_class_split: bool = False,
        subset: Subset | None = None,
    ) -> Flow:
        """Return endless batches of transformed and normalized images.

        Args:
          x: ``[N, H, W, C]``, of any numeric dtype.
          y: ``[N, ...]``, labels or other values for each image.
          batch_size: images per batch; the last batch of an epoch may be smaller.
          shuffle: draw a new order in each epoch.
          sample_weight: ``[N]``, included in the batches.
          seed: seed for the order and the transforms; None means 0, so results are reproducible.
          save_to_dir: folder in which a copy of each transformed image is saved; None saves none.
          save_prefix: start of the copies' names, which end with the epoch and the image's index.
          save_format: format of the copies, for example ``"png"`` or ``"jpeg"``.
          ignore_class_split: do not warn if a subset lacks one of the classes in ``y``.
          subset: ``"validation"`` for the validation split, ``"training"`` for the remaining
            images, or None for all images.

        Returns:
          An iterator over ``images``, ``(images, y)`` or ``(images, y, sample_weight)``. It also
          supports ``len`` (batches per epoch), ``flow[i]``, ``reset()`` and ``epoch(number)``.

        Raises:
          ValueError: if lengths differ, an option is out of range, or required statistics were
            not fitted.

        Example:
          >>> flow = ImageDataGenerator(rescale=0.5).flow(np.ones((3, 8, 8, 1)), batch_size=2)
          >>> [images.shape for images in flow.epoch(0)], len(flow)
          ([(2, 8, 8, 1), (1, 8, 8, 1)], 2)
        """
        images = checked_images(x, "x")
        arrays = []
        for name, given in (("y", y), ("sample_weight", sample_weight)):
            if given is None:
                continue
            arrays.append(stacked(given, name))
            if arrays[-1].shape[:1] != images.shape[:1]:
                raise ValueError(f"{name} must be as long as x ({len(images)}), got {len(given)}")
        if sample_weight is not None and y is None:
            raise ValueError("sample_weight requires y, got None")
        part = part_of(len(images), subset, self.validation_split)
        images, *arrays = (array[part] for array in (images, *arrays))
        if not len(images):
            raise ValueError(f"x must contain images for subset {subset!r}, got none")
        if y is not None and not ignore_class_split:
            classes = np.unique(stacked(y, "y"))
            if len(classes) <= len(y) / 2:  # otherwise, y probably contains no classes
                warn_of_missing_classes(arrays[0], classes, subset)
        saved = SavedCopies(save_to_dir, save_prefix, save_format)
        return self._flow(images, arrays, batch_size, shuffle, seed, saved)

    def flow_from_directory(
        self,
        directory: str | Path,
        target_size: tuple[int, int] = (256, 256),
        color_mode: ColorMode = "rgb",
        classes: Sequence[str] | None = None,
        class_mode: ClassMode | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        save_to_dir: str | Path | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        follow_links: bool = False,
        subset: Subset | None = None,
        interpolation: Interpolation = "nearest",
        keep_aspect_ratio: bool = False,
    ) -> Flow:
        """Return endless batches of the images in a directory with one folder per class.

        Files are decoded in multiple threads by `jaxcnn.data.decode_image`.

        Args:
          directory: folder with one subfolder per class.
          target_size: (height, width) to resize the images to.
          color_mode: ``"rgb"``, ``"rgba"`` or ``"grayscale"``.
          classes: folder names, in the order of their class indices; None means all, sorted.
          class_mode: form of the labels: ``"categorical"`` (``[B, K]`` zeros and ones),
            ``"sparse"`` or ``"binary"`` (``[B]``), ``"input"`` (the images again), or None for no
            labels.
          batch_size: images per batch; the last batch of an epoch may be smaller.
          shuffle: draw a new order in each epoch.
          seed: seed for the order and the transforms; None means 0.
          save_to_dir: folder in which a copy of each transformed image is saved; None saves none.
          save_prefix: start of the copies' names, which end with the epoch and the image's index.
          save_format: format of the copies, for example ``"png"`` or ``"jpeg"``.
          follow_links: also read linked subfolders of the class folders.
          subset: ``"validation"`` for the first ``validation_split`` of each class, ``"training"``
            for the remaining images, or None for all images.
          interpolation: Pillow filter for resizing.
          keep_aspect_ratio: crop the center instead of stretching the image.

        Returns:
          An iterator like the one returned by `flow`, with ``class_indices``, ``filenames`` and
          ``samples``.

        Raises:
          ValueError: if a folder is missing or an option is unknown; also raised during iteration
            if a file cannot be read.

        Example:
          >>> import tempfile, PIL.Image
          >>> root = Path(tempfile.mkdtemp())
          >>> (root / "cat").mkdir()
          >>> PIL.Image.new("RGB", (40, 30)).save(root / "cat" / "1.png")
          >>> flow = ImageDataGenerator().flow_from_directory(root, target_size=(8, 8))
          >>> flow.class_indices, next(flow)[0].shape
          ({'cat': 0}, (1, 8, 8, 3))
        """
        if class_mode in ("raw", "multi_output"):
            raise ValueError(f"class_mode must not be {class_mode} for a directory")
        listed = listed_by_directory(
            directory, classes, subset, self.validation_split, follow_links=follow_links
        )
        images = decoded_files(
            listed, target_size, color_mode, interpolation, keep_aspect_ratio=keep_aspect_ratio
        )
        saved = SavedCopies(save_to_dir, save_prefix, save_format)
        arrays = targets(listed, class_mode)
        return self._flow(
            images, arrays, batch_size, shuffle, seed, saved, listed, class_mode == "input"
        )

    def flow_from_dataframe(
        self,
        dataframe: Any,
        directory: str | Path | None = None,
        x_col: str = "filename",
        y_col: str | Sequence[str] = "class",
        weight_col: str | None = None,
        target_size: tuple[int, int] = (256, 256),
        color_mode: ColorMode = "rgb",
        classes: Sequence[str] | None = None,
        class_mode: ClassMode | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        save_to_dir: str | Path | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        subset: Subset | None = None,
        interpolation: Interpolation = "nearest",
        validate_filenames: bool = True,
        *,
        keep_aspect_ratio: bool = False,
    ) -> Flow:
        """Return endless batches of the images named in a table.

        Args:
          dataframe: a pandas ``DataFrame``, or a dictionary of columns.
          directory: folder that the names are relative to; None means the current folder.
          x_col: column of file names.
          y_col: column of labels; with ``"categorical"``, a row may be a list of classes. With
            ``"raw"`` and ``"multi_output"``, several columns.
          weight_col: column of sample weights, included in the batches.
          target_size: (height, width) to resize the images to.
          color_mode: ``"rgb"``, ``"rgba"`` or ``"grayscale"``.
          classes: class names, in the order of their indices; None means all names in the table.
          class_mode: form of the labels: ``"categorical"`` (``[B, K]`` zeros and ones),
            ``"sparse"`` or ``"binary"`` (``[B]``), ``"raw"`` (the values of one column or several),
            ``"multi_output"`` (a list with the values of each column), ``"input"`` (the images
            again), or None for no labels and no weights.
          batch_size: images per batch; the last batch of an epoch may be smaller.
          shuffle: draw a new order in each epoch.
          seed: seed for the order and the transforms; None means 0.
          save_to_dir: folder in which a copy of each transformed image is saved; None saves none.
          save_prefix: start of the copies' names, which end with the epoch and the image's index.
          save_format: format of the copies, for example ``"png"`` or ``"jpeg"``.
          subset: ``"validation"`` for the first ``validation_split`` of the table, ``"training"``
            for the remaining rows, or None for all rows.
          interpolation: Pillow filter for resizing.
          validate_filenames: check that all files exist.
          keep_aspect_ratio: crop the center instead of stretching the image.

        Returns:
          An iterator like the one returned by `flow`, with ``class_indices``, ``filenames`` and
          ``samples``.

        Raises:
          ValueError: if a column, value or file is missing, or an option is unknown.

        Example:
          >>> import tempfile, PIL.Image
          >>> root = Path(tempfile.mkdtemp())
          >>> PIL.Image.new("RGB", (40, 30)).save(root / "1.png")
          >>> table = {"filename": ["1.png"], "age": [2.5]}
          >>> flow = ImageDataGenerator().flow_from_dataframe(
          ...     table, root, y_col="age", class_mode="raw", target_size=(8, 8)
          ... )
          >>> next(flow)[1]
          array([2.5])
        """
        listed = listed_by_dataframe(
            dataframe,
            directory,
            x_col,
            y_col,
            classes,
            subset,
            self.validation_split,
            class_mode=class_mode,
            validate_filenames=validate_filenames,
        )
        images = decoded_files(
            listed, target_size, color_mode, interpolation, keep_aspect_ratio=keep_aspect_ratio
        )
        arrays = targets(listed, class_mode)
        if weight_col is not None and class_mode is not None:
            arrays.append(weights_of(dataframe, weight_col, x_col, subset, self.validation_split))
        saved = SavedCopies(save_to_dir, save_prefix, save_format)
        return self._flow(
            images, arrays, batch_size, shuffle, seed, saved, listed, class_mode == "input"
        )

    def _flow(
        self,
        images: np.ndarray | DecodedImages,
        arrays: Sequence[Any],
        batch_size: int,
        shuffle: bool,
        seed: int | None,
        saved: SavedCopies,
        listed: Listed | None = None,
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
            listed=listed,
            repeats_images=repeats_images,
            saved=saved,
        )
