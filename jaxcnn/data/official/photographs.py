"""Caltech-101, Caltech-256, Corel-1000 and ImageNet (ILSVRC 2012) from their official archives.

References:
  https://data.caltech.edu/records/mzrjq-6wc02, https://data.caltech.edu/records/nyy15-4j048,
  http://wang.ist.psu.edu/docs/related/, https://image-net.org/challenges/LSVRC/2012
"""

import io
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jaxcnn.data.decode import reason
from jaxcnn.data.files import Files, open_files
from jaxcnn.data.official.download import OfficialFile

CALTECH101_FILES = (
    (
        OfficialFile(
            "caltech-101.zip",
            "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip?download=1",
            "sha256:331234750fc7f77520e50d9565e8b6907b03565e30320da1401130db08c61f91",
        ),
    ),
    (
        OfficialFile(
            "101_ObjectCategories.tar.gz",
            None,
            "sha256:af6ece2f339791ca20f855943d8b55dd60892c0a25105fcd631ee3d6430f9926",
        ),
    ),
)
CALTECH256_FILES = (
    (
        OfficialFile(
            "256_ObjectCategories.tar",
            "https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar?download=1",
            None,
        ),
    ),
)
COREL_FILES = (
    (OfficialFile("test1.zip", "http://wang.ist.psu.edu/~jwang/test1.zip", None),),
    (OfficialFile("test1.tar", "http://wang.ist.psu.edu/~jwang/test1.tar", None),),
)
IMAGENET_FILES = (
    (
        OfficialFile(
            "ILSVRC2012_img_train.tar",
            None,
            "sha256:b08200a27a8e34218a0e58fde36b0fe8f73bc377f4acea2d91602057c3ca45bb",
        ),
        OfficialFile(
            "ILSVRC2012_img_val.tar",
            None,
            "sha256:c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0",
        ),
    ),
)
COREL_CLASSES = (
    "africa", "beach", "buildings", "buses", "dinosaurs",
    "elephants", "flowers", "horses", "mountains", "food",
)  # fmt: skip
_COREL_EACH = 100
_CALTECH256_IMAGES, _CALTECH256_CLASSES = 30_607, 257  # verified by count: no checksum is published
_CALTECH_TRAIN = 30  # images per class, as is usual for Caltech-101
_CALTECH_SEED = 1234


def caltech101(paths: Mapping[str, Path]) -> Any:
    """Read 30 training images of each class; the others are test images.

    TFDS draws the 30 from the files in the order in which the file system lists them; here the
    files are sorted by name first, and the generator and seed are the same.
    """
    (path,) = paths.values()
    files = _inner_archive(path) if path.suffix == ".zip" else open_files(path)
    classes: dict[str, list[str]] = {}
    for name in files.sizes:
        if name.endswith(".jpg"):
            classes.setdefault(PurePosixPath(name).parent.name, []).append(name)
    draw = np.random.RandomState(_CALTECH_SEED)
    splits: dict[str, list[str]] = {"train": [], "test": []}
    for label, names in classes.items():
        if len(names) < _CALTECH_TRAIN:
            raise ValueError(
                f"{path}: {label} must have at least {_CALTECH_TRAIN} images, got {len(names)}"
            )
        chosen = set(draw.choice(len(names), _CALTECH_TRAIN, replace=False).tolist())
        for number, name in enumerate(names):
            splits["train" if number in chosen else "test"].append(name)

    def examples(names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in names:
            label, file = PurePosixPath(name).parts[-2:]
            yield (
                f"{label}/{file}",
                {"image": _read(files, name), "label": label.lower(), "image/file_name": file},
            )

    return {split: examples(names) for split, names in splits.items()}, {}


def caltech256(paths: Mapping[str, Path]) -> Any:
    """Read all images with their classes, ``001.ak47`` to ``257.clutter``, as one split."""
    (path,) = paths.values()
    files = open_files(path)
    folders = {name: PurePosixPath(name).parent.name for name in files.sizes}
    # Files in a subfolder of a class folder do not belong to the class.
    names = [
        name
        for name, folder in folders.items()
        if name.endswith(".jpg") and re.fullmatch(r"\d{3}\..+", folder)
    ]
    labels = sorted({folders[name] for name in names})
    if len(names) != _CALTECH256_IMAGES or len(labels) != _CALTECH256_CLASSES:
        raise ValueError(
            f"{path} must contain {_CALTECH256_IMAGES} images in {_CALTECH256_CLASSES} classes, "
            f"got {len(names)} images in {len(labels)} classes; it is incomplete"
        )

    def examples() -> Iterator[tuple[str, dict[str, Any]]]:
        for name in names:
            label, file = PurePosixPath(name).parts[-2:]
            yield name, {"image": _read(files, name), "label": label, "file_name": file}

    return {"train": examples()}, {"label": labels}


def corel1000(paths: Mapping[str, Path]) -> Any:
    """Read 1,000 images named by number, 100 of each class, as one split."""
    (path,) = paths.values()
    files = open_files(path)
    images = [PurePosixPath(name) for name in files.sizes if name.endswith(".jpg")]
    names = sorted((int(name.stem), str(name)) for name in images if name.stem.isdecimal())
    count = _COREL_EACH * len(COREL_CLASSES)
    if [number for number, _ in names] != list(range(count)):
        raise ValueError(
            f"{path} must contain each of the images 0.jpg to {count - 1}.jpg exactly once, got "
            f"{len({number for number, _ in names} & set(range(count)))} of them among "
            f"{len(images)} images"
        )

    def examples() -> Iterator[tuple[int, dict[str, Any]]]:
        for number, name in names:
            label = COREL_CLASSES[number // _COREL_EACH]
            file = PurePosixPath(name).name
            yield number, {"image": _read(files, name), "label": label, "file_name": file}

    return {"train": examples()}, {"label": list(COREL_CLASSES)}


def imagenet2012(paths: Mapping[str, Path]) -> Any:
    """Read training images from a tar of tars, one per synset; TFDS lists the validation labels."""
    return {
        "train": _imagenet_train(paths["ILSVRC2012_img_train.tar"]),
        "validation": _imagenet_validation(paths["ILSVRC2012_img_val.tar"]),
    }, {}


def _imagenet_train(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with tarfile.open(path, "r|") as outer:
        for member in outer:
            part = outer.extractfile(member)
            if part is None or not member.name.endswith(".tar"):
                raise ValueError(f"{path} must contain a tar for each synset, got {member.name}")
            with tarfile.open(fileobj=io.BytesIO(part.read()), mode="r:") as inner:
                for image in inner:
                    content = inner.extractfile(image)
                    if content is not None:
                        label = PurePosixPath(member.name).stem
                        yield (
                            image.name,
                            {"image": content.read(), "label": label, "file_name": image.name},
                        )


def _imagenet_validation(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import tensorflow_datasets as tfds

    listed = tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt")
    labels = listed.read_text().split()
    files = open_files(path)
    # The labels are in the order of the sorted file names.
    for name, label in zip(files.sizes, labels, strict=False):
        file = PurePosixPath(name).name
        yield file, {"image": _read(files, name), "label": label, "file_name": file}


def _read(files: Files, name: str) -> bytes:
    try:
        return files.read(name)
    except Exception as error:
        raise ValueError(f"{name} in {files.path} cannot be read: {reason(error)}") from error


def _inner_archive(path: Path) -> Files:
    """Read the tar inside the official zip into memory."""
    inner = "caltech-101/101_ObjectCategories.tar.gz"
    with zipfile.ZipFile(path) as archive, archive.open(inner) as compressed:
        contents = {}
        with tarfile.open(fileobj=compressed, mode="r|gz") as tar:
            for member in tar:
                content = tar.extractfile(member)
                if member.isreg() and content is not None:
                    contents[member.name.removeprefix("./")] = content.read()
    sizes = {name: len(contents[name]) for name in sorted(contents)}
    return Files(path, sizes, contents.__getitem__)
