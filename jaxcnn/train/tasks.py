"""Tasks: the meaning of a network's outputs, with a loss and metrics.

Four tasks are built in; `task` makes any other task from functions.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import losses, metrics
from jaxcnn.metrics import Counts, as_sums

Loss = Callable[..., jax.Array]
Metric = Callable[[Any, Any, Any], Any]
Overall = Callable[[Any, Any], dict[str, float]]


class Task(NamedTuple):
    """Everything that training, evaluation and prediction know about the outputs' meaning.

    ``outputs`` is the network's output, an array or a pytree, in float32; ``label`` is the batch's
    label; ``mask`` ``[B]`` is True for the rows that count.

    Attributes:
      name: ``"multi_class"``, ``"binary"``, ``"multi_label"``, ``"regression"``, or a custom name.
      objective: ``objective(outputs, label, mask) -> [B]``, minimized by training.
      loss: ``loss(outputs, label, mask) -> [B]``, used for reporting: without label smoothing,
        class weights or focal weighting, so that runs with and without them are comparable.
      decode: ``decode(outputs) -> predictions``, run on the device with fixed shapes; metrics and
        `jaxcnn.train.predict` use its result.
      activate: ``activate(predictions) -> [B, K]``, probabilities or values in the targets' units.
      metrics: functions by name: ``metric(predictions, label, mask) -> (numerator, denominator)``,
        arrays that are summed over batches and divided once. A metric may also return other sums
        from `jaxcnn.metrics`, or None to be omitted.
      train_metrics: names of the metrics that are also computed during training.
      overall: ``overall(predictions, label) -> metrics`` for a whole split in NumPy, for metrics
        that are not sums over batches; None if there are none.
      score: name of the metric for comparing runs; higher is better.
      aux_weight: weight of the auxiliary heads' objective.
    """

    name: str
    objective: Loss
    loss: Loss
    decode: Callable[[Any], Any]
    activate: Callable[[Any], Any]
    metrics: Mapping[str, Metric]
    train_metrics: tuple[str, ...]
    overall: Overall | None
    score: str
    aux_weight: float = 0.3

    def counts(
        self, predictions: Any, label: Any, losses: jax.Array, mask: jax.Array, *, train: bool
    ) -> Counts:
        """Return a batch's sums for the loss and metrics.

        Args:
          predictions: decoded outputs.
          label: labels of the batch.
          losses: ``[B]``, the loss of each example.
          mask: ``[B]`` bool, the rows that count.
          train: compute only ``train_metrics``.
        """
        examples = jnp.sum(mask, dtype=jnp.int32)
        total = jnp.sum(jnp.where(mask, losses, 0), dtype=jnp.float32)
        counts: Counts = {"loss": metrics.Ratio(total, examples), "examples": examples}
        for name in self.train_metrics if train else self.metrics:
            sums = self.metrics[name](predictions, label, mask)
            if sums is not None:
                counts[name] = as_sums(sums, name)
        return counts


def task(
    *,
    objective: Loss,
    loss: Loss | None = None,
    decode: Callable[[Any], Any] | None = None,
    activate: Callable[[Any], Any] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    overall: Overall | None = None,
    score: str | None = None,
    aux_weight: float = 0.3,
    name: str = "custom",
) -> Task:
    """Make a task from functions; see `Task` for their signatures.

    Args:
      objective: per-example loss to minimize.
      loss: per-example loss to report; None means the objective.
      decode: converts outputs to predictions; None means the outputs themselves.
      activate: converts predictions to readable values; None means the predictions themselves.
      metrics: functions by name, computed during both training and evaluation.
      overall: computes metrics that are not sums over batches, from a whole split.
      score: name of the metric for comparing runs; None means the first metric, or ``"loss"`` if
        there are none.
      aux_weight: weight of the auxiliary heads' objective.
      name: name of the task.

    Example:
      >>> def within_one(predictions, label, mask):
      ...     close = jnp.abs(predictions[:, 0] - label) <= 1
      ...     return jnp.sum(close & mask), jnp.sum(mask)
      >>> counting = task(
      ...     objective=lambda outputs, label, mask: jnp.abs(outputs[:, 0] - label),
      ...     metrics={"within_one": within_one},
      ... )
      >>> counting.score
      'within_one'
    """
    metrics = dict(metrics or {})
    return Task(
        name=name,
        objective=objective,
        loss=loss or objective,
        decode=decode or _identity,
        activate=activate or _identity,
        metrics=metrics,
        train_metrics=tuple(metrics),
        overall=overall,
        score=score or next(iter(metrics), "loss"),
        aux_weight=aux_weight,
    )


def multi_class(
    *,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    class_weights: Sequence[float] | np.ndarray | None = None,
    aux_weight: float = 0.3,
) -> Task:
    """One class out of K, with a softmax: logits ``[B, K]``, labels ``[B]`` class indices.

    The options are the same as for `jaxcnn.losses.cross_entropy`, plus the weight of auxiliary
    heads.

    Example:
      >>> smooth = multi_class(label_smoothing=0.1)
      >>> logits, labels, mask = jnp.array([[9.0, 0.0]]), jnp.array([0]), jnp.array([True])
      >>> bool(smooth.objective(logits, labels, mask)[0] > smooth.loss(logits, labels, mask)[0])
      True
    """
    objective = functools.partial(
        losses.cross_entropy,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
        class_weights=_weights(class_weights),
    )
    return Task(
        name="multi_class",
        objective=_without_mask(objective),
        loss=_without_mask(losses.cross_entropy),
        decode=_identity,
        activate=jax.nn.softmax,
        metrics={
            "accuracy": metrics.accuracy,
            "top_5_accuracy": metrics.top_k_accuracy,
            "precision_macro": metrics.class_precision,
            "recall_macro": metrics.class_recall,
            "f1_macro": metrics.class_f1,
            "calibration_error": metrics.class_calibration,
        },
        train_metrics=("accuracy",),
        overall=None,
        score="accuracy",
        aux_weight=aux_weight,
    )


def binary(
    *,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    class_weights: Sequence[Sequence[float]] | np.ndarray | None = None,
    aux_weight: float = 0.3,
) -> Task:
    """Yes or no, with one sigmoid: logits ``[B, 1]``, labels ``[B]``, 1 for the second class.

    The options are the same as for `jaxcnn.losses.binary_cross_entropy`, plus the weight of
    auxiliary heads.

    Example:
      >>> logits, labels, mask = jnp.array([[2.0]]), jnp.array([1]), jnp.array([True])
      >>> binary().metrics["recall"](logits, labels, mask).value()
      1.0
    """
    task = multi_label(
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
        class_weights=class_weights,
        aux_weight=aux_weight,
    )
    one_label = {
        "accuracy": metrics.label_accuracy,
        "precision": metrics.label_precision,
        "recall": metrics.label_recall,
        "f1": metrics.label_f1,
        "calibration_error": metrics.label_calibration,
    }
    return task._replace(
        name="binary",
        objective=_with_column(task.objective),
        loss=_with_column(task.loss),
        metrics={name: _with_column(metric) for name, metric in one_label.items()},
        train_metrics=tuple(one_label),
        overall=_with_column(_areas),
        score="accuracy",
    )


def multi_label(
    *,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    class_weights: Sequence[Sequence[float]] | np.ndarray | None = None,
    aux_weight: float = 0.3,
) -> Task:
    """Any of L labels, with a sigmoid for each: logits ``[B, L]``, labels ``[B, L]``, 0 or 1.

    The options are the same as for `jaxcnn.losses.binary_cross_entropy`, plus the weight of
    auxiliary heads.

    Example:
      >>> multi_label().activate(jnp.zeros((1, 3))).tolist()
      [[0.5, 0.5, 0.5]]
    """
    objective = functools.partial(
        losses.binary_cross_entropy,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
        class_weights=_weights(class_weights),
    )
    scores = {
        "precision": metrics.label_precision,
        "recall": metrics.label_recall,
        "f1": metrics.label_f1,
    }
    measured: dict[str, Metric] = {"accuracy": metrics.label_accuracy}
    measured |= {f"{name}_macro": score for name, score in scores.items()}
    measured |= {
        f"{name}_micro": functools.partial(score, micro=True) for name, score in scores.items()
    }
    measured["calibration_error"] = metrics.label_calibration
    return Task(
        name="multi_label",
        objective=_without_mask(objective),
        loss=_without_mask(losses.binary_cross_entropy),
        decode=_identity,
        activate=jax.nn.sigmoid,
        metrics=measured,
        train_metrics=tuple(measured),
        overall=_areas,
        score="f1_macro",
        aux_weight=aux_weight,
    )


def regression(
    *,
    mean: Sequence[float] | np.ndarray = (0.0,),
    std: Sequence[float] | np.ndarray = (1.0,),
    huber_delta: float | None = None,
    aux_weight: float = 0.3,
) -> Task:
    """Numeric targets, with D linear outputs. The network predicts ``(targets - mean) / std``.

    Args:
      mean: mean of the training targets, ``[D]`` or one value for all.
      std: standard deviation of the training targets, ``[D]`` or one value for all, > 0.
      huber_delta: use the Huber loss, linear beyond this many standard deviations; None means the
        squared error.
      aux_weight: weight of the auxiliary heads' objective.

    Returns:
      A task whose labels ``[B, D]`` and metrics are in the targets' original units. Its losses are
      computed from errors in units of ``std``.

    Raises:
      ValueError: if ``mean`` or ``std`` is not finite, or ``std`` is not positive.

    Example:
      >>> task = regression(mean=[20.0], std=[10.0])
      >>> task.activate(jnp.array([[0.5]])).item()
      25.0
    """
    center, scale = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    if not (np.isfinite(center).all() and np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError(f"mean and std must be finite and std > 0, got {mean!r} and {std!r}")
    # JAX's strict rank promotion requires [1, D] to combine with [B, D].
    center, scale = center.reshape(1, -1), scale.reshape(1, -1)

    def loss(outputs: jax.Array, labels: jax.Array) -> jax.Array:
        return losses.squared_error(outputs, (labels - center) / scale)

    def huber(outputs: jax.Array, labels: jax.Array) -> jax.Array:
        return losses.huber(outputs, (labels - center) / scale, delta=huber_delta or 1.0)

    def in_unit(metric: Metric) -> Metric:
        # Omit the mean from both: differences do not change, and are more precise.
        return lambda outputs, labels, mask: metric(outputs * scale, labels - center, mask)

    measured = {
        "mae": in_unit(metrics.mean_absolute_error),
        "rmse": in_unit(metrics.root_mean_squared_error),
        "r2": in_unit(metrics.r2_score),
    }
    return Task(
        name="regression",
        objective=_without_mask(loss if huber_delta is None else huber),
        loss=_without_mask(loss),
        decode=_identity,
        activate=lambda outputs: outputs * scale + center,
        metrics=measured,
        train_metrics=tuple(measured),
        overall=functools.partial(_errors, center=center, scale=scale),
        score="r2",
        aux_weight=aux_weight,
    )


def balanced_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return weights that give all classes equal totals: ``N / (K * examples of the class)``.

    Args:
      labels: ``[N]`` class indices, or ``[N, L]``, each 0 or 1.
      num_classes: ``K``, ignored for ``[N, L]``.

    Returns:
      The weights: ``[K]`` for `multi_class`, ``[2, L]`` for `multi_label` (and for `binary`, given
      ``[N, 1]``). A class without examples has weight 0.

    Example:
      >>> balanced_weights(np.array([0, 0, 0, 1]), 2).tolist()
      [0.6666666865348816, 2.0]
    """
    labels = np.asarray(labels)
    if labels.ndim == 1:
        examples = np.bincount(labels, minlength=num_classes)
    else:
        yes = labels.astype(np.int64).sum(0)
        examples = np.stack([len(labels) - yes, yes])
    weights = len(labels) / (len(examples) * np.maximum(examples, 1))
    return np.where(examples > 0, weights, 0).astype(np.float32)


def _identity(outputs: Any) -> Any:
    return outputs


def _areas(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return areas under the curves, averaged over the labels for which they are defined."""
    columns = list(zip(outputs.T, labels.T, strict=True))
    if np.isnan(outputs).any():  # the loss is NaN too, which is reported
        return {}
    areas = {
        "roc_auc": [metrics.roc_auc(scores, column) for scores, column in columns],
        "average_precision": [metrics.average_precision(s, column) for s, column in columns],
    }
    return {
        name: float(np.nanmean(values))
        for name, values in areas.items()
        if np.isfinite(values).any()
    }


def _errors(
    outputs: np.ndarray, labels: np.ndarray, *, center: np.ndarray, scale: np.ndarray
) -> dict[str, float]:
    """Compute metrics in double precision."""
    errors = outputs.astype(np.float64) * scale + center - labels
    mean = labels.mean(0, dtype=np.float64)
    squared, spread, examples = (errors**2).sum(0), ((labels - mean) ** 2).sum(0), len(labels)
    return {
        "mae": metrics.Ratio(np.abs(errors).sum(0), examples).value(),
        "rmse": metrics.RootMeanSquare(squared, examples).value(),
        "r2": metrics.RSquared(squared, mean, spread, examples).value(),
    }


def _without_mask(loss: Callable[[Any, Any], jax.Array]) -> Loss:
    """Wrap a loss of outputs and labels so that it also accepts the mask."""
    return lambda outputs, label, mask=None: loss(outputs, label)


def _with_column(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function of ``[B, 1]`` labels so that it accepts ``[B]`` labels."""
    return lambda outputs, labels, *more: function(outputs, labels[:, None], *more)


def _weights(weights: object) -> jax.Array | None:
    return None if weights is None else jnp.asarray(weights, jnp.float32)
