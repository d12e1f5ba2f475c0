"""Official datasets: download, verify, and write as TFDS datasets without TensorFlow."""
