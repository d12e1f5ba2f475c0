"""The allocator's settings, each in a process of its own."""

import os
import platform
import subprocess
import sys

import jax
import jax.monitoring
import pytest

from jaxcnn.train import memory

SCRIPT = "from jaxcnn import train; print(train.keep_freed_memory(), train.keep_freed_memory())"


needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")


def untuned():
    """The environment without settings of the allocator."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name not in ("GLIBC_TUNABLES", "LD_PRELOAD")
    }


@pytest.mark.parametrize(
    ("variables", "changed"),
    [({}, True), ({"MALLOC_ARENA_MAX": "4"}, False), ({"GLIBC_TUNABLES": ""}, False)],
)
def test_memory_is_kept_unless_the_environment_says_how(variables, changed):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=untuned() | variables, capture_output=True, text=True
    )
    changed = changed and platform.libc_ver()[0] == "glibc"
    assert done.stdout == f"{changed} {changed}\n", done.stderr


FAULTS = """
import resource
import jax
import jax.numpy as jnp
from jaxcnn import train

train.keep_freed_memory()
x = jnp.ones((1000, 32_000))  # 128 MB

@jax.jit
def step(x):
    sums = jnp.cumsum(x, 0)  # another 128 MB at least, which a second pass has to read
    return (sums / sums[-1]).sum(1)

def fetched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(x).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# A step that begins before another thread has let go of the last one's memory fetches its own.
pages = sorted(fetched() for _ in range(12))[6]
print(pages * resource.getpagesize() < 1 << 20)
"""


@pytest.mark.slow
@needs_glibc
def test_large_working_memory_is_kept_too():
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env=untuned(), capture_output=True, text=True
    )
    assert done.stdout == "True\n", done.stderr


SEVERAL = """
import jax
from jaxcnn import train

{setting}
train.keep_freed_memory()
rows = jax.sharding.NamedSharding(jax.make_mesh((4,), ("rows",)), jax.P("rows"))
x = jax.device_put(jax.numpy.ones((64, 64)), rows)
for _ in range(3):
    total = jax.jit(jax.numpy.sum)(x)
print(total)
"""


@pytest.mark.parametrize(
    ("flags", "setting"),
    [
        ("--xla_force_host_platform_device_count=4", ""),
        ("", "jax.config.update('jax_num_cpu_devices', 4)"),
    ],
)
def test_several_devices_still_run_at_once(flags, setting):
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL.format(setting=setting)],
        env=untuned() | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "4096.0\n", done.stderr


COMPILED = """
import ctypes, pathlib, resource
import jax.monitoring
from jaxcnn import train

def used():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

train.keep_freed_memory()
train.keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
pieces = [library.malloc(1 << 20) for _ in range(256)]
for piece in pieces:
    ctypes.memset(piece, 1, 1 << 20)
for piece in pieces:
    library.free(piece)
for seconds in (0.1, 10.0):
    before = used()
    jax.monitoring.record_event_duration_secs({event!r}, seconds)
    print(before - used() > 200 << 20)
"""


@needs_glibc
def test_what_a_long_compilation_leaves_behind_is_given_back():
    script = COMPILED.format(event=memory._COMPILED)
    done = subprocess.run(
        [sys.executable, "-c", script], env=untuned(), capture_output=True, text=True
    )
    assert done.stdout == "False\nTrue\n", done.stderr


def test_jax_reports_when_it_has_compiled():
    """Its name is not part of the documented interface."""
    events = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: events.append(event)
    )
    jax.jit(lambda x: x + len(events))(1.0)
    assert memory._COMPILED in events
