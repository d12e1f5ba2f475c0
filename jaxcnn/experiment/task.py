"""The task of an experiment: its settings, including those derived from the data."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from jaxcnn import data, train
from jaxcnn.experiment.fields import (
    Ranges,
    Relations,
    Section,
    is_finite,
    is_fraction,
    is_positive,
)

_LABELS = {
    "multi_class": "one class index per image",
    "binary": "one class index, 0 or 1, per image",
    "multi_label": "a 0 or 1 per image and label",
    "regression": "floating-point targets [N, D]",
}


@dataclasses.dataclass(frozen=True)
class TaskConfig(Section):
    """Settings for the task and its loss."""

    task: Literal["multi_class", "binary", "multi_label", "regression"] = "multi_class"
    """Predict one of several classes, one of two, any number of labels, or numeric targets."""
    label_smoothing: float = 0.0
    """Label smoothing: fraction of the target probability to spread evenly over all classes."""
    focal_gamma: float = 0.0
    """Focal loss: how strongly easy examples are down-weighted; 0 disables it, 2 is typical."""
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = "none"
    """Class weights in the loss: balanced (inversely proportional to class frequency), or one
    number per class."""
    huber_delta: float | None = None
    """Regression: errors beyond this many standard deviations of the targets are penalized
    linearly, not quadratically."""
    aux_weight: float = 0.3
    """Weight of the auxiliary heads' loss, if the network has any."""

    RANGES: ClassVar[Ranges] = {
        "label_smoothing": (is_fraction, "in [0, 1)"),
        "focal_gamma": (lambda value: value == 0 or 1 <= value < math.inf, "0, or finite and >= 1"),
        "class_weights": (
            lambda value: (
                isinstance(value, str) or (len(value) > 1 and all(map(is_positive, value)))
            ),
            "none, balanced, or finite numbers > 0, one per class",
        ),
        "huber_delta": (is_positive, "finite and > 0"),
        "aux_weight": (is_finite, "finite and >= 0"),
    }
    RELATIONS: ClassVar[Relations] = (
        (
            "label_smoothing",
            lambda c: not c.label_smoothing or c.task != "regression",
            "0 for regression",
        ),
        ("focal_gamma", lambda c: not c.focal_gamma or c.task != "regression", "0 for regression"),
        (
            "class_weights",
            lambda c: c.class_weights == "none" or c.task != "regression",
            "none for regression",
        ),
        (
            "class_weights",
            lambda c: isinstance(c.class_weights, str) or c.task != "multi_label",
            "none or balanced for multi_label",
        ),
        (
            "huber_delta",
            lambda c: c.huber_delta is None or c.task == "regression",
            "omitted unless the task is regression",
        ),
    )


def make_task(config: TaskConfig, settings: Mapping[str, Any] | None = None) -> train.Task:
    """Make the task, with the ``settings`` that `task_settings` derives from the data.

    Example:
      >>> make_task(TaskConfig(task="binary")).score
      'accuracy'
    """
    settings = settings or {}
    if config.task == "regression":
        return train.regression(
            huber_delta=config.huber_delta, aux_weight=config.aux_weight, **settings
        )
    make = getattr(train, config.task)
    return make(
        label_smoothing=config.label_smoothing,
        focal_gamma=config.focal_gamma,
        aux_weight=config.aux_weight,
        **settings,
    )


def check_labels(config: TaskConfig, labels: np.ndarray, classes: Sequence[str]) -> None:
    """Check that labels are of the kind that the task requires.

    Args:
      config: the configuration.
      labels: ``[N]`` class indices, ``[N, L]`` of 0 and 1, or ``[N, D]`` floating-point targets.
      classes: names of the classes, labels or targets.

    Raises:
      ValueError: if the labels are for a different task, or a binary task does not have 2 classes.

    Example:
      >>> check_labels(TaskConfig(task="binary"), np.array([0, 1]), ("cat", "dog"))
    """
    fitting: tuple[str, ...] = ("multi_class", "binary") if labels.ndim == 1 else ("multi_label",)
    if np.issubdtype(labels.dtype, np.floating):
        fitting = ("regression",)
    if config.task not in fitting:
        hint = "; write integers with a decimal point (20.0)" if config.task == "regression" else ""
        raise ValueError(
            f"task {config.task} needs labels that are {_LABELS[config.task]}, got {labels.dtype} "
            f"labels of shape {labels.shape}, which are for {' or '.join(fitting)}{hint}"
        )
    if config.task == "binary" and len(classes) != 2:
        names = ", ".join(classes)
        raise ValueError(f"task binary needs 2 classes, got {len(classes)}: {names}")


def task_settings(config: TaskConfig, training: data.ArraySource) -> dict[str, Any]:
    """Return the task settings derived from the training split, as JSON values.

    Returns:
      The ``mean`` and ``std`` of the targets for regression; ``class_weights`` if there are any.

    Raises:
      ValueError: if the number of class weights does not match the number of classes.

    Example:
      >>> source = data.from_arrays(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 1, 1]))
      >>> task_settings(TaskConfig(class_weights="balanced"), source)["class_weights"][0]
      2.0
    """
    labels = training.labels
    if config.task == "regression":
        # A constant target is learned by the bias alone.
        std = labels.std(0, dtype=np.float64)
        return {
            "mean": labels.mean(0, dtype=np.float64).reshape(-1).tolist(),
            "std": np.where(std > 0, std, 1.0).reshape(-1).tolist(),
        }
    if config.class_weights == "none":
        return {}
    count = 2 if config.task == "binary" else len(training.classes)
    if isinstance(config.class_weights, tuple):
        given = np.array(config.class_weights)
        if len(given) != count:
            raise ValueError(f"class_weights must be {count} numbers, got {given.tolist()}")
        weights = given[:, None] if config.task == "binary" else given
    else:
        if config.task == "binary":
            labels = labels.reshape(len(labels), -1)
        weights = train.balanced_weights(labels, len(training.classes))
    return {"class_weights": weights.tolist()}
