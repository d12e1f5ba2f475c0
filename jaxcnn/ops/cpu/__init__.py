"""Formulations that XLA compiles into fast CPU code, where those of `jax.lax` are slow.

They are plain JAX with the values and gradients of `jax.lax`. Operands arrive checked and in
canonical form from `jaxcnn.ops`.
"""
