"""What Keras's `ImageDataGenerator` does to images, computed on the device.

Pixels are those of Keras, usually 0 to 255, and every image of every epoch has a key of its own, so
that a seed gives the same images whatever the batch size.
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

_CHUNK = 256  # images that are augmented at once to fit statistics

Shifts = float | Sequence[float]


@dataclasses.dataclass(kw_only=True, eq=False)
class ImageTransforms:
    """What `ImageDataGenerator` does to images: its knobs, transforms and normalisation.

    Attributes:
      featurewise_center: subtract the data's mean of each channel; needs `fit`.
      samplewise_center: subtract each image's mean.
      featurewise_std_normalization: divide by the data's deviation of each channel; needs `fit`.
      samplewise_std_normalization: divide by each image's deviation.
      zca_whitening: remove what the data's pixels have in common; needs `fit`.
      zca_epsilon: added to the singular values of the whitening.
      rotation_range: degrees either way.
      width_shift_range: a fraction of the width below 1, or pixels: a float for anything up to it
        either way, an integer for whole pixels below it, a list for one of its values either way.
      height_shift_range: the same for the height.
      brightness_range: (low, high) factors.
      shear_range: degrees either way.
      zoom_range: (low, high), or ``z`` for (1 - z, 1 + z); each axis draws its own.
      channel_shift_range: what is added to all channels, either way.
      fill_mode: what lies outside: ``"nearest"``, ``"reflect"``, ``"wrap"`` or ``"constant"``.
      cval: what lies outside for ``"constant"``.
      horizontal_flip: mirror half of the images.
      vertical_flip: turn half of the images upside down.
      rescale: a factor on all values, after the transforms.
      preprocessing_function: of one image ``[H, W, C]``, a NumPy array, before ``rescale``; called
        on the host.
      validation_split: share of the data that ``subset="validation"`` gets, the first ones.
      interpolation_order: 0 for the nearest pixel, 1 for linear.
      mean: what `fit` found, ``[1, 1, C]``.
      std: what `fit` found, ``[1, 1, C]``.
      zca_whitening_matrix: what `fit` found, ``[H * W * C, H * W * C]``.

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
    validation_split: float = 0.0
    interpolation_order: Literal[0, 1] = 1
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
        if not 0 < self.zca_epsilon < np.inf:
            raise ValueError(f"zca_epsilon must be finite and > 0, got {self.zca_epsilon!r}")
        modes = get_args(FillMode)
        if self.fill_mode not in modes:
            hint = did_you_mean(str(self.fill_mode), modes)
            raise ValueError(f"fill_mode must be known, got {self.fill_mode!r}. {hint}")
        # As in Keras: whitening and deviations want centred values.
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
        """Parameters of one transform, drawn at random.

        Args:
          img_shape: (height, width, channels).
          seed: decides them; None goes on in the generator's own sequence.

        Returns:
          ``theta`` and ``shear`` (degrees), ``tx`` and ``ty`` (pixels that columns and rows move),
          ``zx`` and ``zy``, ``flip_horizontal`` and ``flip_vertical``, and
          ``channel_shift_intensity`` and ``brightness``, None where there is no range.

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
        """One image, transformed by parameters as `get_random_transform` gives them.

        Args:
          x: ``[H, W, C]``.
          transform_parameters: any of them; what is left out changes nothing.

        Returns:
          ``[H, W, C]`` float32.

        Raises:
          ValueError: if a parameter is unknown, or ``x`` is not as described.

        Example:
          >>> image = np.arange(3.0).reshape(1, 3, 1)
          >>> ImageTransforms().apply_transform(image, {"flip_horizontal": True}).ravel().tolist()
          [2.0, 1.0, 0.0]
        """
        for name in transform_parameters:
            if name not in UNCHANGED:
                raise ValueError(
                    f"transform_parameters must be known, got {name!r}. "
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
        """One image ``[H, W, C]``, transformed at random, float32."""
        return self.apply_transform(x, self.get_random_transform(x.shape, seed))

    def standardize(self, x: np.ndarray | jax.Array) -> jax.Array:
        """Normalise images ``[H, W, C]`` or ``[B, H, W, C]`` as the options say, float32.

        Raises:
          ValueError: if statistics are needed and not fitted, or were fitted to other shapes.
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
            raise ValueError(f"x must have {len(matrix)} values an image, got shape {x.shape}")
        return self._standardized(images)

    def fit(
        self, x: np.ndarray, *, augment: bool = False, rounds: int = 1, seed: int | None = None
    ) -> None:
        """Find the statistics that the featurewise options need.

        Args:
          x: ``[N, H, W, C]``; ``rescale`` is applied first.
          augment: measure transformed images.
          rounds: how many of each.
          seed: of the transforms; None is 0.

        Raises:
          ValueError: if ``x`` is not as described.
        """
        images = checked_images(x, "x") * np.float32(1 if self.rescale is None else self.rescale)
        if augment:
            (rounds,) = shapes.ints(rounds, 1, "rounds")
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
        """Images by their numbers in the data, transformed as in an epoch under a key."""
        parameters = draw(key, epoch, rows, self._ranges, images.shape[1:3])
        # Not in one program with it: XLA for CPU would draw anew for each pixel.
        return change(images, parameters, self.fill_mode, self.interpolation_order, self.cval)

    def _check_fitted(self) -> None:
        for option, found in (
            ("featurewise_center", self.mean),
            ("featurewise_std_normalization", self.std),
            ("zca_whitening", self.zca_whitening_matrix),
        ):
            if getattr(self, option) and found is None:
                raise ValueError(f"{option} needs the data's statistics: call fit(x) first")

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
    """As float32, whatever numbers they were."""
    values = np.asarray(images)
    is_number = values.dtype == bool or np.issubdtype(values.dtype, np.number)
    if values.ndim != 4 or 0 in values.shape or not is_number:
        raise ValueError(
            f"{name} must be images [N, H, W, C] of numbers, not empty, got {values.dtype} of "
            f"shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got {np.sum(~np.isfinite(values))} that are not")
    return values.astype(np.float32)
