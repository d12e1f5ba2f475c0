"""The optimizer of an experiment: its settings, optax transformations and schedules."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import chex
import jax
import optax

from jaxcnn import models, train
from jaxcnn.experiment.fields import (
    Ranges,
    Relations,
    Section,
    is_count,
    is_finite,
    is_positive,
)
from jaxcnn.parameters import map_with_name, matches_any, parameter_names, select


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Section):
    """Settings for the optimizer, its schedule, and the penalties on parameters."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam (epsilon 1e-7, as in Keras), or SGD with Nesterov momentum 0.9."""
    learning_rate: float = 1e-3
    """Learning rate; with warmup or a schedule, the peak learning rate."""
    schedule: Literal["constant", "cosine", "step", "plateau"] = "constant"
    """After warmup: constant, cosine decay to 0, or reduced at given epochs (step) or on plateaus
    (plateau)."""
    step_epochs: tuple[int, ...] = ()
    """Step schedule: epochs after which the learning rate is reduced."""
    plateau_patience: int = 3
    """Plateau schedule: epochs without improvement in validation loss before the learning rate is
    reduced."""
    schedule_factor: float = 0.1
    """Step and plateau schedules: factor by which each reduction multiplies the learning rate."""
    warmup_epochs: float = 0.0
    """Number of epochs over which the learning rate increases linearly from 0."""
    learning_rate_factors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Learning-rate multipliers for parameters whose names match a pattern, as pattern-multiplier
    pairs: "conv*" 0.1."""
    layer_decay: float = 1.0
    """Layer-wise learning-rate decay: each block's learning rate is this factor times that of the
    block after it."""
    frozen_epochs: int = 0
    """Pretrained: number of initial epochs during which only the new last layer is trained."""
    frozen: tuple[str, ...] = ()
    """Name patterns of parameters that are never trained; modules with all parameters frozen run
    in evaluation mode."""
    weight_decay: float = 0.0
    """Decoupled weight decay, applied to kernels (not to biases or normalization scales)."""
    l1: float = 0.0
    """Weight of the L1 penalty, the sum of the absolute values of the penalized parameters."""
    l2: float = 0.0
    """Weight of the L2 penalty, the sum of the squares of the penalized parameters."""
    penalized: tuple[str, ...] = ("*kernel",)
    """Name patterns of the parameters that the L1 and L2 penalties apply to."""
    clip_norm: float | None = None
    """Maximum gradient norm; gradients with a larger norm are scaled down to it."""
    ema_decay: float | None = None
    """Decay rate of an exponential moving average of parameters and statistics, which is used for
    evaluation; by default, no average is kept."""

    RANGES: ClassVar[Ranges] = {
        "learning_rate": (is_positive, "finite and > 0"),
        "step_epochs": (
            lambda value: all(a < b for a, b in zip((0, *value), value, strict=False)),
            "increasing epochs >= 1",
        ),
        "plateau_patience": (is_count, ">= 1"),
        "schedule_factor": (lambda value: 0 < value < 1, "in (0, 1)"),
        "warmup_epochs": (is_finite, "finite and >= 0"),
        "learning_rate_factors": (
            lambda value: all(map(is_finite, value.values())),
            "finite multipliers >= 0",
        ),
        "layer_decay": (lambda value: 0 < value <= 1, "in (0, 1]"),
        "frozen_epochs": (lambda value: value >= 0, ">= 0"),
        "weight_decay": (is_finite, "finite and >= 0"),
        "l1": (is_finite, "finite and >= 0"),
        "l2": (is_finite, "finite and >= 0"),
        "penalized": (lambda value: len(value) > 0, "at least one pattern"),
        "clip_norm": (is_positive, "finite and > 0"),
        "ema_decay": (lambda value: 0 < value < 1, "in (0, 1)"),
    }
    RELATIONS: ClassVar[Relations] = (
        (
            "step_epochs",
            lambda c: bool(c.step_epochs) == (c.schedule == "step"),
            "set if and only if the schedule is step",
        ),
        (
            "plateau_patience",
            lambda c: c.plateau_patience == 3 or c.schedule == "plateau",
            "omitted unless the schedule is plateau",
        ),
        (
            "schedule_factor",
            lambda c: c.schedule_factor == 0.1 or c.schedule in ("step", "plateau"),
            "omitted unless the schedule is step or plateau",
        ),
        (
            "penalized",
            lambda c: c.l1 > 0 or c.l2 > 0 or c.penalized == ("*kernel",),
            "omitted unless l1 or l2 is set",
        ),
    )


def make_optimizer(
    config: OptimizerConfig,
    *,
    epochs: int,
    steps_per_epoch: int,
    schedule: optax.Schedule | None = None,
    output_layers: Sequence[str] = (),
    rates: chex.ArrayTree | None = None,
) -> optax.GradientTransformation:
    """Make the optax optimizer.

    Args:
      config: the settings.
      epochs: number of epochs that the schedule spans.
      steps_per_epoch: number of steps per epoch.
      schedule: learning-rate schedule that replaces the configured one.
      output_layers: modules that are trained during the frozen epochs.
      rates: learning-rate multiplier for each parameter.

    Example:
      >>> optimizer = make_optimizer(OptimizerConfig("sgd"), epochs=10, steps_per_epoch=100)
      >>> updates, _ = optimizer.update({"w": 1.0}, optimizer.init({"w": 0.0}), {"w": 0.0})
      >>> round(float(updates["w"]), 6)
      -0.0019
    """
    parts = []
    if config.clip_norm is not None:
        parts.append(optax.clip_by_global_norm(config.clip_norm))
    if config.optimizer == "sgd":
        parts.append(optax.trace(0.9, nesterov=True))
    elif not config.frozen_epochs:
        parts.append(optax.scale_by_adam(eps=1e-7))
    else:
        parts.append(_late_adam(config.frozen_epochs * steps_per_epoch, output_layers))
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay, train.decay_mask))
    for pattern, factor in config.learning_rate_factors.items():
        mask = functools.partial(select, patterns=(pattern,))
        parts.append(optax.masked(optax.scale(factor), mask))
    if rates is not None:
        by_name = dict(zip(parameter_names(rates), jax.tree.leaves(rates), strict=True))
        parts.append(_scale_by_name(by_name))
    if schedule is None:
        schedule = _make_schedule(config, epochs, steps_per_epoch)
    parts.append(optax.scale_by_learning_rate(schedule))
    optimizer = optax.chain(*parts)
    if not config.frozen:
        return optimizer

    def labels(params: Any) -> Any:
        frozen = select(params, config.frozen)
        return jax.tree.map(lambda is_frozen: "frozen" if is_frozen else "trained", frozen)

    # This keeps no moments for parameters that are never updated.
    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def make_model_optimizer(
    config: OptimizerConfig,
    model: Any,
    images: Any,
    *,
    epochs: int,
    steps_per_epoch: int,
    schedule: optax.Schedule | None = None,
) -> optax.GradientTransformation:
    """Make the optimizer for a model, including its layer-wise learning rates.

    Args:
      config: the settings.
      model: a Linen module or a pair of functions.
      images: the model's input ``[B, H, W, C]``; only its shape and dtype are used.
      epochs: number of epochs that the schedule spans.
      steps_per_epoch: number of steps per epoch.
      schedule: learning-rate schedule that replaces the configured one.
    """
    rates, output_layers = None, models.output_layers(model)
    if config.layer_decay != 1:
        rates = train.layer_rates(model, images, config.layer_decay, output_layers=output_layers)
    return make_optimizer(
        config,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        schedule=schedule,
        output_layers=output_layers,
        rates=rates,
    )


def make_plateau(config: OptimizerConfig) -> train.ReduceOnPlateau | None:
    """Make the rule that reduces the learning rate on plateaus, or return None.

    Example:
      >>> make_plateau(OptimizerConfig(schedule="plateau", plateau_patience=2)).patience
      2
    """
    if config.schedule != "plateau":
        return None
    return train.ReduceOnPlateau(config.plateau_patience, factor=config.schedule_factor)


def _late_adam(first_step: int, output_layers: Sequence[str]) -> optax.GradientTransformation:
    """Make an Adam that starts updating the network's body at ``first_step``.

    If its bias correction started at step 0, the first updates of the body would be about three
    times too large.
    """
    adam = optax.scale_by_adam(eps=1e-7)
    late = optax.conditionally_mask(adam, lambda step: step >= first_step)

    def labels(params: Any) -> Any:
        return map_with_name(
            lambda name, _: "head" if matches_any(name, output_layers) else "body", params
        )

    return optax.partition({"head": adam, "body": late}, labels)


def _scale_by_name(factors: Mapping[str, float]) -> optax.GradientTransformation:
    return optax.stateless(
        lambda updates, _: map_with_name(lambda name, update: factors[name] * update, updates)
    )


def _make_schedule(config: OptimizerConfig, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    peak = config.learning_rate
    warmup = round(config.warmup_epochs * steps_per_epoch)
    schedule: optax.Schedule = optax.constant_schedule(peak)
    if config.schedule == "cosine":
        schedule = optax.cosine_decay_schedule(peak, epochs * steps_per_epoch - warmup)
    elif config.schedule == "step":
        boundaries = [epoch * steps_per_epoch - warmup for epoch in config.step_epochs]
        schedule = optax.piecewise_constant_schedule(
            peak, dict.fromkeys(boundaries, config.schedule_factor)
        )
    if not warmup:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), schedule], [warmup])
