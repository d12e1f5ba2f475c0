"""From an experiment to its parts: data, model, task, optimizer, steps, checked together.

This is the only caller of the registries of models and data sets.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcnn import data, image, models, regularizers, train
from jaxcnn.experiment.augment import make_augment, make_views
from jaxcnn.experiment.config import Experiment
from jaxcnn.experiment.finetune import kept_variables
from jaxcnn.experiment.optimizer import make_optimizer
from jaxcnn.experiment.splits import Splits, check_readable, load_splits, make_preprocess
from jaxcnn.experiment.user_model import model_from_file
from jaxcnn.parameters import other_modules, select


class Network(NamedTuple):
    """A model with what is needed to train it, to feed it and to read its answers.

    Attributes:
      model: a Linen module or a pair of functions.
      optimizer: the optax transformation.
      preprocess: from pixels to the model's input.
      task: what the outputs mean.
      classes: names of the classes, labels or targets.
      settings: the data's part in the task (class weights, targets' mean and deviation), as JSON
        values.
      ema: whether an exponential moving average of the variables is kept.
      pretrained: variables to begin with, if not all are drawn.
    """

    model: Any
    optimizer: optax.GradientTransformation
    preprocess: image.Preprocess
    task: train.Task
    classes: tuple[str, ...]
    settings: dict[str, Any]
    ema: bool
    pretrained: dict[str, Any] | None = None

    def initial_state(self, seed: int) -> train.TrainState:
        """The state at step 0."""
        size = (1, *self.preprocess.size, self.preprocess.channels)
        images = jax.ShapeDtypeStruct(size, jnp.float32)
        return train.create_state(
            jax.random.key(seed),
            self.model,
            self.optimizer,
            images,
            ema=self.ema,
            pretrained=self.pretrained,
        )

    def metadata(self) -> dict[str, Any]:
        """What is stored beside the weights, as JSON values; see `from_metadata`."""
        preprocess = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self.preprocess).items()
        }
        return {
            "preprocess": preprocess,
            "classes": list(self.classes),
            "task": {"name": self.task.name, **self.settings},
        }


class Assembly(NamedTuple):
    """All parts of an experiment, checked against each other; nothing is compiled yet.

    Attributes:
      network: what is trained.
      splits: the examples.
      train: batches of the training split.
      validation: batches of the validation split, if there is one.
      train_step: trains all that is not frozen for good.
      head_step: trains the last layer alone, for the frozen epochs; None without any.
      eval_step: evaluates.
    """

    network: Network
    splits: Splits
    train: data.Batches
    validation: data.Batches | None
    train_step: Any
    head_step: Any
    eval_step: Any


def assemble(experiment: Experiment, weights: models.Pretrained | None) -> Assembly:
    """Load the data, make the model, and check by their shapes that they fit together.

    Args:
      experiment: as `jaxcnn.experiment.finetune.resolve` gives it.
      weights: what it begins with; None to draw all, or for a run that has begun.

    Raises:
      ValueError: if they do not, or a name is unknown, or a model of the user's own fails.
    """
    splits = load_splits(experiment)
    check_readable(experiment, splits)
    training, validation, test = splits
    make_task(experiment, {}).check(training.labels, training.classes)
    _check_split(experiment, "test", training, test)
    if len(validation):
        _check_split(experiment, "validation", training, validation)
    if experiment.steps_per_call > 1 and not isinstance(training.images, np.ndarray):
        raise ValueError(
            "steps_per_call must be 1 for images that are decoded when they are needed, "
            f"got {experiment.steps_per_call}"
        )
    batches = data.batches(
        training, experiment.batch_size, seed=experiment.seed, balanced=experiment.balanced
    )
    settings = _task_settings(experiment, training)
    network, state = make_network(
        experiment,
        make_preprocess(training, experiment.normalization),
        make_task(experiment, settings),
        training.classes,
        len(batches),
        settings=settings,
    )
    if weights is not None:
        kept = kept_variables(weights, experiment, training.classes)
        network = network._replace(pretrained=kept)
    train_step = make_train_step(experiment, network)
    head_step = None
    if experiment.frozen_epochs:
        body = other_modules(state.params, network.model.output_layers)
        head_step = make_train_step(experiment, network, frozen=body)
    with _model_errors(experiment):
        # A network may fail in training mode alone.
        jax.eval_shape(train_step, state, batches.shapes())
    return Assembly(
        network=network,
        splits=splits,
        train=batches,
        validation=data.batches(validation, experiment.batch_size) if len(validation) else None,
        train_step=train_step,
        head_step=head_step,
        eval_step=make_eval_step(experiment, network),
    )


def make_network(
    experiment: Experiment,
    preprocess: image.Preprocess,
    task: train.Task,
    classes: tuple[str, ...],
    steps_per_epoch: int,
    *,
    settings: dict[str, Any],
    schedule: optax.Schedule | None = None,
) -> tuple[Network, train.TrainState]:
    """Make the experiment's model, and check it by its shapes: those of its state come with it.

    Raises:
      ValueError: if the model cannot be made, or does not turn images into outputs.
    """
    outputs = 1 if task.name == "binary" else len(classes)
    with _model_errors(experiment):
        model = _make_model(experiment, outputs)
        optimizer = optimizer_of(experiment, model, preprocess, steps_per_epoch, schedule=schedule)
        ema = experiment.ema_decay is not None
        network = Network(model, optimizer, preprocess, task, classes, settings, ema)
        state = jax.eval_shape(lambda: network.initial_state(0))
        images = jax.ShapeDtypeStruct((2, *preprocess.size, preprocess.channels), jnp.float32)
        logits = jax.eval_shape(
            lambda state, images: model.apply(state.variables, images, train=False), state, images
        )
    if getattr(logits, "shape", None) != (2, outputs):
        raise ValueError(
            f"{_label(experiment)} must turn images {images.shape} into outputs (2, {outputs}), "
            f"got {jax.tree.map(jnp.shape, logits)}"
        )
    if experiment.l1 or experiment.l2:
        select(state.params, experiment.penalized)
    if all(jax.tree.leaves(select(state.params, experiment.frozen))):
        raise ValueError(
            f"frozen must leave a parameter to train, got {' '.join(experiment.frozen)}"
        )
    return network, state


def from_metadata(experiment: Experiment, metadata: dict[str, Any]) -> Network:
    """The network that `Network.metadata` describes."""
    settings = dict(metadata["task"])
    settings.pop("name")
    network, _ = make_network(
        experiment,
        image.Preprocess(**metadata["preprocess"]),
        make_task(experiment, settings),
        tuple(metadata["classes"]),
        1,
        settings=settings,
        # Shapes the state as every schedule does.
        schedule=optax.constant_schedule(0.0),
    )
    return network


def optimizer_of(
    experiment: Experiment,
    model: Any,
    preprocess: image.Preprocess,
    steps_per_epoch: int,
    *,
    schedule: optax.Schedule | None = None,
) -> optax.GradientTransformation:
    """The optimizer for a model, with its layer-wise rates; see `make_optimizer`."""
    rates, output_layers = None, getattr(model, "output_layers", ())
    if experiment.layer_decay != 1:
        size = (1, *preprocess.size, preprocess.channels)
        images = jax.ShapeDtypeStruct(size, jnp.float32)
        rates = train.layer_rates(
            model, images, experiment.layer_decay, output_layers=output_layers
        )
    return make_optimizer(
        experiment, steps_per_epoch, schedule=schedule, output_layers=output_layers, rates=rates
    )


def make_task(experiment: Experiment, settings: dict[str, Any]) -> train.Task:
    """The experiment's task, with the data's part in it."""
    if experiment.task == "regression":
        return train.regression(huber_delta=experiment.huber_delta, **settings)
    make = getattr(train, experiment.task)
    return make(
        label_smoothing=experiment.label_smoothing, focal_gamma=experiment.focal_gamma, **settings
    )


def make_train_step(
    experiment: Experiment, network: Network, *, frozen: Sequence[str] = ()
) -> train.TrainStep:
    """The experiment's training step, with more ``frozen`` than it says itself."""
    penalty = functools.partial(
        regularizers.penalty, l1=experiment.l1, l2=experiment.l2, patterns=experiment.penalized
    )
    return train.make_train_step(
        network.model,
        network.optimizer,
        task=network.task,
        preprocess=network.preprocess,
        augment=make_augment(experiment, len(network.classes)),
        penalty=penalty if experiment.l1 or experiment.l2 else None,
        aux_weight=experiment.aux_weight,
        accumulate=experiment.accumulate,
        ema_decay=experiment.ema_decay,
        frozen=(*experiment.frozen, *frozen),
    )


def make_eval_step(experiment: Experiment, network: Network) -> train.EvalStep:
    """The experiment's evaluation step, test-time augmentation included."""
    return train.make_eval_step(
        network.model,
        task=network.task,
        preprocess=network.preprocess,
        views=make_views(experiment),
    )


def make_predict_step(
    experiment: Experiment, network: Network
) -> Callable[[train.TrainState, Any], jax.Array]:
    """The experiment's prediction step, test-time augmentation included."""
    return train.make_predict_step(
        network.model, preprocess=network.preprocess, views=make_views(experiment)
    )


def _check_split(
    experiment: Experiment, split: str, training: data.ArraySource, source: data.ArraySource
) -> None:
    """What could not be measured in the end is refused at the start."""
    make_task(experiment, {}).check(source.labels, source.classes)
    for name, given, expected in (
        ("classes", source.classes, training.classes),
        ("images of shape", source.images.shape[1:], training.images.shape[1:]),
        ("labels of shape", source.labels.shape[1:], training.labels.shape[1:]),
    ):
        if given != expected:
            raise ValueError(
                f"the {split} split of {experiment.data} must have {name} {expected}, as the "
                f"training split, got {given}"
            )


def _task_settings(experiment: Experiment, training: data.ArraySource) -> dict[str, Any]:
    labels = training.labels
    if experiment.task == "regression":
        # A target that never changes is learned by its bias alone.
        std = labels.std(0, dtype=np.float64)
        return {
            "mean": labels.mean(0, dtype=np.float64).reshape(-1).tolist(),
            "std": np.where(std > 0, std, 1.0).reshape(-1).tolist(),
        }
    if experiment.class_weights == "none":
        return {}
    count = 2 if experiment.task == "binary" else len(training.classes)
    if isinstance(experiment.class_weights, tuple):
        given = np.array(experiment.class_weights)
        if len(given) != count:
            raise ValueError(f"class_weights must be {count} numbers, got {given.tolist()}")
        weights = given[:, None] if experiment.task == "binary" else given
    else:
        if experiment.task == "binary":
            labels = labels.reshape(len(labels), -1)
        weights = train.balanced_weights(labels, len(training.classes))
    return {"class_weights": weights.tolist()}


def _make_model(experiment: Experiment, outputs: int) -> Any:
    options = dict(experiment.model_options)
    if experiment.precision != "float32":
        options["dtype"] = experiment.precision
    if ":" in experiment.model:
        return model_from_file(experiment.model, outputs, **options)
    return models.create(experiment.model, outputs, **options)


@contextlib.contextmanager
def _model_errors(experiment: Experiment) -> Iterator[None]:
    """Whatever a user's file does, or an option makes a layer do, is bad input."""
    try:
        yield
    except ValueError:
        raise
    except (Exception, SystemExit) as error:
        label = _label(experiment)
        raise ValueError(f"{label} raised {type(error).__name__}: {error}") from error


def _label(experiment: Experiment) -> str:
    options = f" with options {dict(experiment.model_options)}" if experiment.model_options else ""
    return f"model {experiment.model}{options}"
