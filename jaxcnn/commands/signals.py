"""Signals that stop a command, handled before the rest of the package is imported.

A command ends when it receives a signal, except while `jaxcnn.train.stop_signals` is active: a run
then finishes its step and saves. A second signal always ends the process at once. This module
imports only the standard library, because importing JAX takes seconds.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")
_NUMBERS = [int(getattr(signal, name)) for name in _NAMES if hasattr(signal, name)]
_GRACE = 0.5  # seconds to wait for the main thread, which cannot handle signals while it compiles
_REPEAT = 1.0  # seconds in which the same signal counts once, as in jaxcnn.train.stop_signals
_EXITING = threading.RLock()  # held by the thread that ends the process


def handle_signals() -> None:
    """End the process cleanly when it receives SIGINT, SIGTERM or SIGUSR1.

    Call this function once, in the main thread, before any other signal handler is installed.
    """
    for number in _NUMBERS:
        signal.signal(number, _stop)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # Python calls handlers only between bytecodes of the main thread, but writes the number of each
    # signal to this file at once.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=[reader], name="signals", daemon=True).start()


def exit_code(number: int) -> int:
    """Return the exit code of a command that a signal stopped without loss of work.

    It is 130 for SIGINT, as for other programs, and 75 (``EX_TEMPFAIL``, "try again") for the
    signals that schedulers send.

    Example:
      >>> exit_code(signal.SIGINT), exit_code(signal.SIGTERM)
      (130, 75)
    """
    return 130 if number == signal.SIGINT else 75


def _watch(reader: int) -> None:
    first = second = _next(reader)
    began = time.monotonic()
    waits = signal.getsignal(first) is _stop
    if waits and not select.select([reader], [], [], _GRACE)[0]:
        _stop(first, None)
    while second == first and time.monotonic() - began < _REPEAT:
        second = _next(reader)
    _exit_at_once(second)


def _next(reader: int) -> int:
    while (number := os.read(reader, 1)[0]) not in _NUMBERS:
        pass
    return number


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    if any(signal.getsignal(other) is not _stop for other in _NUMBERS):
        _exit_at_once(number)  # a run received the first signal, and passes on the second
    _exit(f"stopped by {signal.Signals(number).name}", exit_code(number))


def _exit_at_once(number: int) -> NoReturn:
    _exit(f"ended at once by a second signal, {signal.Signals(number).name}", 128 + number)


def _exit(message: str, code: int) -> NoReturn:
    if not _EXITING.acquire(blocking=False):
        time.sleep(_GRACE)  # the other thread prints its line and exits
        os._exit(code)
    # An import might be in progress, so the module is used only if it is there.
    files = sys.modules.get("jaxcnn.data.files")
    if (remove_unfinished := getattr(files, "remove_unfinished", None)) is not None:
        remove_unfinished()
    hint = "; if its run has started, resume it with --resume" if "train" in sys.argv[1:2] else ""
    cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress display hides the cursor
    with contextlib.suppress(OSError):
        os.write(2, f"{cursor}jaxcnn: {message}{hint}\n".encode())
    os._exit(code)
