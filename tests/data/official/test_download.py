"""Every dataset that jaxcnn prepares, from small archives in the official layout, end to end.

The checksums of the small archives replace the official ones. TFDS's own readers for these layouts
require TensorFlow.
"""

import functools
import gzip
import hashlib
import http.server
import io
import pickle
import struct
import tarfile
import threading
import zipfile

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from jaxcnn import data
from jaxcnn.data.official import photographs
from jaxcnn.data.official.catalog import PREPARABLE
from jaxcnn.data.official.idx import CLASS_NAMES
from jaxcnn.data.official.photographs import COREL_CLASSES

RNG = np.random.default_rng(0)
GRAY = {
    split: RNG.integers(0, 256, (size, 28, 28), np.uint8)
    for split, size in (("train", 30), ("test", 20))
}
DIGITS = {split: RNG.integers(0, 10, len(images), np.uint8) for split, images in GRAY.items()}
COLORED = RNG.integers(0, 256, (60, 32, 32, 3), np.uint8)
FINE = RNG.integers(0, 100, 60)


def idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes())


def mnist_files(folder):
    for split, prefix in (("train", "train"), ("test", "t10k")):
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(GRAY[split]))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(DIGITS[split]))


def emnist_files(folder):
    with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
        for split in GRAY:
            for part in ("balanced", "digits"):
                name = f"gzip/emnist-{part}-{split}"
                archive.writestr(f"{name}-images-idx3-ubyte.gz", idx(GRAY[split]))
                archive.writestr(f"{name}-labels-idx1-ubyte.gz", idx(DIGITS[split]))


def packed(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def cifar_batches(number):
    """Return the rows stored in each file: six batches for CIFAR-10, two files for CIFAR-100."""
    if number == 10:
        names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
        return {name: slice(10 * i, 10 * i + 10) for i, name in enumerate(names)}
    return {"train": slice(0, 50), "test": slice(50, 60)}


def cifar_binary(number):
    def make(folder):
        planes = COLORED.transpose(0, 3, 1, 2).reshape(60, -1)
        labels = [FINE % 10] if number == 10 else [FINE // 5, FINE]
        rows = np.concatenate([np.stack(labels, 1).astype(np.uint8), planes], 1)
        top = "cifar-10-batches-bin" if number == 10 else "cifar-100-binary"
        files = {
            f"{top}/{n}.bin": rows[part].tobytes() for n, part in cifar_batches(number).items()
        }
        if number == 10:
            files[f"{top}/batches.meta.txt"] = (
                "\n".join(f"class {i}" for i in range(10)).encode() + b"\n\n"
            )
        else:
            files[f"{top}/coarse_label_names.txt"] = "\n".join(
                f"group {i}" for i in range(20)
            ).encode()
            files[f"{top}/fine_label_names.txt"] = "\n".join(
                f"class {i}" for i in range(100)
            ).encode()
        packed(folder / f"cifar-{number}-binary.tar.gz", files)

    return make


def cifar_pickles(number):
    def make(folder):
        planes = COLORED.transpose(0, 3, 1, 2).reshape(60, -1)
        top = "cifar-10-batches-py" if number == 10 else "cifar-100-python"
        files = {}
        for name, part in cifar_batches(number).items():
            values = {b"data": planes[part]}
            if number == 10:
                values[b"labels"] = (FINE[part] % 10).tolist()
            else:
                values |= {
                    b"fine_labels": FINE[part].tolist(),
                    b"coarse_labels": (FINE[part] // 5).tolist(),
                }
            files[f"{top}/{name}"] = pickle.dumps(values, 2)
        meta = {b"label_names": [b"class %d" % i for i in range(10)]}
        if number == 100:
            meta = {
                b"fine_label_names": [b"class %d" % i for i in range(100)],
                b"coarse_label_names": [b"group %d" % i for i in range(20)],
            }
        files[f"{top}/{'batches.meta' if number == 10 else 'meta'}"] = pickle.dumps(meta, 2)
        packed(folder / f"cifar-{number}-python.tar.gz", files)

    return make


@functools.cache
def jpeg(value, size=(20, 16)):
    file = io.BytesIO()
    PIL.Image.new("RGB", size, (value, 0, 255 - value)).save(file, "JPEG", quality=95)
    return file.getvalue()


def caltech101_tar():
    file = io.BytesIO()
    names = [
        f"101_ObjectCategories/{label}/image_{i:04}.jpg"
        for label in ("BACKGROUND_Google", "accordion", "anchor")
        for i in range(1, 36)
    ]
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = len(jpeg(number))
            archive.addfile(member, io.BytesIO(jpeg(number)))
    return file.getvalue()


def caltech101_zip(folder):
    with zipfile.ZipFile(folder / "caltech-101.zip", "w") as archive:
        archive.writestr("caltech-101/101_ObjectCategories.tar.gz", caltech101_tar())


def caltech101_inner(folder):
    (folder / "101_ObjectCategories.tar.gz").write_bytes(caltech101_tar())


def caltech256(folder):
    labels = [f"{i:03}.thing{i}" for i in range(1, 258)]
    files = {
        f"256_ObjectCategories/{label}/{label[:3]}_{i:04}.jpg": jpeg(n % 256)
        for n, label in enumerate(labels)
        for i in (1, 2)
    }
    packed(folder / "256_ObjectCategories.tar", files, "w")


def corel(folder):
    with zipfile.ZipFile(folder / "test1.zip", "w") as archive:
        for number in range(1000):
            archive.writestr(f"image.orig/{number}.jpg", jpeg(number // 4, (24, 16)))


def imagenet(folder):
    synsets = ("n01440764", "n01443537")
    tars = {f"{synset}.tar": imagenet_part(synset, n) for n, synset in enumerate(synsets)}
    packed(folder / "ILSVRC2012_img_train.tar", tars, "w")
    images = {f"ILSVRC2012_val_{i:08}.JPEG": jpeg(i) for i in range(1, 6)}
    packed(folder / "ILSVRC2012_img_val.tar", images, "w")


def imagenet_part(synset, number):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for i in range(3):
            content = jpeg(100 * number + i)
            if i == 2:  # some ImageNet images are CMYK
                stream = io.BytesIO()
                PIL.Image.new("CMYK", (20, 16)).save(stream, "JPEG")
                content = stream.getvalue()
            member = tarfile.TarInfo(f"{synset}_{i}.JPEG")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


LAYOUTS = {
    "mnist": ("mnist", mnist_files),
    "kmnist": ("kmnist", mnist_files),
    "emnist/balanced": ("emnist/balanced", emnist_files),
    "emnist/digits": ("emnist/digits", emnist_files),
    "cifar10": ("cifar10", cifar_binary(10)),
    "cifar10 pickles": ("cifar10", cifar_pickles(10)),
    "cifar100": ("cifar100", cifar_binary(100)),
    "cifar100 pickles": ("cifar100", cifar_pickles(100)),
    "caltech101": ("caltech101", caltech101_zip),
    "caltech101 tar": ("caltech101", caltech101_inner),
    "caltech256": ("caltech256", caltech256),
    "corel1000": ("corel1000", corel),
    "imagenet2012": ("imagenet2012", imagenet),
}


def trusted(patch, name, folder):
    """Replace the official checksums with the checksums of the files in a folder."""

    def checksum(file):
        path = folder / file.name
        if file.checksum is None or not path.is_file():
            return file
        method = file.checksum.split(":")[0]
        digest = hashlib.new(method, path.read_bytes()).hexdigest()
        return file._replace(checksum=f"{method}:{digest}")

    recipe = PREPARABLE[name]
    files = tuple(tuple(checksum(file) for file in files) for files in recipe.files)
    patch.setitem(PREPARABLE, name, recipe._replace(files=files))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Prepare each layout once; return our reader's splits, TFDS's own sources and the path."""
    known = {}

    def prepare(layout):
        if layout not in known:
            name, make = LAYOUTS[layout]
            folder, data_dir = tmp_path_factory.mktemp("official"), tmp_path_factory.mktemp("data")
            make(folder)
            with pytest.MonkeyPatch.context() as patch:
                trusted(patch, name, folder)
                patch.setattr(photographs, "_CALTECH256_IMAGES", 2 * 257)
                path = data.prepare(name, folder=folder, data_dir=data_dir)
            known[layout] = (
                data.load_splits(name, data_dir=data_dir),
                tfds.data_source(name, data_dir=data_dir, download=False, try_gcs=False),
                path,
            )
        return known[layout]

    return prepare


@pytest.mark.parametrize("layout", LAYOUTS)
def test_plain_tfds_reads_what_we_read(layout, prepared):
    splits, sources, path = prepared(layout)
    name = LAYOUTS[layout][0]
    builder = tfds.builder_from_directory(path)
    assert builder.info.full_name.rpartition("/")[0] == name
    official = PREPARABLE[name].builder()
    assert str(builder.info.version) == str(official.VERSION)
    assert builder.info.supervised_keys == ("image", "label")
    shared = {"train": splits["train"], "test": splits["test"]}
    if "test" not in sources:
        shared = {"train": splits["train"]} if "validation" in sources else {}
    for split, source in shared.items():
        assert len(source) == len(sources[split])
        for row, example in enumerate(sources[split]):
            assert example["label"] == source.labels[row]
            if source.images.shape[1:] == example["image"].shape:
                np.testing.assert_array_equal(source.images[row], example["image"])


def test_tfds_sources_are_accepted(prepared):
    splits, sources, _ = prepared("cifar10")
    source = data.from_source(sources["train"], size=(32, 32), channels=3)
    np.testing.assert_array_equal(source.images[:], splits["train"].images)
    np.testing.assert_array_equal(source.labels, splits["train"].labels)


def by_pixels(images, labels):
    order = np.lexsort(images.reshape(len(images), -1).T)
    return images[order], labels[order]


@pytest.mark.parametrize("layout", ["mnist", "kmnist", "emnist/balanced", "emnist/digits"])
def test_idx_files(layout, prepared):
    splits, _, _ = prepared(layout)
    for split, source in splits.items():
        assert source.images.shape == (len(GRAY[split]), 28, 28, 1)
        ours, expected = (
            by_pixels(source.images[..., 0], source.labels),
            by_pixels(GRAY[split], DIGITS[split]),
        )
        np.testing.assert_array_equal(ours[0], expected[0])
        np.testing.assert_array_equal(ours[1], expected[1])
        assert source.classes == CLASS_NAMES.get(layout, tuple("0123456789"))


@pytest.mark.parametrize("number", [10, 100])
def test_cifar_from_either_archive(number, prepared):
    binary, pickled = (prepared(f"cifar{number}{kind}")[0] for kind in ("", " pickles"))
    for split, rows in (("train", slice(0, 50)), ("test", slice(50, 60))):
        expected = by_pixels(COLORED[rows], FINE[rows] % number)
        for source in (binary[split], pickled[split]):
            ours = by_pixels(source.images, source.labels)
            np.testing.assert_array_equal(ours[0], expected[0])
            np.testing.assert_array_equal(ours[1], expected[1])
            assert source.classes == tuple(f"class {i}" for i in range(number))
        np.testing.assert_array_equal(binary[split].images, pickled[split].images)


@pytest.mark.parametrize("layout", ["caltech101", "caltech101 tar"])
def test_caltech101_has_30_training_images_of_each_class(layout, prepared):
    splits, _, _ = prepared(layout)
    # The classes are in alphabetical order.
    assert np.bincount(splits["train"].labels)[[0, 1, 2]].tolist() == [30, 0, 30]
    assert splits["train"].classes[1] == "airplanes"
    assert len(splits["test"]) == 15
    assert splits["train"].images.shape == (90, 64, 64, 3)
    assert isinstance(splits["train"].images, data.DecodedImages)


def test_caltech256_and_corel_get_a_test_split(prepared):
    splits, _, _ = prepared("caltech256")
    assert splits["train"].classes[0] == "001.thing1"
    assert [len(splits[split]) for split in ("train", "test")] == [257, 257]
    splits, _, _ = prepared("corel1000")
    assert splits["train"].classes == COREL_CLASSES
    assert np.bincount(splits["test"].labels).tolist() == [20] * 10


def corel_with(folder, names):
    with zipfile.ZipFile(folder / "test1.zip", "w") as archive:
        for name in names:
            archive.writestr(f"image.orig/{name}", jpeg(0))


COREL = [f"{number}.jpg" for number in range(1000)]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["readme.txt"], "0 of them among 0"),
        (COREL[:7], "7 of them among 7"),
        (COREL[1:], "999 of them among 999"),
        ([*COREL, "again/3.jpg"], "1000 of them among 1001"),
        ([*COREL[:-1], "1000.jpg"], "999 of them among 1000"),
    ],
)
def test_corel_must_be_complete(names, found, tmp_path):
    corel_with(tmp_path, names)
    message = (
        rf"test1\.zip must contain each of the images 0\.jpg to 999\.jpg exactly once, got {found}"
    )
    with pytest.raises(ValueError, match=message):
        data.prepare("corel1000", folder=tmp_path, data_dir=tmp_path / "data")
    assert not (tmp_path / "data" / "corel1000").exists()


def test_caltech256_must_be_complete(tmp_path):
    caltech256(tmp_path)
    message = r"must contain 30607 images in 257 classes, got 514 images in 257 classes; it is"
    with pytest.raises(ValueError, match=message):
        data.prepare("caltech256", folder=tmp_path, data_dir=tmp_path / "data")


def test_an_unreadable_image_is_named_with_its_archive(tmp_path):
    corel(tmp_path)
    path = tmp_path / "test1.zip"
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("image.orig/500.jpg").header_offset + 200
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(bytes(content))
    message = r"image\.orig/500\.jpg in .*test1\.zip cannot be read: its checksum"
    with pytest.raises(ValueError, match=message):
        data.prepare("corel1000", folder=tmp_path, data_dir=tmp_path / "data")


def test_imagenet_has_synsets_and_is_tested_on_its_validation_split(prepared):
    splits, _, _ = prepared("imagenet2012")
    assert len(splits["train"].classes) == 1000
    assert {splits["train"].classes[i] for i in splits["train"].labels} == {
        "n01440764",
        "n01443537",
    }
    listed = tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt").read_text().split()
    assert sorted(splits["test"].classes[i] for i in splits["test"].labels) == sorted(listed[:5])
    assert splits["train"].images[:].shape == (6, 64, 64, 3)  # including the CMYK images


class Evil:
    def __reduce__(self):
        return (__import__("os").system, ("touch /tmp/jaxcnn-was-here",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Evil(), 2), "asks for posix.system; nothing was executed"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "asks for builtins.eval; nothing was executed"),
        (b"garos\n", "damaged|nothing was executed"),
        (pickle.dumps([1, 2]), "must contain a dictionary, got list"),
        (b"", "damaged"),
    ],
)
def test_nothing_in_a_pickle_is_called(content, message, tmp_path, monkeypatch):
    files = {f"cifar-10-batches-py/{name}": content for name in ("batches.meta", "data_batch_1")}
    packed(tmp_path / "cifar-10-python.tar.gz", files)
    trusted(monkeypatch, "cifar10", tmp_path)
    with pytest.raises(ValueError, match=message):
        data.prepare("cifar10", folder=tmp_path, data_dir=tmp_path / "data")
    assert not (tmp_path / "data" / "cifar10" / "3.0.2").exists()


CHECKED = [
    name for name in dict(LAYOUTS.values()) if PREPARABLE[name].files[0][0].checksum is not None
]


@pytest.mark.parametrize("name", CHECKED)
def test_unofficial_files_are_rejected(name, tmp_path):
    make = dict(LAYOUTS.values())[name]
    make(tmp_path)
    with pytest.raises(ValueError, match=r"is not the official file: its (SHA-256|MD5) must be"):
        data.prepare(name, folder=tmp_path, data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_tar_that_holds_a_zip_is_read_as_a_tar(tmp_path):
    corel(tmp_path)
    tar = packed(tmp_path / "test1.tar", {"z.zip": (tmp_path / "test1.zip").read_bytes()}, "w")
    (tmp_path / "test1.zip").unlink()
    with pytest.raises(ValueError, match=f"{tar} must contain each of the images"):
        data.prepare("corel1000", folder=tmp_path, data_dir=tmp_path / "data")


@pytest.mark.parametrize("name", sorted(set(dict(LAYOUTS.values())) - set(CHECKED)))
def test_files_without_a_checksum_must_be_archives(name, tmp_path):
    file = PREPARABLE[name].files[0][0]
    (tmp_path / file.name).write_bytes(b"<html>Please log in</html>")
    with pytest.raises(ValueError, match="is not the official file: it is not an archive"):
        data.prepare(name, folder=tmp_path, data_dir=tmp_path / "data")


def test_files_that_need_registration_are_named(tmp_path):
    message = (
        r"ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar cannot be downloaded .* --from FOLDER"
    )
    with pytest.raises(ValueError, match=message):
        data.prepare("imagenet2012", data_dir=tmp_path)


def test_other_names_of_tfds_need_tensorflow(tmp_path):
    with pytest.raises(ValueError, match=r"requires TensorFlow: pip install 'jaxcnn\[tf\]'"):
        data.prepare("beans", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("emnist", "choose emnist/balanced, emnist/byclass"),
        ("mnist:3.0.1", "choose mnist"),
        ("MNIST", "Choose mnist"),
    ],
)
def test_similar_names_are_suggested(name, choice, tmp_path):
    with pytest.raises(ValueError, match=choice):
        data.prepare(name, data_dir=tmp_path)


@pytest.mark.parametrize("name", ["cifar", "emnist", "no such set", "", "../cifar10"])
def test_unknown_names_are_rejected(name, tmp_path):
    with pytest.raises(ValueError, match=r"name must be a dataset|requires TensorFlow"):
        data.prepare(name, data_dir=tmp_path)


def test_an_interrupted_download_is_resumed(tmp_path, monkeypatch):
    folder = tmp_path / "official"
    folder.mkdir()
    mnist_files(folder)
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = (folder / self.path.removeprefix("/")).read_bytes()
            begin = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-")
            asked.append(int(begin))
            rest = content[int(begin) :]
            self.send_response(206 if int(begin) else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            breaks = len(asked) == 1
            self.wfile.write(rest[: len(rest) // 2] if breaks else rest)

        def log_message(self, *arguments):
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        trusted(monkeypatch, "mnist", folder)
        recipe = PREPARABLE["mnist"]
        url = f"http://127.0.0.1:{server.server_port}/"
        files = tuple(file._replace(url=url + file.name) for file in recipe.files[0])
        monkeypatch.setitem(PREPARABLE, "mnist", recipe._replace(files=(files,)))
        try:
            with pytest.raises(ValueError, match="run the command again to resume"):
                data.prepare("mnist", data_dir=tmp_path / "data")
            data.prepare("mnist", data_dir=tmp_path / "data")
        finally:
            server.shutdown()
    first = (folder / "train-images-idx3-ubyte.gz").stat().st_size
    assert asked == [0, first // 2, 0, 0, 0]
    assert len(data.load("mnist", data_dir=tmp_path / "data")) == 30
