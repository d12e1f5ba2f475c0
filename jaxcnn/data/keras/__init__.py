"""Keras's `ImageDataGenerator`, on the device and with keyed randomness."""
