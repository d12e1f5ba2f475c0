"""What a network is for: the four kinds of output, each with its loss, metrics and answers.

A task is a tuple of functions, so one of your own is ``task._replace(objective=...)``.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import losses, metrics
from jaxcnn.metrics import Counts

Loss = Callable[[jax.Array, jax.Array], jax.Array]
Answer = tuple[str, float]
CountMetrics = Callable[[Any, Any, Any, Any], Counts]


class Task(NamedTuple):
    """What training, evaluation and prediction need to know of the outputs' meaning.

    Attributes:
      name: ``"multi_class"``, ``"binary"``, ``"multi_label"`` or ``"regression"``.
      objective: ``objective(outputs, labels) -> [B]``, what training makes small.
      loss: ``loss(outputs, labels) -> [B]``, what is reported: without smoothing, weights and
        focus, so that runs with and without them compare.
      counts: ``counts(outputs, labels, losses, mask)``, sums for the metrics while training.
      details: the same for evaluation, with more to it.
      overall: ``overall(outputs, labels) -> metrics`` of a whole split in NumPy, for what is no
        sum over batches, or not exact enough as one.
      activate: ``activate(outputs) -> [B, K]``, what a person reads: probabilities or values.
      answer: ``answer(row, names, top) -> [(name, value), ...]`` in words for one activated row;
        ``top`` best ones, or None for what the task usually says.
      check: ``check(labels, names)``, raises `ValueError` for labels of another task.
      score: the metric that runs are compared by, higher is better.
    """

    name: str
    objective: Loss
    loss: Loss
    counts: CountMetrics
    details: CountMetrics
    overall: Callable[[np.ndarray, np.ndarray], dict[str, float]]
    activate: Callable[[Any], jax.Array]
    answer: Callable[[np.ndarray, Sequence[str], int | None], list[Answer]]
    check: Callable[[np.ndarray, Sequence[str]], None]
    score: str


def multi_class(
    *,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    class_weights: Sequence[float] | np.ndarray | None = None,
) -> Task:
    """One class out of K: softmax. Logits ``[B, K]``, labels ``[B]`` class indices.

    Options are those of `jaxcnn.losses.cross_entropy`.

    Example:
      >>> task = multi_class(label_smoothing=0.1)
      >>> logits, labels = jnp.array([[9.0, 0.0]]), jnp.array([0])
      >>> bool(task.objective(logits, labels)[0] > task.loss(logits, labels)[0])
      True
    """

    def check(labels: np.ndarray, names: Sequence[str]) -> None:
        _check_kind(labels, "multi_class", "one class index per image", "one_of_many")

    return Task(
        name="multi_class",
        objective=functools.partial(
            losses.cross_entropy,
            label_smoothing=label_smoothing,
            focal_gamma=focal_gamma,
            class_weights=_weights(class_weights),
        ),
        loss=losses.cross_entropy,
        counts=metrics.classification_counts,
        details=metrics.classification_details,
        overall=lambda outputs, labels: {},
        activate=jax.nn.softmax,
        answer=_most_probable,
        check=check,
        score="accuracy",
    )


def binary(
    *,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    class_weights: Sequence[Sequence[float]] | np.ndarray | None = None,
) -> Task:
    """Yes or no: one sigmoid. Logits ``[B, 1]``, labels ``[B]``, 1 for the second class name.

    Options are those of `jaxcnn.losses.binary_cross_entropy`.

    Example:
      >>> task = binary()
      >>> task.answer(np.array([0.25]), ("shirt", "shoe"), 1)
      [('shirt', 0.75)]
    """

    def check(labels: np.ndarray, names: Sequence[str]) -> None:
        _check_kind(labels, "binary", "one class index, 0 or 1, per image", "one_of_many")
        if len(names) != 2:
            raise ValueError(f"task binary needs 2 classes, got {len(names)}: {', '.join(names)}")

    def answer(row: np.ndarray, names: Sequence[str], top: int | None) -> list[Answer]:
        return _most_probable(np.array([1 - row[0], row[0]]), names, top or 2)

    def counts(outputs: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array) -> Counts:
        """Of the one label, as scalars, which are summarized without averaging over labels."""
        of_labels = metrics.label_counts(outputs, labels[:, None], losses, mask)
        names = ("true_positive", "false_positive", "false_negative")
        return of_labels | {name: of_labels[name][0] for name in names}

    task = multi_label(
        label_smoothing=label_smoothing, focal_gamma=focal_gamma, class_weights=class_weights
    )
    return task._replace(
        name="binary",
        objective=_with_column(task.objective),
        loss=_with_column(task.loss),
        counts=counts,
        details=counts,
        overall=_with_column(task.overall),
        answer=answer,
        check=check,
        score="accuracy",
    )


def multi_label(
    *,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    class_weights: Sequence[Sequence[float]] | np.ndarray | None = None,
) -> Task:
    """Any of L labels: a sigmoid for each. Logits ``[B, L]``, labels ``[B, L]`` of 0 and 1.

    Options are those of `jaxcnn.losses.binary_cross_entropy`.

    Example:
      >>> task = multi_label()
      >>> task.answer(np.array([0.9, 0.2, 0.6]), ("shoe", "shirt", "dark"), None)
      [('shoe', 0.9), ('dark', 0.6)]
    """

    def check(labels: np.ndarray, names: Sequence[str]) -> None:
        _check_kind(labels, "multi_label", "a 0 or 1 per label and image", "many_of_many")

    def answer(row: np.ndarray, names: Sequence[str], top: int | None) -> list[Answer]:
        best = _most_probable(row, names, top or len(names))
        return best if top else [(name, value) for name, value in best if value > 0.5]

    return Task(
        name="multi_label",
        objective=functools.partial(
            losses.binary_cross_entropy,
            label_smoothing=label_smoothing,
            focal_gamma=focal_gamma,
            class_weights=_weights(class_weights),
        ),
        loss=losses.binary_cross_entropy,
        counts=metrics.label_counts,
        details=metrics.label_counts,
        overall=_areas,
        activate=jax.nn.sigmoid,
        answer=answer,
        check=check,
        score="f1_macro",
    )


def regression(
    *,
    mean: Sequence[float] | np.ndarray = (0.0,),
    std: Sequence[float] | np.ndarray = (1.0,),
    huber_delta: float | None = None,
) -> Task:
    """Numbers: D linear outputs. The network gives ``(targets - mean) / std``.

    Args:
      mean: ``[D]`` or one for all, the training targets' mean.
      std: ``[D]`` or one for all, their standard deviation, > 0.
      huber_delta: Huber loss, linear beyond this many standard deviations; None for the squared
        error.

    Returns:
      A task whose labels ``[B, D]`` and metrics are in the targets' own unit, and whose losses are
      in units of ``std``.

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

    def objective(outputs: jax.Array, labels: jax.Array) -> jax.Array:
        if huber_delta is None:
            return loss(outputs, labels)
        return losses.huber(outputs, (labels - center) / scale, delta=huber_delta)

    def counts(outputs: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array) -> Counts:
        # Both less the mean: differences stay, and the sums lose no digits to it.
        return metrics.regression_counts(outputs * scale, labels - center, losses, mask)

    def overall(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """In double precision, about the split's own mean: R squared is a small difference."""
        errors = outputs.astype(np.float64) * scale + center - labels
        targets = labels - labels.mean(0, dtype=np.float64)
        targets[np.abs(targets) < 1e-12 * np.abs(labels)] = 0.0  # of a constant column
        sums = {
            "absolute": np.abs(errors).sum(0),
            "squared": (errors**2).sum(0),
            "target": targets.sum(0),
            "target_squared": (targets**2).sum(0),
        }
        summary = metrics.summarize({"loss": 0.0, "examples": len(labels), **sums})
        return {name: summary[name] for name in ("mae", "rmse", "r2")}

    def answer(row: np.ndarray, names: Sequence[str], top: int | None) -> list[Answer]:
        return [(name, float(value)) for name, value in zip(names, row, strict=True)]

    def check(labels: np.ndarray, names: Sequence[str]) -> None:
        _check_kind(labels, "regression", "floating-point targets [N, D]", "numbers")

    return Task(
        name="regression",
        objective=objective,
        loss=loss,
        counts=counts,
        details=counts,
        overall=overall,
        activate=lambda outputs: outputs * scale + center,
        answer=answer,
        check=check,
        score="r2",
    )


def balanced_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Class weights that let every class count the same in sum: ``N / (K * examples of it)``.

    Args:
      labels: ``[N]`` class indices, or ``[N, L]`` of 0 and 1.
      num_classes: ``K``, without meaning for ``[N, L]``.

    Returns:
      ``[K]`` for `multi_class`, ``[2, L]`` for `multi_label` (and `binary`, given ``[N, 1]``).
      A class without examples weighs 0.

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


def _check_kind(labels: np.ndarray, task: str, accepted: str, kind: str) -> None:
    found = (
        "numbers"
        if np.issubdtype(labels.dtype, np.floating)
        else ("one_of_many" if labels.ndim == 1 else "many_of_many")
    )
    if found != kind:
        fitting = {
            "numbers": "regression",
            "one_of_many": "multi_class (or binary)",
            "many_of_many": "multi_label",
        }[found]
        hint = "; write whole numbers with a decimal point (20.0)" if kind == "numbers" else ""
        raise ValueError(
            f"task {task} needs labels that are {accepted}, got {labels.dtype} of shape "
            f"{labels.shape}, which are labels for {fitting}{hint}"
        )


def _most_probable(row: np.ndarray, names: Sequence[str], top: int | None) -> list[Answer]:
    best = np.argsort(-row, kind="stable")[: top or 3]
    return [(names[k], float(row[k])) for k in best]


def _areas(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Means over the labels for which they are defined; nothing where there is none."""
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


def _with_column(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of ``[B, 1]`` labels as one of ``[B]`` labels."""
    return lambda outputs, labels, *more: function(outputs, labels[:, None], *more)


def _weights(weights: object) -> jax.Array | None:
    return None if weights is None else jnp.asarray(weights, jnp.float32)
