"""Messages about files that a table lists, but that do not exist."""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from jaxcnn.messages import printable


def describe_missing(missing: Sequence[str], existing: Iterable[str]) -> str:
    """Return how many files are missing, with the first one and a similar file that exists.

    A file is similar if it differs only in case, in its extension, in its folder, or in the zeros
    before a number, which spreadsheets remove.

    Args:
      missing: names of the missing files, at least one.
      existing: names of the files that exist.

    Example:
      >>> describe_missing(["a/17", "a/18"], ["a/00017.png", "a/00018.png"])
      '2 files that do not exist, such as a/17; did you mean a/00017.png?'
    """
    near: dict[str, str] = {}
    for name in existing:
        for key in _keys(name):
            near.setdefault(key, name)
    example, hint = missing[0], ""
    for name in missing:
        match = next((near[key] for key in _keys(name) if key in near), None)
        if match is not None:
            example, hint = name, f"; did you mean {printable(match)}?"
            break
    count = f"{len(missing):,} files that do" if len(missing) > 1 else "1 file that does"
    return f"{count} not exist, such as {printable(example)}{hint}"


def _keys(name: str) -> Iterable[str]:
    """Yield what similar names have in common, beginning with the most similar."""
    path = PurePosixPath(name.casefold())
    yield str(path)
    # The part after a period may be an extension, or the end of a name without one.
    stems = dict.fromkeys((path.name, path.name.removesuffix(path.suffix)))
    for folder in (str(path.parent), "*"):
        for stem in stems:
            yield f"{folder}/{stem}"
            if stem.isdecimal():
                yield f"{folder}/{int(stem)}"
