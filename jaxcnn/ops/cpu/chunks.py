"""Loops over chunks of a batch, so that intermediate results stay in cache.

Chunks are strided, so that each device of a sharded batch holds part of every chunk.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.shapes import at_least_float32

_MIN_SIZE = 4  # examples per chunk, so that up to 4 devices can each hold part of it


def chunk_size(batch: int, minimum: int) -> int:
    """Return the smallest divisor of ``batch`` that is at least ``minimum`` and ``_MIN_SIZE``.

    If there is none, return ``batch``.
    """
    sizes = (size for size in range(max(minimum, _MIN_SIZE), batch) if batch % size == 0)
    return next(sizes, batch)


def map_chunks(
    function: Callable[[jax.Array], jax.Array], images: jax.Array, size: int
) -> jax.Array:
    """Apply a function to ``size`` examples at a time."""
    if size == len(images):
        return function(images)
    chunks = _split(images, size)
    like = jax.eval_shape(function, jax.ShapeDtypeStruct((size, *images.shape[1:]), images.dtype))

    def add(number: jax.Array, outputs: jax.Array) -> jax.Array:
        return lax.dynamic_update_index_in_dim(outputs, function(_take(chunks, number)), number, 1)

    empty = jnp.zeros((size, chunks.shape[1], *like.shape[1:]), like.dtype)
    outputs = lax.fori_loop(0, chunks.shape[1], add, empty)
    return outputs.reshape(len(images), *like.shape[1:])


def map_slices(
    function: Callable[[jax.Array], jax.Array], kernel: jax.Array, size: int
) -> jax.Array:
    """Apply a function that maps ``[h, w, out, in]`` to ``[..., out]``, ``size`` outputs at a time.

    If ``size`` does not divide the number of outputs, the function is applied to all at once.
    """
    channels = kernel.shape[2]
    if channels <= size or channels % size:
        return function(kernel)
    like = jax.eval_shape(lambda: function(kernel[:, :, :size]))

    def add(number: jax.Array, outputs: jax.Array) -> jax.Array:
        chunk = lax.dynamic_slice_in_dim(kernel, number * size, size, 2)
        return lax.dynamic_update_slice_in_dim(outputs, function(chunk), number * size, -1)

    empty = jnp.zeros((*like.shape[:-1], channels), like.dtype)
    return lax.fori_loop(0, channels // size, add, empty)


def sum_chunks(
    function: Callable[[jax.Array, jax.Array], jax.Array],
    images: jax.Array,
    gradient: jax.Array,
    size: int,
) -> jax.Array:
    """Sum a function's results over chunks of ``size`` examples, in at least float32."""
    if size == len(images):
        return at_least_float32(function(images, gradient))
    images, gradient = _split(images, size), _split(gradient, size)

    def of(number: jax.Array | int) -> jax.Array:
        return at_least_float32(function(_take(images, number), _take(gradient, number)))

    return lax.fori_loop(1, images.shape[1], lambda number, total: total + of(number), of(0))


def _split(x: jax.Array, size: int) -> jax.Array:
    return x.reshape(size, -1, *x.shape[1:])


def _take(x: jax.Array, number: jax.Array | int) -> jax.Array:
    return lax.dynamic_index_in_dim(x, number, 1, keepdims=False)
