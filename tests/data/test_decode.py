"""`decode_image`: orientation, transparency, 16 bits, grayscale, and tiny or damaged files."""

import io
import re
import runpy
import struct
import warnings

import chex
import numpy as np
import PIL.features
import PIL.Image
import pytest

from jaxcnn import data
from jaxcnn.data import decode

# Two rows and three columns of gray values, which lossless formats keep exactly.
UPRIGHT = np.array([[10, 60, 110], [160, 210, 250]], np.uint8)

# The pixels that a camera stores for the upright image, by EXIF orientation. For example, 6 means
# that the 0th row is the right-hand side and the 0th column is the top.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: UPRIGHT.T[::-1],
    7: UPRIGHT.T[::-1, ::-1],
    8: UPRIGHT.T[:, ::-1],
}


def saved(path, picture, **options):
    """Write an array or a Pillow image to a path, and return the path."""
    if isinstance(picture, np.ndarray):
        picture = PIL.Image.fromarray(picture)
    picture.save(path, **options)
    return path


def gray(path, size):
    """Decode a file to rows of gray values."""
    return data.decode_image(path, size=size, channels=1)[..., 0]


def color(path, size=(1, 1)):
    """Return the color of the decoded file's top-left pixel."""
    return tuple(data.decode_image(path, size=size, channels=3)[0, 0].tolist())


def orientation(number):
    """Make EXIF data that contains only the orientation."""
    exif = PIL.Image.Exif()
    exif[0x0112] = number
    return exif


@pytest.mark.parametrize("number", STORED)
def test_exif_orientations_are_applied(tmp_path, number):
    stored = np.ascontiguousarray(STORED[number])
    path = saved(tmp_path / "photo.png", stored, exif=orientation(number))
    np.testing.assert_array_equal(gray(path, UPRIGHT.shape), UPRIGHT)


def test_the_crop_follows_the_exif_orientation(tmp_path):
    # Dark at the top, light at the bottom; stored sideways, as phones do. The image is rotated
    # before it is cropped.
    upright = np.repeat(np.uint8([40, 220]), 16)[:, None] * np.ones((1, 16), np.uint8)
    lying = PIL.Image.fromarray(np.ascontiguousarray(upright.T[::-1]))
    path = saved(tmp_path / "photo.jpg", lying, exif=orientation(6), quality=95)
    decoded = gray(path, (32, 16)).astype(int)
    assert np.abs(decoded[:14] - 40).max() <= 2
    assert np.abs(decoded[18:] - 220).max() <= 2


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_dtype(tmp_path, channels):
    path = saved(tmp_path / "a.png", UPRIGHT)
    for name in (path, str(path)):
        decoded = data.decode_image(name, size=(5, 7), channels=channels)
        chex.assert_shape(decoded, (5, 7, channels))
        chex.assert_type(decoded, np.uint8)


def test_grayscale_becomes_three_equal_channels(tmp_path):
    decoded = data.decode_image(saved(tmp_path / "a.png", UPRIGHT), size=(2, 3), channels=3)
    np.testing.assert_array_equal(decoded, np.repeat(UPRIGHT[..., None], 3, axis=-1))


def test_color_becomes_itu_601_luma(tmp_path):
    colors = np.uint8([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]])
    # 255 times 0.299, 0.587 and 0.114
    assert gray(saved(tmp_path / "a.png", colors), (1, 4)).tolist() == [[76, 150, 29, 255]]


@pytest.mark.parametrize(
    ("mode", "pixel", "expected"),
    [
        # (alpha * color + (255 - alpha) * white) / 255
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("RGBA", (255, 0, 0, 51), (255, 204, 204)),
        ("RGBA", (200, 100, 50, 0), (255, 255, 255)),
        ("RGBA", (200, 100, 50, 255), (200, 100, 50)),
        ("LA", (0, 51), (204, 204, 204)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_transparency_is_blended_with_white(tmp_path, mode, pixel, expected):
    path = saved(tmp_path / "a.png", PIL.Image.new(mode, (3, 3), pixel))
    assert color(path, (3, 3)) == expected


@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_are_converted(tmp_path, transparent):
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 0])
    picture.putpixel((1, 0), 1)
    options = {"transparency": 0} if transparent else {}
    path = saved(tmp_path / "a.png", picture, **options)
    decoded = data.decode_image(path, size=(1, 2), channels=3)[0].tolist()
    assert decoded == [[255, 255, 255] if transparent else [10, 20, 30], [200, 100, 0]]


def test_16_bits_are_scaled_to_8_bits(tmp_path):
    deep = np.array([[0, 257, 128 * 257, 65535], [128, 129, 256, 65406]], np.uint16)
    path = saved(tmp_path / "a.png", deep)
    # Divided by 257 and rounded: 128 / 257 is just below 0.5, and 65406 / 257 just below 254.5.
    assert gray(path, (2, 4)).tolist() == [[0, 1, 128, 255], [0, 1, 1, 254]]


@pytest.mark.parametrize(
    ("ink", "expected"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 255, 255, 0), (255, 0, 0)),
        ((255, 0, 255, 0), (0, 255, 0)),
        ((0, 0, 0, 255), (0, 0, 0)),
    ],
)
def test_cmyk_jpeg(tmp_path, ink, expected):
    path = saved(tmp_path / "print.jpg", PIL.Image.new("CMYK", (16, 16), ink), quality=100)
    np.testing.assert_allclose(color(path, (16, 16)), expected, rtol=0, atol=1)


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [PIL.Image.new("L", (4, 4), value) for value in (0, 255)]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert color(path) == (0, 0, 0)


def test_one_pixel_fills_any_size(tmp_path):
    path = saved(tmp_path / "a.png", np.uint8([[[9, 99, 199]]]))
    decoded = data.decode_image(path, size=(3, 5), channels=3)
    np.testing.assert_array_equal(decoded, np.broadcast_to(np.uint8([9, 99, 199]), (3, 5, 3)))


@pytest.mark.parametrize("turned", [False, True])
def test_the_crop_is_centered(tmp_path, turned):
    wide = np.add.outer(np.arange(2), 10 * np.arange(6)).astype(np.uint8)
    picture, expected = (wide.T, wide[:, 2:4].T) if turned else (wide, wide[:, 2:4])
    path = saved(tmp_path / "a.png", np.ascontiguousarray(picture))
    np.testing.assert_array_equal(gray(path, (2, 2)), expected)


def test_the_crop_has_the_aspect_ratio_of_the_target(tmp_path):
    square = np.repeat(np.uint8([[0], [50], [100], [150]]), 4, axis=1)
    path = saved(tmp_path / "a.png", square)
    assert gray(path, (2, 4)).tolist() == [[50] * 4, [100] * 4]


def test_shrinking_is_antialiased(tmp_path):
    path = saved(tmp_path / "a.png", np.uint8([[0, 0, 255, 255]] * 4))
    # A triangle filter extending two pixels on either side of 1.0 gives the pixels centered at 0.5,
    # 1.5 and 2.5 the weights 3/4, 3/4 and 1/4, so the result is 255 * 1/7 = 36.4.
    assert gray(path, (2, 2)).tolist() == [[36, 219]] * 2


def test_the_format_is_recognized_by_content(tmp_path):
    path = tmp_path / "a.jpg"
    saved(path, UPRIGHT, format="PNG")
    np.testing.assert_array_equal(gray(path, (2, 3)), UPRIGHT)


def encoded(extension):
    """Encode an image of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(noise).save(file, extension)
    return file.getvalue()


DAMAGED = {
    "truncated.jpg": lambda: encoded("JPEG")[:-300],
    "truncated.png": lambda: encoded("PNG")[:-300],
    "truncated.webp": lambda: encoded("WEBP")[:-300],
    "header_only.jpg": lambda: encoded("JPEG")[:20],
    "checksum.png": lambda: encoded("PNG").replace(b"IHDR", b"IHDX"),
    "empty.png": lambda: b"",
    "text.png": lambda: b"This is not an image.\n",
    # For these, Pillow raises errors other than OSError.
    "width.ppm": lambda: b"P6 2x 2 255\n" + bytes(12),
    "colors.avif": lambda: encoded("AVIF").replace(b"av1C", b"av1X"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named(tmp_path, name):
    if name.endswith(".avif") and not PIL.features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    path = tmp_path / name
    path.write_bytes(DAMAGED[name]())
    with pytest.raises(ValueError, match=rf"^image {re.escape(str(path))} cannot be read: "):
        data.decode_image(path, size=(8, 8), channels=3)


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "nowhere.png"
    with pytest.raises(ValueError, match=rf"^image {re.escape(str(path))} does not exist$"):
        data.decode_image(path, size=(8, 8), channels=3)


def test_a_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=rf"^image {re.escape(str(tmp_path))} cannot be read: "):
        data.decode_image(tmp_path, size=(8, 8), channels=3)


def test_a_decompression_bomb_is_rejected(tmp_path, monkeypatch):
    path = saved(tmp_path / "bomb.png", PIL.Image.new("1", (40, 40)))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"bomb\.png cannot be read: .* decompression bomb"):
        data.decode_image(path, size=(8, 8), channels=1)


def test_pillow_warnings_are_ignored_on_request(monkeypatch):
    tags = struct.pack("<HHHIII", 1, 0x010F, 2, 1_000_000, 8, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + tags
    file = io.BytesIO()
    PIL.Image.new("L", (12, 12)).save(file, "JPEG", exif=exif)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    for ignored in (False, True):
        with warnings.catch_warnings(record=True) as caught:
            warnings.resetwarnings()
            if ignored:
                decode.ignore_pillow_warnings()
            data.decode_image(file.getvalue(), size=(2, 2), channels=1)
        assert bool(caught) != ignored


def test_importing_the_decoder_changes_no_filter():
    with warnings.catch_warnings():
        before = list(warnings.filters)
        runpy.run_path(decode.__file__)
        assert warnings.filters == before


def test_control_characters_in_names_are_escaped(tmp_path):
    path = tmp_path / "\x1b[31m\n.png"
    path.write_bytes(b"not an image")
    for name in (path, tmp_path / "\x1b[31m.png"):
        with pytest.raises(data.UnreadableImageError, match=r"\\x1b\[31m") as caught:
            data.decode_image(name, size=(8, 8), channels=1)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("channels", [0, 2, 5, "RGB"])
def test_wrong_channels_are_rejected(tmp_path, channels):
    with pytest.raises(ValueError, match=f"channels must be 1, 3 or 4, got {channels!r}"):
        data.decode_image(tmp_path / "unread.png", size=(8, 8), channels=channels)


def test_four_channels_are_only_decoded_from_files(tmp_path):
    PIL.Image.new("RGBA", (4, 4), (10, 20, 30, 40)).save(tmp_path / "a.png")
    pixels = data.decode_image(tmp_path / "a.png", size=(4, 4), channels=4)
    assert pixels[0, 0].tolist() == [10, 20, 30, 40]
    with pytest.raises(ValueError, match=r"pixels must be \[H, W, 1 or 3\] uint8"):
        data.decode_image(np.zeros((4, 4, 4), np.uint8), size=(4, 4), channels=3)
    for load in (
        lambda: data.load(tmp_path, channels=4),
        lambda: data.from_source([{"image": b"", "label": 0}], size=(4, 4), channels=4),
    ):
        with pytest.raises(ValueError, match="channels must be 1 or 3, got 4"):
            load()
