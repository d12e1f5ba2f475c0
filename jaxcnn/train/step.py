"""The jitted steps for training, ``step(state, batch) -> (state, counts)``, and for evaluation.

Data flow in a training step: convert to float, augment, normalize, apply the model, compute the
masked objective and its gradients, update with optax.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol, get_args

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxcnn import metrics, shapes
from jaxcnn.batch import Batch
from jaxcnn.metrics import Counts
from jaxcnn.ops.barriers import materialize
from jaxcnn.parameters import matches, select
from jaxcnn.train.accumulation import accumulated
from jaxcnn.train.divergence import OnNonfinite, guard
from jaxcnn.train.state import AUGMENT, DROPOUT, TrainState, to_variables
from jaxcnn.train.tasks import Task, multi_class

Augment = Callable[[jax.Array, Batch], Batch]
TrainStep = Callable[[TrainState, Any], tuple[TrainState, Counts]]
View = Callable[[jax.Array], jax.Array]
EvalStep = Callable[[TrainState, Batch], tuple[Counts, Any]]


class Preprocess(Protocol):
    """Part of `jaxcnn.image.Preprocess` that steps use; augmentation runs between its methods."""

    def to_float(self, images: jax.Array) -> jax.Array:
        """Convert raw images to float32 in [0, 1]."""

    def normalize(self, images: jax.Array) -> jax.Array:
        """Convert images in [0, 1] to the network's input."""


def make_train_step(
    model: Any,
    optimizer: optax.GradientTransformation,
    *,
    task: Task | None = None,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    penalty: Callable[[chex.ArrayTree], jax.Array] | None = None,
    accumulate: int = 1,
    ema_decay: float | None = None,
    frozen: Sequence[str] = (),
    on_nonfinite: OnNonfinite = "raise",
) -> TrainStep:
    """Make the compiled training step.

    Args:
      model: Linen module called as ``model(images, train=...)``, or the result of `from_functions`.
        Auxiliary heads sow their outputs as ``self.sow("intermediates", "aux_logits", outputs)``.
      optimizer: the optax transformation passed to `create_state`.
      task: meaning of the outputs; None means `multi_class`.
      preprocess: converts raw images to the network's input; None if they already are.
      augment: ``augment(keys, batch) -> batch`` on float images in [0, 1], with one key per row
        that depends only on the seed, the epoch and the index of the example.
      penalty: ``penalty(params) -> scalar`` added to the objective, for example
        ``functools.partial(jaxcnn.regularizers.penalty, l2=1e-4)``.
      accumulate: number of microbatches to split a batch into. This computes the whole batch's
        gradient in the memory of one microbatch; batch norm uses microbatch statistics. On CPU, the
        loop makes convolutions outside `jaxcnn.ops` many times slower.
      ema_decay: decay rate of the exponential moving average, in (0, 1), capped at
        (1 + t) / (10 + t) at step t, so that the initial values are forgotten quickly. Requires a
        state made with ``ema=True``.
      frozen: patterns (see `jaxcnn.parameters.select`) for parameters that are not trained. Modules
        named by a pattern (``block`` or ``block/*``, not ``*kernel``) run in evaluation mode, with
        running statistics and without dropout.
      on_nonfinite: what to do if the objective, the gradients or the updated variables are not
        finite: ``"raise"`` makes `fit` raise an error; ``"skip"`` skips the update, so that only
        ``state.step`` changes.

    Returns:
      ``step(state, batch) -> (state, counts)``. The input state is donated: its buffers are reused,
      so use only the returned state afterwards. The objective is the mean over the rows whose
      ``mask`` is True, each multiplied by its ``weight`` if the batch has weights.

    Raises:
      ValueError: if ``accumulate``, ``ema_decay`` or ``on_nonfinite`` is out of range; or, when the
        step is first called, if ``accumulate`` does not divide the batch size or a pattern matches
        nothing.

    Example:
      >>> from jaxcnn import data, image, models, train
      >>> model, optimizer = models.create("lenet5", 10), optax.adam(1e-3)
      >>> preprocess = image.Preprocess(size=(28, 28), channels=1)
      >>> batch = next(iter(data.batches(data.load("fashion_mnist_slice"), 32)))
      >>> images = preprocess(batch.image)
      >>> state = train.create_state(jax.random.key(0), model, optimizer, images)
      >>> step = make_train_step(model, optimizer, preprocess=preprocess)
      >>> state, counts = step(state, batch)
      >>> state.step.item(), counts["examples"].item()
      (1, 32)
    """
    shapes.check_integer(accumulate, "accumulate", minimum=1)
    if ema_decay is not None and not 0 < ema_decay < 1:
        raise ValueError(f"ema_decay must be None or in (0, 1), got {ema_decay!r}")
    if on_nonfinite not in get_args(OnNonfinite):
        raise ValueError(f"on_nonfinite must be 'raise' or 'skip', got {on_nonfinite!r}")
    objective = _make_objective(model, task or multi_class(), frozen)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Counts]:
        dropout_key = jax.random.fold_in(jax.random.fold_in(state.key, DROPOUT), state.step)
        batch = _prepare(batch, preprocess, augment, state.key)
        is_frozen = select(state.params, frozen)

        def of_microbatch(
            params: chex.ArrayTree, batch_stats: chex.ArrayTree, part: Batch, key: jax.Array
        ) -> tuple[jax.Array, tuple[Any, Counts]]:
            # A gradient known to be zero lets the compiler drop the corresponding backward pass.
            params = _replace_where(is_frozen, lax.stop_gradient, params)
            # A batch has no row that counts if none of its images could be read.
            rows = jnp.maximum(jnp.sum(batch.mask), 1)
            return objective(params, batch_stats, part, key, rows)

        share, gradients, batch_stats, counts = accumulated(
            jax.value_and_grad(of_microbatch, has_aux=True), state, batch, dropout_key, accumulate
        )
        # Otherwise XLA on CPU copies parameters updated before the last gradient reads them.
        gradients = materialize(gradients)
        if penalty is not None:
            extra, more = jax.value_and_grad(penalty)(state.params)
            more = _replace_where(is_frozen, jnp.zeros_like, more)
            share, gradients = share + extra, jax.tree.map(jnp.add, gradients, more)
        new = _updated(state, optimizer, gradients, batch_stats, is_frozen)
        if ema_decay is not None:
            new = dataclasses.replace(new, ema=_averaged(new, ema_decay))
        norm, one = optax.tree.norm(gradients).astype(jnp.float32), jnp.ones((), jnp.int32)
        counts["objective"] = metrics.Ratio(share.astype(jnp.float32), one)
        counts["gradient_norm"] = metrics.Ratio(norm, one)
        return guard(state, new, counts, on_nonfinite)

    return jax.jit(step, donate_argnames="state")


def make_eval_step(
    model: Any,
    *,
    task: Task | None = None,
    preprocess: Preprocess | None = None,
    views: Sequence[View] = (),
) -> EvalStep:
    """Make the compiled evaluation step.

    Args:
      model: Linen module called as ``model(images, train=...)``, or the result of `from_functions`.
      task: meaning of the outputs; None means `multi_class`.
      preprocess: converts raw images to the network's input; None if they already are.
      views: test-time augmentation, as in `make_predict_step`.

    Returns:
      ``step(state, batch) -> (counts, predictions)``, with predictions decoded by the task. The
      state is not donated.

    Example:
      >>> from jaxcnn import data, image, models, train
      >>> model, preprocess = models.create("lenet5", 10), image.Preprocess((28, 28), 1)
      >>> batch = next(iter(data.batches(data.load("fashion_mnist_slice"), 32)))
      >>> images = preprocess(batch.image)
      >>> state = train.create_state(jax.random.key(0), model, optax.identity(), images)
      >>> counts, predictions = make_eval_step(model, preprocess=preprocess)(state, batch)
      >>> counts["examples"].item(), predictions.shape
      (32, (32, 10))
    """
    task = task or multi_class()
    outputs_of = make_predict_step(model, preprocess=preprocess, views=views)

    def step(state: TrainState, batch: Batch) -> tuple[Counts, Any]:
        outputs = outputs_of(state, batch.image)
        losses = _per_example(task.loss, outputs, batch)
        predictions = task.decode(outputs)
        return task.counts(predictions, batch.label, losses, batch.mask, train=False), predictions

    return jax.jit(step)


def make_predict_step(
    model: Any, *, preprocess: Preprocess | None = None, views: Sequence[View] = ()
) -> Callable[[TrainState, Any], Any]:
    """Make the compiled prediction step.

    Args:
      model: Linen module called as ``model(images, train=...)``, or the result of `from_functions`.
      preprocess: converts raw images to the network's input; None if they already are.
      views: functions for test-time augmentation, applied to float images in [0, 1], for example
        `jaxcnn.image.flip_left_right`. Outputs are averaged over the images and their views.

    Returns:
      ``step(state, images) -> outputs``. It disables dropout and uses running statistics, and the
      exponential moving average of the variables if the state has one.

    Example:
      >>> from jaxcnn import models, train
      >>> model, images = models.create("lenet5", 10), jnp.zeros((2, 28, 28, 1))
      >>> state = train.create_state(jax.random.key(0), model, optax.identity(), images)
      >>> make_predict_step(model)(state, images).shape
      (2, 10)
    """

    def step(state: TrainState, images: jax.Array) -> Any:
        images = _to_float(images, preprocess)
        outputs = []
        for view in (lambda images: images, *views):
            seen = view(images) if preprocess is None else preprocess.normalize(view(images))
            outputs.append(_in_float32(model.apply(state.eval_variables, seen, train=False)))
        return jax.tree.map(lambda first, *more: sum(more, first) / len(outputs), *outputs)

    return jax.jit(step)


def _prepare(
    batch: Batch, preprocess: Preprocess | None, augment: Augment | None, root: jax.Array
) -> Batch:
    batch = batch._replace(image=_to_float(batch.image, preprocess))
    if augment is not None:
        batch = augment(augment_keys(root, batch), batch)
    if preprocess is not None:
        batch = batch._replace(image=preprocess.normalize(batch.image))
    return batch


def augment_keys(root: jax.Array, batch: Batch) -> jax.Array:
    """Return the keys ``[B]`` that a training step passes to ``augment``, one per example.

    Args:
      root: root key of the run, ``state.key``.
      batch: examples, identified by ``epoch`` and ``index``.

    Example:
      >>> from jaxcnn import data
      >>> batch = next(iter(data.batches(data.load("fashion_mnist_slice", split="test"), 32)))
      >>> augment_keys(jax.random.key(0), batch).shape
      (32,)
    """
    epoch_key = jax.random.fold_in(jax.random.fold_in(root, AUGMENT), batch.epoch)
    return jax.vmap(jax.random.fold_in, (None, 0))(epoch_key, batch.index)


def _to_float(images: jax.Array, preprocess: Preprocess | None) -> jax.Array:
    # Without preprocessing, the model may expect integers, such as tokens.
    return images if preprocess is None else preprocess.to_float(images)


def _make_objective(
    model: Any, task: Task, frozen: Sequence[str]
) -> Callable[..., tuple[jax.Array, tuple[Any, Counts]]]:
    def objective(
        params: chex.ArrayTree, batch_stats: chex.ArrayTree, part: Batch, key: jax.Array, rows: Any
    ) -> tuple[jax.Array, tuple[Any, Counts]]:
        """Return a microbatch's contribution to the mean over ``rows`` examples."""
        with _evaluation_mode(frozen):
            outputs, updated = model.apply(
                to_variables(params, batch_stats),
                part.image,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats", "intermediates"],
            )
        outputs = _in_float32(outputs)
        values = _per_example(task.objective, outputs, part)
        for aux_outputs in _aux_logits(updated.get("intermediates", {})):
            if aux_outputs.shape != getattr(outputs, "shape", None):
                raise ValueError(
                    "aux_logits must have the shape of the outputs "
                    f"{jax.tree.map(jnp.shape, outputs)}, got {aux_outputs.shape}"
                )
            aux_values = _per_example(task.objective, _in_float32(aux_outputs), part)
            values = values + task.aux_weight * aux_values
        losses = _per_example(task.loss, outputs, part)
        counts = task.counts(task.decode(outputs), part.label, losses, part.mask, train=True)
        if part.weight is not None:
            values = values * part.weight
        share = jnp.sum(values, where=part.mask) / rows
        return share, (updated.get("batch_stats", batch_stats), counts)

    return objective


def _updated(
    state: TrainState,
    optimizer: optax.GradientTransformation,
    gradients: chex.ArrayTree,
    batch_stats: chex.ArrayTree,
    is_frozen: chex.ArrayTree,
) -> TrainState:
    """Return the state after one optimizer step."""
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    # Otherwise weight decay would change parameters without a gradient.
    updates = _replace_where(is_frozen, jnp.zeros_like, updates)
    updates = jax.tree.map(lambda update: state.lr_scale * update, updates)
    return dataclasses.replace(
        state,
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )


def _averaged(state: TrainState, decay: float) -> dict[str, chex.ArrayTree]:
    if state.ema is None:
        raise ValueError("ema_decay requires a state created with ema=True")
    step = state.step.astype(jnp.float32)
    kept = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(
        # This is exactly the old value where nothing changed.
        lambda old, new: (old + (1 - kept) * (new - old)).astype(old.dtype),
        state.ema,
        state.variables,
    )


def _replace_where(
    chosen: chex.ArrayTree, function: Callable[[jax.Array], jax.Array], tree: chex.ArrayTree
) -> chex.ArrayTree:
    return jax.tree.map(lambda leaf, chosen: function(leaf) if chosen else leaf, tree, chosen)


def _aux_logits(intermediates: chex.ArrayTree) -> list[jax.Array]:
    return [
        leaf
        for path, leaf in jax.tree.leaves_with_path(intermediates)
        if any(getattr(part, "key", None) == "aux_logits" for part in path)
    ]


def _evaluation_mode(patterns: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    """Call modules named by a pattern with ``train=False``, if they accept that argument."""

    def intercept(call: Any, arguments: Any, options: dict[str, Any], context: Any) -> Any:
        path = "/".join(context.module.path)
        if any(matches(path, pattern.removesuffix("/*")) for pattern in patterns):
            # A user's module may get ``train`` by position or by default.
            bound = inspect.signature(context.orig_method).bind(*arguments, **options)
            bound.apply_defaults()
            if "train" in bound.arguments:
                bound.arguments["train"] = False
            arguments, options = bound.args, bound.kwargs
        return call(*arguments, **options)

    return nn.intercept_methods(intercept) if patterns else contextlib.nullcontext()


def _in_float32(outputs: Any) -> Any:
    """Cast half-precision outputs to float32, so that losses have full precision."""
    return jax.tree.map(shapes.at_least_float32, outputs)


def _per_example(loss: Callable[..., jax.Array], outputs: Any, batch: Batch) -> jax.Array:
    losses = loss(outputs, batch.label, batch.mask)
    if jnp.shape(losses) != batch.mask.shape:
        raise ValueError(
            "a task's loss and objective must return one value per example, with shape "
            f"{batch.mask.shape}, got {jnp.shape(losses)}"
        )
    return losses
