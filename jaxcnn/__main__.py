"""Entry point of the command ``jaxcnn`` and of ``python -m jaxcnn``."""

import sys

from jaxcnn.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
