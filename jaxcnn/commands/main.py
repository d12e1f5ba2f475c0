"""The command line: parse a command, run it, and report errors in one line.

Bad input prints one line to standard error and exits with code 2; diverged training exits with code
1. For signals, see `jaxcnn.commands.signals`. Set ``JAXCNN_TRACEBACK=1`` to see tracebacks.
"""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import jax

from jaxcnn import train
from jaxcnn.commands.parse import parse
from jaxcnn.commands.signals import exit_code
from jaxcnn.commands.training import Train
from jaxcnn.data.decode import ignore_pillow_warnings
from jaxcnn.experiment import Interrupted
from jaxcnn.experiment.process import (
    keep_compiled_programs,
    keep_freed_memory,
    use_deterministic_operations,
)
from jaxcnn.messages import printable

# Errors that bad input, a full disk, too little memory and custom networks raise.
_REPORTED = (
    ValueError, OSError, MemoryError, RecursionError, train.DivergedError,
    jax.errors.JaxRuntimeError,
)  # fmt: skip
_LONGEST = 1000  # characters of a message
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
            # The storage libraries log tracebacks, and the contents of damaged files, for errors
            # that are also raised and reported here.
            for name in ("absl", "asyncio"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            command = parse(argv)
            keep_compiled_programs()
            if isinstance(command, Train) and command.execution.deterministic:
                use_deterministic_operations()
            keep_freed_memory()
            ignore_pillow_warnings()
            command()
    except Interrupted as stop:
        print(f"jaxcnn: {_one_line(stop)}", file=sys.stderr)
        return exit_code(stop.signal)
    except BrokenPipeError:  # the program that reads the output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except _REPORTED as error:
        if os.environ.get("JAXCNN_TRACEBACK"):
            raise
        print(f"jaxcnn: error: {_one_line(error)}", file=sys.stderr)
        return 1 if isinstance(error, train.DivergedError) else 2
    return 0


def run_as_process(argv: Sequence[str] | None = None) -> int:
    """Run one command as the only task of the process; end the process if the command fails.

    After a failed save, threads of the storage library may log errors, and wait for minutes.
    """
    sys.unraisablehook = _print_unraisable
    code = main(argv)
    if code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _print_unraisable(unraisable: Any) -> None:
    """Print an unraisable exception, unless it comes from a thread of a storage library."""
    if threading.current_thread() is threading.main_thread():
        sys.__unraisablehook__(unraisable)


def _print_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """Print a warning in the form of an error: one line, without its source location."""
    print(f"jaxcnn: warning: {_one_line(message)}", file=sys.stderr)


def _one_line(message: object) -> str:
    """Return a message on one line, even if it contains unusual or long file or class names."""
    text = str(message)
    if isinstance(message, jax.errors.JaxRuntimeError):
        # The cause is on the last line, after a traceback.
        lines = text.strip().splitlines() or [""]
        text = " ".join(dict.fromkeys((lines[0], lines[-1])))
    line = printable(" ".join(text.split()))
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    for kind, explanation in _EXPLAINED.items():
        if isinstance(message, kind):
            line = f"{explanation}: {line}" if line else explanation
    return line
