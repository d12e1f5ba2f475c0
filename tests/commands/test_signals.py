"""Signals that reach a real process of the command at several moments."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CODES = {signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGUSR1: 75}


def start(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxcnn", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # The bit of SIGUSR1 in the mask of caught signals shows that the handlers are installed.
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        caught = next(line for line in status.read_text().splitlines() if "SigCgt" in line)
        if int(caught.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1:
            break
        time.sleep(0.001)
    return process


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize(("number", "seconds"), list(zip(CODES, (0, 0.1, 0.4), strict=True)))
def test_a_signal_during_the_imports_ends_the_command_in_one_line(number, seconds):
    process = start("models")
    time.sleep(seconds)
    os.kill(process.pid, number)
    output, errors = process.communicate(timeout=60)
    assert errors == f"jaxcnn: stopped by {number.name}\n"
    assert output == ""
    assert process.returncode == CODES[number]


@pytest.mark.slow
def test_a_signal_during_a_compilation_ends_the_command(tmp_path):
    """The main thread cannot handle signals then, so another thread does."""
    process = start("benchmark", "--model", "inception_v3", "--size", "299", "299", "3")
    time.sleep(12)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 5
    assert errors == "jaxcnn: stopped by SIGTERM\n"
    assert process.returncode == 75


@pytest.mark.slow
def test_a_second_signal_ends_training_at_once(tmp_path):
    process = start("train", "--workdir", str(tmp_path / "run"), "--epochs", "50")
    while not next(process.stdout).startswith("epoch  1/50"):
        pass
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert errors.startswith("jaxcnn: ended at once by a second signal")
    assert errors.count("\n") == 1
    # The system may deliver them in either order.
    assert process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)


@pytest.mark.slow
def test_output_to_a_reader_that_has_ended(tmp_path):
    process = start("models", "lenet5", "classic_cnn")
    with process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
