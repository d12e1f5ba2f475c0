"""The state of a run as one pytree, and the source of its random numbers.

Random numbers are addressed, not consumed: a run has one root key, each use folds in its stream
number, and each step or example then folds in its own number. No draw depends on earlier draws, so
a resumed run draws the same numbers as an uninterrupted one.

The exponential moving average and the learning-rate scale are stored in this state rather than in
the optax state: evaluation reads the average, which includes batch statistics, and a monitor on the
host sets the scale. Microbatches are handled inside the step, because `optax.MultiSteps` would
count each one as a step.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

# Stream numbers for a run; `jaxcnn.data` randomizes the order of examples separately.
INIT, DROPOUT, AUGMENT = 0, 2, 3


@flax.struct.dataclass
class TrainState:
    """Everything that a training step reads and writes.

    Attributes:
      step: number of steps taken, int32 scalar.
      params: trainable arrays.
      batch_stats: running statistics; empty if the model has none.
      opt_state: state of the optax optimizer.
      key: the root key of the run.
      ema: exponential moving average of ``variables``, or None if it is disabled.
      lr_scale: multiplier for the optimizer's updates, float32 scalar; 1 until the first plateau.
    """

    step: jax.Array
    params: chex.ArrayTree
    batch_stats: chex.ArrayTree
    opt_state: optax.OptState
    key: chex.PRNGKey
    ema: dict[str, chex.ArrayTree] | None
    lr_scale: jax.Array

    def __repr__(self) -> str:
        """Return a summary; the arrays would fill pages."""
        step = "traced" if isinstance(self.step, jax.core.Tracer) else self.step
        parts = [f"step={step}", f"params={_described(self.params)}"]
        if jax.tree.leaves(self.batch_stats):
            parts.append(f"batch_stats={_described(self.batch_stats)}")
        parts.append(f"opt_state={_described(self.opt_state)}")
        if self.ema is not None:
            parts.append(f"ema={_described(self.ema)}")
        return f"TrainState({', '.join(parts)})"

    @property
    def variables(self) -> dict[str, chex.ArrayTree]:
        """``params`` and ``batch_stats`` in the form that ``model.apply`` expects."""
        return to_variables(self.params, self.batch_stats)

    @property
    def eval_variables(self) -> dict[str, chex.ArrayTree]:
        """Variables for evaluation and prediction: ``ema`` if it is enabled, else ``variables``."""
        return self.variables if self.ema is None else self.ema

    def with_eval_variables(self, variables: dict[str, chex.ArrayTree]) -> "TrainState":
        """Return a state that evaluates with ``variables``."""
        if self.ema is not None:
            return dataclasses.replace(self, ema=variables)
        return dataclasses.replace(
            self, params=variables["params"], batch_stats=variables.get("batch_stats", {})
        )


def _described(tree: Any) -> str:
    """Return the number of arrays in a tree, and the number of values in them."""
    leaves = jax.tree.leaves(tree)
    return f"<{len(leaves)} arrays, {sum(map(np.size, leaves)):,} values>"


class Functions(NamedTuple):
    """A pair of functions with the interface of Linen's ``init`` and ``apply``.

    See `from_functions`.
    """

    init: Callable[..., Any]
    apply: Callable[..., Any]


def to_variables(params: chex.ArrayTree, batch_stats: chex.ArrayTree) -> dict[str, Any]:
    """Return Linen's dictionary of collections, omitting ``batch_stats`` if it is empty.

    Example:
      >>> list(to_variables({"bias": 0.0}, {}))
      ['params']
    """
    return {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})


def from_functions(init: Callable[..., Any], apply: Callable[..., Any]) -> Functions:
    """Make a model from two plain functions, without Flax.

    Args:
      init: ``init(key, images) -> params``, where ``params`` is any pytree of arrays.
      apply: ``apply(params, images, *, train, key) -> logits``; ``key`` is None outside training.

    Returns:
      A model that `create_state`, `make_train_step` and `make_eval_step` accept in place of a Linen
      module.

    Example:
      >>> model = from_functions(
      ...     lambda key, images: jnp.zeros((images[0].size, 10)),
      ...     lambda params, images, *, train, key: images.reshape(len(images), -1) @ params,
      ... )
      >>> state = create_state(jax.random.key(0), model, optax.sgd(0.1), jnp.zeros((1, 28, 28, 1)))
      >>> state.params.shape
      (784, 10)
    """

    def linen_init(key: jax.Array, images: jax.Array, *, train: bool) -> dict[str, Any]:
        del train
        return {"params": init(key, images)}

    def linen_apply(
        variables: dict[str, Any],
        images: jax.Array,
        *,
        train: bool,
        rngs: dict[str, jax.Array] | None = None,
        mutable: Any = False,
    ) -> Any:
        key = rngs["dropout"] if rngs else None
        logits = apply(variables["params"], images, train=train, key=key)
        return (logits, {}) if mutable else logits

    return Functions(linen_init, linen_apply)


def create_state(
    key: chex.PRNGKey,
    model: Any,
    optimizer: optax.GradientTransformation,
    images: Any,
    *,
    ema: bool = False,
    pretrained: dict[str, Any] | None = None,
) -> TrainState:
    """Initialize parameters, statistics and optimizer state in one compiled call.

    Args:
      key: the root key of the run, a scalar from ``jax.random.key``.
      model: Linen module called as ``model(images, train=...)``, or the result of `from_functions`.
      optimizer: any optax transformation.
      images: preprocessed images ``[B, *spatial, C]`` float32, or a ``jax.ShapeDtypeStruct``;
        only the shape and dtype matter.
      ema: keep an exponential moving average of parameters and statistics, for a step made with
        ``ema_decay``.
      pretrained: variables to start from, for all or part of the model; the rest are drawn anew.

    Returns:
      The state at step 0.

    Raises:
      ValueError: if ``key`` is not a single typed key, the module has no ``train`` argument or has
        collections other than ``params`` and ``batch_stats``, or a pretrained array does not match
        the model.

    Example:
      >>> from jaxcnn import models
      >>> images = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
      >>> state = create_state(
      ...     jax.random.key(0), models.create("lenet5", 10), optax.sgd(0.1), images
      ... )
      >>> state.params["conv1"]["kernel"].shape
      (5, 5, 1, 6)
    """
    is_key = hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not is_key or key.ndim:
        raise ValueError(f"key must be a single key from jax.random.key, got {key!r}")
    if isinstance(model, nn.Module) and "train" not in inspect.signature(model.__call__).parameters:
        raise ValueError(
            f"model must be called as model(images, train=...), got {type(model).__name__}, "
            "whose __call__ has no train argument"
        )

    def initialize(key: jax.Array, given: dict[str, Any]) -> TrainState:
        example = jnp.zeros(images.shape, images.dtype)
        variables = model.init(jax.random.fold_in(key, INIT), example, train=False)
        variables = _with_given(variables, given)
        if unknown := set(variables) - {"params", "batch_stats"}:
            raise ValueError(
                "model must keep all variables in params and batch_stats, "
                f"got other collections: {', '.join(sorted(unknown))}"
            )
        batch_stats = variables.get("batch_stats", {})
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=batch_stats,
            opt_state=optimizer.init(variables["params"]),
            key=key,
            ema=to_variables(variables["params"], batch_stats) if ema else None,
            lr_scale=jnp.ones((), jnp.float32),
        )

    if isinstance(key, jax.core.Tracer):  # under eval_shape, or inside a user's jit
        return initialize(key, pretrained or {})
    # This runs only once, so compile time dominates.
    return jax.jit(initialize, compiler_options={"xla_backend_optimization_level": 1})(
        key, pretrained or {}
    )


def _with_given(variables: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return ``variables`` with arrays replaced by those in ``given``."""
    flat, arrays = flatten_dict(variables), flatten_dict(given)
    for path, array in arrays.items():
        if path not in flat or flat[path].shape != array.shape:
            wanted = f"expects {flat[path].shape}" if path in flat else "has no such array"
            raise ValueError(
                f"pretrained array {'/'.join(path)} has shape {array.shape}, but the model {wanted}"
            )
        arrays[path] = array.astype(flat[path].dtype)
    return unflatten_dict(flat | arrays) if arrays else variables


def decay_mask(params: chex.ArrayTree) -> chex.ArrayTree:
    """Return a mask for weight decay: True for kernels, False for biases and scales.

    Pass it to optax as ``optax.adamw(..., mask=decay_mask)``.

    Example:
      >>> decay_mask({"kernel": jnp.zeros((3, 3, 1, 8)), "bias": jnp.zeros(8)})
      {'bias': False, 'kernel': True}
    """
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
