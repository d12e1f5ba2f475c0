"""Tasks: the meaning of a network's outputs, with loss and metrics.

Four tasks are built in; `task` makes any other from its functions.
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
    """Everything that training, evaluation and prediction know of the outputs' meaning.

    ``outputs`` is what the network returns, an array or a pytree, in float32; ``label`` is that
    of the batch; ``mask`` ``[B]`` is True for the rows that count.

    Attributes:
      name: ``"multi_class"``, ``"binary"``, ``"multi_label"``, ``"regression"``, or another.
      objective: ``objective(outputs, label, mask) -> [B]``, minimized by training.
      loss: ``loss(outputs, label, mask) -> [B]``, reported: without smoothing, weights and focus,
        so that runs with and without them compare.
      decode: ``decode(outputs) -> predictions``, on the device and of fixed shapes; metrics and
        `jaxcnn.train.predict` see its result.
      activate: ``activate(predictions) -> [B, K]``, probabilities or values in the targets' unit.
      metrics: by name, ``metric(predictions, label, mask) -> (numerator, denominator)``, arrays
        that are summed over batches and divided once; or other sums of `jaxcnn.metrics`. None
        leaves the metric out.
      train_metrics: names of those that are measured while training, too.
      overall: ``overall(predictions, label) -> metrics`` of a whole split in NumPy, for metrics
        that are not sums over batches; None if there are none.
      score: name of the metric that runs are compared by; higher is better.
      aux_weight: weight of the objective at auxiliary heads.
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
        """Return a batch's sums for the loss and the metrics.

        Args:
          predictions: decoded outputs.
          label: labels of the batch.
          losses: ``[B]``, the loss of each example.
          mask: ``[B]`` bool, the rows that count.
          train: restrict the metrics to ``train_metrics``.
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
    """Make a task from its functions; see `Task` for their signatures.

    Args:
      objective: trained loss of each example.
      loss: reported loss; None for the objective.
      decode: from outputs to predictions; None for the outputs themselves.
      activate: from predictions to readable values; None for the predictions themselves.
      metrics: by name, measured while training and in evaluation.
      overall: metrics of a whole split that are not sums over batches.
      score: the metric that runs are compared by; None for the first one, or for ``"loss"`` if
        there is none.
      aux_weight: weight of the objective at auxiliary heads.
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
    """One class out of K: softmax. Logits ``[B, K]``, labels ``[B]`` class indices.

    Options are those of `jaxcnn.losses.cross_entropy`, and the weight of auxiliary heads.

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
    """Yes or no: one sigmoid. Logits ``[B, 1]``, labels ``[B]``, 1 for the second class name.

    Options are those of `jaxcnn.losses.binary_cross_entropy`, and the weight of auxiliary heads.

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
    """Any of L labels: a sigmoid for each. Logits ``[B, L]``, labels ``[B, L]`` of 0 and 1.

    Options are those of `jaxcnn.losses.binary_cross_entropy`, and the weight of auxiliary heads.

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
    """Numbers: D linear outputs. The network gives ``(targets - mean) / std``.

    Args:
      mean: ``[D]`` or one for all, the training targets' mean.
      std: ``[D]`` or one for all, their standard deviation, > 0.
      huber_delta: Huber loss, linear beyond this many standard deviations; None for the squared
        error.
      aux_weight: weight of auxiliary heads.

    Returns:
      A task whose labels ``[B, D]`` and metrics are in the targets' own unit, and whose losses are
      in units of ``std``.

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
    # JAX's strict rank promotion wants [1, D] beside [B, D].
    center, scale = center.reshape(1, -1), scale.reshape(1, -1)

    def loss(outputs: jax.Array, labels: jax.Array) -> jax.Array:
        return losses.squared_error(outputs, (labels - center) / scale)

    def huber(outputs: jax.Array, labels: jax.Array) -> jax.Array:
        return losses.huber(outputs, (labels - center) / scale, delta=huber_delta or 1.0)

    def in_unit(metric: Metric) -> Metric:
        # Both without the mean: differences stay, and the sums lose no digits to it.
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
    """Return class weights under which classes have equal totals: ``N / (K * examples of it)``.

    Args:
      labels: ``[N]`` class indices, or ``[N, L]`` of 0 and 1.
      num_classes: ``K``, ignored for ``[N, L]``.

    Returns:
      ``[K]`` for `multi_class`, ``[2, L]`` for `multi_label` (and `binary`, given ``[N, 1]``).
      A class without examples has weight 0.

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
    """Areas under the curves, averaged over the labels for which they are defined."""
    columns = list(zip(outputs.T, labels.T, strict=True))
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
    """Errors in double precision, about the split's own mean: R squared is a small difference."""
    errors = outputs.astype(np.float64) * scale + center - labels
    targets = labels - labels.mean(0, dtype=np.float64)
    targets[np.abs(targets) < 1e-12 * np.abs(labels)] = 0.0  # of a constant column
    squared, examples = (errors**2).sum(0), len(labels)
    return {
        "mae": metrics.Ratio(np.abs(errors).sum(0), examples).value(),
        "rmse": metrics.RootMeanSquare(squared, examples).value(),
        "r2": metrics.RSquared(squared, targets.sum(0), (targets**2).sum(0), examples).value(),
    }


def _without_mask(loss: Callable[[Any, Any], jax.Array]) -> Loss:
    """Return a loss of outputs and labels as one that accepts the mask, too."""
    return lambda outputs, label, mask=None: loss(outputs, label)


def _with_column(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of ``[B, 1]`` labels as one of ``[B]`` labels."""
    return lambda outputs, labels, *more: function(outputs, labels[:, None], *more)


def _weights(weights: object) -> jax.Array | None:
    return None if weights is None else jnp.asarray(weights, jnp.float32)
