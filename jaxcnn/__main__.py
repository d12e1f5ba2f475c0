"""Entry point for the ``jaxcnn`` command and ``python -m jaxcnn``."""

import io
import sys

from jaxcnn.commands.signals import handle_signals


def main() -> int:
    """Run the command in ``sys.argv`` and return its exit code."""
    handle_signals()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # so that a log file is complete at any time
    from jaxcnn.commands.main import run_as_process  # takes seconds

    return run_as_process()


if __name__ == "__main__":
    sys.exit(main())
