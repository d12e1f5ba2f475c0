"""Examining a source for image sizes, duplicates, unreadable images and statistics."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from jaxcnn.data.decode import open_image, reason
from jaxcnn.data.lazy import BadExample, DecodedImages, in_parts, workers
from jaxcnn.data.sources import ArraySource, label_names


class Findings(NamedTuple):
    """The result of `examine`.

    Attributes:
      names: the name of each example.
      sizes: ``[N, 2]`` height and width of the stored images once turned upright; 0 if unreadable.
      digests: the SHA-256 digest of each image's contents; empty if unreadable.
      bad: the unreadable examples, by index.

    Example:
      >>> Findings(("a.png",), np.array([[30, 40]]), ("1f3c",), {}).sizes.tolist()
      [[30, 40]]
    """

    names: tuple[str, ...]
    sizes: np.ndarray
    digests: tuple[str, ...]
    bad: dict[int, BadExample]


def examine(source: ArraySource) -> Findings:
    """Read and decode every image of a source, without resizing it.

    Args:
      source: the examples; unreadable ones are reported regardless of the source's ``on_bad``.

    Returns:
      The `Findings` for all examples.

    Example:
      >>> from jaxcnn.data import load
      >>> found = examine(load("fashion_mnist_slice", split="test"))
      >>> found.sizes.min(0).tolist(), len(set(found.digests)), found.bad
      ([28, 28], 2000, {})
    """
    images, label = source.images, label_names(source.labels, source.classes)

    def one(row: int) -> tuple[str, tuple[int, int], str, BadExample | None]:
        if not isinstance(images, DecodedImages):
            pixels = images[row]
            digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
            return f"number {row}", (*pixels.shape, 1)[:2], digest, None
        name = images.name(row)
        try:
            content = images.content(row)
            picture = open_image(content)
        except Exception as error:  # decoders may raise any exception type
            return name, (0, 0), "", BadExample(name, label(row), reason(error))
        raw = content if isinstance(content, bytes) else np.ascontiguousarray(content).tobytes()
        return name, (picture.height, picture.width), hashlib.sha256(raw).hexdigest(), None

    with ThreadPoolExecutor(workers()) as pool:
        rows = list(pool.map(one, range(len(source))))
    names, sizes, digests, bad = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Findings(
        names,
        np.array(sizes, np.int64).reshape(-1, 2),
        digests,
        {row: found for row, found in enumerate(bad) if found is not None},
    )


def find_duplicates(findings: Mapping[str, Findings]) -> list[list[tuple[str, str]]]:
    """Group the examples that have identical contents.

    Args:
      findings: the result of `examine` for each split.

    Returns:
      The groups of (split, name) pairs with at least two members, largest groups first.

    Example:
      >>> found = Findings(("a", "b"), np.ones((2, 2), int), ("x", "x"), {})
      >>> find_duplicates({"train": found})
      [[('train', 'a'), ('train', 'b')]]
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for split, found in findings.items():
        for name, digest in zip(found.names, found.digests, strict=True):
            if digest:
                groups.setdefault(digest, []).append((split, name))
    return sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)


def channel_moments(images: Any) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean and standard deviation of each channel.

    Args:
      images: an ``[N, H, W, C]`` array, uint8 or floats in [0, 1]; or `DecodedImages`.

    Returns:
      The mean and standard deviation, each ``[C]`` float64, on a [0, 1] scale. Unreadable images
      are excluded if ``images`` skips them.

    Raises:
      ValueError: if no image is readable.

    Example:
      >>> images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
      >>> [value.tolist() for value in channel_moments(images)]
      [[0.5], [0.5]]
    """
    scale = 255 if images.dtype == np.uint8 else 1
    rows, chunks = 0, []
    for chunk in in_parts(images):
        pixels = chunk.reshape(-1, chunk.shape[-1])
        # Deviations from the chunk's mean lose no precision when the mean is large.
        mean = pixels.mean(0, dtype=np.float64)
        chunks.append((len(pixels), mean, np.square(pixels - mean).sum(0)))
        rows += len(pixels)
    if not rows:
        raise ValueError("images must contain at least one readable image, got none")
    mean = sum(count * each for count, each, _ in chunks) / rows
    squares = sum(square + count * np.square(each - mean) for count, each, square in chunks)
    return mean / scale, np.sqrt(squares / rows) / scale
