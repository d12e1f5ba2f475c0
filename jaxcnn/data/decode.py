"""Decoding image files into pixels, identically for training and prediction."""

import functools
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import PIL.Image
import PIL.ImageOps
import PIL.TiffImagePlugin

from jaxcnn.data.files import read_plain
from jaxcnn.messages import printable

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

_PNG = b"\x89PNG\r\n\x1a\n"
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ORIENTATION = 0x0112  # EXIF
_TRANSPOSES = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE = 0x0102  # TIFF
_MISSING = "does not exist"
# Formats that Pillow decodes itself. For EPS, it would run Ghostscript on an untrusted file.
_FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP",
)  # fmt: skip


class UnreadableImageError(ValueError):
    """Error for an image file that is missing or cannot be decoded.

    Attributes:
      why: the reason, without the file name.

    Example:
      >>> try:
      ...     decode_image(b"plain text", size=(8, 8), channels=1)
      ... except UnreadableImageError as error:
      ...     error.why
      'it is not an image in a known format'
    """

    def __init__(self, name: str, why: str):
        start = f"{printable(name)} {'' if why == _MISSING else 'cannot be read: '}"
        super().__init__(start + why)
        self.why = why


def decode_image(
    file: str | Path | bytes | np.ndarray,
    *,
    size: tuple[int, int],
    channels: int,
    crop: bool = True,
    interpolation: Interpolation = "bilinear",
) -> np.ndarray:
    """Decode an image file, turn it upright, and resize it.

    The EXIF orientation is applied and transparency is blended with white, unless the alpha channel
    is requested. The largest centered
    crop with the target's aspect ratio is resized with an antialiased filter, bilinear by default.
    The format is detected from the file's contents, not from its name.

    Pillow may warn about large images and damaged metadata, which are not errors;
    `ignore_pillow_warnings` silences these warnings.

    Args:
      file: path or contents of a JPEG, PNG, GIF, BMP, WebP, TIFF, PPM, AVIF, JPEG 2000 or ICO
        file (only the first frame of an animation is used); or ``[H, W, 1 or 3]`` uint8 pixels.
      size: (height, width) in pixels.
      channels: 1 for grayscale (ITU-R 601 luma), 3 for RGB, or 4 for RGB with alpha.
      crop: False stretches the whole image instead of cropping it.
      interpolation: Pillow's resampling filter; all but ``"nearest"`` are antialiased.

    Returns:
      The pixels, ``[height, width, channels]`` uint8.

    Raises:
      UnreadableImageError: a `ValueError`, if the file is missing, damaged or not an image, if
        its pixel range is unknown (32-bit or floating point), or if it has more pixels than Pillow
        allows (about 179 million, as a guard against decompression bombs).
      ValueError: if ``channels`` is not 1, 3 or 4, or ``interpolation`` is unknown.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "gray.png"
      >>> PIL.Image.new("RGB", (40, 20), (9, 9, 9)).save(path)
      >>> decode_image(path, size=(8, 8), channels=1).shape
      (8, 8, 1)
    """
    check_decoding(size, channels, interpolation)
    name = "image" if isinstance(file, bytes | np.ndarray) else f"image {file}"
    try:
        content = read_plain(Path(file)) if isinstance(file, str | Path) else file
        return _decoded(content, size, _MODES[channels], crop, interpolation)
    except FileNotFoundError as error:
        raise UnreadableImageError(name, _MISSING) from error
    except Exception as error:
        raise UnreadableImageError(name, reason(error)) from error


def check_decoding(size: tuple[int, int], channels: int, interpolation: str = "bilinear") -> None:
    """Check the arguments of `decode_image`.

    Raises:
      ValueError: if the size is not two integers >= 1, channels is not 1, 3 or 4, or the
        interpolation is unknown.
    """
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be a height and a width >= 1, got {size!r}")
    if channels not in _MODES:
        raise ValueError(f"channels must be 1, 3 or 4, got {channels!r}")
    if interpolation not in get_args(Interpolation):
        known = ", ".join(get_args(Interpolation))
        raise ValueError(f"interpolation must be one of {known}, got {interpolation!r}")


def ignore_pillow_warnings() -> None:
    """Ignore Pillow's warnings about large images and damaged metadata throughout the process.

    These warnings do not name the file, and the pixels are decoded anyway. Warning filters are
    process-wide and changing them temporarily is not thread-safe, so the command line calls this
    function once at startup. The filters are appended last, so the user's own filters take
    precedence.
    """
    for category, module in (
        (PIL.Image.DecompressionBombWarning, ""),
        (UserWarning, r"PIL\..*ImagePlugin"),
    ):
        warnings.filterwarnings("ignore", category=category, module=module, append=True)


def reason(error: Exception) -> str:
    """Return the reason an image cannot be read; Pillow raises many exception types."""
    if isinstance(error, PIL.UnidentifiedImageError):
        return "it is not an image in a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return printable(error) or type(error).__name__


def open_image(content: bytes | np.ndarray) -> PIL.Image.Image:
    """Open image file contents or ``[H, W, 1 or 3]`` uint8 pixels as an upright Pillow image."""
    if isinstance(content, np.ndarray):
        if content.dtype != np.uint8 or content.ndim != 3 or content.shape[-1] not in (1, 3):
            raise ValueError(
                f"pixels must be [H, W, 1 or 3] uint8, got {content.dtype} of shape {content.shape}"
            )
        return PIL.Image.fromarray(content[..., 0] if content.shape[-1] == 1 else content)
    if not content:
        raise ValueError("the file is empty")
    if content.startswith(_PNG):
        _check_png(content)
    picture: PIL.Image.Image = PIL.Image.open(io.BytesIO(content), formats=_formats())
    _check_range(picture)
    # Pillow reports damage only on the first load, and reading EXIF data may trigger that load.
    picture.load()
    try:
        method = _TRANSPOSES.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data; the pixels may be intact
        method = None
    # Pillow's exif_transpose rewrites the EXIF data, and fails if a tag has the wrong type.
    return picture if method is None else picture.transpose(method)


def _check_range(picture: PIL.Image.Image) -> None:
    """Reject pixel formats whose white level is unknown."""
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    # Mode I means 32-bit integers in TIFF files, but 16-bit integers in all other formats.
    if isinstance(picture, PIL.TiffImagePlugin.TiffImageFile) and picture.mode == "I":
        bits = picture.tag_v2.get(_BITS_PER_SAMPLE)
        if bits != (16,):
            raise ValueError(f"{bits[0] if bits else 32}-bit pixels have no known range")


def _check_png(content: bytes) -> None:
    """Verify the checksums of all chunks; Pillow skips some and would return corrupt pixels."""
    place = len(_PNG)
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind, end = content[place + 4 : place + 8], place + 8 + length
        if end + 4 > len(content):
            break
        if zlib.crc32(memoryview(content)[place + 4 : end]) != int.from_bytes(
            content[end : end + 4]
        ):
            raise ValueError("a checksum in the file is wrong")
        if kind == b"IEND":
            return
        place = end + 4
    raise ValueError("image file is truncated")


@functools.cache
def _formats() -> tuple[str, ...]:
    PIL.Image.init()
    return tuple(name for name in _FORMATS if name in PIL.Image.OPEN)  # old versions lack AVIF


def _decoded(
    content: bytes | np.ndarray, size: tuple[int, int], mode: str, crop: bool, interpolation: str
) -> np.ndarray:
    picture = _to_mode(open_image(content), mode)
    height, width = size
    method = PIL.Image.Resampling[interpolation.upper()]
    if picture.size == (width, height):
        fitted = picture
    elif crop:
        fitted = PIL.ImageOps.fit(picture, (width, height), method=method)
    else:
        fitted = picture.resize((width, height), method)
    return np.asarray(fitted).reshape(height, width, -1)


def _to_mode(picture: PIL.Image.Image, mode: str) -> PIL.Image.Image:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        # Pillow would clip 16-bit values at 255 instead of scaling them.
        values = np.asarray(picture).astype(np.float64) / 257
        picture = PIL.Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if mode == "RGBA":
        return picture.convert(mode)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = PIL.Image.alpha_composite(PIL.Image.new("RGBA", layer.size, "white"), layer)
    if picture.mode == mode:
        return picture
    # Palette and CMYK images are converted to grayscale via RGB.
    colored = picture if picture.mode == "RGB" else picture.convert("RGB")
    return colored if mode == "RGB" else colored.convert(mode)
