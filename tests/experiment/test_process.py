"""Process settings: the allocator, each test in its own process; the cache of compiled programs."""

import os
import platform
import subprocess
import sys

import jax
import jax.monitoring
import pytest

from jaxcnn.experiment import Execution, Experiment, process, run

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc malloc")


def untuned():
    """Return the environment without allocator settings."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name not in ("GLIBC_TUNABLES", "LD_PRELOAD")
    }


@pytest.mark.parametrize("variable", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_nothing_is_changed_if_the_environment_tunes_the_allocator(variable, monkeypatch):
    monkeypatch.setenv(variable, "")
    assert not process.keep_freed_memory()


FAULTS = """
import resource
import jax
import jax.numpy as jnp
from jaxcnn.experiment.process import keep_freed_memory

keep_freed_memory()
x = jnp.ones((1000, 32_000))  # 128 MB

@jax.jit
def step(x):
    sums = jnp.cumsum(x, 0)  # at least another 128 MB, which a second pass must read
    return (sums / sums[-1]).sum(1)

def fetched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(x).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# A step maps new memory if it starts before another thread has freed the last step's memory.
pages = sorted(fetched() for _ in range(12))[6]
print(pages * resource.getpagesize() < 1 << 20)
"""


@pytest.mark.slow
@needs_glibc
def test_large_blocks_are_kept():
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env=untuned(), capture_output=True, text=True
    )
    assert done.stdout == "True\n", done.stderr


SEVERAL = """
import jax
from jaxcnn.experiment.process import keep_freed_memory

{setting}
keep_freed_memory()
rows = jax.sharding.NamedSharding(jax.make_mesh((4,), ("rows",)), jax.P("rows"))
x = jax.device_put(jax.numpy.ones((64, 64)), rows)
for _ in range(3):
    total = jax.jit(jax.numpy.sum)(x)
print(total)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "setting"),
    [
        ("--xla_force_host_platform_device_count=4", ""),
        pytest.param("", "jax.config.update('jax_num_cpu_devices', 4)", marks=pytest.mark.slow),
    ],
)
def test_several_devices_still_run_in_parallel(flags, setting):
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
from jaxcnn.experiment.process import keep_freed_memory

def used():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

print(keep_freed_memory(), keep_freed_memory())
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


@pytest.mark.slow
@needs_glibc
def test_memory_is_trimmed_after_a_long_compilation():
    script = COMPILED.format(event=process._COMPILED)
    done = subprocess.run(
        [sys.executable, "-c", script], env=untuned(), capture_output=True, text=True
    )
    assert done.stdout == "True True\nFalse\nTrue\n", done.stderr


def test_jax_records_the_compilation_event():
    """The event's name is not part of the documented interface."""
    events = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: events.append(event)
    )
    jax.jit(lambda x: x + len(events))(1.0)
    assert process._COMPILED in events


@pytest.mark.parametrize("case", ["free", "taken", "set"])
def test_compiled_programs_are_cached_in_the_users_cache_folder(case, tmp_path, monkeypatch):
    before = {
        name: getattr(jax.config, name)
        for name in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    }
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if case == "taken":
        (tmp_path / "cache").write_text("a file, where a folder should be")
    jax.config.update("jax_compilation_cache_dir", "elsewhere" if case == "set" else None)
    try:
        process.keep_compiled_programs()
        found = jax.config.jax_compilation_cache_dir
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    folder = str(tmp_path / "cache" / "jaxcnn" / "compiled")
    assert found == {"free": folder, "taken": None, "set": "elsewhere"}[case]


def test_deterministic_operations_are_requested_once(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/x")
    for _ in range(2):
        process.use_deterministic_operations()
    expected = "--xla_dump_to=/tmp/x --xla_gpu_deterministic_ops=true"
    assert os.environ["XLA_FLAGS"] == expected


@pytest.mark.parametrize(
    ("platform_name", "flags", "expected"),
    [
        ("cpu", "", "byte-equal with the same versions, processor and number of devices"),
        ("gpu", "", "equal up to rounding; byte-equal with --deterministic"),
        (
            "gpu",
            "--xla_gpu_deterministic_ops=true",
            "byte-equal with the same versions, processor and number of devices",
        ),
    ],
)
def test_reproducibility_depends_on_the_platform(platform_name, flags, expected, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setattr(jax, "default_backend", lambda: platform_name)
    assert process.reproducibility() == expected


def test_deterministic_operations_must_be_requested_before_jax_starts(monkeypatch, tmp_path):
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    process.check_deterministic_operations()
    monkeypatch.setenv("XLA_FLAGS", "")
    with pytest.raises(ValueError, match="XLA_FLAGS=--xla_gpu_deterministic_ops=true before JAX"):
        run(Experiment(), tmp_path / "run", execution=Execution(deterministic=True))
    assert not (tmp_path / "run").exists()
