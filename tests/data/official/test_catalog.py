"""Datasets prepared and read from small files in the official format, intact or damaged.

The checksums of the small files replace the official ones; a `slow` test uses the real files.
"""

import contextlib
import gzip
import hashlib
import http.server
import io
import re
import shutil
import socket
import struct
import threading
import time
import urllib.error
from pathlib import Path

import chex
import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from jaxcnn import data
from jaxcnn.data.official.catalog import PREPARABLE
from jaxcnn.data.official.download import OfficialFile
from jaxcnn.data.official.idx import FASHION_CLASSES

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SIZES = {"train": 50, "test": 20}
# Size, and SHA-256 of the pixels and of the labels as int32, with the real examples in TFDS order.
REAL = {
    "train": (
        60_000,
        "d6f7acb83157a75006f04dbae6822f88b1bb1651cef953707c39831d938776a3",
        "0f719277c94fd64b784df233338874360483009b12c9952b1be69bc7d463ae04",
    ),
    "test": (
        10_000,
        "a84f70bc4eaa1b2c5e671e99525a60f9dbe89328fa62013e4aa30ba11800c4df",
        "85e2be1b62985fe36ef293a029e9559c3f6822643be932622c5042b8a1654a94",
    ),
}
STAMPS = {"train": 1504176606, "test": 1504176627}
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def arrays(split):
    """Return images and labels for a small stand-in dataset."""
    rng = np.random.default_rng(STAMPS[split])
    size = SIZES[split]
    return rng.integers(0, 256, (size, 28, 28), np.uint8), rng.integers(0, 10, size, np.uint8)


def idx(array):
    """Encode a uint8 array in the IDX format: type and rank, sizes, values."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def zipped(content, name, stamp):
    """Compress the content as `gzip` does for a file with this name and modification time."""
    file = io.BytesIO()
    with gzip.GzipFile(name, "wb", fileobj=file, mtime=stamp) as stream:
        stream.write(content)
    return file.getvalue()


RAW = {
    name: zipped(idx(array), name, STAMPS[split])
    for split, names in FILES.items()
    for name, array in zip(names, arrays(split), strict=True)
}


def stand_in(patch, url="http://127.0.0.1:9/"):
    """Replace the official files with the small ones at ``url``."""
    files = tuple(
        OfficialFile(
            f"{name}.gz",
            f"{url}{name}.gz",
            f"sha256:{hashlib.sha256(RAW[name]).hexdigest()}",
            STAMPS[split],
        )
        for split, names in FILES.items()
        for name in names
    )
    recipe = PREPARABLE["fashion_mnist"]._replace(files=(files,))
    patch.setitem(PREPARABLE, "fashion_mnist", recipe)


def written(folder):
    """Write the small files into the folder, and return it."""
    folder.mkdir(exist_ok=True)
    for name, raw in RAW.items():
        (folder / f"{name}.gz").write_bytes(raw)
    return folder


@pytest.fixture
def official(monkeypatch):
    """The small files by name, with their checksums in place of the official ones."""
    stand_in(monkeypatch)
    return RAW


@pytest.fixture
def folder(official, tmp_path):
    """A folder containing the small files."""
    return written(tmp_path / "downloads")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A data directory containing the small dataset, for reading or copying only."""
    source, data_dir = tmp_path_factory.mktemp("downloads"), tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        data.prepare("fashion_mnist", folder=written(source), data_dir=data_dir)
    return data_dir


@pytest.fixture
def prepared(pristine, tmp_path):
    """A data directory that may be damaged, and the dataset folder inside it."""
    shutil.copytree(pristine, tmp_path / "data")
    return tmp_path / "data", tmp_path / "data" / "fashion_mnist" / "3.0.1"


def by_pixels(images, labels):
    """Sort examples by their pixels, because TFDS shuffles what it writes."""
    order = np.lexsort(images.reshape(len(images), -1).T)
    return images.reshape(-1, 28, 28)[order], labels[order]


def assert_complete(data_dir):
    """Check both splits, example by example."""
    for split in SIZES:
        source = data.load("fashion_mnist", split=split, data_dir=data_dir)
        chex.assert_shape(source.images, (SIZES[split], 28, 28, 1))
        chex.assert_type([source.images, source.labels], [np.uint8, np.int32])
        assert source.classes == FASHION_CLASSES
        chex.assert_trees_all_equal(
            by_pixels(source.images, source.labels), by_pixels(*arrays(split))
        )


def test_prepare_and_load(folder, tmp_path):
    data_dir = tmp_path / "data"
    path = data.prepare("fashion_mnist", folder=folder, data_dir=data_dir)
    assert path == data_dir / "fashion_mnist" / "3.0.1"
    assert_complete(data_dir)
    # Only the finished dataset remains, without a temporary folder.
    assert [entry.name for entry in path.parent.iterdir()] == ["3.0.1"]


def test_plain_tfds_reads_the_same_examples(pristine):
    sources = tfds.data_source("fashion_mnist", data_dir=pristine, download=False, try_gcs=False)
    builder = tfds.builder_from_directory(pristine / "fashion_mnist" / "3.0.1")
    assert builder.info.features["label"].names == list(FASHION_CLASSES)
    for split, source in sources.items():
        ours = data.load("fashion_mnist", split=split, data_dir=pristine)
        assert len(source) == builder.info.splits[split].num_examples == SIZES[split]
        for example, expected in zip(source, ours, strict=True):
            np.testing.assert_array_equal(example["image"], expected["image"])
            assert example["label"] == expected["label"]


@pytest.mark.parametrize(
    ("feature", "labels"),
    [
        (tfds.features.Tensor(shape=(2,), dtype=np.float32), [[0.5, -1.25], [3, 4]]),
        (tfds.features.Sequence(tfds.features.ClassLabel(num_classes=2)), [[0, 1], [1, 1]]),
        (tfds.features.Scalar(dtype=np.bool_), [True, False]),
    ],
)
def test_numeric_labels_match_tfds(feature, labels, tmp_path):
    pixels = np.arange(2 * 64, dtype=np.uint8).reshape(2, 8, 8, 1)

    class Numbers(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(shape=(8, 8, 1)), "label": feature}
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for number, label in enumerate(labels):
                content = io.BytesIO()
                PIL.Image.fromarray(pixels[number, ..., 0]).save(content, "PNG")
                content.seek(0)
                yield number, {"image": content, "label": label}

    builder = Numbers(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    upstream = builder.as_data_source("train")
    source = data.load_splits("numbers", data_dir=tmp_path, test_fraction=None)["train"]
    np.testing.assert_array_equal(source.labels, np.array([row["label"] for row in upstream]))
    np.testing.assert_array_equal(source.images, np.array([row["image"] for row in upstream]))


def test_preparing_again_gives_the_same_order(folder, pristine, tmp_path):
    again = str(tmp_path / "data")  # paths may be strings
    data.prepare("fashion_mnist", folder=str(folder), data_dir=again)
    for split in SIZES:
        first, second = (
            data.load("fashion_mnist", split=split, data_dir=data_dir)
            for data_dir in (pristine, again)
        )
        np.testing.assert_array_equal(first.images, second.images)
        np.testing.assert_array_equal(first.labels, second.labels)


def test_a_finished_dataset_is_not_changed(prepared, folder):
    data_dir, path = prepared
    before = {file: file.stat().st_mtime_ns for file in path.iterdir()}
    assert data.prepare("fashion_mnist", folder=folder, data_dir=data_dir) == path
    assert {file: file.stat().st_mtime_ns for file in path.iterdir()} == before


def test_concurrent_preparations_wait_for_each_other(official, tmp_path, monkeypatch):
    asked = []

    def send_slowly(handler):
        asked.append(handler.path)
        raw = official[handler.path.removeprefix("/").removesuffix(".gz")]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        for place in range(0, len(raw), 1 + len(raw) // 5):
            handler.wfile.write(raw[place : place + 1 + len(raw) // 5])
            handler.wfile.flush()
            time.sleep(0.02)

    # A file lock treats two threads the same as two processes.
    data_dir, found = tmp_path / "data", []
    with served(monkeypatch, send_slowly):
        threads = [
            threading.Thread(
                target=lambda: found.append(data.prepare("fashion_mnist", data_dir=data_dir))
            )
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [data_dir / "fashion_mnist" / "3.0.1"] * 2
    assert len(asked) == len(set(asked)) == 4  # each file is requested once
    assert_complete(data_dir)


def test_leftovers_of_a_killed_process_are_removed(folder, tmp_path):
    left = tmp_path / "data" / "fashion_mnist" / "incomplete.ABC123_3.0.1"
    left.mkdir(parents=True)
    (left / "some.array_record").write_bytes(b"x")
    other = tmp_path / "data" / "fashion_mnist" / "incomplete.ABC123_2.0.0"
    other.mkdir()
    data.prepare("fashion_mnist", folder=folder, data_dir=tmp_path / "data")
    assert not left.exists()
    assert other.exists()
    assert_complete(tmp_path / "data")


def test_a_finished_dataset_needs_no_download(prepared, unreachable):
    data_dir, path = prepared
    assert data.prepare("fashion_mnist", data_dir=data_dir) == path


def test_the_default_folder_is_the_tfds_default(pristine, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(pristine))
    assert_complete(None)


def strip_header(raw):
    """Remove the name and time from a gzip header, as Debian does."""
    end = raw.index(b"\0", 10) + 1
    return raw[:3] + bytes(5) + raw[8:10] + raw[end:]


def test_official_files_with_a_stripped_header_are_accepted(folder, official, tmp_path):
    for name, raw in official.items():
        stripped = strip_header(raw)
        assert len(stripped) == len(raw) - len(name) - 1
        assert gzip.decompress(stripped) == gzip.decompress(raw)
        (folder / f"{name}.gz").write_bytes(stripped)
    data.prepare("fashion_mnist", folder=folder, data_dir=tmp_path / "data")
    assert_complete(tmp_path / "data")


def altered(raw):
    """Flip one bit of the compressed data."""
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]


@pytest.mark.parametrize(
    "change",
    [altered, lambda raw: altered(strip_header(raw)), lambda raw: raw[:-1], lambda raw: b""],
    ids=["flipped", "stripped_and_flipped", "truncated", "empty"],
)
@pytest.mark.parametrize("name", [name for names in FILES.values() for name in names])
def test_altered_files_are_rejected(folder, official, tmp_path, name, change):
    content = change(official[name])
    (folder / f"{name}.gz").write_bytes(content)
    wanted = hashlib.sha256(official[name]).hexdigest()
    got = hashlib.sha256(content).hexdigest()
    message = f"{name}.gz in {folder} is not the official file: its SHA-256 must be {wanted}, got "
    with pytest.raises(ValueError, match=re.escape(message + got)):
        data.prepare("fashion_mnist", folder=folder, data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_repacked_files_are_rejected(folder, official, tmp_path):
    # The pixels are the same but compressed differently: only the official bytes are accepted.
    name = "train-images-idx3-ubyte"
    again = gzip.compress(gzip.decompress(official[name]), compresslevel=1, mtime=0)
    (folder / f"{name}.gz").write_bytes(again)
    with pytest.raises(ValueError, match="is not the official file"):
        data.prepare("fashion_mnist", folder=folder, data_dir=tmp_path / "data")


def test_a_missing_file_is_named_with_the_expected_ones(folder, tmp_path):
    missing = folder / "t10k-images-idx3-ubyte.gz"
    missing.unlink()
    with pytest.raises(ValueError, match=re.escape(f"{missing} does not exist")) as caught:
        data.prepare("fashion_mnist", folder=folder, data_dir=tmp_path / "data")
    for names in FILES.values():
        assert all(f"{name}.gz" in str(caught.value) for name in names)


@pytest.fixture
def unreachable(monkeypatch):
    """Point the downloads at a local address that does not respond."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    stand_in(monkeypatch, f"http://127.0.0.1:{port}/")


@contextlib.contextmanager
def served(monkeypatch, respond):
    """Download from a local server that calls ``respond(handler)``, instead of from the web."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            respond(self)

        def log_message(self, *arguments):
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        stand_in(monkeypatch, f"http://127.0.0.1:{server.server_port}/")
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_without_a_folder_the_files_are_downloaded(official, tmp_path, monkeypatch):
    def send(handler):
        raw = official[handler.path.removeprefix("/").removesuffix(".gz")]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)

    with served(monkeypatch, send):
        data.prepare("fashion_mnist", data_dir=tmp_path / "data")
    assert_complete(tmp_path / "data")


def assert_names_the_alternatives(error):
    assert "/train-images-idx3-ubyte.gz (" in str(error)
    assert "t10k-labels-idx1-ubyte.gz" in str(error)
    assert "run: jaxcnn prepare fashion_mnist --from FOLDER" in str(error)


def test_without_network_the_alternatives_are_named(official, unreachable, tmp_path):
    with pytest.raises(ValueError, match="cannot download") as caught:
        data.prepare("fashion_mnist", data_dir=tmp_path)
    assert_names_the_alternatives(caught.value)
    assert not any(tmp_path.rglob("*.gz*"))


def no_such_file(handler):
    handler.send_error(404)


def broken_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"only this")


def not_http(handler):
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")


@pytest.mark.parametrize("respond", [no_such_file, broken_off, not_http])
def test_a_failed_download_names_the_alternatives(official, tmp_path, monkeypatch, respond):
    with (
        served(monkeypatch, respond),
        pytest.raises(ValueError, match="cannot download") as caught,
    ):
        data.prepare("fashion_mnist", data_dir=tmp_path)
    assert_names_the_alternatives(caught.value)
    if isinstance(caught.value.__cause__, urllib.error.HTTPError):
        caught.value.__cause__.close()  # the exception keeps its connection open


def test_unofficial_downloads_are_rejected(official, tmp_path, monkeypatch):
    def login_page(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"<html>Please log in to the hotel's network</html>")

    with served(monkeypatch, login_page), pytest.raises(ValueError, match="not the official file"):
        data.prepare("fashion_mnist", data_dir=tmp_path)


@pytest.mark.parametrize("split", SIZES)
def test_missing_datasets_name_the_command(tmp_path, split):
    message = f"fashion_mnist is not prepared in {tmp_path}; run: jaxcnn prepare fashion_mnist"
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load("fashion_mnist", split=split, data_dir=tmp_path)


def shard(path, split):
    """Return the only file of a split."""
    (file,) = path.glob(f"*-{split}.array_record-*")
    return file


def cut(path):
    file = shard(path, "train")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def cut_by_one_byte(path):
    file = shard(path, "train")
    file.write_bytes(file.read_bytes()[:-1])


def emptied(path):
    shard(path, "train").write_bytes(b"")


def deleted(path):
    shard(path, "train").unlink()


def corrupted(path):
    file = shard(path, "train")
    raw = bytearray(file.read_bytes())
    raw[1000] ^= 0xFF
    file.write_bytes(raw)


def replaced(path):
    shutil.copy(shard(path, "test"), shard(path, "train"))


def unreadable_info(path):
    (path / "dataset_info.json").write_text("{")


def missing_features(path):
    (path / "features.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        cut_by_one_byte,
        emptied,
        deleted,
        corrupted,
        replaced,
        unreadable_info,
        missing_features,
    ],
)
def test_damage_is_found_and_the_command_is_named(prepared, damage):
    data_dir, path = prepared
    damage(path)
    with pytest.raises(ValueError, match="is damaged") as caught:
        data.load("fashion_mnist", data_dir=data_dir)
    assert f"the prepared dataset fashion_mnist in {path} is damaged" in str(caught.value)
    assert "delete that folder and run: jaxcnn prepare fashion_mnist" in str(caught.value)


def test_tfrecord_is_not_reported_as_damage(prepared):
    data_dir, path = prepared
    info = path / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match="must be in array_record format, got tfrecord"):
        data.load("fashion_mnist", data_dir=data_dir)


def test_foreign_modules_are_not_imported(prepared, tmp_path, monkeypatch):
    data_dir, path = prepared
    (tmp_path / "evil.py").write_text("import pathlib; pathlib.Path('was-here').touch()")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    features = path / "features.json"
    own = "tensorflow_datasets.core.features.image_feature.Image"
    features.write_text(features.read_text().replace(own, "evil.Image"))
    with pytest.raises(ValueError, match=r"names 'evil\.Image', which is not part of TFDS"):
        data.load("fashion_mnist", data_dir=data_dir)
    assert not (tmp_path / "was-here").exists()


def test_flipped_bytes_are_found(prepared):
    data_dir, path = prepared
    file = shard(path, "train")
    raw = file.read_bytes()
    used = np.flatnonzero(np.frombuffer(raw, np.uint8))
    intact = data.load("fashion_mnist", data_dir=data_dir)
    found = 0
    for position in np.random.default_rng(0).choice(used, 60, replace=False):
        damaged = bytearray(raw)
        damaged[position] ^= 0x10
        file.write_bytes(damaged)
        try:
            source = data.load("fashion_mnist", data_dir=data_dir)
        except ValueError:
            found += 1
        else:
            # Undetected changes must be in bytes that no example uses.
            np.testing.assert_array_equal(source.images, intact.images)
            np.testing.assert_array_equal(source.labels, intact.labels)
    assert found >= 54


@pytest.mark.slow
@pytest.mark.skipif(
    not DEBIAN.is_dir(), reason="needs the files from Debian's dataset-fashion-mnist package"
)
def test_the_real_files(tmp_path):
    path = data.prepare("fashion_mnist", folder=DEBIAN, data_dir=tmp_path)
    assert path == tmp_path / "fashion_mnist" / "3.0.1"
    sources = tfds.data_source("fashion_mnist", data_dir=tmp_path, download=False, try_gcs=False)
    for split, (size, pixels_sha, labels_sha) in REAL.items():
        source = data.load("fashion_mnist", split=split, data_dir=tmp_path)
        chex.assert_shape(source.images, (size, 28, 28, 1))
        assert np.bincount(source.labels).tolist() == [size // 10] * 10
        # The order, too, matches TFDS's own preparation with TensorFlow.
        assert hashlib.sha256(source.images.tobytes()).hexdigest() == pixels_sha
        assert hashlib.sha256(source.labels.astype("<i4").tobytes()).hexdigest() == labels_sha
        for index in (0, size // 2, size - 1):
            example = sources[split][index]
            np.testing.assert_array_equal(example["image"], source.images[index])
            assert example["label"] == source.labels[index]
        # Zalando's files contain the same examples; the embedded slice is the first part of them.
        raw = [
            np.frombuffer(gzip.decompress((DEBIAN / f"{name}.gz").read_bytes()), np.uint8, -1, skip)
            for name, skip in zip(FILES[split], (16, 8), strict=True)
        ]
        images = raw[0].reshape(size, 28, 28)
        chex.assert_trees_all_equal(
            by_pixels(source.images, source.labels), by_pixels(images, raw[1])
        )
        embedded = data.load("fashion_mnist_slice", split=split)
        np.testing.assert_array_equal(embedded.images[..., 0], images[: len(embedded)])
        np.testing.assert_array_equal(embedded.labels, raw[1][: len(embedded)])
