"""The jitted steps: ``step(state, batch) -> (state, counts)`` to train, and one to evaluate.

The way of the data inside: to float, augment, normalise, model, loss under the mask, gradients,
optax. This is the only place in training where anything is compiled.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import chex
import jax
import jax.numpy as jnp
import optax

from jaxcnn.batch import Batch
from jaxcnn.metrics import Counts, classification_counts
from jaxcnn.train.state import AUGMENT, DROPOUT, TrainState, to_variables

Loss = Callable[[jax.Array, jax.Array], jax.Array]
CountMetrics = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], Counts]
Augment = Callable[[jax.Array, Batch], Batch]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Counts]]
EvalStep = Callable[[TrainState, Batch], tuple[Counts, jax.Array]]


class Preprocess(Protocol):
    """What a step needs of `jaxcnn.image.Preprocess`: two halves, with augmentation between."""

    def to_float(self, images: jax.Array) -> jax.Array:
        """Raw images as float32 in [0, 1]."""

    def normalize(self, images: jax.Array) -> jax.Array:
        """Images in [0, 1] as the network sees them."""


def make_train_step(
    model: Any,
    optimizer: optax.GradientTransformation,
    *,
    loss: Loss = optax.softmax_cross_entropy_with_integer_labels,
    metrics: CountMetrics = classification_counts,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
) -> TrainStep:
    """Make the compiled training step.

    Args:
      model: a Linen module called as ``model(images, train=...)``, or `from_functions`.
      optimizer: the optax transformation that `create_state` was given.
      loss: ``loss(logits, labels) -> [B]``, one value per example.
      metrics: ``metrics(logits, labels, losses, mask) -> counts``, a dictionary of sums.
      preprocess: turns raw images into the network's input; None if they are that already.
      augment: ``augment(keys, batch) -> batch`` on float images in [0, 1], with one key per row
        that is a function of (seed, epoch, index of the example) alone.

    Returns:
      ``step(state, batch) -> (state, counts)``. The given state is donated: its buffers are
      reused, so only the returned one can be used afterwards. The batch's loss is the mean over
      its unmasked rows.

    Example:
      >>> from jaxcnn import data, image, models, train
      >>> model, optimizer = models.create("lenet5", 10), optax.adam(1e-3)
      >>> preprocess = image.Preprocess(size=(28, 28), channels=1)
      >>> batch = next(iter(data.batches(data.load("fashion_mnist_slice"), 32)))
      >>> state = train.create_state(model, optimizer, preprocess(batch.image))
      >>> step = make_train_step(model, optimizer, preprocess=preprocess)
      >>> state, counts = step(state, batch)
      >>> state.step.item(), counts["examples"].item()
      (1, 32)
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Counts]:
        dropout_key = jax.random.fold_in(jax.random.fold_in(state.key, DROPOUT), state.step)
        batch = _prepare(batch, preprocess, augment, state.key)

        def mean_loss(params: chex.ArrayTree) -> tuple[jax.Array, tuple[Any, ...]]:
            logits, updated = model.apply(
                to_variables(params, state.batch_stats),
                batch.image,
                train=True,
                rngs={"dropout": dropout_key},
                mutable=["batch_stats"],
            )
            losses = _per_example(loss, logits, batch)
            mean = jnp.sum(losses, where=batch.mask) / jnp.sum(batch.mask)
            return mean, (logits, losses, updated.get("batch_stats", state.batch_stats))

        gradients, (logits, losses, batch_stats) = jax.grad(mean_loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return state, metrics(logits, batch.label, losses, batch.mask)

    return jax.jit(step, donate_argnames="state")


def make_eval_step(
    model: Any,
    *,
    loss: Loss = optax.softmax_cross_entropy_with_integer_labels,
    metrics: CountMetrics = classification_counts,
    preprocess: Preprocess | None = None,
) -> EvalStep:
    """Make the compiled evaluation step; arguments as in `make_train_step`.

    Returns:
      ``step(state, batch) -> (counts, logits)``; dropout is off, running statistics are used, and
      the state is not donated.
    """

    def step(state: TrainState, batch: Batch) -> tuple[Counts, jax.Array]:
        batch = _prepare(batch, preprocess, None, state.key)
        logits = model.apply(state.variables, batch.image, train=False)
        losses = _per_example(loss, logits, batch)
        return metrics(logits, batch.label, losses, batch.mask), logits

    return jax.jit(step)


def _prepare(
    batch: Batch, preprocess: Preprocess | None, augment: Augment | None, root: jax.Array
) -> Batch:
    if preprocess is not None:
        batch = batch._replace(image=preprocess.to_float(batch.image))
    elif not jnp.issubdtype(batch.image.dtype, jnp.floating):
        raise ValueError(
            f"batch.image must be floating point without a preprocess, got {batch.image.dtype}; "
            "pass preprocess=jaxcnn.image.Preprocess(...)"
        )
    if augment is not None:
        epoch_key = jax.random.fold_in(jax.random.fold_in(root, AUGMENT), batch.epoch)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(epoch_key, batch.index)
        batch = augment(keys, batch)
    if preprocess is not None:
        batch = batch._replace(image=preprocess.normalize(batch.image))
    return batch


def _per_example(loss: Loss, logits: jax.Array, batch: Batch) -> jax.Array:
    losses = loss(logits, batch.label)
    chex.assert_equal_shape([losses, batch.mask])
    return losses
