"""Text for error messages: names from files, and suggestions for misspelled ones."""

import difflib
from collections.abc import Iterable


def printable(text: object) -> str:
    r"""A name, or a message that holds names, on one line, with control characters as escapes.

    Example:
      >>> printable("cat\x1b[31m\n"), printable("žába 1.jpg")
      ('cat\\x1b[31m\\n', 'žába 1.jpg')
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def did_you_mean(name: str, accepted: Iterable[str]) -> str:
    """List the accepted names in a sentence, led by the closest spelling.

    Example:
      >>> did_you_mean("lenet", ["classic_cnn", "lenet5"])
      "Did you mean 'lenet5'? Accepted: classic_cnn, lenet5"
    """
    accepted = sorted(accepted)
    close = difflib.get_close_matches(name, accepted, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Accepted: {', '.join(accepted)}"
