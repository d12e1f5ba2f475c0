"""Formulations that XLA compiles into fast code on a CPU, where `jax.lax`'s own are slow.

Plain JAX, with the values and gradients of `jax.lax`. Operands come checked and in canonical form
from `jaxcnn.ops`.
"""
