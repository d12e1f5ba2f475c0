"""Formulations that XLA compiles to fast CPU code, for operations where `jax.lax` is slow.

They are plain JAX, with the same values and gradients as `jax.lax`. Operands come from
`jaxcnn.ops`, already checked and in canonical form.
"""
