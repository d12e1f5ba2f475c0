"""Reading of a student's answer and reporting on it, for every exercise.

A judge is a function that returns why an answer is right, or raises one of the two exceptions here;
``check`` makes of it what a notebook calls. The others bring an answer into the form that a judge
needs, or raise.
"""

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Check = Callable[..., None]


class HintError(Exception):
    """An answer is wrong; the message helps."""


class MissingError(Exception):
    """A part of the answer is still to be written."""


def check(judge: Callable[..., str]) -> Check:
    """Make a check of a function that returns why an answer is right, or raises a hint."""

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
            print(f"not yet: this cannot be checked, {first_line(error)}")

    return checked


def parts(answers: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The parts of an answer that are there; at the end a complaint about those that are not."""
    missing = [name for name, answer in answers.items() if _is_open(answer)]
    for name, answer in answers.items():
        if name not in missing:
            yield name, answer
    if len(missing) == len(answers):
        raise MissingError
    if missing:
        raise MissingError(f": {', '.join(missing)} (the rest is right)")


def entries(answer: Any, names: Mapping[str, Any]) -> dict[str, Any]:
    """An answer's entries by name, or a hint."""
    if answer is ...:
        raise MissingError
    if not isinstance(answer, Mapping) or not set(names) <= set(answer):
        raise HintError(f"keep the dictionary with the keys {', '.join(names)}")
    return {name: answer[name] for name in names}


def require(*answers: Any) -> None:
    """Stop here if one of the answers is still to be written."""
    if any(map(_is_open, answers)):
        raise MissingError


def numbers(answer: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """The answer as an array of a shape, or a hint."""
    if isinstance(answer, str | bytes | bool) or answer is None:
        raise HintError(f"{what} must be made of numbers, this is {answer!r:.40}")
    wanted = f"numbers of the shape {shape}" if shape else "one number"
    try:
        found = np.asarray(answer, np.float64)
    except Exception:  # objects raise many types
        kind = type(answer).__name__
        raise HintError(f"{what} must be {wanted}, this is of type {kind}") from None
    if long_axes(found.shape) != long_axes(shape):
        raise HintError(f"{what} must be {wanted}, this has the shape {found.shape}")
    if not np.isfinite(found).all():
        raise HintError(f"{what} must be {wanted}, some of these are infinite or no number")
    return found.reshape(shape)


def long_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its axes of length 1."""
    return tuple(length for length in shape if length != 1)


def _is_open(answer: Any) -> bool:
    """Return whether an Ellipsis is still in an answer."""
    if isinstance(answer, np.ndarray) and answer.dtype == object:
        answer = answer.ravel().tolist()
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    if isinstance(answer, list | tuple):
        return any(map(_is_open, answer))
    return answer is ...


def first_line(error: Exception) -> str:
    """The first line of an error."""
    lines = str(error).splitlines() or [""]
    return f"Python says {type(error).__name__}: {lines[0][:200]}"
