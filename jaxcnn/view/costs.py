"""Cost of a computation: its operations and bytes, and the minimum time that a machine needs.

Matrix multiplications, convolutions, reductions and pooling are counted; each reads its operands
and writes its result once. Elementwise operations are treated as free, since a compiler can
fuse them into their neighbors, so the time is a lower bound, not a prediction.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core


class Operation(NamedTuple):
    """One matrix multiplication, convolution, reduction or pooling operation.

    Attributes:
      name: name of the JAX primitive.
      flops: number of additions and multiplications.
      bytes: total size of the operands and results.
      dtype: dtype of the first operand.
    """

    name: str
    flops: int
    bytes: int
    dtype: str


class Ceilings(NamedTuple):
    """Peak rates of a machine.

    Attributes:
      flops: operations per second in a matrix multiplication, by dtype.
      bytes: bytes read and written per second in a pass over memory.
    """

    flops: dict[str, float]
    bytes: float


def operations(
    function: Callable[..., Any], *arguments: Any, count_padding: bool = False
) -> list[Operation]:
    """List the operations of a function, in its platform-independent form.

    Args:
      function: any traceable function.
      *arguments: arrays or ``jax.ShapeDtypeStruct``.
      count_padding: also count a convolution's operations on padding, as published numbers do.

    Example:
      >>> x = jax.ShapeDtypeStruct((8, 16), jnp.float32)
      >>> [(o.name, o.flops, o.bytes) for o in operations(lambda x: x @ x.T, x)]
      [('dot_general', 2048, 1280)]
    """
    return list(_walk(jax.make_jaxpr(function)(*arguments).jaxpr, count_padding))


def floor_seconds(found: list[Operation], ceilings: Ceilings) -> float:
    """Return the minimum time for consecutive operations, each at the rate that limits it.

    Args:
      found: the operations.
      ceilings: peak rates of the machine.

    Example:
      >>> ceilings = Ceilings(flops={"float32": 1e9}, bytes=1e9)
      >>> floor_seconds([Operation("dot_general", 10**9, 1000, "float32")], ceilings)
      1.0
    """
    return sum(
        max(o.flops / ceilings.flops.get(o.dtype, math.inf), o.bytes / ceilings.bytes)
        for o in found
    )


def measure_ceilings(*, seconds: float = 0.5) -> Ceilings:
    """Time matrix multiplications and a pass over memory on the default device.

    Args:
      seconds: time spent on each measurement, > 0; the fastest repetition is used.

    Example:
      >>> sorted(measure_ceilings(seconds=0.01).flops)
      ['bfloat16', 'float32']
    """
    size, key = 2048, jax.random.key(0)
    flops = {}
    for dtype in ("float32", "bfloat16"):
        matrix = jax.random.normal(key, (size, size)).astype(dtype)

        def product(x: jax.Array) -> jax.Array:
            return jnp.dot(x, x, preferred_element_type=jnp.float32)

        step = functools.partial(jax.jit(product), matrix)
        flops[dtype] = 2 * size**3 / _best_seconds(step, seconds)
    values = jnp.zeros(1 << 26, jnp.float32)
    # This runs in place, so that no memory is allocated between calls.
    add_one = jax.jit(lambda x: x + 1, donate_argnums=0)

    def pass_over() -> jax.Array:
        nonlocal values
        values = add_one(values)
        return values

    return Ceilings(flops, 2 * values.nbytes / _best_seconds(pass_over, seconds))


def _best_seconds(step: Callable[[], jax.Array], seconds: float) -> float:
    step().block_until_ready()
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        step().block_until_ready()
        best = min(best, time.perf_counter() - began)
    return best


def _walk(jaxpr: core.Jaxpr, count_padding: bool, repeats: int = 1) -> Iterator[Operation]:
    platforms = {eqn.outvars[0] for eqn in jaxpr.eqns if eqn.primitive.name == "platform_index"}
    for eqn in jaxpr.eqns:
        name, parameters = eqn.primitive.name, eqn.params
        if name == "cond":
            branches = parameters["branches"]
            # The platform-independent branch comes last. Otherwise count the most expensive branch.
            if eqn.invars[0] in platforms:
                branches = branches[-1:]
            choices = [list(_walk(branch.jaxpr, count_padding, repeats)) for branch in branches]
            yield from max(choices, key=lambda found: sum(o.flops + o.bytes for o in found))
        elif inner := list(_inner(parameters)):
            for body in inner:
                yield from _walk(body, count_padding, repeats * parameters.get("length", 1))
        elif flops := _flops(eqn, count_padding):
            arrays: list[Any] = [value.aval for value in (*eqn.invars, *eqn.outvars)]
            moved = sum(aval.size * aval.dtype.itemsize for aval in arrays)
            yield Operation(name, flops * repeats, moved * repeats, str(arrays[0].dtype))


def _inner(parameters: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """Yield the functions that an equation calls."""
    for value in parameters.values():
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value


def _flops(eqn: core.JaxprEqn, count_padding: bool) -> int:
    """Return the number of operations in an equation, 0 if it is free."""
    name, parameters = eqn.primitive.name, eqn.params
    results: list[Any] = [value.aval for value in eqn.outvars]
    operands: list[Any] = [value.aval for value in eqn.invars]
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        return 2 * results[0].size * math.prod(operands[0].shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        shapes = [array.shape for array in (*operands, *results)]
        return _convolution_flops(parameters, *shapes, count_padding=count_padding)
    return operands[0].size if name.startswith(("reduce_", "argm", "select_and_")) else 0


def _convolution_flops(
    parameters: dict[str, Any],
    images: tuple[int, ...],
    kernel: tuple[int, ...],
    result: tuple[int, ...],
    *,
    count_padding: bool,
) -> int:
    """Count operations on pixels and, with ``count_padding``, also on zeros.

    Zeros come from padding, or lie between the pixels in a transposed convolution.
    """
    layout = parameters["dimension_numbers"]
    batch, features, *spatial = layout.out_spec
    count = result[batch] * result[features] * kernel[layout.rhs_spec[1]]
    for axis, pixels, taps, stride, (low, _), spread, dilation in zip(
        spatial,
        layout.lhs_spec[2:],
        layout.rhs_spec[2:],
        parameters["window_strides"],
        parameters["padding"],
        parameters["lhs_dilation"],
        parameters["rhs_dilation"],
        strict=True,
    ):
        places = np.add.outer(np.arange(result[axis]) * stride, np.arange(kernel[taps]) * dilation)
        places -= low
        inside = (places >= 0) & (places <= (images[pixels] - 1) * spread) & (places % spread == 0)
        count *= places.size if count_padding else int(inside.sum())
    return 2 * count


def activation_bytes(model: Any, variables: dict[str, Any], size: tuple[int, int, int]) -> int:
    """Return how many bytes of activations a training step keeps per image, before optimizations.

    Args:
      model: the network.
      variables: its variables, or their shapes.
      size: (height, width, channels) of the images.

    Example:
      >>> from jaxcnn import models
      >>> model, images = models.create("lenet5", 10), jnp.zeros((1, 28, 28, 1))
      >>> variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
      >>> activation_bytes(model, variables, (28, 28, 1))
      61504
    """
    # The difference between batch sizes 2 and 1 excludes the kernels, which are kept only once.
    kept = [_kept_bytes(model, variables, (batch, *size)) for batch in (1, 2)]
    return kept[1] - kept[0]


def _kept_bytes(model: Any, variables: dict[str, Any], shape: tuple[int, ...]) -> int:
    """Return how many bytes the backward pass needs from a forward pass on images of ``shape``."""

    def residuals(variables: dict[str, Any], images: jax.Array, key: jax.Array) -> list[jax.Array]:
        def logits(params: Any) -> Any:
            return model.apply(
                variables | {"params": params},
                images,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats", "intermediates"],
            )

        return jax.tree.leaves(jax.vjp(logits, variables["params"], has_aux=True)[1])

    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    jaxpr = jax.make_jaxpr(residuals)(variables, images, jax.random.key(0)).jaxpr
    # Several gradients may need the same array.
    arrays = {id(variable): variable.aval for variable in jaxpr.outvars}
    return sum(array.size * array.dtype.itemsize for array in arrays.values())
