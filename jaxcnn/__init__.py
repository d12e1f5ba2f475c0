"""jaxcnn: convolutional networks in JAX."""
