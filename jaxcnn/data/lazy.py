"""Images that stay encoded, on disk or in an archive, until rows of them are taken.

Decoding runs in threads (Pillow lets go of the interpreter while it works), and what has been
decoded is kept in memory when all of it fits.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from jaxcnn.data.decode import (
    Interpolation,
    UnreadableImageError,
    check_decoding,
    decode_image,
    reason,
)
from jaxcnn.messages import printable

OnBad = Literal["raise", "skip"]
# How many encoded images are held, in each thread, of a source that gives several at once.
_AT_ONCE = 256


class BadExample(NamedTuple):
    """An example whose image cannot be read: what its file is called, its class, and why."""

    file: str
    label: str
    reason: str


class Encoded(NamedTuple):
    """Encoded images, and how to speak of them.

    Attributes:
      length: how many.
      read: the content of image ``i``: of a file, or pixels ``[H, W, C]`` uint8. Called in threads.
      name: what image ``i`` is called.
      label: the label of image ``i`` in words.
      identity: bytes that change when any of the images does, as far as can be told unread.
      read_many: `read` for several images at once, where that is faster.
    """

    length: int
    read: Callable[[int], bytes | np.ndarray]
    name: Callable[[int], str]
    label: Callable[[int], str]
    identity: Callable[[], bytes]
    read_many: Callable[[Sequence[int]], Sequence[bytes | np.ndarray]] | None = None


class DecodedImages:
    """``[N, H, W, C]`` uint8, as an array is, but decoded when rows are taken.

    Taking a row, a slice or an array of rows gives a NumPy array. Views by `take` share what was
    decoded and what was found to be bad.

    Args:
      encoded: the images.
      size: (height, width) to bring them to, as `decode_image` does.
      channels: 1 or 3.
      crop: as for `decode_image`.
      interpolation: as for `decode_image`.
      on_bad: what becomes of an image that cannot be read: ``"raise"`` names it; ``"skip"`` notes
        it in ``bad``, and batches leave it out (see `gather`).
      cache_bytes: keep decoded images if all of them take no more; None for a quarter of the
        memory that is free now.

    Attributes:
      shape: ``(N, H, W, C)``.
      dtype: uint8.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        encoded: Encoded,
        *,
        size: tuple[int, int],
        channels: int,
        crop: bool = True,
        interpolation: Interpolation = "bilinear",
        on_bad: OnBad = "raise",
        cache_bytes: int | None = None,
    ):
        check_decoding(size, channels, interpolation)
        check_on_bad(on_bad)
        shape = (encoded.length, *size, channels)
        fits = np.prod(shape, dtype=np.float64) <= (
            free_memory() / 4 if cache_bytes is None else cache_bytes
        )
        self._shared = _Shared(
            encoded=encoded,
            size=size,
            channels=channels,
            crop=crop,
            interpolation=interpolation,
            on_bad=on_bad,
            # The system gives the memory as it is filled.
            cache=np.empty(shape, np.uint8) if fits else None,
            is_cached=np.zeros(encoded.length, bool),
            bad={},
        )
        self._rows = np.arange(encoded.length)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(N, H, W, C)``."""
        height, width = self._shared.size
        return len(self), height, width, self._shared.channels

    @property
    def bad(self) -> dict[int, BadExample]:
        """By position in this view, the images that were found to be bad so far."""
        found = self._shared.bad
        if not found:
            return {}
        return {i: found[row] for i, row in enumerate(self._rows.tolist()) if row in found}

    @property
    def identity(self) -> np.ndarray:
        """Bytes that change when the images do, as far as can be told without reading them."""
        numbers = np.concatenate([self.shape, self._rows]).astype("<i8")
        return np.frombuffer(self._shared.encoded.identity() + numbers.tobytes(), np.uint8)

    def __getitem__(self, rows: Any) -> np.ndarray:
        wanted = np.arange(len(self))[rows]
        with ThreadPoolExecutor(workers()) as pool:
            images, _ = self.gather(np.atleast_1d(wanted), pool)()
        return images[0] if wanted.ndim == 0 else images

    def content(self, row: int) -> bytes | np.ndarray:
        """One image as it is stored: the content of a file, or pixels ``[H, W, C]`` uint8."""
        return self._shared.encoded.read(int(self._rows[row]))

    def name(self, row: int) -> str:
        """What one image is called."""
        return self._shared.encoded.name(int(self._rows[row]))

    def take(self, rows: np.ndarray) -> "DecodedImages":
        """A view of these rows, in this order; nothing is decoded."""
        view = object.__new__(DecodedImages)
        view._shared, view._rows = self._shared, self._rows[rows]
        return view

    def gather(
        self, rows: np.ndarray, pool: ThreadPoolExecutor
    ) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        """Start to decode rows in a pool of threads.

        Returns:
          A function that waits for them, and gives the images ``[n, H, W, C]`` and which of them
          are good ``[n]``. What is bad is filled with zeros, or raised as a `ValueError` by that
          function: the first one of these rows.
        """
        shared, numbers = self._shared, self._rows[rows]
        if shared.cache is not None and shared.is_cached[numbers].all():
            images = shared.cache[numbers]
            return lambda: (images, np.ones(len(numbers), bool))
        images = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        # Small parts keep all threads busy to the end, large ones read more images at once.
        parts_each = 4 if shared.encoded.read_many is None else 1
        part = max(1, len(numbers) // (parts_each * workers()))
        parts: list[Future[list[bool]]] = [
            pool.submit(shared.fill, images[first : first + part], numbers[first : first + part])
            for first in range(0, len(numbers), part)
        ]

        def wait() -> tuple[np.ndarray, np.ndarray]:
            good = [flag for future in parts for flag in future.result()]
            return images, np.array(good, bool)

        return wait


@dataclasses.dataclass(eq=False)
class _Shared:
    """What views of the same images have in common."""

    encoded: Encoded
    size: tuple[int, int]
    channels: int
    crop: bool
    interpolation: Interpolation
    on_bad: OnBad
    cache: np.ndarray | None
    is_cached: np.ndarray
    bad: dict[int, BadExample]

    def fill(self, images: np.ndarray, numbers: np.ndarray) -> list[bool]:
        """Decode images into an array; which of them are good."""
        good = []
        for first in range(0, len(numbers), _AT_ONCE):
            part = numbers[first : first + _AT_ONCE].tolist()
            contents = self._read_many(part)
            for place, number in enumerate(part, first):
                good.append(self._fill_one(images[place], number, contents.get(number)))
        return good

    def _read_many(self, numbers: list[int]) -> dict[int, bytes | np.ndarray]:
        """What has to be read of these images, if several can be read at once."""
        new = [n for n in dict.fromkeys(numbers) if n not in self.bad and not self.is_cached[n]]
        if self.encoded.read_many is None or not new:
            return {}
        try:
            return dict(zip(new, self.encoded.read_many(new), strict=True))
        except Exception:  # each is read by itself then, which tells the bad one from the others
            return {}

    def _fill_one(self, image: np.ndarray, number: int, content: bytes | np.ndarray | None) -> bool:
        if number in self.bad:
            image[:] = 0
            return False
        if self.cache is not None and self.is_cached[number]:
            image[:] = self.cache[number]
            return True
        try:
            image[:] = decode_image(
                self.encoded.read(number) if content is None else content,
                size=self.size,
                channels=self.channels,
                crop=self.crop,
                interpolation=self.interpolation,
            )
        except UnreadableImageError as error:
            return self._found_bad(image, number, error.why)
        except Exception as error:  # whatever reading raises
            return self._found_bad(image, number, reason(error))
        if self.cache is not None:
            self.cache[number] = image
            self.is_cached[number] = True  # last, because other threads look
        return True

    def _found_bad(self, image: np.ndarray, number: int, why: str) -> bool:
        bad = BadExample(self.encoded.name(number), self.encoded.label(number), why)
        if self.on_bad == "raise":
            raise ValueError(
                f"image {printable(bad.file)} (label {printable(bad.label)}) cannot be read: "
                f"{why}; go on without such images with on_bad='skip' (--on-bad-example skip)"
            )
        self.bad[number] = bad
        image[:] = 0
        return False


def check_on_bad(on_bad: str) -> None:
    """Refuse a policy that there is not.

    Raises:
      ValueError: if it is neither ``"raise"`` nor ``"skip"``.
    """
    if on_bad not in get_args(OnBad):
        raise ValueError(f"on_bad must be raise or skip, got {on_bad!r}")


def encoded_arrays(
    images: Sequence[np.ndarray] | np.ndarray, label: Callable[[int], str]
) -> Encoded:
    """Pixels in memory, each ``[H, W, C]`` uint8, as if they were files."""

    def identity() -> bytes:
        return b"".join(np.ascontiguousarray(image).tobytes() for image in images)

    return Encoded(
        length=len(images),
        read=lambda i: images[i],
        name=lambda i: f"number {i}",
        label=label,
        identity=identity,
    )


def in_parts(images: Any, rows: int = 1024) -> Iterator[np.ndarray]:
    """All images that can be read, array by array ``[n, H, W, C]``, in memory or decoded."""
    for first in range(0, len(images), rows):
        wanted = np.arange(first, min(first + rows, len(images)))
        if not isinstance(images, DecodedImages):
            yield images[wanted]
            continue
        with ThreadPoolExecutor(workers()) as pool:
            pixels, good = images.gather(wanted, pool)()
        if good.any():
            yield pixels[good]


def channel_moments(images: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, in [0, 1], of images in memory or decoded.

    Args:
      images: ``[N, H, W, C]``, uint8 or floats in [0, 1].

    Returns:
      ``[C]`` float64 each; images that cannot be read, if those are skipped, do not count.

    Example:
      >>> images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
      >>> [value.tolist() for value in channel_moments(images)]
      [[0.5], [0.5]]
    """
    scale = 255 if images.dtype == np.uint8 else 1
    rows, parts = 0, []
    for part in in_parts(images):
        pixels = part.reshape(-1, part.shape[-1])
        # Deviations from the mean of a part lose no digits to a large mean.
        mean = pixels.mean(0, dtype=np.float64)
        parts.append((len(pixels), mean, np.square(pixels - mean).sum(0)))
        rows += len(pixels)
    if not rows:
        raise ValueError("images must hold one that can be read, got none")
    mean = sum(count * part for count, part, _ in parts) / rows
    squares = sum(square + count * np.square(part - mean) for count, part, square in parts)
    return mean / scale, np.sqrt(squares / rows) / scale


def workers() -> int:
    """How many threads decode: one for each processor that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes of memory that this process could still take, or 4 GiB where that is not told."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail")]
        group = Path("/sys/fs/cgroup")  # a container's limit
        largest = (group / "memory.max").read_text().strip()
        if largest != "max":
            used = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            limits.append(int(largest) - int(used["anon"]))  # the rest can be taken back
    except (OSError, ValueError, LookupError):
        pass
    return max(0, min(limits, default=4 << 30))
