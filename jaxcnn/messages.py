"""What files and arrays are called, as messages show it."""


def printable(text: object) -> str:
    r"""A name, or a message that holds names, on one line, with control characters as escapes.

    Example:
      >>> printable("cat\x1b[31m\n"), printable("žába 1.jpg")
      ('cat\\x1b[31m\\n', 'žába 1.jpg')
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))
