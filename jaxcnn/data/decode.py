"""From an image file to pixels: the one decoder, for training and prediction alike."""

from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps

_MODES = {1: "L", 3: "RGB"}


def decode_image(path: str | Path, *, size: tuple[int, int], channels: int) -> np.ndarray:
    """Read an image file, turn it upright, and bring it to one size and number of channels.

    The EXIF orientation is applied, transparency is laid on white, the largest centred part with
    the target's aspect ratio is cut out and resized with an antialiased bilinear filter.

    Args:
      path: any file that Pillow reads; the first frame of an animation.
      size: (height, width) in pixels.
      channels: 1 for greyscale (ITU-R 601 luma) or 3 for RGB.

    Returns:
      ``[height, width, channels]`` uint8.

    Raises:
      ValueError: if the file is missing or not an image that can be read, or ``channels`` is
        neither 1 nor 3.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "grey.png"
      >>> PIL.Image.new("RGB", (40, 20), (9, 9, 9)).save(path)
      >>> decode_image(path, size=(8, 8), channels=1).shape
      (8, 8, 1)
    """
    if channels not in _MODES:
        raise ValueError(f"channels must be 1 or 3, got {channels!r}")
    try:
        with PIL.Image.open(path) as file:
            upright = PIL.ImageOps.exif_transpose(file)
            picture = _to_mode(upright, _MODES[channels])
    except FileNotFoundError as error:
        raise ValueError(f"image {path} does not exist") from error
    except Exception as error:
        # Each of Pillow's formats has its own way to fail.
        raise ValueError(f"image {path} cannot be read: {error}") from error
    height, width = size
    fitted = PIL.ImageOps.fit(picture, (width, height), method=PIL.Image.Resampling.BILINEAR)
    return np.asarray(fitted).reshape(height, width, channels)


def _to_mode(picture: PIL.Image.Image, mode: str) -> PIL.Image.Image:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        # Pillow would clip 16-bit values at 255 instead of scaling them.
        values = np.asarray(picture).astype(np.float64) / 257
        picture = PIL.Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = PIL.Image.alpha_composite(PIL.Image.new("RGBA", layer.size, "white"), layer)
    return picture.convert("RGB").convert(mode)
