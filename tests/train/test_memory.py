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


@pytest.mark.parametrize(
    ("variables", "changed"),
    [({}, True), ({"MALLOC_ARENA_MAX": "4"}, False), ({"GLIBC_TUNABLES": ""}, False)],
)
def test_memory_is_kept_unless_the_environment_says_how(variables, changed):
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name not in ("GLIBC_TUNABLES", "LD_PRELOAD")
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=kept | variables, capture_output=True, text=True
    )
    changed = changed and platform.libc_ver()[0] == "glibc"
    assert done.stdout == f"{changed} {changed}\n", done.stderr


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's allocator")
def test_what_a_long_compilation_leaves_behind_is_given_back():
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    script = COMPILED.format(event=memory._COMPILED)
    done = subprocess.run([sys.executable, "-c", script], env=kept, capture_output=True, text=True)
    assert done.stdout == "False\nTrue\n", done.stderr


def test_jax_reports_when_it_has_compiled():
    """Its name is not part of the documented interface."""
    events = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: events.append(event)
    )
    jax.jit(lambda x: x + len(events))(1.0)
    assert memory._COMPILED in events
