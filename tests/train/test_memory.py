"""The allocator's settings, each in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

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
