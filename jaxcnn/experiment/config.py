"""One configuration object: what to train, on what, and how; and presets of it."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Literal

from jaxcnn.experiment.checks import RANGES, RELATIONS, described, fits
from jaxcnn.messages import did_you_mean

Option = int | float | bool | str | tuple[int, ...]
Augmentation = Literal[
    "crop", "flip", "shift", "affine", "color", "rand", "trivial", "erase", "mixup", "cutmix"
]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What to train, on what, and how. The defaults are the classical CNN.

    Raises:
      ValueError: if a field has the wrong type or is out of range, or two do not go together.
    """

    model: str = "classic_cnn"
    """Network: a name (classic_cnn, resnet18, ...), or file.py:function for one of your own."""
    model_options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    """Options of the network, as pairs: dropout 0.5 norm batch."""
    pretrained: str | None = None
    """Weights to begin with: a file of torchvision, timm, Keras or jaxcnn export, or
    hf-hub:timm/...; the last layer is new, unless the classes are the same."""
    pretrained_source: Literal[
        "auto", "torchvision", "timm", "timm_tf", "efficientnet_pytorch", "keras"
    ] = "auto"
    """Whose weights they are, if the file does not tell."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type that the network computes in; parameters, statistics, outputs and loss stay float32."""
    data: str = "fashion_mnist_slice"
    """Data set: fashion_mnist_slice (ships with the package); a prepared one by name, such as
    cifar10; a folder, zip or tar of images, class by class; a table of them (CSV, JSON lines); or
    FILE.npz."""
    data_dir: str | None = None
    """Folder of prepared data sets; by default TFDS's own."""
    image_size: tuple[int, int] | None = None
    """Height and width that images are brought to; by default those of pretrained weights, or
    their own, or 64 64 for files."""
    channels: int | None = None
    """1 for grey or 3 for colours; by default those of pretrained weights, or of the data, or 3 for
    files."""
    on_bad_example: Literal["raise", "skip"] = "raise"
    """An image that cannot be read: stop and name it, or leave it out and list it in the run's
    bad_examples.jsonl; a run that goes on may change it."""
    test_fraction: float = 0.2
    """Share of each class that is measured on at the end, if the data has no test split."""
    normalization: Literal["unit", "symmetric", "standardize"] | tuple[float, ...] = "unit"
    """Pixels as [0, 1], as [-1, 1], or with the training part's mean 0 and deviation 1; or numbers
    that are subtracted and divided by: a mean for each channel, then a deviation for each.
    Pretrained weights bring their own."""
    validation_fraction: float = 0.1
    """Share of the training split held out for validation, unless the data has a validation split;
    0 for none."""
    stratified: bool = False
    """Hold out that share of every class."""
    balanced: bool = False
    """Show every class equally often, examples of rare ones several times in an epoch."""
    folds: int | None = None
    """Cross-validation: split the training examples in this many parts ..."""
    fold: int | None = None
    """... and hold this one out, from 0; by default each in turn, a run for each."""
    augment: tuple[Augmentation, ...] = ()
    """Random changes of the training images: parts of them (crop), mirrored (flip), moved by up to
    2 pixels (shift), turned, slanted and scaled too (affine), other light and colours (color),
    RandAugment (rand), TrivialAugment (trivial), a rectangle blank (erase), and two examples made
    into one (mixup, cutmix); applied in this order."""
    input_noise: float = 0.0
    """Standard deviation of the normal noise on training images in [0, 1]."""
    test_views: tuple[Literal["flip", "shift"], ...] = ()
    """Test-time augmentation: average over the mirrored image, or the four moved by a pixel."""

    task: Literal["multi_class", "binary", "multi_label", "regression"] = "multi_class"
    """One class of many, yes or no, any of several labels, or numbers."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    focal_gamma: float = 0.0
    """How much easy examples are played down: 0 not at all, usually 2."""
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = "none"
    """Let rare classes count as much as frequent ones, or each class as much as its number says."""
    huber_delta: float | None = None
    """Regression: errors beyond this many standard deviations count linearly, not squared."""
    aux_weight: float = 0.3
    """Weight of auxiliary heads, where the network has any."""

    epochs: int = 10
    """Passes over the training examples."""
    batch_size: int = 128
    """Examples per step."""
    accumulate: int = 1
    """Parts that a batch is worked through in, to fit memory; the gradient is the whole batch's."""
    steps_per_call: int = 1
    """Steps in one call of a compiled loop, over examples kept on the device; for accelerators."""
    seed: int = 0
    """Decides initial parameters, order of examples, dropout and augmentation."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam (epsilon 1e-7, as Keras), or SGD with Nesterov momentum 0.9."""
    learning_rate: float = 1e-3
    """Step size, at its peak if there is a schedule."""
    schedule: Literal["constant", "cosine", "step", "plateau"] = "constant"
    """After the warm-up: constant, down to 0 along a cosine, or reduced at epochs or plateaus."""
    step_epochs: tuple[int, ...] = ()
    """Schedule step: the epochs after which the learning rate is reduced."""
    plateau_patience: int = 3
    """Schedule plateau: epochs without a better validation loss before a reduction."""
    schedule_factor: float = 0.1
    """Schedules step and plateau: what the learning rate is multiplied by."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises linearly from 0."""
    learning_rate_factors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Factors on the learning rate of parameters by name pattern, as pairs: "conv*" 0.1."""
    layer_decay: float = 1.0
    """Layer-wise learning rates: factor from each block of the network to the one before it."""
    frozen_epochs: int = 0
    """Pretrained: epochs in which the new last layer is trained alone, before all of it is."""
    frozen: tuple[str, ...] = ()
    """Name patterns of parameters that stay as they are; their modules run in evaluation mode."""
    weight_decay: float = 0.0
    """Decoupled decay of kernels (not of biases and normalisation scales)."""
    l1: float = 0.0
    """Penalty on the sum of absolute values of the penalized parameters."""
    l2: float = 0.0
    """Penalty on the sum of squares of the penalized parameters."""
    penalized: tuple[str, ...] = ("*kernel",)
    """Name patterns of the parameters that l1 and l2 apply to."""
    clip_norm: float | None = None
    """Largest norm of the gradient; longer ones are scaled down to it."""
    ema_decay: float | None = None
    """Evaluate with a moving average of parameters and statistics; the share kept at each step."""
    early_stopping: int | None = None
    """Stop after this many epochs without a better validation loss, and keep the best epoch."""
    min_delta: float = 0.0
    """Early stopping: the least decrease of the validation loss that counts as better."""
    start_epoch: int = 1
    """Early stopping: the first epoch that may be kept or counted."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, hint = getattr(self, field.name), _HINTS[field.name]
            if not fits(value, hint):
                raise ValueError(f"{field.name} must be {described(hint)}, got {value!r}")
        for name, (is_fine, accepted) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not is_fine(value):
                raise ValueError(f"{name} must be {accepted}, got {value!r}")
        for name, is_fine_for, accepted in RELATIONS:
            if not is_fine_for(self):
                raise ValueError(f"{name} must be {accepted}, got {getattr(self, name)!r}")

    @property
    def has_validation(self) -> bool:
        """Whether examples are held out."""
        return self.folds is not None or self.validation_fraction > 0

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Experiment":
        """The experiment that `to_json` made ``values`` of; unknown keys are refused."""
        accepted = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in accepted:
                raise ValueError(
                    f"the configuration has no field {name!r}. {did_you_mean(name, accepted)}"
                )
        fields = {name: _from_json(value) for name, value in values.items()}
        return cls(**fields)


def _from_json(value: Any) -> Any:
    """JSON knows no tuples."""
    if isinstance(value, dict):
        return {name: _from_json(item) for name, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


RECIPES: dict[str, Mapping[str, Any]] = {
    "plain": {},
    "modern": {
        "normalization": "standardize",
        "augment": ("flip", "shift"),
        "label_smoothing": 0.1,
        "schedule": "cosine",
        "warmup_epochs": 1.0,
        "learning_rate": 2e-3,
        "weight_decay": 0.05,
        "clip_norm": 1.0,
        "ema_decay": 0.998,
    },
}
"""Presets by name: what differs from the defaults."""


def recipe(name: str, *, task: str | None = None) -> Experiment:
    """The experiment that a preset describes; smoothing is left out of a regression.

    Example:
      >>> recipe("modern").label_smoothing
      0.1
    """
    values = dict(RECIPES[name])
    if task == "regression":
        values.pop("label_smoothing", None)
    return Experiment(**values)


_HINTS = typing.get_type_hints(Experiment)
