"""Options for Keras's `ImageDataGenerator`, and the transforms they select, on the device.

Pixel values have the same range as in Keras, usually 0 to 255. Each image has its own key in each
epoch, so a seed produces the same images for any batch size.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import shapes
from jaxcnn.data.keras.transforms import UNCHANGED, FillMode, Ranges, Shift, change, draw, normalize
from jaxcnn.image.randomness import extent, interval
from jaxcnn.messages import did_you_mean

_CHUNK = 256  # images to transform at once when fitting statistics

Shifts = float | Sequence[float]


@dataclasses.dataclass(kw_only=True, eq=False)
class ImageTransforms:
    """Options, transforms and normalization for `ImageDataGenerator`.

    Attributes:
      featurewise_center: subtract the mean of each channel over the data; requires `fit`.
      samplewise_center: subtract the mean of each image.
      featurewise_std_normalization: divide by the standard deviation of each channel over the
        data; requires `fit`.
      samplewise_std_normalization: divide by the standard deviation of each image.
      zca_whitening: decorrelate the pixels with ZCA; requires `fit`.
      zca_epsilon: constant added to the singular values for the whitening.
      rotation_range: largest rotation angle in degrees, in either direction.
      width_shift_range: horizontal shift in either direction, as a fraction of the width if below
        1, otherwise in pixels. A float allows any shift up to that value, an integer allows the
        integers below it, and a sequence allows only the numbers in it.
      height_shift_range: vertical shift, specified in the same way.
      brightness_range: (low, high) range of the brightness factor.
      shear_range: largest shear angle in degrees, in either direction.
      zoom_range: (low, high), or ``z`` for (1 - z, 1 + z); drawn for each axis separately.
      channel_shift_range: largest value added to all channels or subtracted from them.
      fill_mode: how values outside the image are filled: ``"nearest"``, ``"reflect"``,
        ``"wrap"`` or ``"constant"``.
      cval: value outside the image with ``"constant"``.
      horizontal_flip: flip each image left to right with probability 0.5.
      vertical_flip: flip each image upside down with probability 0.5.
      rescale: factor by which all values are multiplied, after the transforms.
      preprocessing_function: function applied to each image, a NumPy array ``[H, W, C]``, on the
        host before ``rescale``.
      data_format: None or ``"channels_last"``.
      validation_split: fraction of the data, taken from its start, for ``subset="validation"``.
      interpolation_order: 0 for nearest-neighbor, 1 for linear.
      dtype: None or ``"float32"``.
      mean: ``[1, 1, C]``, set by `fit`.
      std: ``[1, 1, C]``, set by `fit`.
      zca_whitening_matrix: ``[H * W * C, H * W * C]``, set by `fit`.

    Raises:
      ValueError: if an option is out of range.
    """

    featurewise_center: bool = False
    samplewise_center: bool = False
    featurewise_std_normalization: bool = False
    samplewise_std_normalization: bool = False
    zca_whitening: bool = False
    zca_epsilon: float = 1e-6
    rotation_range: float = 0.0
    width_shift_range: Shifts = 0.0
    height_shift_range: Shifts = 0.0
    brightness_range: tuple[float, float] | None = None
    shear_range: float = 0.0
    zoom_range: float | tuple[float, float] = 0.0
    channel_shift_range: float = 0.0
    fill_mode: FillMode = "nearest"
    cval: float = 0.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    rescale: float | None = None
    preprocessing_function: Callable[[np.ndarray], Any] | None = None
    data_format: str | None = None
    validation_split: float = 0.0
    interpolation_order: Literal[0, 1] = 1
    dtype: Any = None
    mean: np.ndarray | None = dataclasses.field(default=None, init=False)
    std: np.ndarray | None = dataclasses.field(default=None, init=False)
    zca_whitening_matrix: np.ndarray | None = dataclasses.field(default=None, init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.validation_split < 1:
            raise ValueError(f"validation_split must be in [0, 1), got {self.validation_split!r}")
        if self.interpolation_order not in (0, 1):
            raise ValueError(
                f"interpolation_order must be 0 or 1, got {self.interpolation_order!r}"
            )
        if self.data_format not in (None, "channels_last"):
            raise ValueError(
                f"data_format must be None or 'channels_last', got {self.data_format!r}; move the "
                "channels with numpy.moveaxis(images, 1, -1)"
            )
        if self.dtype is not None and np.dtype(self.dtype) != np.float32:
            raise ValueError(f"dtype must be None or 'float32', got {self.dtype!r}")
        if not 0 < self.zca_epsilon < np.inf:
            raise ValueError(f"zca_epsilon must be finite and > 0, got {self.zca_epsilon!r}")
        modes = get_args(FillMode)
        if self.fill_mode not in modes:
            hint = did_you_mean(str(self.fill_mode), modes)
            raise ValueError(f"fill_mode must be a known mode, got {self.fill_mode!r}. {hint}")
        # As in Keras, whitening and division by the standard deviation require centered values.
        self.featurewise_std_normalization &= not self.zca_whitening
        self.featurewise_center |= self.zca_whitening or self.featurewise_std_normalization
        self.samplewise_center |= self.samplewise_std_normalization
        self._calls = 0
        zoom, light = self.zoom_range, self.brightness_range
        if not isinstance(zoom, Sequence):
            zoom = (1 - extent(zoom, "zoom_range"), 1 + zoom)
        self._ranges = Ranges(
            theta=extent(self.rotation_range, "rotation_range"),
            tx=Shift.of(self.width_shift_range, "width_shift_range"),
            ty=Shift.of(self.height_shift_range, "height_shift_range"),
            shear=extent(self.shear_range, "shear_range"),
            zoom=interval(zoom, "zoom_range", positive=True),
            flip_horizontal=self.horizontal_flip,
            flip_vertical=self.vertical_flip,
            channel_shift_intensity=extent(self.channel_shift_range, "channel_shift_range"),
            brightness=None if light is None else interval(light, "brightness_range", least=0),
        )

    def get_random_transform(
        self, img_shape: Sequence[int], seed: int | None = None
    ) -> dict[str, Any]:
        """Draw the parameters for one transform.

        Args:
          img_shape: (height, width, channels).
          seed: seed for drawing the parameters; None draws the next ones in the generator's
            sequence.

        Returns:
          ``theta`` and ``shear`` (degrees), ``tx`` and ``ty`` (shift of columns and rows in
          pixels), ``zx`` and ``zy``, ``flip_horizontal`` and ``flip_vertical``, and
          ``channel_shift_intensity`` and ``brightness``, each None if the corresponding range is
          not set.

        Example:
          >>> generator = ImageTransforms(rotation_range=20)
          >>> abs(generator.get_random_transform((8, 8, 1))["theta"]) <= 20
          True
        """
        key, number = jax.random.key(seed or 0), 0
        if seed is None:
            number, self._calls = self._calls, self._calls + 1
        drawn = draw(key, number, np.arange(1), self._ranges, tuple(img_shape[:2]))
        return UNCHANGED | {name: value.item() for name, value in drawn.items()}

    def apply_transform(
        self, x: np.ndarray | jax.Array, transform_parameters: Mapping[str, Any]
    ) -> jax.Array:
        """Transform one image with the given parameters.

        Args:
          x: ``[H, W, C]``.
          transform_parameters: any of the parameters that `get_random_transform` returns.

        Returns:
          The transformed image, ``[H, W, C]`` float32.

        Raises:
          ValueError: if a parameter is unknown, or ``x`` is not a single image.

        Example:
          >>> image = np.arange(3.0).reshape(1, 3, 1)
          >>> ImageTransforms().apply_transform(image, {"flip_horizontal": True}).ravel().tolist()
          [2.0, 1.0, 0.0]
        """
        for name in transform_parameters:
            if name not in UNCHANGED:
                raise ValueError(
                    f"transform_parameters must have known names, got {name!r}. "
                    f"{did_you_mean(name, UNCHANGED)}"
                )
        given = {
            name: jnp.asarray([value])
            for name, value in transform_parameters.items()
            if value is not None
        }
        image = checked_images(np.asarray(x)[None], "x")
        return change(image, given, self.fill_mode, self.interpolation_order, self.cval)[0]

    def random_transform(self, x: np.ndarray | jax.Array, seed: int | None = None) -> jax.Array:
        """Transform one image ``[H, W, C]`` randomly; the result is float32."""
        return self.apply_transform(x, self.get_random_transform(x.shape, seed))

    def standardize(self, x: np.ndarray | jax.Array) -> jax.Array:
        """Normalize images ``[H, W, C]`` or ``[B, H, W, C]`` as specified; return float32.

        Raises:
          ValueError: if required statistics were not fitted, or were fitted to different shapes.
        """
        self._check_fitted()
        if x.ndim == 3:
            return self.standardize(x[None])[0]
        images = jnp.asarray(checked_images(np.asarray(x), "x"))
        for found in (self.mean, self.std):
            if found is not None and found.size != images.shape[-1]:
                raise ValueError(f"x must have {found.size} channels, got shape {x.shape}")
        matrix, size = self.zca_whitening_matrix, math.prod(images.shape[1:])
        if matrix is not None and len(matrix) != size:
            raise ValueError(f"x must have {len(matrix)} values per image, got shape {x.shape}")
        return self._standardized(images)

    def fit(
        self, x: np.ndarray, *, augment: bool = False, rounds: int = 1, seed: int | None = None
    ) -> None:
        """Compute the statistics required by the featurewise options and by ZCA whitening.

        Args:
          x: ``[N, H, W, C]``; ``rescale`` is applied first.
          augment: use randomly transformed images.
          rounds: number of random transforms of each image, if ``augment`` is True.
          seed: seed for the transforms; None means 0.

        Raises:
          ValueError: if ``x`` is not an array of finite images, or ``augment`` is True and
            ``rounds`` is below 1.
        """
        images = checked_images(x, "x") * np.float32(1 if self.rescale is None else self.rescale)
        if augment:
            rounds = shapes.check_integer(rounds, "rounds", minimum=1)
            root = jax.random.key(seed or 0)
            parts = [
                self._transformed(root, turn, images[rows], rows)
                for turn in range(rounds)
                for rows in np.split(np.arange(len(images)), range(_CHUNK, len(images), _CHUNK))
            ]
            images = np.concatenate(list(map(np.asarray, parts)))
        values = images.astype(np.float64)
        if self.featurewise_center:
            mean = values.mean((0, 1, 2)).reshape(1, 1, -1)
            self.mean, values = mean.astype(np.float32), values - mean
        if self.featurewise_std_normalization:
            self.std = values.std((0, 1, 2)).reshape(1, 1, -1).astype(np.float32)
        if self.zca_whitening:
            flat = values.reshape(len(values), -1)
            directions, sizes, _ = np.linalg.svd(flat.T, full_matrices=False)
            factors = len(values) ** 0.5 / (sizes + self.zca_epsilon)
            matrix = (directions * factors) @ directions.T
            self.zca_whitening_matrix = matrix.astype(np.float32)

    def _transformed(
        self, key: jax.Array, epoch: int, images: np.ndarray, rows: np.ndarray
    ) -> jax.Array:
        """Transform images randomly, as determined by the key, the epoch and each image's row."""
        parameters = draw(key, epoch, rows, self._ranges, images.shape[1:3])
        # Compiled separately from `draw`: in one program, XLA on CPU would draw for each pixel.
        return change(images, parameters, self.fill_mode, self.interpolation_order, self.cval)

    def _check_fitted(self) -> None:
        for option, found in (
            ("featurewise_center", self.mean),
            ("featurewise_std_normalization", self.std),
            ("zca_whitening", self.zca_whitening_matrix),
        ):
            if getattr(self, option) and found is None:
                raise ValueError(f"{option} requires the data's statistics: call fit(x) first")

    def _standardized(self, images: jax.Array) -> jax.Array:
        if self.preprocessing_function is not None:
            results = [self.preprocessing_function(image) for image in np.array(images)]
            images = jnp.asarray(np.stack(results), jnp.float32)
        return normalize(
            images,
            self.samplewise_center,
            self.samplewise_std_normalization,
            self.rescale,
            self.mean if self.featurewise_center else None,
            self.std if self.featurewise_std_normalization else None,
            self.zca_whitening_matrix if self.zca_whitening else None,
        )


def checked_images(images: np.ndarray, name: str) -> np.ndarray:
    """Check images ``[N, H, W, C]`` of any numeric dtype and cast them to float32."""
    values = np.asarray(images)
    is_number = values.dtype == bool or np.issubdtype(values.dtype, np.number)
    if values.ndim != 4 or 0 in values.shape or not is_number:
        raise ValueError(
            f"{name} must be non-empty numeric images [N, H, W, C], got {values.dtype} of shape "
            f"{values.shape}"
        )
    if not np.isfinite(values).all():
        count = np.sum(~np.isfinite(values))
        raise ValueError(f"{name} must be finite, got {count} non-finite values")
    return values.astype(np.float32)
