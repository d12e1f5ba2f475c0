"""Helpers for reading students' answers and reporting results, shared by all exercises.

A judge is a function that returns the reason why an answer is right, or raises one of the two
exceptions defined here; ``check`` turns it into the function that a notebook calls. The other
functions convert an answer to the form that a judge needs, or raise.
"""

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Check = Callable[..., None]


class HintError(Exception):
    """The answer is wrong; the message is a hint."""


class MissingError(Exception):
    """Part of the answer is still missing."""


def check(judge: Callable[..., str]) -> Check:
    """Convert a judge to a check, which prints the result."""

    @functools.wraps(judge)
    def checked(*answers: Any, **given: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                print(f"right: {judge(*answers, **given)}")
        except MissingError as missing:
            print(f"not answered yet{missing}")
        except HintError as hint:
            print(f"not yet: {hint}")
        except Exception as error:  # a student may write anything
            print(f"not yet: this answer cannot be checked: {first_line(error)}")

    return checked


def parts(answers: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the parts of an answer that are filled in; afterward raise if any part is missing."""
    missing = [name for name, answer in answers.items() if _is_open(answer)]
    for name, answer in answers.items():
        if name not in missing:
            yield name, answer
    if len(missing) == len(answers):
        raise MissingError
    if missing:
        raise MissingError(f": {', '.join(missing)} (the rest is right)")


def entries(answer: Any, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer's entries by name, or raise a hint."""
    if answer is ...:
        raise MissingError
    if not isinstance(answer, Mapping) or not set(names) <= set(answer):
        raise HintError(f"keep the dictionary with the keys {', '.join(names)}")
    return {name: answer[name] for name in names}


def require(*answers: Any) -> None:
    """Raise if one of the answers is still missing."""
    if any(map(_is_open, answers)):
        raise MissingError


def numbers(answer: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """Return the answer as an array with the given shape, or raise a hint."""
    if isinstance(answer, str | bytes | bool) or answer is None:
        raise HintError(f"{what} must consist of numbers, got {answer!r:.40}")
    wanted = f"numbers with the shape {shape}" if shape else "a single number"
    try:
        found = np.asarray(answer, np.float64)
    except Exception:  # objects raise many types
        kind = type(answer).__name__
        raise HintError(f"{what} must be {wanted}, got an object of type {kind}") from None
    if long_axes(found.shape) != long_axes(shape):
        raise HintError(f"{what} must be {wanted}, got the shape {found.shape}")
    if not np.isfinite(found).all():
        raise HintError(f"{what} must be {wanted}, got infinite values or NaN")
    return found.reshape(shape)


def long_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without its axes of length 1."""
    return tuple(length for length in shape if length != 1)


def _is_open(answer: Any) -> bool:
    """Return whether an answer still contains an Ellipsis."""
    if isinstance(answer, np.ndarray) and answer.dtype == object:
        answer = answer.ravel().tolist()
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    if isinstance(answer, list | tuple):
        return any(map(_is_open, answer))
    return answer is ...


def first_line(error: Exception) -> str:
    """Return the type of an error and the first line of its message."""
    lines = str(error).splitlines() or [""]
    return f"Python raised {type(error).__name__}: {lines[0][:200]}"
