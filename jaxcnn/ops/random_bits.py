"""Random words for masks, cheap enough to be drawn anew wherever a mask is needed.

JAX's generator hashes each counter in twenty rounds, and XLA stores what comes out; two rounds of
an integer hash under a key from that generator are a dozen instructions per value, which fuse into
the operation that uses the mask. Good for dropping units, not for secrets.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax


def random_words(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Independent uniform uint32, a function of the key and the place in the array alone.

    Args:
      key: a JAX random key.
      shape: of the result, at most 2**32 values.

    Reference:
      The hash is Chris Wellons's ``lowbias32`` (2018, "Prospecting for hash functions").
    """
    words = jax.random.key_data(key)
    if words.shape != (2,):  # a generator other than JAX's default
        words = jax.random.bits(key, (2,))
    places = lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return _hash(_hash(places + words[0]) ^ words[1])


def _hash(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
