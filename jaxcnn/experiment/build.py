"""Assembly of an experiment's parts: data, network and steps, checked against each other."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcnn import data, image, models, regularizers, train
from jaxcnn.experiment.augment import make_augment, make_views
from jaxcnn.experiment.config import Experiment
from jaxcnn.experiment.finetune import kept_variables
from jaxcnn.experiment.network import Network, make_model, model_errors
from jaxcnn.experiment.optimizer import OptimizerConfig, make_model_optimizer
from jaxcnn.experiment.splits import Splits, check_readable, load_splits, make_preprocess
from jaxcnn.experiment.task import check_labels, make_task, task_settings
from jaxcnn.parameters import other_modules, select

# Batches are padded, so a batch size far beyond the number of examples only wastes memory.
_LARGEST_PADDED_BATCH = 1024


class Assembly(NamedTuple):
    """All parts of an experiment, checked against each other; nothing is compiled yet.

    Attributes:
      network: the network to train.
      splits: the examples of each split.
      train: batches of the training split.
      validation: batches of the validation split; None if there is no such split.
      train_step: the training step for all parameters that are not frozen.
      head_step: the training step for the last layer alone, used during the frozen epochs; None if
        there are no frozen epochs.
      eval_step: the evaluation step.
    """

    network: Network
    splits: Splits
    train: data.Batches
    validation: data.Batches | None
    train_step: train.TrainStep
    head_step: train.TrainStep | None
    eval_step: train.EvalStep


def assemble(experiment: Experiment, weights: models.Pretrained | None) -> Assembly:
    """Load the data, make the network, and check from their shapes that they are compatible.

    Args:
      experiment: the configuration, as returned by `jaxcnn.experiment.finetune.resolve`.
      weights: pretrained network to start from; None to initialize all variables, or when a run
        is resumed.

    Raises:
      ValueError: if the data and the network are incompatible, a name is unknown, or a custom
        model raises an error.

    Example:
      >>> parts = assemble(Experiment(model="lenet5", batch_size=100), None)
      >>> len(parts.train), parts.network.input_shape
      (90, (28, 28, 1))
    """
    splits = load_splits(experiment, experiment.task)
    check_readable(experiment, splits)
    _check_splits(experiment, splits)
    if experiment.steps_per_call > 1 and not isinstance(splits.train.images, np.ndarray):
        raise ValueError(
            "steps_per_call must be 1 for images that are decoded on demand, "
            f"got {experiment.steps_per_call}"
        )
    largest = max(len(splits.train), _LARGEST_PADDED_BATCH)
    if experiment.batch_size > largest:
        raise ValueError(
            f"batch_size must be at most {largest} for {len(splits.train)} training examples, got "
            f"{experiment.batch_size}"
        )
    batches = data.batches(
        splits.train, experiment.batch_size, seed=experiment.seed, balanced=experiment.balanced
    )
    network, state = make_network(
        experiment,
        make_preprocess(splits.train, experiment.normalization),
        splits.train.classes,
        settings=task_settings(experiment, splits.train),
        steps_per_epoch=len(batches),
    )
    if weights is not None:
        kept = kept_variables(weights, experiment, splits.train.classes)
        network = network._replace(pretrained=kept)
    train_step, head_step = network.train_step(), None
    if experiment.frozen_epochs:
        body = other_modules(state.params, models.output_layers(network.model))
        head_step = network.train_step(frozen=body)
    with model_errors(experiment):
        # Some models fail only in training mode.
        jax.eval_shape(train_step, state, batches.shapes())
    validation = splits.validation
    return Assembly(
        network=network,
        splits=splits,
        train=batches,
        validation=data.batches(validation, experiment.batch_size) if len(validation) else None,
        train_step=train_step,
        head_step=head_step,
        eval_step=network.eval_step(),
    )


def make_network(
    experiment: Experiment,
    preprocess: image.Preprocess,
    classes: tuple[str, ...],
    *,
    settings: Mapping[str, Any],
    steps_per_epoch: int,
    schedule: optax.Schedule | None = None,
) -> tuple[Network, train.TrainState]:
    """Make the network and check the shape of its outputs.

    Args:
      experiment: the configuration.
      preprocess: preprocessing for the images.
      classes: names of the classes, labels or targets.
      settings: result of `jaxcnn.experiment.task.task_settings`.
      steps_per_epoch: number of steps per epoch.
      schedule: learning-rate schedule that replaces the configured one.

    Returns:
      The network, and the shapes of its initial state.

    Raises:
      ValueError: if the model cannot be made, or its outputs have the wrong shape.
    """
    task = make_task(experiment, settings)
    outputs = 1 if task.name == "binary" else len(classes)
    size = (*preprocess.size, preprocess.channels)
    penalty = functools.partial(
        regularizers.penalty, l1=experiment.l1, l2=experiment.l2, patterns=experiment.penalized
    )
    with model_errors(experiment):
        model = make_model(experiment, outputs)
        optimizer = make_model_optimizer(
            experiment,
            model,
            jax.ShapeDtypeStruct((1, *size), jnp.float32),
            epochs=experiment.epochs,
            steps_per_epoch=steps_per_epoch,
            schedule=schedule,
        )
        network = Network(
            model,
            optimizer,
            preprocess,
            task,
            classes,
            dict(settings),
            augment=make_augment(experiment, len(classes)),
            views=make_views(experiment),
            penalty=penalty if experiment.l1 or experiment.l2 else None,
            accumulate=experiment.accumulate,
            on_nonfinite=experiment.on_nonfinite,
            ema_decay=experiment.ema_decay,
            frozen=experiment.frozen,
        )
        state = jax.eval_shape(lambda: network.initial_state(0))
        logits = jax.eval_shape(
            lambda state, images: model.apply(state.variables, images, train=False),
            state,
            jax.ShapeDtypeStruct((2, *size), jnp.float32),
        )
    if getattr(logits, "shape", None) != (2, outputs):
        raise ValueError(
            f"{experiment.label} must map images of shape {(2, *size)} to outputs of shape "
            f"(2, {outputs}), got {jax.tree.map(jnp.shape, logits)}"
        )
    _check_patterns(experiment, state.params)
    return network, state


def from_metadata(experiment: Experiment, metadata: Mapping[str, Any]) -> Network:
    """Make the network described by the result of `Network.metadata`."""
    settings = {name: value for name, value in metadata["task"].items() if name != "name"}
    network, _ = make_network(
        experiment,
        image.Preprocess(**metadata["preprocess"]),
        tuple(metadata["classes"]),
        settings=settings,
        steps_per_epoch=1,
        # The shapes of the state do not depend on the schedule.
        schedule=optax.constant_schedule(0.0),
    )
    return network


def _check_patterns(config: OptimizerConfig, params: chex.ArrayTree) -> None:
    """Check that name patterns match parameters, and that some parameters are left to train."""
    if config.l1 or config.l2:
        select(params, config.penalized)
    if all(jax.tree.leaves(select(params, config.frozen))):
        raise ValueError(
            f"frozen must leave at least one parameter to train, got {' '.join(config.frozen)}"
        )


def _check_splits(experiment: Experiment, splits: Splits) -> None:
    """Check the labels and shapes of every split now, rather than after hours of training."""
    training = splits.train
    check_labels(experiment, training.labels, training.classes)
    for split in ("test", "validation"):
        source = getattr(splits, split)
        if split == "validation" and not len(source):
            continue
        check_labels(experiment, source.labels, source.classes)
        for name, given, expected in (
            ("classes", source.classes, training.classes),
            ("images of shape", source.images.shape[1:], training.images.shape[1:]),
            ("labels of shape", source.labels.shape[1:], training.labels.shape[1:]),
        ):
            if given != expected:
                raise ValueError(
                    f"the {split} split of {experiment.data} must have {name} {expected}, as in "
                    f"the training split, got {given}"
                )
