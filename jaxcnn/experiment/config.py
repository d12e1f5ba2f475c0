"""The configuration of a training run, organized into sections, and its presets."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from jaxcnn import data
from jaxcnn.experiment.augment import AugmentConfig
from jaxcnn.experiment.fields import Relations
from jaxcnn.experiment.loop import LoopConfig
from jaxcnn.experiment.network import ModelConfig
from jaxcnn.experiment.optimizer import OptimizerConfig
from jaxcnn.experiment.splits import DataConfig
from jaxcnn.experiment.task import TaskConfig
from jaxcnn.messages import did_you_mean
from jaxcnn.models.weights.hub import HUB


# Dataclass fields are ordered from the last base class to the first.
@dataclasses.dataclass(frozen=True)
class Experiment(OptimizerConfig, LoopConfig, TaskConfig, AugmentConfig, DataConfig, ModelConfig):
    """All settings that affect a run's results. The defaults train ``classic_cnn``.

    Raises:
      ValueError: if a field has the wrong type, is out of range, or conflicts with another field.

    Example:
      >>> experiment = Experiment(model="resnet18", data="photos/", epochs=20)
      >>> dataclasses.replace(experiment, seed=1).seed
      1
      >>> Experiment(epochs=0)
      Traceback (most recent call last):
      ValueError: epochs must be >= 1, got 0
    """

    # Relations between fields of different sections.
    RELATIONS: ClassVar[Relations] = (
        (
            "stratified",
            lambda e: not e.stratified or e.task in ("multi_class", "binary"),
            "omitted unless the task is multi_class or binary",
        ),
        (
            "balanced",
            lambda e: not e.balanced or e.task in ("multi_class", "binary"),
            "omitted unless the task is multi_class or binary",
        ),
        (
            "augment",
            lambda e: not {"mixup", "cutmix"} & {*e.augment} or e.task == "multi_class",
            "free of mixup and cutmix unless the task is multi_class",
        ),
        (
            "schedule",
            lambda e: e.schedule != "plateau" or e.has_validation,
            "constant, cosine or step unless there is a validation split",
        ),
        (
            "step_epochs",
            lambda e: all(e.warmup_epochs <= epoch < e.epochs for epoch in e.step_epochs),
            "after warmup and before the last epoch",
        ),
        (
            "frozen_epochs",
            lambda e: (
                not e.frozen_epochs or (e.pretrained is not None and e.frozen_epochs < e.epochs)
            ),
            "smaller than epochs, and 0 unless pretrained is set",
        ),
        ("warmup_epochs", lambda e: e.warmup_epochs < e.epochs, "smaller than epochs"),
        (
            "early_stopping",
            lambda e: e.early_stopping is None or e.has_validation,
            "omitted unless there is a validation split",
        ),
    )

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Experiment":
        """Make an experiment from the values returned by `to_json`.

        Raises:
          ValueError: if a key is unknown or a value is invalid.

        Example:
          >>> Experiment.from_json({"epochs": 3}).epochs
          3
        """
        accepted = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in accepted:
                raise ValueError(
                    f"the configuration has no field {name!r}. {did_you_mean(name, accepted)}"
                )
        return cls(**{name: _from_json(value) for name, value in values.items()})

    def sha256(self) -> str:
        """Return the SHA-256 of all fields, serialized as JSON with sorted keys.

        Example:
          >>> Experiment().sha256() == Experiment(seed=1).sha256()
          False
        """
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def with_absolute_paths(self) -> "Experiment":
        """Return the experiment with absolute paths to its data and weights.

        Raises:
          ValueError: if a path starts with the home folder of an unknown user.
        """
        weights = self.pretrained
        if weights and not weights.startswith(HUB):
            weights = _absolute(weights)
        path = _absolute(self.data) if data.is_path(self.data) else self.data
        return dataclasses.replace(self, data=path, pretrained=weights)


def _absolute(path: str) -> str:
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError as error:
        raise ValueError(f"{path} starts with the home folder of an unknown user") from error


def _from_json(value: Any) -> Any:
    """Convert lists to tuples, which JSON does not have."""
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
"""Presets by name, each with the fields that differ from the defaults."""


def recipe(name: str, *, task: str | None = None) -> Experiment:
    """Make an experiment from a preset.

    Args:
      name: ``plain`` or ``modern``.
      task: the task that the experiment is for; regression does not use label smoothing.

    Raises:
      ValueError: if the preset is unknown.

    Example:
      >>> recipe("modern").label_smoothing
      0.1
    """
    if name not in RECIPES:
        raise ValueError(
            f"recipe must be a known preset, got {name!r}. {did_you_mean(name, RECIPES)}"
        )
    values = dict(RECIPES[name])
    if task == "regression":
        values.pop("label_smoothing", None)
    return Experiment(**values)
