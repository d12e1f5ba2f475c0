"""Memory of the process: kept between steps instead of given back and fetched anew."""

import ctypes
import os
import sys

import jax

# Of <malloc.h>.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let the C library keep what a step frees for the next step.

    XLA takes the working memory of a compiled program in one piece, and glibc fetches a large
    piece from the system and gives it back when it is freed. So each step on a CPU would have the
    system clear the same pages again, which can take a third of its time. Nothing is done on other
    devices, without glibc, or where the environment already tunes the allocator (``MALLOC_*``,
    ``GLIBC_TUNABLES``, ``LD_PRELOAD``).

    Returns:
      Whether anything was changed.
    """
    tuned = ("GLIBC_TUNABLES", "LD_PRELOAD")
    if any(name.startswith("MALLOC_") or name in tuned for name in os.environ):
        return False
    if sys.platform != "linux" or jax.default_backend() != "cpu":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    # No piece is fetched by itself, and the heap is never trimmed.
    return bool(library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, -1))
