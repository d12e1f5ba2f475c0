"""A lock on a run folder, so that only one process trains in it at a time."""

import contextlib
import datetime
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

NAME = "trainer.lock"
"""File with the host, process ID and start time of the process that trains in a folder."""


@contextlib.contextmanager
def only_trainer(folder: Path) -> Iterator[None]:
    """Hold the lock on a run folder. The kernel releases the lock when the process ends.

    Reading a run, for example to evaluate it, does not need the lock.

    Raises:
      ValueError: if another process holds the lock.

    Example:
      >>> import tempfile
      >>> folder = Path(tempfile.mkdtemp())
      >>> with only_trainer(folder):
      ...     (folder / NAME).exists()
      True
    """
    descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # which of them depends on the system
            holder = _describe(os.read(descriptor, 4096))
            raise ValueError(
                f"{holder} is already training in {folder}, and only one process may do so at a "
                "time; stop it, or choose another workdir"
            ) from error
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        text = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": now})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{text}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _describe(content: bytes) -> str:
    """Describe the process that wrote a lock file."""
    try:
        values = json.loads(content)
        return f"process {values['pid']} on {values['host']}, started {values['started']},"
    except (ValueError, TypeError, KeyError):  # it is being written
        return "another process"
