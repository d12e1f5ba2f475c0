"""Signals that ask a process to stop, turned into a flag that training reads between steps."""

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any

# Ctrl-C, the usual request to end, and the warning that some batch schedulers can send.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)
REPEAT_SECONDS = 1.0


class StopRequest:
    """The signal that asked the process to stop; calling it returns whether there was one.

    Attributes:
      received: the first signal, or None.

    Example:
      >>> request = StopRequest()
      >>> request(), request.received
      (False, None)
    """

    received: signal.Signals | None = None

    def __call__(self) -> bool:
        """Return whether a signal was received."""
        return self.received is not None


@contextlib.contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT, SIGTERM or SIGUSR1 into a flag; a second signal has its usual effect.

    The same signal within a second counts once, because launchers such as ``timeout`` send it to a
    process and then to its group.

    Only the main thread receives signals, so enter this context manager there.

    Yields:
      the `StopRequest`, for example for the ``should_stop`` argument of `fit`.

    Example:
      >>> with stop_signals() as should_stop:
      ...     should_stop()
      False
    """
    request = StopRequest()
    before: dict[int, Any] = {}
    began = 0.0

    def handle(number: int, frame: Any) -> None:
        nonlocal began
        del frame
        if request.received is None:
            request.received = signal.Signals(number)
            began = time.monotonic()
        elif number != request.received or time.monotonic() - began > REPEAT_SECONDS:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    try:
        for number in STOP_SIGNALS:
            before[number] = signal.signal(number, handle)
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
