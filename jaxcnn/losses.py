"""Per-example losses: each maps ``[B, ...]`` outputs and labels to ``[B]``.

Average them over the examples. The functions add the options of common training recipes to optax's
losses, and average over each example's outputs, whereas optax returns one value per output.
"""

import jax
import jax.numpy as jnp
import optax

from jaxcnn import shapes


def cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    label_smoothing: float | jax.Array = 0.0,
    focal_gamma: float | jax.Array = 0.0,
    class_weights: jax.Array | None = None,
) -> jax.Array:
    """Return each example's softmax cross-entropy over K classes.

    With target ``q`` (one-hot, or smoothed to ``(1 - s) * one_hot + s / K``) and probabilities
    ``p``, the loss is ``-sum(q * (1 - p) ** gamma * log(p)) * class_weights[label]``.

    Args:
      logits: ``[B, K]``.
      labels: ``[B]`` class indices, or ``[B, K]`` class probabilities (as from
        `jaxcnn.image.mixup`); with probabilities, the class weights are averaged as well.
      label_smoothing: ``s`` in [0, 1).
      focal_gamma: 0 for plain cross-entropy, or >= 1 to down-weight easy examples.
      class_weights: ``[K]`` loss weights, one per class. To average the losses, divide their sum by
        the number of examples, as Keras does, not by the sum of the weights, as torch does.

    Returns:
      The losses, ``[B]``.

    Raises:
      ValueError: if ``label_smoothing`` or ``focal_gamma`` is out of range, or the shapes do not
        match.

    Example:
      >>> logits, labels = jnp.array([[0.0, 0.0]]), jnp.array([1])
      >>> round(cross_entropy(logits, labels).item(), 4)
      0.6931

    Reference:
      Szegedy et al. 2015, "Rethinking the Inception architecture" (smoothing);
      Lin et al. 2017, "Focal loss for dense object detection".
    """
    shapes.check_probability(label_smoothing, "label_smoothing")
    _check_gamma(focal_gamma)
    is_share = _check_class_labels(logits, labels)
    if class_weights is not None:
        shapes.check_shape(class_weights, logits.shape[-1:], "class_weights", "[K]")
    if is_share or _is_used(label_smoothing) or _is_used(focal_gamma):
        targets = labels if is_share else jax.nn.one_hot(labels, logits.shape[-1])
        targets = optax.smooth_labels(shapes.at_least_float32(targets), label_smoothing)
        # A class of probability 0, with an infinite logarithm, does not count if its target is 0.
        log_p = jnp.where(targets == 0, 0, jax.nn.log_softmax(logits))
        # For a probability near one, -expm1 keeps digits that 1 - exp would round away.
        easiness = (-jnp.expm1(log_p)) ** focal_gamma if _is_used(focal_gamma) else 1.0
        losses = -jnp.sum(targets * easiness * log_p, axis=-1)
    else:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if class_weights is None:
        return losses
    return losses * (labels @ class_weights if is_share else class_weights[labels])


def binary_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    label_smoothing: float | jax.Array = 0.0,
    focal_gamma: float | jax.Array = 0.0,
    class_weights: jax.Array | None = None,
) -> jax.Array:
    """Return each example's sigmoid cross-entropy, the mean over L independent binary labels.

    Args:
      logits: ``[B, L]``; ``L`` is 1 for a binary classifier.
      labels: ``[B, L]``, each 0 or 1.
      label_smoothing: ``s`` in [0, 1): labels 0 and 1 become ``s / 2`` and ``1 - s / 2``.
      focal_gamma: 0 for plain cross-entropy, or >= 1 to down-weight easy labels.
      class_weights: ``[2, L]`` loss weights: row 0 applies where a label is 0, row 1 where it is 1.

    Returns:
      The losses, ``[B]``.

    Raises:
      ValueError: if ``label_smoothing`` or ``focal_gamma`` is out of range, or the shapes do not
        match.

    Example:
      >>> binary_cross_entropy(jnp.array([[0.0], [9.0]]), jnp.array([[1], [1]])).round(4).tolist()
      [0.6930999755859375, 9.999999747378752e-05]
    """
    shapes.check_probability(label_smoothing, "label_smoothing")
    _check_gamma(focal_gamma)
    _check_columns(logits, labels, "logits", "labels", "[B, L]")
    targets = labels * (1 - label_smoothing) + label_smoothing / 2
    infinite = jnp.isinf(logits)
    finite_logits = jnp.where(infinite, 0, logits)
    if _is_used(focal_gamma):
        losses = optax.sigmoid_focal_loss(finite_logits, targets, gamma=focal_gamma)
    else:
        losses = optax.sigmoid_binary_cross_entropy(finite_logits, targets)
    # The formula multiplies 0 by infinity where a certain prediction is right.
    losses = jnp.where(infinite, jnp.where(targets == (logits > 0), 0, jnp.inf), losses)
    if class_weights is not None:
        shapes.check_shape(class_weights, (2, logits.shape[-1]), "class_weights", "[2, L]")
        losses = losses * jnp.where(labels > 0.5, class_weights[1], class_weights[0])
    return jnp.mean(losses, axis=-1)


def squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return each example's mean of ``(outputs - targets) ** 2`` over its D outputs.

    Args:
      outputs: ``[B, D]``.
      targets: ``[B, D]``.

    Returns:
      The losses, ``[B]``.

    Raises:
      ValueError: if the shapes differ.

    Example:
      >>> squared_error(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 0.0]])).tolist()
      [5.0]
    """
    _check_columns(outputs, targets, "outputs", "targets", "[B, D]")
    return jnp.mean(optax.squared_error(outputs, targets), axis=-1)


def huber(outputs: jax.Array, targets: jax.Array, *, delta: float | jax.Array = 1.0) -> jax.Array:
    """Return each example's mean Huber loss over its D outputs.

    The Huber loss is half the squared error for errors up to ``delta`` and linear beyond, which
    limits the gradients of outliers.

    Args:
      outputs: ``[B, D]``.
      targets: ``[B, D]``.
      delta: error beyond which the loss is linear, > 0.

    Returns:
      The losses, ``[B]``.

    Raises:
      ValueError: if ``delta`` is not finite and > 0, or the shapes differ.

    Example:
      >>> huber(jnp.array([[1.0], [3.0]]), jnp.zeros((2, 1))).tolist()
      [0.5, 2.5]

    Reference:
      Huber 1964, "Robust estimation of a location parameter".
    """
    if not isinstance(delta, jax.Array) and not 0 < delta < float("inf"):
        raise ValueError(f"delta must be finite and > 0, got {delta!r}")
    _check_columns(outputs, targets, "outputs", "targets", "[B, D]")
    return jnp.mean(optax.huber_loss(outputs, targets, delta=delta), axis=-1)


def _is_used(option: float | jax.Array) -> bool:
    """Return whether an option is not 0; a JAX array may be traced, so it counts as used."""
    return isinstance(option, jax.Array) or option != 0


def _check_gamma(gamma: float | jax.Array) -> None:
    # For gamma between 0 and 1, the gradient is infinite where a probability rounds to one.
    if not isinstance(gamma, jax.Array) and gamma != 0 and not 1 <= gamma < float("inf"):
        raise ValueError(f"focal_gamma must be 0, or finite and >= 1, got {gamma!r}")


def _check_class_labels(logits: jax.Array, labels: jax.Array) -> bool:
    """Check labels for logits ``[B, K]``; return whether they are probabilities ``[B, K]``."""
    if logits.ndim < 2:
        raise ValueError(f"logits must be [B, K], got shape {logits.shape}")
    if labels.shape == logits.shape:
        return True
    if labels.shape != logits.shape[:-1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels must be integer class indices with shape {logits.shape[:-1]}, or class "
            f"probabilities with shape {logits.shape}, got {labels.dtype} with shape {labels.shape}"
        )
    return False


def _check_columns(
    outputs: jax.Array, targets: jax.Array, name: str, target_name: str, meaning: str
) -> None:
    if outputs.ndim < 2:
        raise ValueError(f"{name} must be {meaning}, got shape {outputs.shape}")
    shapes.check_shape(targets, outputs.shape, target_name, f"the shape of {name}")
