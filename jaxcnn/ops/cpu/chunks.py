"""A batch in parts, one after the other, so that what is made of each stays in the cache.

Each part has examples from everywhere in the batch, so that of a batch which is sharded in runs
every device has its share of every part.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

_FEWEST = 4  # examples in a part, so that as many devices have a share of it


def part_size(batch: int, least: int) -> int:
    """The smallest divisor of a batch that is not below ``least``, or all of it."""
    sizes = (size for size in range(max(least, _FEWEST), batch) if batch % size == 0)
    return next(sizes, batch)


def map_parts(
    function: Callable[[jax.Array], jax.Array], images: jax.Array, size: int
) -> jax.Array:
    """A function of examples, ``size`` at a time."""
    if size == len(images):
        return function(images)
    parts = _parted(images, size)
    like = jax.eval_shape(function, jax.ShapeDtypeStruct((size, *images.shape[1:]), images.dtype))

    def add(number: jax.Array, outputs: jax.Array) -> jax.Array:
        return lax.dynamic_update_index_in_dim(outputs, function(_part(parts, number)), number, 1)

    empty = jnp.zeros((size, parts.shape[1], *like.shape[1:]), like.dtype)
    outputs = lax.fori_loop(0, parts.shape[1], add, empty)
    return outputs.reshape(len(images), *like.shape[1:])


def map_slices(
    function: Callable[[jax.Array], jax.Array], kernel: jax.Array, size: int
) -> jax.Array:
    """A function from ``[h, w, out, in]`` to ``[..., out]``, ``size`` outputs at a time.

    All at once if ``size`` is no divisor of them.
    """
    channels = kernel.shape[2]
    if channels <= size or channels % size:
        return function(kernel)
    like = jax.eval_shape(lambda: function(kernel[:, :, :size]))

    def add(number: jax.Array, outputs: jax.Array) -> jax.Array:
        part = lax.dynamic_slice_in_dim(kernel, number * size, size, 2)
        return lax.dynamic_update_slice_in_dim(outputs, function(part), number * size, -1)

    empty = jnp.zeros((*like.shape[:-1], channels), like.dtype)
    return lax.fori_loop(0, channels // size, add, empty)


def sum_parts(
    function: Callable[[jax.Array, jax.Array], jax.Array],
    images: jax.Array,
    gradient: jax.Array,
    size: int,
) -> jax.Array:
    """The sum of what a function makes of ``size`` examples at a time, in float32 at least."""
    precise = jnp.promote_types(gradient.dtype, jnp.float32)
    if size == len(images):
        return function(images, gradient).astype(precise)
    images, gradient = _parted(images, size), _parted(gradient, size)

    def of(number: jax.Array | int) -> jax.Array:
        return function(_part(images, number), _part(gradient, number)).astype(precise)

    return lax.fori_loop(1, images.shape[1], lambda number, total: total + of(number), of(0))


def _parted(x: jax.Array, size: int) -> jax.Array:
    return x.reshape(size, -1, *x.shape[1:])


def _part(x: jax.Array, number: jax.Array | int) -> jax.Array:
    return lax.dynamic_index_in_dim(x, number, 1, keepdims=False)
