"""The optax optimizer and schedule that an experiment describes."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import chex
import jax
import optax

from jaxcnn import train
from jaxcnn.experiment.config import Experiment
from jaxcnn.parameters import map_with_name, matches_any, parameter_names, select


def make_optimizer(
    experiment: Experiment,
    steps_per_epoch: int,
    *,
    schedule: optax.Schedule | None = None,
    output_layers: Sequence[str] = (),
    rates: chex.ArrayTree | None = None,
) -> optax.GradientTransformation:
    """The optax optimizer that an experiment describes.

    Args:
      experiment: the configuration.
      steps_per_epoch: how long an epoch of its schedule is.
      schedule: a learning rate by step, in place of the experiment's own.
      output_layers: the modules that are trained in the frozen epochs already.
      rates: factors on the learning rate, one for each parameter.
    """
    parts = []
    if experiment.clip_norm is not None:
        parts.append(optax.clip_by_global_norm(experiment.clip_norm))
    if experiment.optimizer == "sgd":
        parts.append(optax.trace(0.9, nesterov=True))
    elif not experiment.frozen_epochs:
        parts.append(optax.scale_by_adam(eps=1e-7))
    else:
        parts.append(_late_adam(experiment.frozen_epochs * steps_per_epoch, output_layers))
    if experiment.weight_decay:
        parts.append(optax.add_decayed_weights(experiment.weight_decay, train.decay_mask))
    for pattern, factor in experiment.learning_rate_factors.items():
        mask = functools.partial(select, patterns=(pattern,))
        parts.append(optax.masked(optax.scale(factor), mask))
    if rates is not None:
        by_name = dict(zip(parameter_names(rates), jax.tree.leaves(rates), strict=True))
        parts.append(_scale_by_name(by_name))
    parts.append(
        optax.scale_by_learning_rate(schedule or _make_schedule(experiment, steps_per_epoch))
    )
    optimizer = optax.chain(*parts)
    if not experiment.frozen:
        return optimizer

    def labels(params: Any) -> Any:
        frozen = select(params, experiment.frozen)
        return jax.tree.map(lambda is_frozen: "frozen" if is_frozen else "trained", frozen)

    # Keeps no moments for what never moves.
    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def _late_adam(first_step: int, output_layers: Sequence[str]) -> optax.GradientTransformation:
    """Adam that begins with the body at ``first_step``.

    Were its moments counted from step 0, when there were no gradients yet, they would not be
    corrected for their start at 0, and the body's first steps would be three times too long.
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


def _make_schedule(experiment: Experiment, steps_per_epoch: int) -> optax.Schedule:
    peak = experiment.learning_rate
    warmup = round(experiment.warmup_epochs * steps_per_epoch)
    schedule: optax.Schedule = optax.constant_schedule(peak)
    if experiment.schedule == "cosine":
        rest = experiment.epochs * steps_per_epoch - warmup
        schedule = optax.cosine_decay_schedule(peak, rest)
    elif experiment.schedule == "step":
        boundaries = [epoch * steps_per_epoch - warmup for epoch in experiment.step_epochs]
        schedule = optax.piecewise_constant_schedule(
            peak, dict.fromkeys(boundaries, experiment.schedule_factor)
        )
    if not warmup:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), schedule], [warmup])
