"""Official data sets: download, verify, and write as TFDS data sets without TensorFlow."""
