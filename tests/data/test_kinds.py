"""Kinds of image files: decoded correctly in training and prediction, or reported as unreadable.

Readable files contain a single color, so the expected pixels are obvious; orientation, cropping and
gray values are tested in `test_decode.py`.
"""

import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.features
import PIL.Image
import pytest

from jaxcnn import data
from jaxcnn.data import lazy

COLOR = (200, 100, 50)
GRAY = 123
SIZE = (8, 8)


def encoded(picture, kind, **options):
    """Encode an image in a Pillow format."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def plain(mode="RGB", color=COLOR, size=(40, 30)):
    return PIL.Image.new(mode, size, color)


def png(*, width=4, height=4, body=None, checksum=0):
    """Make a grayscale PNG file with any declared size and body."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content) ^ checksum)
        )

    body = zlib.compress(b"\0" * (width + 1) * height) if body is None else body
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", body), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def palette(**options):
    picture = PIL.Image.new("P", (40, 30), 1)
    picture.putpalette([0, 0, 0, *COLOR])
    return encoded(picture, "PNG", **options)


def sixteen_bits(kind):
    return encoded(PIL.Image.fromarray(np.full((30, 40), GRAY * 257, np.uint16)), kind)


def turned():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return encoded(plain(size=(30, 40)), "JPEG", exif=exif, quality=95)


def animated(kind, **options):
    others = [plain(color=(0, 0, 0)), plain(color=(255, 255, 255))]
    return encoded(plain(), kind, save_all=True, append_images=others, **options)


def odd_exif():
    """Make a sideways photograph whose EXIF version tag has the wrong type."""
    tags = struct.pack("<HHHIHHHHIf", 2, 0x0112, 3, 1, 6, 0, 0x9000, 11, 1, 2.5)
    block = b"Exif\0\0II*\0" + struct.pack("<I", 8) + tags + bytes(4)
    return encoded(plain(size=(30, 40)), "JPEG", quality=95, exif=block)


def broken_exif():
    raw = encoded(plain(), "JPEG", quality=95)
    block = b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 20
    return raw[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + raw[2:]


def codec(name, make):
    """Return a list with the kind, or an empty list if this build of Pillow does not support it."""
    return [make] if PIL.features.check(name) else []


JPEG = encoded(plain(), "JPEG", quality=95)
WHITE_MIX = tuple(round((c * 128 + 255 * 127) / 255) for c in COLOR)

# File name, contents, color, and tolerance for lossy encodings.
FINE = [
    ("rgb.png", encoded(plain(), "PNG"), COLOR, 0),
    ("gray.png", encoded(plain("L", GRAY), "PNG"), (GRAY,) * 3, 0),
    ("rgba.png", encoded(plain("RGBA", (*COLOR, 128)), "PNG"), WHITE_MIX, 1),
    ("invisible.png", encoded(plain("RGBA", (*COLOR, 0)), "PNG"), (255,) * 3, 0),
    ("gray_alpha.png", encoded(plain("LA", (0, 0)), "PNG"), (255,) * 3, 0),
    ("palette.png", palette(), COLOR, 0),
    ("palette_transparent.png", palette(transparency=1), (255,) * 3, 0),
    ("one_bit.png", encoded(plain("1", 1), "PNG"), (255,) * 3, 0),
    ("sixteen_bits.png", sixteen_bits("PNG"), (GRAY,) * 3, 0),
    ("sixteen_bits.tif", sixteen_bits("TIFF"), (GRAY,) * 3, 0),
    ("one_pixel.png", encoded(plain(size=(1, 1)), "PNG"), COLOR, 0),
    ("thin.png", encoded(plain(size=(1, 2000)), "PNG"), COLOR, 0),
    ("wide.png", encoded(plain(size=(2000, 1)), "PNG"), COLOR, 0),
    ("rgb.jpg", JPEG, COLOR, 3),
    ("progressive.jpg", encoded(plain(), "JPEG", quality=95, progressive=True), COLOR, 3),
    ("gray.jpg", encoded(plain("L", GRAY), "JPEG", quality=95), (GRAY,) * 3, 3),
    ("cmyk.jpg", encoded(plain().convert("CMYK"), "JPEG", quality=95), COLOR, 5),
    ("turned.jpg", turned(), COLOR, 3),
    ("turned_with_an_odd_tag.jpg", odd_exif(), COLOR, 3),
    ("broken_exif.jpg", broken_exif(), COLOR, 3),
    ("garbage_behind.jpg", JPEG + b"trailing bytes of a camera" * 9, COLOR, 3),
    ("animated.gif", animated("GIF"), COLOR, 2),
    ("animated.webp", animated("WEBP", lossless=True), COLOR, 0),
    ("animated.png", animated("PNG"), COLOR, 0),
    ("lossless.webp", encoded(plain(), "WEBP", lossless=True), COLOR, 0),
    ("lossy.webp", encoded(plain(), "WEBP", quality=95), COLOR, 5),
    ("rgb.bmp", encoded(plain(), "BMP"), COLOR, 0),
    ("lzw.tiff", encoded(plain(), "TIFF", compression="tiff_lzw"), COLOR, 0),
    ("rgb.ppm", encoded(plain(), "PPM"), COLOR, 0),
    ("sixteen_bits.pgm", sixteen_bits("PPM"), (GRAY,) * 3, 0),
    ("icon.ico", encoded(plain(size=(32, 32)), "ICO"), COLOR, 0),
    ("png_called.jpg", encoded(plain(), "PNG"), COLOR, 0),
    ("jpeg_called.png", JPEG, COLOR, 3),
    ("LOUD.JPG", JPEG, COLOR, 3),
    ("späce and ünicode 図.png", encoded(plain(), "PNG"), COLOR, 0),
    ("two_views.jpg", animated("MPO", quality=95), COLOR, 3),
    *(("rgb.jp2", make, COLOR, 3) for make in codec("jpg_2000", encoded(plain(), "JPEG2000"))),
]

BAD = [
    ("truncated.jpg", encoded(plain(size=(400, 300)), "JPEG")[:-900], "truncated"),
    ("truncated.png", encoded(plain(size=(400, 300)), "PNG")[:-60], "truncated|broken|stream"),
    ("header_only.jpg", JPEG[:20], "not an image|truncated|broken"),
    ("header_only.png", JPEG[:20], "not an image|truncated|broken"),
    ("empty.jpg", b"", "is empty"),
    ("page.jpg", b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not an image"),
    ("zeros.png", bytes(5000), "not an image"),
    ("random.jpg", np.random.default_rng(0).bytes(5000), "not an image"),
    ("text.png", b"not an image, but a note", "not an image"),
    ("bomb.png", png(width=20_000, height=20_000, body=b""), "decompression bomb"),
    ("wrong_checksum.png", png(checksum=1), "a checksum in the file is wrong"),
    ("wrong_body.png", png(body=b"no zlib"), "broken|truncated|stream"),
    ("broken_body.png", png(body=b"\x78\x9c" + b"\xff" * 40), "broken|truncated|stream"),
    ("float.tif", encoded(plain("F", 0.5), "TIFF"), "floating-point pixels have no known range"),
    ("long.tif", encoded(plain("I", 200), "TIFF"), "32-bit pixels have no known range"),
    ("program.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not an image"),
    ("page.pdf", b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n", "not an image"),
    ("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image"),
    ("cut.gif", encoded(plain(), "GIF")[:30], "not an image|truncated|image"),
    ("cut.webp", encoded(plain(), "WEBP")[:30], "not an image|could not|truncated"),
]


def test_at_least_28_kinds_are_covered():
    assert len(FINE) + len(BAD) >= 28
    assert len({name for name, *_ in FINE + BAD}) == len(FINE) + len(BAD)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(("name", "content", "color", "miss"), FINE, ids=[f[0] for f in FINE])
def test_odd_but_fine(name, content, color, miss, tmp_path):
    (tmp_path / name).write_bytes(content)
    decoded = data.decode_image(tmp_path / name, size=SIZE, channels=3)
    assert decoded.shape == (*SIZE, 3)
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - color).max() <= miss
    np.testing.assert_array_equal(data.decode_image(content, size=SIZE, channels=3), decoded)


@pytest.mark.parametrize(("name", "content", "why"), BAD, ids=[b[0] for b in BAD])
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_bad(name, content, why, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(data.UnreadableImageError, match=f"{name} cannot be read: .*({why})"):
        data.decode_image(tmp_path / name, size=SIZE, channels=3)


def test_unreadable_for_the_file_system(tmp_path):
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name, why in (("link.jpg", "does not exist"), ("folder.jpg", "is a directory")):
        with pytest.raises(data.UnreadableImageError, match=rf"{name} .*{why}"):
            data.decode_image(tmp_path / name, size=SIZE, channels=3)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become an unprivileged user")
def test_unreadable_for_an_unprivileged_user(tmp_path):
    path = tmp_path / "secret.jpg"
    path.write_bytes(JPEG)
    path.chmod(0)
    os.seteuid(65534)
    try:
        with pytest.raises(data.UnreadableImageError, match="permission denied"):
            data.decode_image(path, size=SIZE, channels=3)
    finally:
        os.seteuid(0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_batches_hold_what_decode_image_returns(tmp_path):
    for label in ("a", "b"):
        for name, content, *_ in FINE:
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / label / name).write_bytes(content)
    for channels in (1, 3):
        splits = data.from_folder(tmp_path, size=(11, 7), channels=channels)
        for source in splits.values():
            for batch in data.batches(source, 7):
                for row in np.flatnonzero(batch.mask):
                    name = source.images.name(batch.index[row])
                    alone = data.decode_image(name, size=(11, 7), channels=channels)
                    np.testing.assert_array_equal(batch.image[row], alone)
    assert sum(map(len, splits.values())) == 2 * len(FINE)


def test_damaged_pngs_never_give_other_pixels():
    pixels = np.full((90, 90), 7, np.uint8)
    whole = encoded(PIL.Image.fromarray(pixels), "PNG")
    intact = data.decode_image(whole, size=(90, 90), channels=1)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        try:
            decoded_image = data.decode_image(bytes(damaged), size=(90, 90), channels=1)
        except data.UnreadableImageError:
            continue
        np.testing.assert_array_equal(decoded_image, intact)


BAD_FILES = [bad for bad in BAD if data.is_image(bad[0])]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Make 300 images in 5 classes, 40 of them unreadable; return the folder and the bad files."""
    root = tmp_path_factory.mktemp("planted")
    places = np.random.default_rng(1).choice(300, 40, replace=False)
    bad = {}
    for number in range(300):
        label = number % 5
        folder = root / "train" / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{number:04}.png"
        path.write_bytes(encoded(plain("L", number % 256, (9, 9)), "PNG"))
        if number in places:
            name, content, _ = BAD_FILES[len(bad) % len(BAD_FILES)]
            path = path.with_suffix(Path(name).suffix)
            path.with_suffix(".png").unlink()
            path.write_bytes(content)
            bad[number] = str(path)
    (root / "test" / "class0").mkdir(parents=True)
    (root / "test" / "class0" / "0.png").write_bytes(encoded(plain(), "PNG"))
    return root, bad


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("batch_size", [1, 7, 64, 400])
@pytest.mark.parametrize("cached", [True, False])
def test_skip_reports_unreadable_images_and_yields_the_others_once(
    planted, batch_size, cached, monkeypatch
):
    root, bad = planted
    if not cached:
        monkeypatch.setattr(lazy, "free_memory", lambda: 0)
    source = data.from_folder(root, size=(9, 9), channels=1, on_bad="skip")["train"]
    for epoch in range(2):
        seen = []
        for batch in data.batches(source, batch_size, seed=3).epoch(epoch):
            for row in np.flatnonzero(batch.mask):
                name = source.images.name(batch.index[row])
                number = int(name[-8:-4])
                assert batch.image[row].max() == batch.image[row].min() == number % 256
                assert batch.label[row] == number % 5
                seen.append(number)
            if batch.mask.any():  # padding rows are readable too
                filler = batch.index[~batch.mask]
                assert not set(filler.tolist()) & set(source.bad)
        assert sorted(seen) == sorted(set(range(300)) - set(bad))
        assert sorted(found.file for found in source.bad.values()) == sorted(bad.values())
    labels = {found.file: found.label for found in source.bad.values()}
    assert labels == {path: f"class{number % 5}" for number, path in bad.items()}
    assert all(found.reason for found in source.bad.values())
    whole = source.without_bad()
    assert len(whole) == 260
    assert not whole.bad


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("cached", [True, False])
def test_reads_return_the_readable_rows(planted, cached, monkeypatch):
    root, bad = planted
    if not cached:
        monkeypatch.setattr(lazy, "free_memory", lambda: 0)
    source = data.from_folder(root, size=(9, 9), channels=1, on_bad="skip")["train"]
    expected = [source.images.name(row) not in bad.values() for row in range(300)]
    source.read(np.arange(100))
    whole = source.without_bad()  # reads the remaining images
    assert len(source.bad) == 40
    assert len(whole) == 260
    for _ in range(2):
        pixels, readable = source.read(np.arange(300))
        assert readable.tolist() == expected
        assert not pixels[~readable].any()
        np.testing.assert_array_equal(pixels[readable], whole.images[:])
    memory = data.from_arrays(pixels, source.labels)
    assert memory.without_bad() is memory
    assert memory.read(np.array([3, 1]))[1].tolist() == [True, True]


def test_without_bad_reads_nothing_unless_images_are_skipped(planted):
    source = data.from_folder(planted[0], size=(9, 9), channels=1)["train"]
    assert source.without_bad() is source


@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_resuming_within_an_epoch_gives_its_tail(planted):
    root, _ = planted

    def epoch(start):
        source = data.from_folder(root, size=(9, 9), channels=1, on_bad="skip")["train"]
        return list(data.batches(source, 64, seed=2).epoch(1, start=start))

    for batch, expected in zip(epoch(5), epoch(0)[5:], strict=True):
        for one, other in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_raise_names_the_first(planted):
    root, bad = planted
    source = data.from_folder(root, size=(9, 9), channels=1)["train"]
    names = [source.images.name(row) for row in range(len(source))]
    order = data.permutation(len(source), 5, 0)
    first = next(names[row] for row in order if names[row] in bad.values())
    taken = 0
    with pytest.raises(ValueError, match="cannot be read") as caught:
        for _ in data.batches(source, 16, seed=5):
            taken += 16
    label = Path(first).parent.name
    assert f"image {first} (label {label}) cannot be read: " in str(caught.value)
    assert str(caught.value).endswith("images with on_bad='skip' (--on-bad-example skip)")
    # All batches before the unreadable image were yielded, and none after it.
    assert taken == [names[row] for row in order].index(first) // 16 * 16


def test_reports_are_json(planted):
    root, _ = planted
    source = data.from_folder(root, size=(9, 9), channels=1, on_bad="skip")["train"]
    found = data.examine(source)
    json.dumps([bad._asdict() for bad in found.bad.values()])
    assert len(found.bad) == 40
