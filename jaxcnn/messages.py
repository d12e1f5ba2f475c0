"""Strings for error messages: names from files, escaped for printing, and spelling suggestions."""

import difflib
from collections.abc import Iterable


def printable(text: object) -> str:
    r"""Return text as a single line, with control characters escaped.

    Args:
      text: a name from a file, or a message that contains one.

    Example:
      >>> printable("cat\x1b[31m\n"), printable("žába 1.jpg")
      ('cat\\x1b[31m\\n', 'žába 1.jpg')
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def did_you_mean(name: str, accepted: Iterable[str]) -> str:
    """Return a hint: the accepted name with the closest spelling, then all accepted names.

    Example:
      >>> did_you_mean("lenet", ["classic_cnn", "lenet5"])
      "Did you mean 'lenet5'? Accepted: classic_cnn, lenet5"
    """
    accepted = sorted(accepted)
    close = difflib.get_close_matches(name, accepted, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Accepted: {', '.join(accepted)}"


def error_line(error: Exception) -> str:
    r"""Return the first line of an error's message, with its type unless it is a `ValueError`.

    A line longer than 300 characters is shortened in the middle, because storage libraries put
    paths first and the cause last.

    Example:
      >>> error_line(OSError("no space left\nTraceback ..."))
      'OSError: no space left'
    """
    line = (str(error).strip().splitlines() or [""])[0]
    if len(line) > 300:
        line = f"{line[:100]} ... {line[-190:]}"
    return line if isinstance(error, ValueError) and line else f"{type(error).__name__}: {line}"
