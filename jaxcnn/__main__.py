"""Entry point for the ``jaxcnn`` command and ``python -m jaxcnn``."""

import sys

from jaxcnn.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
