"""Process-wide settings: memory allocator, deterministic operations, cache of compiled programs."""

import ctypes
import functools
import os
import sys
from pathlib import Path

import jax
import jax.monitoring

# Options of mallopt, from <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_LARGEST_HEAP = 64 << 20  # for every thread but the first
_COMPILED = "/jax/core/compile/backend_compile_duration"  # an event of JAX
_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
_LONG = 0.5  # seconds; longer compilations free enough memory to be worth trimming


def keep_freed_memory() -> bool:
    """Keep the memory freed by a step in the process, but return memory freed by the compiler.

    XLA allocates the working memory of a compiled program as one block, and glibc returns a large
    block to the system when it is freed. On CPU, the system therefore clears the same pages again
    at each step, which can take close to half of the step's time. Call this before JAX creates its
    first array, as `run` does, and from the main thread: only a process's first thread can keep
    blocks larger than 64 MiB, so compiled programs then run in the calling thread, one after the
    other, instead of in the background (``jax_cpu_enable_async_dispatch``). If called later, this
    function keeps only smaller blocks.

    Compiling a large network leaves behind hundreds of MiB in small blocks, which are returned to
    the system so that they do not add to the memory used by the steps. The allocator is left
    unchanged on other devices, without glibc, or if the environment already tunes it
    (``MALLOC_*``, ``GLIBC_TUNABLES``, ``LD_PRELOAD``).

    Returns:
      True if the allocator was changed.

    Example:
      >>> from jaxcnn.experiment import keep_freed_memory
      >>> keep_freed_memory() in (True, False)
      True
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
    # No block gets its own mapping, and heaps are neither trimmed nor returned when empty.
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _LARGEST_HEAP))
    library = ctypes.CDLL(None)
    _trim_after_compiling()
    return all(library.mallopt(name, value) for name, value in settings)


def use_deterministic_operations() -> None:
    """Make XLA compile deterministic GPU programs, without atomics or autotuning.

    Programs for CPUs and TPUs are deterministic anyway. Call this function before JAX creates its
    first array, as the command line does.

    Reference:
      The XLA flag ``--xla_gpu_deterministic_ops``.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _DETERMINISTIC not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_DETERMINISTIC}".strip()


def check_deterministic_operations() -> None:
    """Check that deterministic operations were requested, if JAX runs on a GPU.

    Raises:
      ValueError: if JAX runs on a GPU, but the flag is not set; it is too late to set it now.
    """
    if not _is_deterministic():
        raise ValueError(
            "deterministic requires the environment variable "
            f"XLA_FLAGS={_DETERMINISTIC} before JAX starts"
        )


def reproducibility() -> str:
    """Describe how closely another run of the same experiment reproduces the results.

    Example:
      >>> reproducibility()
      'byte-equal with the same versions, processor and number of devices'
    """
    if not _is_deterministic():
        return "equal up to rounding; byte-equal with --deterministic"
    return "byte-equal with the same versions, processor and number of devices"


def _is_deterministic() -> bool:
    return jax.default_backend() != "gpu" or _DETERMINISTIC in os.environ.get("XLA_FLAGS", "")


def keep_compiled_programs() -> None:
    """Enable JAX's compilation cache in the user's cache folder, unless one is already set.

    Later runs of the same network then start without recompiling it.
    """
    if jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        return
    try:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(caches) / "jaxcnn" / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home folder, or the cache is not writable
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _several_devices() -> bool:
    """Return whether JAX was asked for several CPU devices, which need threads to wait in.

    Counting the devices would create them.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    number: int = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    return "xla_force_host_platform_device_count" in flags or number > 1


@functools.cache  # once per process
def _trim_after_compiling() -> None:
    library = ctypes.CDLL(None)

    def listen(event: str, duration_secs: float, **_: object) -> None:
        if event == _COMPILED and duration_secs > _LONG:
            library.malloc_trim(0)

    jax.monitoring.register_event_duration_secs_listener(listen)
