"""Frozen dataclasses of settings that check the types, ranges and relations of their fields."""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

Ranges = Mapping[str, tuple[Callable[[Any], bool], str]]
Relations = tuple[tuple[str, Callable[[Any], bool], str], ...]


class Section:
    """Base class for the sections of an experiment, which are frozen dataclasses.

    Attributes:
      RANGES: for each field name, a predicate on the field's value (skipped for None), and a
        description of the accepted values.
      RELATIONS: tuples of a field name, a predicate on the whole section, and a description of the
        field's accepted values.

    Raises:
      ValueError: if a field has the wrong type, is out of range, or conflicts with another field.

    Example:
      >>> @dataclasses.dataclass(frozen=True)
      ... class Cropping(Section):
      ...     size: int = 8
      ...     RANGES: ClassVar[Ranges] = {"size": (is_count, ">= 1")}
      >>> Cropping(size=0)
      Traceback (most recent call last):
      ValueError: size must be >= 1, got 0
    """

    RANGES: ClassVar[Ranges] = {}
    RELATIONS: ClassVar[Relations] = ()

    def __post_init__(self) -> None:
        """Check the fields of this section and of the sections that it inherits from."""
        for name, hint in _hints(type(self)).items():
            if not fits(getattr(self, name), hint):
                self._reject(name, describe(hint))
        kinds = [kind for kind in reversed(type(self).__mro__) if issubclass(kind, Section)]
        for kind in kinds:
            for name, (is_fine, accepted) in vars(kind).get("RANGES", {}).items():
                value = getattr(self, name)
                if value is not None and not is_fine(value):
                    self._reject(name, accepted)
        for kind in kinds:
            for name, is_fine, accepted in vars(kind).get("RELATIONS", ()):
                if not is_fine(self):
                    self._reject(name, accepted)

    def _reject(self, name: str, accepted: str) -> None:
        raise ValueError(f"{name} must be {accepted}, got {getattr(self, name)!r}")


def is_count(value: float) -> bool:
    """Return whether a number is at least 1."""
    return value >= 1


def is_fraction(value: float) -> bool:
    """Return whether a number is in [0, 1)."""
    return 0 <= value < 1


def is_finite(value: float) -> bool:
    """Return whether a number is finite and not negative."""
    return 0 <= value < math.inf


def is_positive(value: float) -> bool:
    """Return whether a number is finite and positive."""
    return 0 < value < math.inf


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value has the type declared for its field.

    Example:
      >>> fits(1, float), fits(True, float), fits((1, 2), tuple[int, ...] | None)
      (True, False, True)
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, kind) for kind in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, arguments[0]) for item in value)
    if origin is not None:
        return isinstance(value, Mapping) and all(
            fits(key, arguments[0]) and fits(item, arguments[1]) for key, item in value.items()
        )
    # Integers are accepted as floats; booleans are not accepted as numbers.
    kinds = (int, float) if hint is float else hint
    return isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))


def describe(hint: Any) -> str:
    """Describe the type declared for a field.

    Example:
      >>> describe(int | None), describe(tuple[str, ...]), describe(Literal["adam", "sgd"])
      ('int or None', 'a tuple in which each item is str', 'one of adam, sgd')
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(kind) for kind in arguments)
    if origin is tuple:
        return f"a tuple in which each item is {describe(arguments[0])}"
    if origin is not None:
        return f"a mapping from {describe(arguments[0])} to {describe(arguments[1])}"
    return "None" if hint is type(None) else hint.__name__


def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
