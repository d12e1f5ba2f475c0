"""Random words for masks and noise, cheap enough to be drawn anew wherever they are needed.

JAX's generator hashes each counter in twenty rounds, and XLA stores what comes out; two rounds of
an integer hash under a key from that generator are a dozen instructions per value, which fuse into
the operation that uses them. Good for dropping units and adding noise, not for secrets.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_GOLDEN = np.uint32(0x9E3779B9)


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
    # The hash of 0 is 0: without the constant the first word under key 0 would be.
    return _hash(_hash(places + (words[0] + _GOLDEN)) ^ words[1])


def random_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Independent standard normal float32, a function of the key and the place in the array alone.

    One of 2**24 values each, symmetric about 0 and none beyond 5.42, at a sixth of the time of
    ``jax.random.normal`` on a CPU.

    Args:
      key: a JAX random key.
      shape: of the result, at most 2**32 values.
    """
    # The middles of 2**24 intervals of (-1, 1), each exact in float32.
    steps = (random_words(key, shape) >> 8).astype(jnp.float32)
    uniform = steps * np.float32(2**-23) - np.float32(1 - 2**-24)
    return np.float32(math.sqrt(2)) * lax.erf_inv(uniform)


def _hash(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
