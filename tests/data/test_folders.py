"""Folders, archives and tables of images: every layout, and what is rejected."""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from jaxcnn import data
from jaxcnn.data.folders import list_examples, skipped_files


def png(value):
    """Encode a 6x5 grayscale PNG file whose pixels all have one value."""
    file = io.BytesIO()
    PIL.Image.new("L", (6, 5), value).save(file, "PNG")
    return file.getvalue()


def folder(root, files):
    """Write files to a folder: strings, bytes, or images whose pixels all have one value."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            content = content.encode()
        path.write_bytes(png(content) if isinstance(content, int) else content)
    return root


def zipped(path, root):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root.parent))
    return path


def tarred(mode):
    def pack(path, root):
        with tarfile.open(path, mode) as archive:
            archive.add(root, root.name)
        return path

    return pack


def values(source):
    """Return the gray value and label of each image."""
    labels = [tuple(np.atleast_1d(label).tolist()) for label in source.labels]
    return sorted(zip(source.images[:][:, 0, 0, 0].tolist(), labels, strict=True))


def names(source):
    return {Path(source.images.name(row)).name for row in range(len(source))}


CLASSES = {f"{label}/{i}.png": 10 * i + n for n, label in enumerate("ab") for i in range(10)}
SPLITS = {
    f"{split}/{label}/deep/er/{i}.png": 100 * s + 10 * n + i
    for s, split in enumerate(("train", "val", "test"))
    for n, label in enumerate(("cat", "dog"))
    for i in range(3)
}
PACKED = {
    "folder": lambda path, root: root,
    "zip": zipped,
    "tar": tarred("w"),
    "tar.gz": tarred("w:gz"),
    "tar.xz": tarred("w:xz"),
    "tgz": tarred("w:gz"),
}


@pytest.mark.parametrize("kind", PACKED)
def test_a_fraction_of_each_class_becomes_the_test_split(kind, tmp_path):
    root = folder(tmp_path / "photos", CLASSES | {".hidden/x.png": 1, "a/.x.png": 1, "a/notes": ""})
    path = PACKED[kind](tmp_path / f"archive.{kind}", root)
    splits = data.from_folder(path, size=(5, 6), channels=1, test_fraction=0.3)
    assert list(splits) == ["train", "test"]
    assert [np.bincount(source.labels).tolist() for source in splits.values()] == [[7, 7], [3, 3]]
    assert all(source.classes == ("a", "b") for source in splits.values())
    both = values(splits["train"]) + values(splits["test"])
    assert sorted(both) == sorted((10 * i + n, (n,)) for n in range(2) for i in range(10))
    again = data.from_folder(path, size=(5, 6), channels=1, test_fraction=0.3)
    assert values(again["test"]) == values(splits["test"])


@pytest.mark.parametrize("kind", PACKED)
def test_splits_in_folders(kind, tmp_path):
    path = PACKED[kind](tmp_path / f"x.{kind}", folder(tmp_path / "photos", SPLITS))
    splits = data.from_folder(path, size=(5, 6), channels=1)
    assert sorted(splits) == ["test", "train", "validation"]
    for number, split in enumerate(("train", "validation", "test")):
        expected = [(100 * number + 10 * n + i, (n,)) for n in range(2) for i in range(3)]
        assert values(splits[split]) == expected
        assert splits[split].classes == ("cat", "dog")


def test_other_folders_beside_splits_are_skipped(tmp_path):
    root = folder(tmp_path, SPLITS | {"annotations/xml/1.xml": ""})
    assert data.from_folder(root)["train"].classes == ("cat", "dog")


def test_validation_replaces_a_missing_test_split(tmp_path):
    root = folder(tmp_path, {n: v for n, v in SPLITS.items() if not n.startswith("test")})
    splits = data.from_folder(root, size=(5, 6), channels=1)
    assert list(splits) == ["train", "test"]
    assert values(splits["test"])[0] == (100, (0,))


TABLES = {
    "strings": ("file,label\na.png,dog\nb.png,cat\n", [[1], [0]], ("cat", "dog")),
    "numbers": ("filename;class\na.png;10\nb.png;9\n", [[1], [0]], ("9", "10")),
    "semicolons": ("path;label\na.png;x,y\nb.png;z\n", [[0], [1]], ("x,y", "z")),
    "quotes": ('image,label\n"a.png","x, y"\nb.png,z\n', [[0], [1]], ("x, y", "z")),
    "mark": ("\ufefffile,label\r\na.png,p\r\nb.png,q\r\n", [[0], [1]], ("p", "q")),
    "regression": ("file,age\na.png,1.5\nb.png,2\n", [[1.5], [2.0]], ("age",)),
    "several labels": ("file,sea,sun\na.png,1,0\nb.png,1,1\n", [[1, 0], [1, 1]], ("sea", "sun")),
    "several targets": ("file,x,y\na.png,1.5,0\nb.png,-3,2e3\n", [[1.5, 0], [-3, 2e3]], ("x", "y")),
}
LINES = {
    "strings": ([{"label": "dog"}, {"label": "cat"}], [[1], [0]], ("cat", "dog")),
    "lists": ([{"label": ["sun"]}, {"label": []}], [[1], [0]], ("sun",)),
    "several": ([{"label": ["b", "a"]}, {"label": ["b"]}], [[1, 1], [0, 1]], ("a", "b")),
    "targets": (
        [{"label": [1.5, 2]}, {"label": [0, 1]}],
        [[1.5, 2], [0, 1]],
        ("label_0", "label_1"),
    ),
    "regression": ([{"label": 0.5}, {"label": 2}], [[0.5], [2]], ("label",)),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables(kind, tmp_path):
    text, labels, classes = TABLES[kind]
    folder(tmp_path, {"a.png": 1, "b.png": 2, "train.csv": text})
    listing = list_examples(tmp_path / "train.csv")
    assert listing.classes == classes
    np.testing.assert_array_equal(listing.labels.reshape(2, -1), np.float32(labels))
    assert listing.names == ("a.png", "b.png")


@pytest.mark.parametrize("kind", LINES)
def test_json_lines(kind, tmp_path):
    rows, labels, classes = LINES[kind]
    lines = [{"file": name} | row for name, row in zip(("a.png", "b.png"), rows, strict=True)]
    text = "\n".join(map(json.dumps, lines)) + "\n\n"
    listing = list_examples(folder(tmp_path, {"a.png": 1, "b.png": 2, "labels.jsonl": text}))
    assert listing.classes == classes
    np.testing.assert_array_equal(listing.labels.reshape(2, -1), np.float32(labels))


@pytest.mark.parametrize("kind", PACKED)
def test_a_table_with_splits_in_an_archive(kind, tmp_path):
    rows = [f"pictures/{i}.png,{'ab'[i % 2]},{('train', 'Val', 'test')[i // 4]}" for i in range(12)]
    text = "file,label,split\n" + "\n".join(rows)
    files = {f"pictures/{i}.png": i for i in range(12)} | {"labels.csv": text}
    path = PACKED[kind](tmp_path / f"x.{kind}", folder(tmp_path / "photos", files))
    splits = data.from_folder(path, size=(5, 6), channels=1)
    for number, split in enumerate(("train", "validation", "test")):
        assert values(splits[split]) == [(4 * number + i, (i % 2,)) for i in range(4)]


def table(text, **files):
    return {"a.png": 1, "b.png": 2, "labels.csv": text} | files


BAD_FOLDERS = {
    "nothing": ({}, "must contain images in one folder per class"),
    "only a flat folder": ({"a.png": 1, "b.png": 2}, "got 2 images elsewhere"),
    "no images": ({"cat/a.txt": "", "dog/b.txt": ""}, "got 0 images elsewhere"),
    "one class": ({"cat/a.png": 1, "cat/b.png": 2}, r"at least two classes, got \('cat',\)"),
    "an empty class": ({"cat/a.png": 1, "dog/b.png": 2, "fox/n.txt": ""}, "fox contains no images"),
    "an empty class in a split": (
        SPLITS | {"test/fox/note.txt": ""},
        "test/fox contains no images",
    ),
    "a class missing from train": (SPLITS | {"test/fox/1.png": 1}, "'fox', which is missing from"),
    "a folder alongside splits": (
        SPLITS | {"samples/cat/1.png": 1},
        "must contain either splits or classes, got samples alongside test, train, val",
    ),
    "no train split": ({"test/a/1.png": 1, "val/b/1.png": 1}, "must have a train split, got"),
    "a class with one image": (
        {"a/1.png": 1, "a/2.png": 2, "b/1.png": 1},
        "photos has only one image of class 'b', .* add images, remove the class, or provide",
    ),
    "an empty table": (table(""), "labels.csv cannot be used: it has no rows"),
    "only a header": (table("file,label\n"), "it has no rows"),
    "no file column": (
        table("name,label\na.png,x\n"),
        "must be named file or .* got name",
    ),
    "no labels": (table("file\na.png\n"), "it has no label column"),
    "too few columns": (table("file,label\na.png\n"), "line 2 must have 2 columns"),
    "too many columns": (table("file,label\na.png,x,y\n"), "line 2 must have 2 columns"),
    "an empty cell": (table("file,label\na.png,x\nb.png,\n"), "row 2 has no label"),
    "a duplicate file": (table("file,label\na.png,x\na.png,y\n"), "it lists a.png twice"),
    "a missing file": (table("file,label\na.png,x\nc.png,y\n"), "c.png"),
    "an absolute path": (
        table("file,label\n/etc/passwd,x\na.png,y\n"),
        "relative and inside the table's folder",
    ),
    "a path outside the folder": (
        table("file,label\n../a.png,x\na.png,y\n"),
        "relative and inside the table's folder",
    ),
    "an unknown split": (
        table("file,label,split\na.png,x,dev2\n"),
        "split must be train, .*'dev2'",
    ),
    "strings among numbers": (
        table("file,x,y\na.png,1,0\nb.png,1,no\n"),
        "row 2: .* got 'no' for y",
    ),
    "not a number": (table("file,x,y\na.png,nan,0\n"), "row 1: .* got 'nan' for x"),
    "not text": (table(b"file,label\na.png,\xff\xfe\n"), "must be UTF-8 text"),
    "an unclosed quote": (table('file,label\n"a.png,x\n'), "cannot be used"),
    "invalid JSON": ({"labels.jsonl": "{\n", "a.png": 1}, "line 1 is not valid JSON"),
    "no JSON object": ({"labels.jsonl": "[1]\n", "a.png": 1}, r"must be a JSON object, got \[1\]"),
    "columns with the same name": (table("file,x,x\na.png,1,0\n"), "must have distinct names"),
    "a number out of range": (table("file,x,y\na.png,1e300,0\n"), "row 1: .* got '1e300' for x"),
    "a split in only some rows": (
        {
            "a.png": 1,
            "labels.jsonl": '{"file": "a.png", "y": "p"}\n'
            '{"file": "b.png", "y": "q", "split": "test"}\n',
        },
        "row 2 has split, which is missing from the first row",
    ),
    "lists of different lengths": (
        {"labels.jsonl": '{"file": "a.png", "y": [1, 2]}\n{"file": "b.png", "y": [1]}\n'},
        r"targets must all have the same length, got lengths \[1, 2\]",
    ),
    "mixed labels": (
        {"labels.jsonl": '{"file": "a.png", "y": "cat"}\n{"file": "b.png", "y": true}\n'},
        "labels must be all strings, all numbers, or all lists",
    ),
}


@pytest.mark.parametrize("kind", BAD_FOLDERS)
def test_bad_folders_are_rejected(kind, tmp_path):
    files, message = BAD_FOLDERS[kind]
    with pytest.raises(ValueError, match=message):
        data.load_splits(str(folder(tmp_path / "photos", files | {"x": ""})))


def evil_zip(path, name):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.png", png(1))
        archive.writestr(name, png(2))


def evil_tar(path, name):
    with tarfile.open(path, "w") as archive:
        for each in ("a/1.png", name):
            member = tarfile.TarInfo(each)
            member.size = len(png(1))
            archive.addfile(member, io.BytesIO(png(1)))


@pytest.mark.parametrize("make", [evil_zip, evil_tar])
@pytest.mark.parametrize(
    "name", ["../b/1.png", "b/../../1.png", "/tmp/b/1.png", "..\\b\\1.png", "C:/b/1.png"]
)
def test_names_that_point_outside_of_an_archive_are_rejected(make, name, tmp_path):
    path = tmp_path / ("x.zip" if make is evil_zip else "x.tar")
    make(path, name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="points outside the archive"):
        data.load_splits(str(path))
    assert sorted(tmp_path.rglob("*")) == before


def linked_tar(kind):
    def make(path, target):
        with tarfile.open(path, "w") as archive:
            for name in ("a/1.png", "a/2.png", "b/2.png"):
                member = tarfile.TarInfo(name)
                member.size = len(png(1))
                archive.addfile(member, io.BytesIO(png(1)))
            member = tarfile.TarInfo("b/1.png")
            member.type, member.linkname = kind, str(target)
            archive.addfile(member)

    return make


def linked_zip(path, target):
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/1.png", "a/2.png", "b/2.png"):
            archive.writestr(name, png(1))
        info = zipfile.ZipInfo("b/1.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, str(target))


LINKED = {
    "symbolic link": (linked_tar(tarfile.SYMTYPE), "links in archives are not followed"),
    "hard link": (linked_tar(tarfile.LNKTYPE), "links in archives are not followed"),
    "device": (linked_tar(tarfile.CHRTYPE), "not a regular file"),
    "pipe": (linked_tar(tarfile.FIFOTYPE), "not a regular file"),
    "link in a zip": (linked_zip, "links in archives are not followed"),
}


@pytest.mark.parametrize("kind", LINKED)
def test_links_and_devices_in_archives_are_not_followed(kind, tmp_path):
    make, why = LINKED[kind]
    (tmp_path / "secret.png").write_bytes(png(9))
    path = tmp_path / ("x.zip" if make is linked_zip else "x.tar")
    make(path, tmp_path / "secret.png")
    splits = data.from_folder(path, size=(5, 6), channels=1, test_fraction=0.5, on_bad="skip")
    seen = [value for source in splits.values() for value, _ in values(source)]
    assert sorted(seen) == [0, 1, 1, 1]  # the unreadable image is replaced by zeros
    (bad,) = [bad for source in splits.values() for bad in source.bad.values()]
    assert bad.file.endswith("b/1.png")
    assert why in bad.reason


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x1f\x8b no gzip", bytes(1024)])
@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz"])
def test_files_that_are_not_archives_are_rejected(content, suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        data.load_splits(str(path))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_truncated_archives_are_rejected(kind, tmp_path):
    path = PACKED[kind](tmp_path / f"x.{kind}", folder(tmp_path / "photos", CLASSES))
    whole = path.read_bytes()
    for share in (0.2, 0.5, 0.7):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ValueError, match="cannot be read"):
            data.from_folder(path, size=(5, 6), channels=1)


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_checksums_of_compressed_tars_are_verified(kind, tmp_path):
    content = tarred("w")(tmp_path / "plain.tar", folder(tmp_path / "photos", CLASSES)).read_bytes()
    # Change only the checksum of the compressed data, not the tar itself.
    packed = bytearray(
        {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind[4:]](content)
    )
    packed[{"tar.gz": -8, "tar.bz2": -3, "tar.xz": -20}[kind]] ^= 0xFF
    path = tmp_path / f"x.{kind}"
    path.write_bytes(bytes(packed))
    with pytest.raises(ValueError, match="cannot be read as a zip or tar"):
        data.load_splits(str(path))


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    inner = zipped(tmp_path / "inner.zip", folder(tmp_path / "other", {"c/1.png": 1, "d/1.png": 2}))
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(folder(tmp_path / "photos", CLASSES), "photos")
        archive.add(inner, "z.zip")
    assert data.from_folder(path)["train"].classes == ("a", "b")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_repeated_names_are_rejected_in_a_zip_and_updated_in_a_tar(tmp_path):
    root = folder(tmp_path / "photos", CLASSES)
    with zipfile.ZipFile(zipped(tmp_path / "x.zip", root), "a") as archive:
        archive.writestr("photos/a/0.png", png(99))
    with pytest.raises(ValueError, match=r"the name 'photos/a/0\.png' "):
        data.from_folder(tmp_path / "x.zip")
    path = tarred("w")(tmp_path / "x.tar", root)
    (root / "a" / "0.png").write_bytes(png(99))
    with tarfile.open(path, "a") as archive:
        archive.add(root / "a" / "0.png", "photos/a/0.png")
    splits = data.from_folder(path, size=(5, 6), channels=1)
    seen = [value for source in splits.values() for value, _ in values(source)]
    assert sorted(seen) == sorted([*list(CLASSES.values())[1:], 99])


@pytest.mark.parametrize(("method", "name"), [(12, "bzip2"), (14, "lzma")])
def test_other_compressions_of_zips_are_rejected(method, name, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.writestr("a/1.png", png(1))
    with pytest.raises(ValueError, match=rf"file 'a/1\.png' is compressed with {name}"):
        list_examples(tmp_path / "x.zip")


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.xz"])
def test_damaged_tar_headers_are_found(kind, tmp_path):
    plain = tarred("w")(tmp_path / "plain.tar", folder(tmp_path / "photos", CLASSES))
    content = bytearray(plain.read_bytes())
    with tarfile.open(plain) as archive:
        content[archive.getmembers()[12].offset + 150] ^= 0xFF  # a byte of the header's checksum
    path = tmp_path / f"x.{kind}"
    pack = {"tar": bytes, "tar.gz": gzip.compress, "tar.xz": lzma.compress}[kind]
    path.write_bytes(pack(bytes(content)))
    with pytest.raises(ValueError, match="end marker is missing"):
        data.load_splits(str(path))


def test_pipes_are_rejected(tmp_path):
    root = folder(tmp_path, CLASSES)
    os.mkfifo(root / "a" / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png .* cannot be read: it is not a regular file"):
        [source.images[:] for source in data.from_folder(root).values()]


def test_a_table_given_as_path_reads_only_its_files(tmp_path, monkeypatch):
    text = "file,label\na/0.png,x\na/1.png,x\nb/0.png,y\nb/1.png,y\n"
    folder(tmp_path, CLASSES | {"some.csv": text, "elsewhere/z.png": 1})
    monkeypatch.setattr(os, "walk", None)
    splits = data.from_folder(tmp_path / "some.csv", size=(5, 6), channels=1, test_fraction=0.5)
    both = values(splits["train"]) + values(splits["test"])
    assert sorted(both) == [(0, (0,)), (1, (1,)), (10, (0,)), (11, (1,))]


@pytest.mark.parametrize("path", ["absent/", "./absent", "absent.zip", "absent.csv"])
def test_missing_paths_are_named(path):
    with pytest.raises(ValueError, match=r"there is no file or folder .*absent"):
        data.load_splits(path)


def test_links_to_a_parent_folder_are_skipped(tmp_path):
    root = folder(tmp_path, CLASSES)
    (root / "a" / "again").symlink_to(root)
    assert sum(map(len, data.from_folder(root).values())) == len(CLASSES)


def test_linked_folders_are_followed(tmp_path):
    root = folder(tmp_path / "photos", {n: v for n, v in CLASSES.items() if n[0] == "a"})
    folder(tmp_path / "elsewhere", {n: v for n, v in CLASSES.items() if n[0] == "b"})
    (root / "b").symlink_to(tmp_path / "elsewhere" / "b")
    assert sum(map(len, data.from_folder(root).values())) == len(CLASSES)


def test_a_folder_reached_twice_through_a_link_is_rejected(tmp_path):
    root = folder(tmp_path / "photos", CLASSES)
    (root / "c").symlink_to(root / "b")
    with pytest.raises(ValueError, match=r"photos/b and .*photos/c are the same folder because"):
        data.from_folder(root)


def test_folders_linked_to_each_other_are_rejected_quickly(tmp_path):
    root = folder(tmp_path / "photos", {f"{i}/{i}.png": i for i in range(9)})
    for i in range(9):
        for j in set(range(9)) - {i}:
            (root / f"{i}" / f"to{j}").symlink_to(root / f"{j}")
    begin = time.monotonic()
    with pytest.raises(ValueError, match="are the same folder because of a link"):
        data.from_folder(root)
    assert time.monotonic() - begin < 5


def test_skipped_files_are_counted_by_extension(tmp_path):
    others = {"b/1.HEIC": "", "b/2.heic": "", "a/1.png.bak": "", "a/note": "", "loose.png": 1}
    root = folder(tmp_path / "photos", CLASSES | others | {".hidden": "", "a/11.jfif": 3})
    expected = {".heic": 2, "": 1, ".bak": 1, ".png": 1}
    for kind, pack in PACKED.items():
        assert skipped_files(pack(tmp_path / f"x.{kind}", root)) == expected
    (root / "labels.csv").write_text("file,label\na/0.png,x\nb/0.png,y\n")
    assert skipped_files(root) == expected | {".png": 19, ".jfif": 1}
    assert skipped_files(root / "labels.csv") == {}


@pytest.mark.parametrize("kind", PACKED)
def test_a_class_without_images_is_named(kind, tmp_path):
    root = folder(tmp_path / "photos", CLASSES | {"fox/1.heic": "", "fox/deep/2.txt": ""})
    with pytest.raises(ValueError, match=r"/fox contains no images, only \.heic, \.txt; remove it"):
        data.from_folder(PACKED[kind](tmp_path / f"x.{kind}", root))
    root = folder(tmp_path / "empty", CLASSES)
    (root / "fox").mkdir()
    with pytest.raises(ValueError, match=r"/fox contains no images; remove it"):
        data.from_folder(PACKED[kind](tmp_path / f"y.{kind}", root))


@pytest.mark.parametrize("kind", PACKED)
def test_one_or_two_folders_may_wrap_everything(kind, tmp_path):
    for number, top in enumerate(("x", "x/y")):
        files = {f"{top}/{name}": value for name, value in CLASSES.items()}
        root = folder(tmp_path / f"photos{number}", files | {"README.txt": "", "x/note.txt": ""})
        splits = data.from_folder(PACKED[kind](tmp_path / f"{number}.{kind}", root), channels=1)
        assert splits["train"].classes == ("a", "b")
        assert sum(map(len, splits.values())) == len(CLASSES)


def test_windows_separators_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("photos\\a\\", "")
        for name, value in CLASSES.items():
            archive.writestr("photos\\" + name.replace("/", "\\"), png(value))
    splits = data.from_folder(tmp_path / "x.zip", size=(5, 6), channels=1)
    assert sum(map(len, splits.values())) == len(CLASSES)
    with zipfile.ZipFile(tmp_path / "x.zip", "a") as archive:
        archive.writestr("..\\out.png", png(1))
    with pytest.raises(ValueError, match="points outside the archive"):
        data.from_folder(tmp_path / "x.zip")


@pytest.mark.parametrize("kind", PACKED)
def test_class_names_are_compared_in_nfc(kind, tmp_path):
    composed, apart = "caf\u00e9", "cafe\u0301"
    files = {"train/b/1.png": 1, f"train/{apart}/1.png": 2, "val/b/1.png": 3}
    root = folder(tmp_path / "photos", files | {f"val/{composed}/1.png": 4})
    splits = data.from_folder(PACKED[kind](tmp_path / f"x.{kind}", root), size=(5, 6), channels=1)
    assert splits["train"].classes == ("b", composed)
    assert values(splits["test"]) == [(3, (0,)), (4, (1,))]


def test_a_class_of_one_image_needs_test_fraction_none(tmp_path):
    root = folder(tmp_path, CLASSES | {"c/1.png": 1})
    with pytest.raises(ValueError, match="only one image of class 'c'"):
        data.from_folder(root)
    splits = data.from_folder(root, test_fraction=None)
    assert {name: np.bincount(s.labels).tolist() for name, s in splits.items()} == {
        "train": [10, 10, 1]
    }


@pytest.mark.parametrize("sizes", [(12, 2, 12), (12, 3, 12), (1, 12, 12)])
def test_hold_out_keeps_one_image_of_each_class_for_training(sizes, tmp_path):
    sizes = dict(zip("abc", sizes, strict=True))
    files = {f"{label}/{label}{i}.png": i for label, size in sizes.items() for i in range(size)}
    whole = data.from_folder(folder(tmp_path, files), test_fraction=None)["train"]
    order, swapped = data.permutation(len(whole), 0), 0
    for count in range(1, len(whole) - 2):
        training, validation = data.hold_out(whole, count / len(whole))
        assert sorted([*names(training), *names(validation)]) == sorted(names(whole))
        assert len(validation) == count
        assert np.bincount(training.labels, minlength=3).min() >= 1
        first = np.bincount(whole.labels[order[count:]], minlength=3).min() >= 1
        swapped += not first
        if first:  # no class is missing, so no examples are swapped
            held = whole.take(np.sort(order[:count]))
            assert names(validation) == names(held)
    assert swapped


def test_files_of_other_programs_are_skipped(tmp_path):
    left = {".git/hooks/x": "", ".cache/y/z": "", "__MACOSX/a/._1.png": 1, "a/.DS_Store": ""}
    splits = data.from_folder(folder(tmp_path, CLASSES | left))
    assert sum(map(len, splits.values())) == len(CLASSES)
    left = {f"train/{name}": "" for name in left if not name.startswith("a/")}
    splits = data.from_folder(folder(tmp_path / "s", SPLITS | left))
    assert sum(map(len, splits.values())) == len(SPLITS)


def test_names_in_archives_may_start_with_a_dot(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, value in CLASSES.items():
            archive.writestr(f"./{name}", png(value))
    splits = data.from_folder(tmp_path / "x.zip", size=(5, 6), channels=1)
    assert len(values(splits["train"])) == 16


def test_several_threads_may_read_images_at_once(tmp_path):
    root = folder(tmp_path / "photos", {f"{'ab'[i % 2]}/{i}.png": i for i in range(60)})
    for kind, pack in PACKED.items():
        source = data.from_folder(pack(tmp_path / f"x.{kind}", root), size=(5, 6), channels=1)[
            "train"
        ]
        expected = values(source)
        errors = []

        source.images._shared.is_readable[:] = False

        def read(source=source, expected=expected, errors=errors):
            if values(source) != expected:
                errors.append("differs")

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors


def test_no_file_stays_open(tmp_path):
    root = folder(tmp_path / "photos", CLASSES)
    for kind, pack in PACKED.items():
        source = data.from_folder(pack(tmp_path / f"x.{kind}", root), size=(5, 6))["train"]
        assert source.images[0].shape == (5, 6, 3)
        links = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
        assert not [link for link in links if str(tmp_path) in str(link.readlink())]


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("name", ["train", "Train", "training", "test", "val", "dev"])
def test_a_class_may_have_the_name_of_a_split(kind, name, tmp_path):
    files = {f"{top}/{i}.png": 10 * i for top in ("bus", "car", name) for i in range(1, 6)}
    path = PACKED[kind](tmp_path / f"x.{kind}", folder(tmp_path / "photos", files))
    with pytest.warns(UserWarning, match=f"{name} in .* is used as a class, because there are"):
        splits = data.from_folder(path, size=(4, 4))
    assert set(splits["train"].classes) == {"bus", "car", name}
    assert len(splits["train"]) == 12 and len(splits["test"]) == 3


@pytest.mark.parametrize(
    "files",
    [
        {"bus/1.png": 1, "bus/2.png": 1, "car/1.png": 1, "train/steam/1.png": 1, "train/2.png": 1},
        {"train/cat.0.png": 1, "train/dog.0.png": 1, "test1/1.png": 1},
        {"train/1.png": 1, "train_masks/1.png": 1},
    ],
)
def test_an_ambiguous_class_is_explained(files, tmp_path):
    with pytest.raises(ValueError, match="to use train as a class, put its images directly in it"):
        data.from_folder(folder(tmp_path / "photos", files), size=(4, 4))


@pytest.mark.parametrize(
    ("listed", "exists"),
    [
        ("00017", "00017.png"),
        ("a.png", "a.PNG"),
        ("A.png", "a.png"),
        ("a.jpg", "a.jpeg"),
        ("a.jpg", "a.png"),
        ("a.png", "images/a.png"),
        ("photos/a.png", "a.png"),
        ("17.png", "00017.png"),
        ("17", "00017.png"),
        ("images/17", "images/00017.jpg"),
        ("a.b", "a.b.png"),
    ],
)
@pytest.mark.parametrize("as_path", [False, True])
@pytest.mark.parametrize("on_bad", ["raise", "skip"])
def test_a_similar_file_is_suggested(listed, exists, as_path, on_bad, tmp_path):
    root = folder(
        tmp_path / "photos",
        {exists: 1, "z.png": 1, "labels.csv": f"file,label\n{listed},x\n?.bmp,y\n"},
    )
    if as_path:
        (root / "labels.csv").rename(root / "other.csv")
    path = root / "other.csv" if as_path else root
    message = f"lists 2 files that do not exist, such as {listed}; did you mean {exists}?"
    with pytest.raises(ValueError, match=f"{re.escape(message)}$"):
        data.from_folder(path, size=(4, 4), on_bad=on_bad)


def test_missing_files_are_counted(tmp_path):
    text = "file,label\n" + "".join(f"{i}.png,{i % 2}\n" for i in range(5))
    root = folder(tmp_path / "photos", {"3.png": 1, "labels.csv": text})
    with pytest.raises(ValueError, match=r"lists 4 files that do not exist, such as 0.png$"):
        data.from_folder(root, size=(4, 4))
