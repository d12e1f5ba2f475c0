"""What is in a source: classes, sizes, copies, and what cannot be read."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from jaxcnn.data.decode import open_image, reason
from jaxcnn.data.lazy import BadExample, DecodedImages, workers
from jaxcnn.data.sources import ArraySource, label_names


class Findings(NamedTuple):
    """What `examine` finds.

    Attributes:
      names: of the examples.
      sizes: ``[N, 2]`` height and width as stored, upright; 0 where unreadable.
      digests: a SHA-256 of each content, empty where unreadable.
      bad: the examples that cannot be read, by index.
    """

    names: tuple[str, ...]
    sizes: np.ndarray
    digests: tuple[str, ...]
    bad: dict[int, BadExample]


def examine(source: ArraySource) -> Findings:
    """Read and decode every image of a source, as it is stored.

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
        except Exception as error:  # each format has its own way to fail
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
    """Examples with the same content, in groups of (split, name); the largest groups first.

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
