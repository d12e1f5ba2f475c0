"""One configuration object, and what it is put together to: data, model, optimizer, steps.

This is the only caller of the registries of models and data sets.
"""

import dataclasses
import difflib
import importlib.util
import math
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcnn import data, image, models, shapes, train

Option = int | float | bool | str


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What to train, on what, and how. The defaults are the course's classical CNN.

    Raises:
      ValueError: if a field has the wrong type or is out of range.
    """

    model: str = "classic_cnn"
    """Network: a name (classic_cnn, lenet5, small_vgg), or file.py:function for one of your own."""
    model_options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    """Options of the network, as pairs: dropout 0.5."""
    data: str = "fashion_mnist_slice"
    """Data set: fashion_mnist_slice (ships with the package) or fashion_mnist (jaxcnn prepare)."""
    data_dir: str | None = None
    """Folder of prepared data sets; by default TFDS's own."""
    validation_fraction: float = 0.1
    """Share of the training split held out for validation; 0 for none."""
    epochs: int = 10
    """Passes over the training examples."""
    batch_size: int = 128
    """Examples per step."""
    seed: int = 0
    """Decides initial parameters, order of examples and dropout."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam (epsilon 1e-7, as Keras), or SGD with Nesterov momentum 0.9."""
    learning_rate: float = 1e-3
    """Step size, at its peak if there is a schedule."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate goes on after the warm-up: constant, or down to 0 along a cosine."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises linearly from 0."""
    weight_decay: float = 0.0
    """Decoupled decay of kernels (not of biases and normalisation scales)."""
    clip_norm: float | None = None
    """Largest norm of the gradient; longer ones are scaled down to it."""
    normalization: Literal["unit", "symmetric", "standardize"] = "unit"
    """Pixels as [0, 1], as [-1, 1], or with the training part's mean 0 and deviation 1."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), _HINTS[field.name])
        for name, (is_fine, accepted) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not is_fine(value):
                raise ValueError(f"{name} must be {accepted}, got {value!r}")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs must be smaller than epochs ({self.epochs}), "
                f"got {self.warmup_epochs!r}"
            )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Experiment":
        """The experiment that `dataclasses.asdict` made ``values`` of; unknown keys are refused."""
        accepted = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in accepted:
                raise ValueError(
                    f"the configuration has no field {name!r}. "
                    f"{shapes.did_you_mean(name, accepted)}"
                )
        return cls(**values)


_HINTS = typing.get_type_hints(Experiment)
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "validation_fraction": (lambda value: 0 <= value < 1, "in [0, 1)"),
    "epochs": (lambda value: value >= 1, ">= 1"),
    "batch_size": (lambda value: value >= 1, ">= 1"),
    "seed": (lambda value: 0 <= value < 2**32, "from 0 to 2**32 - 1"),
    "learning_rate": (lambda value: 0 < value < math.inf, "finite and > 0"),
    "warmup_epochs": (lambda value: 0 <= value < math.inf, "finite and >= 0"),
    "weight_decay": (lambda value: 0 <= value < math.inf, "finite and >= 0"),
    "clip_norm": (lambda value: 0 < value < math.inf, "finite and > 0"),
}


class Network(NamedTuple):
    """A model with what is needed to feed it and to read its answers."""

    model: Any
    optimizer: optax.GradientTransformation
    preprocess: image.Preprocess
    classes: tuple[str, ...]

    def initial_state(self, seed: int) -> train.TrainState:
        """The state at step 0."""
        size = (1, *self.preprocess.size, self.preprocess.channels)
        images = jax.ShapeDtypeStruct(size, jnp.float32)
        return train.create_state(self.model, self.optimizer, images, seed=seed)

    def metadata(self) -> dict[str, Any]:
        """What is stored beside the weights, as JSON values."""
        preprocess = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self.preprocess).items()
        }
        return {"preprocess": preprocess, "classes": list(self.classes)}


class Assembly(NamedTuple):
    """All parts of an experiment, checked against each other; nothing is compiled yet."""

    network: Network
    train: data.Batches
    validation: data.Batches | None
    train_step: Any
    eval_step: Any


def assemble(experiment: Experiment) -> Assembly:
    """Load the data, make the model, and check by their shapes that they fit together.

    Raises:
      ValueError: if they do not, or a name is unknown, or a model of the user's own fails.
    """
    source = data.load(experiment.data, split="train", data_dir=experiment.data_dir)
    training, validation = data.hold_out(source, experiment.validation_fraction)
    batches = data.batches(training, experiment.batch_size, seed=experiment.seed)
    network = make_network(
        experiment,
        make_preprocess(training, experiment.normalization),
        source.classes,
        len(batches),
    )
    model, optimizer, preprocess, _ = network
    return Assembly(
        network=network,
        train=batches,
        validation=data.batches(validation, experiment.batch_size) if len(validation) else None,
        train_step=train.make_train_step(model, optimizer, preprocess=preprocess),
        eval_step=train.make_eval_step(model, preprocess=preprocess),
    )


def make_network(
    experiment: Experiment,
    preprocess: image.Preprocess,
    classes: tuple[str, ...],
    steps_per_epoch: int,
) -> Network:
    """Make the experiment's model and optimizer, and check the model by its shapes.

    Raises:
      ValueError: if the model cannot be made, or does not turn images into logits.
    """
    optimizer = make_optimizer(experiment, steps_per_epoch)
    label = f"model {experiment.model}"
    if experiment.model_options:
        label += f" with options {dict(experiment.model_options)}"
    try:
        model = _make_model(experiment, len(classes))
        network = Network(model, optimizer, preprocess, classes)
        state = jax.eval_shape(lambda: network.initial_state(0))
        images = jax.ShapeDtypeStruct((2, *preprocess.size, preprocess.channels), jnp.float32)
        logits = jax.eval_shape(
            lambda state, images: model.apply(state.variables, images, train=False), state, images
        )
    except ValueError:
        raise
    except (Exception, SystemExit) as error:
        # Whatever a user's file does, or an option makes a layer do, is bad input here.
        raise ValueError(f"{label} raised {type(error).__name__}: {error}") from error
    if getattr(logits, "shape", None) != (2, len(classes)):
        raise ValueError(
            f"{label} must turn images {images.shape} into logits (2, {len(classes)}), "
            f"got {jax.tree.map(jnp.shape, logits)}"
        )
    return network


def make_optimizer(experiment: Experiment, steps_per_epoch: int) -> optax.GradientTransformation:
    """The optax optimizer that an experiment describes."""
    peak = experiment.learning_rate
    warmup = round(experiment.warmup_epochs * steps_per_epoch)
    rest = experiment.epochs * steps_per_epoch - warmup
    schedule: optax.Schedule = optax.constant_schedule(peak)
    if experiment.schedule == "cosine":
        schedule = optax.cosine_decay_schedule(peak, rest)
    if warmup:
        rise = optax.linear_schedule(0.0, peak, warmup)
        schedule = optax.join_schedules([rise, schedule], [warmup])
    parts = (
        [] if experiment.clip_norm is None else [optax.clip_by_global_norm(experiment.clip_norm)]
    )
    if experiment.optimizer == "adam":
        parts.append(optax.scale_by_adam(eps=1e-7))
    else:
        parts.append(optax.trace(0.9, nesterov=True))
    if experiment.weight_decay:
        parts.append(optax.add_decayed_weights(experiment.weight_decay, train.decay_mask))
    return optax.chain(*parts, optax.scale_by_learning_rate(schedule))


def make_preprocess(source: data.ArraySource, normalization: str) -> image.Preprocess:
    """What a network trained on ``source`` expects of its images."""
    *size, channels = source.images.shape[1:]
    mean, std = np.zeros(channels), np.ones(channels)
    if normalization == "symmetric":
        mean, std = mean + 0.5, std * 0.5
    elif normalization == "standardize":
        scale = 255 if source.images.dtype == np.uint8 else 1
        axes = tuple(range(source.images.ndim - 1))
        mean = source.images.mean(axes, dtype=np.float64) / scale
        std = source.images.std(axes, dtype=np.float64) / scale
    height, width = size
    return image.Preprocess(
        size=(height, width), channels=channels, mean=tuple(mean.tolist()), std=tuple(std.tolist())
    )


def _make_model(experiment: Experiment, num_classes: int) -> Any:
    path, colon, function = experiment.model.rpartition(":")
    if not colon:
        return models.create(experiment.model, num_classes, **experiment.model_options)
    file = Path(path)
    if file.suffix != ".py" or not file.is_file():
        raise ValueError(
            f"model must be a name or file.py:function, got {experiment.model!r}, "
            f"and there is no Python file {path}"
        )
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"model file {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make = getattr(module, function, None)
    if not callable(make):
        close = difflib.get_close_matches(function, vars(module), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"model file {path} has no function {function!r}{hint}")
    model = make(num_classes, **experiment.model_options)
    if not (hasattr(model, "init") and hasattr(model, "apply")):
        raise ValueError(
            f"{experiment.model} must return a Linen module or jaxcnn.train.from_functions(...), "
            f"got {type(model).__name__}"
        )
    return model


def _check_type(name: str, value: Any, hint: Any) -> None:
    choices = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        return
    if name == "model_options":
        fine = isinstance(value, Mapping) and all(
            isinstance(key, str) and isinstance(item, Option) for key, item in value.items()
        )
    else:
        kinds = choices or (hint,)
        # An integer is a fine float, but a truth value is not a number.
        fine = isinstance(value, kinds + ((int,) if float in kinds else ()))
        fine = fine and not isinstance(value, bool)
    if not fine:
        kind = getattr(hint, "__name__", None) or str(hint)
        raise ValueError(f"{name} must be {kind}, got {value!r}")
