"""What a computation must cost: operations and bytes, and the time that a machine needs for them.

Counted are products, convolutions, reductions and pools, each with its operands read and its result
written once. Elementwise work is taken to be free, since a compiler can fuse it into its
neighbours; so the time is a floor, not a forecast.
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
    """One product, convolution, reduction or pool.

    Attributes:
      name: of the JAX primitive.
      flops: additions and multiplications.
      bytes: of operands and results.
      dtype: of the first operand.
    """

    name: str
    flops: int
    bytes: int
    dtype: str


class Ceilings(NamedTuple):
    """What a machine can do at most.

    Attributes:
      flops: of a matrix product, per second, by dtype.
      bytes: read and written in a pass over memory, per second.
    """

    flops: dict[str, float]
    bytes: float


def operations(
    function: Callable[..., Any], *arguments: Any, count_padding: bool = False
) -> list[Operation]:
    """The operations of a function, in the formulation that is no platform's own.

    Args:
      function: any traceable function.
      *arguments: arrays or ``jax.ShapeDtypeStruct``.
      count_padding: count a convolution's products with padding too, as published numbers do.

    Example:
      >>> x = jax.ShapeDtypeStruct((8, 16), jnp.float32)
      >>> [(o.name, o.flops, o.bytes) for o in operations(lambda x: x @ x.T, x)]
      [('dot_general', 2048, 1280)]
    """
    return list(_walk(jax.make_jaxpr(function)(*arguments).jaxpr, count_padding))


def floor_seconds(found: list[Operation], ceilings: Ceilings) -> float:
    """The least time for operations one after the other, each at one of the ceilings.

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
    """Time matrix products and a pass over memory on the default device.

    Args:
      seconds: how long to try each, > 0; the best of the tries counts.
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
    # In place, for the system not to be asked for memory in between.
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
            # The default comes last; elsewhere the dearest branch stands for all.
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
    """The functions that an equation calls."""
    for value in parameters.values():
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value


def _flops(eqn: core.JaxprEqn, count_padding: bool) -> int:
    """Operations of an equation, 0 for one that is taken to be free."""
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
    """Products with a pixel; those with the zeros of padding or between spread-out pixels if asked.

    Spread out are the pixels of a transposed convolution.
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
