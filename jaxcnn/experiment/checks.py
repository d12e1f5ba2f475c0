"""What the fields of an experiment must be: types, ranges, and what goes together."""

import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from jaxcnn.experiment.config import Experiment


def _is_probability(value: float) -> bool:
    return 0 <= value < 1


def _is_size(value: float) -> bool:
    return 0 <= value < math.inf


def _is_positive(value: float) -> bool:
    return 0 < value < math.inf


def _are_moments(value: tuple[float, ...]) -> bool:
    channels = len(value) // 2
    return (
        len(value) in (2, 6)
        and all(map(math.isfinite, value))
        and all(map(_is_positive, value[channels:]))
    )


RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "validation_fraction": (_is_probability, "in [0, 1)"),
    "test_fraction": (_is_probability, "in [0, 1)"),
    "image_size": (
        lambda value: len(value) == 2 and min(value) >= 1,
        "a height and a width >= 1",
    ),
    "channels": (lambda value: value in (1, 3), "1 or 3"),
    "normalization": (
        lambda value: isinstance(value, str) or _are_moments(value),
        "unit, symmetric, standardize, or for 1 or 3 channels finite means, then deviations > 0",
    ),
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
    "layer_decay": (lambda value: 0 < value <= 1, "in (0, 1]"),
    "frozen_epochs": (lambda value: value >= 0, ">= 0"),
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
RELATIONS: tuple[tuple[str, Callable[["Experiment"], bool], str], ...] = (
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
    (
        "pretrained_source",
        lambda e: e.pretrained_source == "auto" or e.pretrained is not None,
        "left out without pretrained",
    ),
    (
        "frozen_epochs",
        lambda e: not e.frozen_epochs or (e.pretrained is not None and e.frozen_epochs < e.epochs),
        "smaller than epochs, and 0 without pretrained",
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


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type that a field is declared with."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, kind) for kind in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, arguments[0]) for item in value)
    if origin is not None:
        return isinstance(value, Mapping) and all(
            fits(key, arguments[0]) and fits(item, arguments[1]) for key, item in value.items()
        )
    # An integer is a fine float, but a truth value is no number.
    kinds = (int, float) if hint is float else hint
    return isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))


def described(hint: Any) -> str:
    """The type that a field is declared with, in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(described(kind) for kind in arguments)
    if origin is tuple:
        return f"a tuple, each {described(arguments[0])}"
    if origin is not None:
        return f"a mapping from {described(arguments[0])} to {described(arguments[1])}"
    return "None" if hint is type(None) else hint.__name__
