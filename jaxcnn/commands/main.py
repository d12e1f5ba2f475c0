"""The command line: parse a command, run it, and report errors in one line.

Bad input results in one line on standard error and exit code 2; a clean stop by a signal results in
exit code 130. ``JAXCNN_TRACEBACK=1`` shows the traceback of an error.
"""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from jaxcnn import train
from jaxcnn.commands.parse import parse
from jaxcnn.data.decode import ignore_pillow_warnings
from jaxcnn.experiment import Interrupted
from jaxcnn.experiment.process import keep_compiled_programs, keep_freed_memory
from jaxcnn.messages import printable

# The messages of these errors are short or empty.
_EXPLAINED = {
    MemoryError: "not enough memory",
    RecursionError: "the input is nested too deeply",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
      argv: the arguments; None means ``sys.argv[1:]``.

    Raises:
      SystemExit: after the parser has printed help (code 0) or its own error (code 2).
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            # orbax logs tracebacks, and the contents of damaged files, for errors that we report.
            logging.getLogger("absl").setLevel(logging.CRITICAL)
            command = parse(argv)
            keep_compiled_programs()
            keep_freed_memory()
            ignore_pillow_warnings()
            command()
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        hint = (
            "; if the run has a checkpoint, resume it with --resume"
            if argv[:1] == ["train"]
            else ""
        )
        print(f"interrupted{hint}", file=sys.stderr)
        return 130
    except (ValueError, OSError, MemoryError, RecursionError, train.DivergedError) as error:
        if os.environ.get("JAXCNN_TRACEBACK"):
            raise
        print(f"jaxcnn: error: {_one_line(error)}", file=sys.stderr)
        return 1 if isinstance(error, train.DivergedError) else 2
    return 0


def _print_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """Print a warning in the form of an error: one line, without its source location."""
    print(f"jaxcnn: warning: {_one_line(message)}", file=sys.stderr)


def _one_line(message: object) -> str:
    """Return a message on one line, even if it contains unusual file or class names."""
    line = printable(" ".join(str(message).split()))
    for kind, explanation in _EXPLAINED.items():
        if isinstance(message, kind):
            line = f"{explanation}: {line}" if line else explanation
    return line
