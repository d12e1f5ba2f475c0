"""One configuration object: what to train, on what, and how; and presets of it."""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

from jaxcnn import shapes

Option = int | float | bool | str
Augmentation = Literal[
    "crop", "flip", "shift", "affine", "color", "rand", "trivial", "erase", "mixup", "cutmix"
]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What to train, on what, and how. The defaults are the course's classical CNN.

    Raises:
      ValueError: if a field has the wrong type or is out of range, or two do not go together.
    """

    model: str = "classic_cnn"
    """Network: a name (classic_cnn, resnet18, ...), or file.py:function for one of your own."""
    model_options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    """Options of the network, as pairs: dropout 0.5 norm batch."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type that the network computes in; parameters, statistics, outputs and loss stay float32."""
    data: str = "fashion_mnist_slice"
    """Data set: fashion_mnist_slice (ships with the package); a prepared one by name, such as
    cifar10; a folder, zip or tar of images, class by class; a table of them (CSV, JSON lines); or
    FILE.npz."""
    data_dir: str | None = None
    """Folder of prepared data sets; by default TFDS's own."""
    image_size: tuple[int, int] | None = None
    """Height and width that images are brought to; by default their own, or 64 64 for files."""
    channels: int | None = None
    """1 for grey or 3 for colours; by default those of the data, or 3 for files."""
    on_bad_example: Literal["raise", "skip"] = "raise"
    """An image that cannot be read: stop and name it, or leave it out and list it in the run's
    bad_examples.jsonl."""
    test_fraction: float = 0.2
    """Share of each class that is measured on at the end, if the data has no test split."""
    normalization: Literal["unit", "symmetric", "standardize"] = "unit"
    """Pixels as [0, 1], as [-1, 1], or with the training part's mean 0 and deviation 1."""
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
            if not _fits(value, hint):
                raise ValueError(f"{field.name} must be {_described(hint)}, got {value!r}")
        for name, (is_fine, accepted) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not is_fine(value):
                raise ValueError(f"{name} must be {accepted}, got {value!r}")
        for name, is_fine_for, accepted in _RELATIONS:
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
                    f"the configuration has no field {name!r}. "
                    f"{shapes.did_you_mean(name, accepted)}"
                )
        # JSON knows no tuples.
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**fields)


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


def _is_probability(value: float) -> bool:
    return 0 <= value < 1


def _is_size(value: float) -> bool:
    return 0 <= value < math.inf


def _is_positive(value: float) -> bool:
    return 0 < value < math.inf


_HINTS = typing.get_type_hints(Experiment)
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "validation_fraction": (_is_probability, "in [0, 1)"),
    "test_fraction": (_is_probability, "in [0, 1)"),
    "image_size": (
        lambda value: len(value) == 2 and min(value) >= 1,
        "a height and a width >= 1",
    ),
    "channels": (lambda value: value in (1, 3), "1 or 3"),
    "folds": (lambda value: value >= 2, ">= 2"),
    "input_noise": (_is_size, "finite and >= 0"),
    "label_smoothing": (_is_probability, "in [0, 1)"),
    "focal_gamma": (lambda value: value == 0 or 1 <= value < math.inf, "0, or finite and >= 1"),
    "class_weights": (
        lambda value: isinstance(value, str) or (len(value) > 1 and all(map(_is_positive, value))),
        "none, balanced, or finite numbers > 0, one per class",
    ),
    "huber_delta": (_is_positive, "finite and > 0"),
    "aux_weight": (_is_size, "finite and >= 0"),
    "epochs": (lambda value: value >= 1, ">= 1"),
    "batch_size": (lambda value: value >= 1, ">= 1"),
    "accumulate": (lambda value: value >= 1, ">= 1"),
    "steps_per_call": (lambda value: value >= 1, ">= 1"),
    "seed": (lambda value: 0 <= value < 2**32, "from 0 to 2**32 - 1"),
    "learning_rate": (_is_positive, "finite and > 0"),
    "step_epochs": (
        lambda value: all(a < b for a, b in zip((0, *value), value, strict=False)),
        "rising epochs >= 1",
    ),
    "plateau_patience": (lambda value: value >= 1, ">= 1"),
    "schedule_factor": (lambda value: 0 < value < 1, "in (0, 1)"),
    "warmup_epochs": (_is_size, "finite and >= 0"),
    "learning_rate_factors": (
        lambda value: all(map(_is_size, value.values())),
        "factors that are finite and >= 0",
    ),
    "weight_decay": (_is_size, "finite and >= 0"),
    "l1": (_is_size, "finite and >= 0"),
    "l2": (_is_size, "finite and >= 0"),
    "penalized": (lambda value: len(value) > 0, "one pattern or more"),
    "clip_norm": (_is_positive, "finite and > 0"),
    "ema_decay": (lambda value: 0 < value < 1, "in (0, 1)"),
    "early_stopping": (lambda value: value >= 1, ">= 1"),
    "min_delta": (_is_size, "finite and >= 0"),
    "start_epoch": (lambda value: value >= 1, ">= 1"),
}
_RELATIONS: tuple[tuple[str, Callable[[Experiment], bool], str], ...] = (
    (
        "fold",
        lambda e: e.fold is None or (e.folds is not None and 0 <= e.fold < e.folds),
        "from 0 to folds - 1, with folds given",
    ),
    (
        "stratified",
        lambda e: not e.stratified or (e.folds is None and e.task in ("multi_class", "binary")),
        "left out with folds, and unless the task is multi_class or binary",
    ),
    (
        "balanced",
        lambda e: not e.balanced or e.task in ("multi_class", "binary"),
        "left out unless the task is multi_class or binary",
    ),
    (
        "label_smoothing",
        lambda e: not e.label_smoothing or e.task != "regression",
        "0 for regression",
    ),
    ("focal_gamma", lambda e: not e.focal_gamma or e.task != "regression", "0 for regression"),
    (
        "class_weights",
        lambda e: e.class_weights == "none" or e.task != "regression",
        "none for regression",
    ),
    (
        "class_weights",
        lambda e: isinstance(e.class_weights, str) or e.task != "multi_label",
        "none or balanced for multi_label",
    ),
    (
        "augment",
        lambda e: not {"mixup", "cutmix"} & {*e.augment} or e.task == "multi_class",
        "without mixup and cutmix unless the task is multi_class",
    ),
    (
        "huber_delta",
        lambda e: e.huber_delta is None or e.task == "regression",
        "left out unless the task is regression",
    ),
    ("accumulate", lambda e: e.batch_size % e.accumulate == 0, "a divisor of batch_size"),
    (
        "schedule",
        lambda e: e.schedule != "plateau" or e.has_validation,
        "another one without a validation slice",
    ),
    (
        "step_epochs",
        lambda e: bool(e.step_epochs) == (e.schedule == "step"),
        "given if the schedule is step, and only then",
    ),
    (
        "step_epochs",
        lambda e: all(e.warmup_epochs <= epoch < e.epochs for epoch in e.step_epochs),
        "after the warm-up and before the last epoch",
    ),
    (
        "plateau_patience",
        lambda e: e.plateau_patience == 3 or e.schedule == "plateau",
        "left out unless the schedule is plateau",
    ),
    (
        "schedule_factor",
        lambda e: e.schedule_factor == 0.1 or e.schedule in ("step", "plateau"),
        "left out unless the schedule is step or plateau",
    ),
    (
        "penalized",
        lambda e: e.l1 > 0 or e.l2 > 0 or e.penalized == ("*kernel",),
        "left out without l1 and l2",
    ),
    (
        "precision",
        lambda e: e.precision == "float32" or "dtype" not in e.model_options,
        "the only setting of the dtype, not model_options too",
    ),
    ("warmup_epochs", lambda e: e.warmup_epochs < e.epochs, "smaller than epochs"),
    (
        "early_stopping",
        lambda e: e.early_stopping is None or e.has_validation,
        "left out without a validation slice",
    ),
    (
        "min_delta",
        lambda e: not e.min_delta or e.early_stopping is not None,
        "0 without early_stopping",
    ),
    (
        "start_epoch",
        lambda e: (
            e.start_epoch == 1 or (e.early_stopping is not None and e.start_epoch <= e.epochs)
        ),
        "at most epochs, and 1 without early_stopping",
    ),
)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, kind) for kind in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin is not None:
        return isinstance(value, Mapping) and all(
            _fits(key, arguments[0]) and _fits(item, arguments[1]) for key, item in value.items()
        )
    # An integer is a fine float, but a truth value is no number.
    kinds = (int, float) if hint is float else hint
    return isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))


def _described(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_described(kind) for kind in arguments)
    if origin is tuple:
        return f"a tuple, each {_described(arguments[0])}"
    if origin is not None:
        return f"a mapping from {_described(arguments[0])} to {_described(arguments[1])}"
    return "None" if hint is type(None) else hint.__name__
