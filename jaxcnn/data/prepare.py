"""Writing data sets to disk in TFDS's format, without TensorFlow."""

from pathlib import Path

from jaxcnn import shapes
from jaxcnn.data import fashion_mnist


def prepare(
    name: str, *, source: str | Path | None = None, data_dir: str | Path | None = None
) -> Path:
    """Write a data set as TFDS ArrayRecord files, which `load` and plain TFDS both read.

    The official files are verified against the SHA-256 sums that TFDS registers. The folder
    appears when it is complete; one that is already there is left as it is.

    Args:
      name: ``"fashion_mnist"``.
      source: folder with the official files, or None to download them.
      data_dir: where prepared data sets live; None means TFDS's own (``$TFDS_DATA_DIR``, or
        ``~/tensorflow_datasets``).

    Returns:
      The folder of the prepared data set.

    Raises:
      ValueError: if the name is unknown, or a file is missing, unreachable or not the official one.

    Reference:
      https://www.tensorflow.org/datasets/catalog/fashion_mnist
    """
    if name != fashion_mnist.NAME:
        raise ValueError(
            f"name must be a data set that jaxcnn prepares, got {name!r}. "
            f"{shapes.did_you_mean(name, [fashion_mnist.NAME])}"
        )
    return fashion_mnist.prepare(None if source is None else Path(source), data_dir)
