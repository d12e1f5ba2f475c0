"""Images that stay encoded, on disk or in an archive, until they are read.

Decoding runs in threads (Pillow releases the GIL while decoding), and decoded images are kept in
memory if all of them fit.
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
# Maximum number of encoded images per thread, for sources that return several at once.
_AT_ONCE = 256
_CHUNK = 1024  # images to read at a time when reading all of them


class BadExample(NamedTuple):
    """An example whose image cannot be read: its file name, its label, and the reason.

    Example:
      >>> BadExample("photos/cat/1.jpg", "cat", "the file is empty").reason
      'the file is empty'
    """

    file: str
    label: str
    reason: str


class Encoded(NamedTuple):
    """Encoded images and their descriptions.

    Attributes:
      length: number of images.
      read: returns image ``i`` as file contents or as ``[H, W, C]`` uint8 pixels; called from
        multiple threads.
      name: returns the name of image ``i``.
      label: returns the label of image ``i`` as a string.
      identity: returns bytes that change when any image changes, as far as this can be detected
        without reading the images.
      read_many: like `read`, but for several images at once; None if that is not faster.
    """

    length: int
    read: Callable[[int], bytes | np.ndarray]
    name: Callable[[int], str]
    label: Callable[[int], str]
    identity: Callable[[], bytes]
    read_many: Callable[[Sequence[int]], Sequence[bytes | np.ndarray]] | None = None


class DecodedImages:
    """``[N, H, W, C]`` uint8 images that are decoded when they are read.

    `read` returns rows and a mask of the readable ones. Indexing with a row, a slice or an array of
    rows returns only the pixels, with zeros for unreadable images. Views created by `take` share
    the decoded images and the record of unreadable ones.

    Args:
      encoded: the images.
      size: (height, width) to resize images to, as in `decode_image`.
      channels: 1 for grayscale or 3 for RGB.
      crop: False stretches whole images instead of cropping them.
      interpolation: Pillow's resampling filter.
      on_bad: ``"raise"`` raises an error that names the unreadable image; ``"skip"`` reports the
        image as unreadable, and batches mask it.
      cache_bytes: keep decoded images in memory if all of them take at most this many bytes; None
        means a quarter of the currently free memory.

    Attributes:
      shape: ``(N, H, W, C)``.
      dtype: uint8.

    Example:
      >>> from jaxcnn.data import from_source
      >>> pixels = np.zeros((40, 30, 3), np.uint8)
      >>> rows = [{"image": pixels, "label": 0}, {"image": b"damaged", "label": 1}]
      >>> images = from_source(rows, size=(8, 8), channels=1, on_bad="skip").images
      >>> decoded, readable = images.read(np.arange(2))
      >>> decoded.shape, readable.tolist(), images.bad[1].reason
      ((2, 8, 8, 1), [True, False], 'it is not an image in a known format')
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
            # The operating system allocates pages lazily, on first write.
            cache=np.empty(shape, np.uint8) if fits else None,
            is_readable=np.zeros(encoded.length, bool),
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
        """Unreadable images found so far, by row of this view; `find_bad` finds all of them."""
        found = self._shared.bad
        if not found:
            return {}
        return {i: found[row] for i, row in enumerate(self._rows.tolist()) if row in found}

    @property
    def identity(self) -> np.ndarray:
        """Bytes that change with the images, as far as detectable without reading them."""
        numbers = np.concatenate([self.shape, self._rows]).astype("<i8")
        return np.frombuffer(self._shared.encoded.identity() + numbers.tobytes(), np.uint8)

    def __getitem__(self, rows: Any) -> np.ndarray:
        wanted = np.arange(len(self))[rows]
        images, _ = self.read(np.atleast_1d(wanted))
        return images[0] if wanted.ndim == 0 else images

    def read(
        self, rows: np.ndarray, *, threads: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Decode rows.

        Args:
          rows: ``[n]`` integers.
          threads: number of threads; None means one per available CPU.

        Returns:
          The ``[n, H, W, C]`` uint8 images, zeros where unreadable, and ``[n]`` booleans, True for
          readable images.

        Raises:
          ValueError: if an image is unreadable and ``on_bad`` is ``"raise"``; the message names
            the first such image.
        """
        with ThreadPoolExecutor(workers() if threads is None else threads) as pool:
            return self.gather(rows, pool)()

    def find_bad(self) -> dict[int, BadExample]:
        """Return all unreadable images by row, reading any images that were not read before.

        The result is empty if ``on_bad`` is ``"raise"``, because reading an unreadable image is
        then an error.
        """
        if self._shared.on_bad == "skip":
            bad = np.isin(self._rows, list(self._shared.bad))
            unknown = np.flatnonzero(~(self._shared.is_readable[self._rows] | bad))
            for first in range(0, len(unknown), _CHUNK):
                self.read(unknown[first : first + _CHUNK])
        return self.bad

    def content(self, row: int) -> bytes | np.ndarray:
        """Return one image as stored: file contents or ``[H, W, C]`` uint8 pixels."""
        return self._shared.encoded.read(int(self._rows[row]))

    def name(self, row: int) -> str:
        """Return the name of one image."""
        return self._shared.encoded.name(int(self._rows[row]))

    def take(self, rows: np.ndarray) -> "DecodedImages":
        """Return a view of ``rows``, in the given order, without decoding anything."""
        view = object.__new__(DecodedImages)
        view._shared, view._rows = self._shared, self._rows[rows]
        return view

    def gather(
        self, rows: np.ndarray, pool: ThreadPoolExecutor
    ) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        """Start decoding rows in a thread pool.

        Returns:
          A function that waits for the threads and returns the result of `read`.
        """
        shared, numbers = self._shared, self._rows[rows]
        if shared.cache is not None and shared.is_readable[numbers].all():
            images = shared.cache[numbers]
            return lambda: (images, np.ones(len(numbers), bool))
        images = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        # Small chunks keep all threads busy to the end; large chunks read more images at once.
        chunks_each = 4 if shared.encoded.read_many is None else 1
        chunk = max(1, len(numbers) // (chunks_each * workers()))
        chunks: list[Future[list[bool]]] = [
            pool.submit(shared.fill, images[first : first + chunk], numbers[first : first + chunk])
            for first in range(0, len(numbers), chunk)
        ]

        def wait() -> tuple[np.ndarray, np.ndarray]:
            readable = [flag for future in chunks for flag in future.result()]
            return images, np.array(readable, bool)

        return wait


@dataclasses.dataclass(eq=False)
class _Shared:
    """State shared by all views of the same images."""

    encoded: Encoded
    size: tuple[int, int]
    channels: int
    crop: bool
    interpolation: Interpolation
    on_bad: OnBad
    cache: np.ndarray | None
    is_readable: np.ndarray  # decoded before without error, and cached if there is a cache
    bad: dict[int, BadExample]

    def fill(self, images: np.ndarray, numbers: np.ndarray) -> list[bool]:
        """Decode images into an array, and return a list of booleans, True for readable images."""
        readable = []
        for first in range(0, len(numbers), _AT_ONCE):
            several = numbers[first : first + _AT_ONCE].tolist()
            contents = self._read_many(several)
            for place, number in enumerate(several, first):
                readable.append(self._fill_one(images[place], number, contents.get(number)))
        return readable

    def _is_cached(self, number: int) -> bool:
        return self.cache is not None and bool(self.is_readable[number])

    def _read_many(self, numbers: list[int]) -> dict[int, bytes | np.ndarray]:
        """Read the images that are not decoded yet, if the source can read several at once."""
        new = [n for n in dict.fromkeys(numbers) if n not in self.bad and not self._is_cached(n)]
        if self.encoded.read_many is None or not new:
            return {}
        try:
            return dict(zip(new, self.encoded.read_many(new), strict=True))
        except Exception:  # each is then read separately, to find the unreadable one
            return {}

    def _fill_one(self, image: np.ndarray, number: int, content: bytes | np.ndarray | None) -> bool:
        if number in self.bad:
            image[:] = 0
            return False
        if self.cache is not None and self.is_readable[number]:
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
        except Exception as error:  # sources may raise any exception type
            return self._found_bad(image, number, reason(error))
        if self.cache is not None:
            self.cache[number] = image
        self.is_readable[number] = True  # set last, because other threads read the cache
        return True

    def _found_bad(self, image: np.ndarray, number: int, why: str) -> bool:
        bad = BadExample(self.encoded.name(number), self.encoded.label(number), why)
        if self.on_bad == "raise":
            raise ValueError(
                f"image {printable(bad.file)} (label {printable(bad.label)}) cannot be read: "
                f"{why}; skip unreadable images with on_bad='skip' (--on-bad-example skip)"
            )
        self.bad[number] = bad
        image[:] = 0
        return False


def check_on_bad(on_bad: str) -> None:
    """Check that ``on_bad`` is a known policy.

    Raises:
      ValueError: if ``on_bad`` is neither ``"raise"`` nor ``"skip"``.
    """
    if on_bad not in get_args(OnBad):
        raise ValueError(f"on_bad must be raise or skip, got {on_bad!r}")


def encoded_arrays(
    images: Sequence[np.ndarray] | np.ndarray, label: Callable[[int], str]
) -> Encoded:
    """Wrap in-memory images, each ``[H, W, C]`` uint8, as `Encoded` images."""

    def identity() -> bytes:
        return b"".join(np.ascontiguousarray(image).tobytes() for image in images)

    return Encoded(
        length=len(images),
        read=lambda i: images[i],
        name=lambda i: f"number {i}",
        label=label,
        identity=identity,
    )


def in_parts(images: Any, rows: int = _CHUNK) -> Iterator[np.ndarray]:
    """Yield the readable images in ``[n, H, W, C]`` chunks of at most ``rows`` images.

    Args:
      images: an array or `DecodedImages`.
      rows: number of images to read at a time; a chunk is smaller if some are unreadable.

    Example:
      >>> [chunk.shape for chunk in in_parts(np.zeros((5, 8, 8, 1)), rows=2)]
      [(2, 8, 8, 1), (2, 8, 8, 1), (1, 8, 8, 1)]
    """
    for first in range(0, len(images), rows):
        wanted = np.arange(first, min(first + rows, len(images)))
        if not isinstance(images, DecodedImages):
            yield images[wanted]
            continue
        pixels, readable = images.read(wanted)
        if readable.any():
            yield pixels[readable]


def workers() -> int:
    """Return the number of decoding threads: one per CPU available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Return how many bytes of memory this process can still use, or 4 GiB if unknown."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail")]
        group = Path("/sys/fs/cgroup")  # a container's limit
        largest = (group / "memory.max").read_text().strip()
        if largest != "max":
            used = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            limits.append(int(largest) - int(used["anon"]))  # the rest can be reclaimed
    except (OSError, ValueError, LookupError):
        pass
    return max(0, min(limits, default=4 << 30))
