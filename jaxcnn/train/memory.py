"""Memory of the process: kept between steps, and given back after compiling."""

import ctypes
import functools
import os
import sys

import jax
import jax.monitoring

# Of <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_LARGEST_HEAP = 64 << 20  # of a thread that is not the first
_COMPILED = "/jax/core/compile/backend_compile_duration"  # an event of JAX
_LONG = 0.5  # seconds of compiling that leave behind what is worth giving back


def keep_freed_memory() -> bool:
    """Let a process keep what a step frees for the next step, but not what a compiler frees.

    XLA takes the working memory of a compiled program in one piece, and glibc fetches a large
    piece from the system and gives it back when it is freed. So each step on a CPU would have the
    system clear the same pages again, which can take close to half of its time. Call this before
    JAX makes its first array, as `jaxcnn.experiment.run` does, and from the main
    thread: only glibc's first thread can keep pieces of over 64 MiB, so compiled programs are then
    run by the thread that calls them, one after the other, instead of in the background
    (``jax_cpu_enable_async_dispatch``). Called later, by `make_train_step` at the latest, it keeps
    the smaller pieces only.

    What the compiler of a large network leaves behind, hundreds of MiB in many small pieces, is
    given back when it is done, so that it does not add to the steps' memory. Nothing is done on
    other devices, without glibc, or where the environment already tunes the allocator
    (``MALLOC_*``, ``GLIBC_TUNABLES``, ``LD_PRELOAD``).

    Returns:
      Whether anything was changed.
    """
    tuned = ("GLIBC_TUNABLES", "LD_PRELOAD")
    if any(name.startswith("MALLOC_") or name in tuned for name in os.environ):
        return False
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"):
        return False
    if not _several_devices():
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.default_backend() != "cpu":
        return False
    # No piece is fetched by itself, heaps are never trimmed, nor given back when they are empty.
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _LARGEST_HEAP))
    library = ctypes.CDLL(None)
    _trim_after_compiling()
    return all(library.mallopt(name, value) for name, value in settings)


def _several_devices() -> bool:
    """Whether JAX was asked to make several of one CPU: they wait for each other, each its thread.

    To count them would make them.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    number: int = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    return "xla_force_host_platform_device_count" in flags or number > 1


@functools.cache  # once in a process
def _trim_after_compiling() -> None:
    library = ctypes.CDLL(None)

    def listen(event: str, duration_secs: float, **_: object) -> None:
        if event == _COMPILED and duration_secs > _LONG:
            library.malloc_trim(0)

    jax.monitoring.register_event_duration_secs_listener(listen)
