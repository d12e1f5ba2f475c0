"""Preparation of official datasets in TFDS format, without TensorFlow."""

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxcnn.data.official import cifar, idx, photographs
from jaxcnn.data.official.download import OfficialFile, locked, obtain
from jaxcnn.data.official.idx import Read
from jaxcnn.data.tfds import data_root, find_prepared
from jaxcnn.messages import did_you_mean

Builder = Callable[[], Any]


class Recipe(NamedTuple):
    """Recipe for preparing a dataset.

    Attributes:
      files: alternative sets of official files, any one of which is sufficient.
      read: reads the examples from the files.
      builder: returns the TFDS builder class that describes the dataset, or a similar class.
      config: name of the TFDS config, if the dataset has several.
    """

    files: tuple[tuple[OfficialFile, ...], ...]
    read: Read
    builder: Builder
    config: str | None = None


def prepare(
    name: str, *, folder: str | Path | None = None, data_dir: str | Path | None = None
) -> Path:
    """Write a dataset as TFDS ArrayRecord files, which both `load` and TFDS itself can read.

    The official files are verified against their published checksums. The folder appears only once
    it is complete, and an existing folder is not changed. If another process is preparing the
    dataset, this one waits. Names not listed below require TFDS's own code and TensorFlow (the
    ``tf`` extra).

    Args:
      name: ``mnist``, ``fashion_mnist``, ``kmnist``, ``emnist/balanced`` (``byclass``,
        ``bymerge``, ``letters``, ``digits``, ``mnist``), ``cifar10``, ``cifar100``,
        ``caltech101``, ``caltech256``, ``corel1000``, ``imagenet2012``; or the name of any TFDS
        dataset.
      folder: folder with the official files, or None to download them.
      data_dir: folder of prepared datasets; None means TFDS's own (``$TFDS_DATA_DIR``, or
        ``~/tensorflow_datasets``).

    Returns:
      The folder of the prepared dataset.

    Raises:
      ValueError: if the name is unknown, or a file is missing, cannot be downloaded or is not the
        official file.

    Example:
      >>> import tempfile
      >>> empty = tempfile.mkdtemp()
      >>> try:
      ...     prepare("mnist", folder=empty, data_dir=empty)
      ... except ValueError as error:
      ...     str(error).startswith("--from must be a folder with train-images-idx3-ubyte.gz")
      True

    Reference:
      https://www.tensorflow.org/datasets/catalog/overview
    """
    if name not in PREPARABLE:
        return _by_tfds(name, data_dir)
    prepared = find_prepared(name, data_dir)
    if prepared is not None:
        return prepared
    recipe = PREPARABLE[name]
    downloads = data_root(data_dir) / "downloads" / "jaxcnn" / name.split("/")[0]
    paths = obtain(
        recipe.files,
        None if folder is None else Path(folder),
        downloads,
        f"jaxcnn prepare {name}",
    )
    examples, names = recipe.read(paths)
    builder = _builder(recipe, examples, names, data_dir)
    with locked(downloads):
        return _write(builder)


def _builder(
    recipe: Recipe, examples: dict[str, Any], names: dict[str, list[str]], data_dir: Any
) -> Any:
    """Return TFDS's builder with the given examples, whose images are encoded files.

    TFDS's own examples are arrays or are read with TensorFlow, and both require TensorFlow.
    """
    import tensorflow_datasets as tfds

    base = recipe.builder()

    # The type checker knows neither the base nor the keyword of TFDS's untyped
    # `__init_subclass__`.
    class Prepared(base, skip_registration=True):  # type: ignore[call-arg,misc,valid-type]
        name = base.name
        pkg_dir_path = base._get_pkg_dir_path()

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            for key, values in names.items():
                self.info.features[key].names = values
            return {split: self._generate_examples(split) for split in examples}

        def _generate_examples(self, split: str) -> Any:
            return examples[split]

    return Prepared(
        data_dir=data_root(data_dir),
        file_format=tfds.core.FileFormat.ARRAY_RECORD,
        config=recipe.config,
    )


def _write(builder: Any) -> Path:
    """Write a dataset, unless another process has just written it."""
    import tensorflow_datasets as tfds

    folder = Path(builder.data_dir)
    # Left behind by a killed process: no other process holds the lock.
    for left in folder.parent.glob(f"incomplete.*_{folder.name}"):
        shutil.rmtree(left)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return folder


def _by_tfds(name: str, data_dir: str | Path | None) -> Path:
    import tensorflow_datasets as tfds

    base = name.split("/")[0].split(":")[0]
    known = ", ".join(each for each in PREPARABLE if each.split("/")[0] == base.lower())
    if base not in tfds.list_builders(with_community_datasets=False):
        raise ValueError(
            f"name must be a dataset that jaxcnn or TFDS can prepare, got {name!r}. "
            f"{f'Choose {known}' if known else did_you_mean(name, PREPARABLE)}"
        )
    if importlib.util.find_spec("tensorflow") is None:
        raise ValueError(
            f"{name} is prepared by TFDS's own code and requires TensorFlow: "
            f"pip install 'jaxcnn[tf]'{f', or choose {known}' if known else ''}"
        )
    root = data_root(data_dir)
    builder = tfds.builder(name, data_dir=root, file_format=tfds.core.FileFormat.ARRAY_RECORD)
    with locked(root / "downloads" / "jaxcnn" / base):
        return _write(builder)


def _mnist(name: str) -> Builder:
    def builder() -> Any:
        from tensorflow_datasets.image_classification import mnist

        return getattr(mnist, name)

    return builder


def _cifar(name: str) -> Builder:
    def builder() -> Any:
        from tensorflow_datasets.image_classification import cifar

        return getattr(cifar, name)

    return builder


def _caltech101() -> Any:
    from tensorflow_datasets.datasets.caltech101 import caltech101_dataset_builder

    return caltech101_dataset_builder.Builder


def _imagenet2012() -> Any:
    from tensorflow_datasets.datasets.imagenet2012 import imagenet2012_dataset_builder

    return imagenet2012_dataset_builder.Builder


def _photographs(builder_name: str, homepage: str, classes: int) -> Builder:
    """Return a builder for a dataset not in TFDS: images with a class and a file name."""

    def builder() -> Any:
        import tensorflow_datasets as tfds

        # The keyword belongs to TFDS's `__init_subclass__`, which has no type annotations.
        class Photographs(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
            """Description only: `_builder` adds the examples, as for TFDS's own builders."""

            name = builder_name
            VERSION = tfds.core.Version("1.0.0")

            def _info(self) -> Any:
                return tfds.core.DatasetInfo(
                    builder=self,
                    description=f"{builder_name}, written by jaxcnn.",
                    features=tfds.features.FeaturesDict(
                        {
                            "image": tfds.features.Image(encoding_format="jpeg"),
                            "label": tfds.features.ClassLabel(num_classes=classes),
                            "file_name": tfds.features.Text(),
                        }
                    ),
                    supervised_keys=("image", "label"),
                    homepage=homepage,
                )

        return Photographs

    return builder


PREPARABLE: dict[str, Recipe] = {
    "mnist": Recipe(idx.MNIST_FILES, idx.examples, _mnist("MNIST")),
    "fashion_mnist": Recipe(idx.FASHION_FILES, idx.examples, _mnist("FashionMNIST")),
    "kmnist": Recipe(idx.KMNIST_FILES, idx.examples, _mnist("KMNIST")),
    **{
        f"emnist/{part}": Recipe(
            idx.EMNIST_FILES, idx.emnist_examples(part), _mnist("EMNIST"), part
        )
        for part in ("balanced", "byclass", "bymerge", "letters", "digits", "mnist")
    },
    "cifar10": Recipe(cifar.CIFAR10_FILES, cifar.examples("cifar10"), _cifar("Cifar10")),
    "cifar100": Recipe(cifar.CIFAR100_FILES, cifar.examples("cifar100"), _cifar("Cifar100")),
    "caltech101": Recipe(photographs.CALTECH101_FILES, photographs.caltech101, _caltech101),
    "caltech256": Recipe(
        photographs.CALTECH256_FILES,
        photographs.caltech256,
        _photographs("caltech256", "https://data.caltech.edu/records/nyy15-4j048", 257),
    ),
    "corel1000": Recipe(
        photographs.COREL_FILES,
        photographs.corel1000,
        _photographs("corel1000", "http://wang.ist.psu.edu/docs/related/", 10),
    ),
    "imagenet2012": Recipe(photographs.IMAGENET_FILES, photographs.imagenet2012, _imagenet2012),
}
"""Recipes by name, for datasets that can be prepared without TensorFlow."""
