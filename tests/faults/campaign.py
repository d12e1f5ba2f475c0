"""Fault campaign: real processes are killed, stopped, starved and damaged; nothing may be lost.

Usage: python tests/faults/campaign.py RESULTS.jsonl [PART ...]

Each trial appends one JSON line to the results, with its part, number, scene and ``problem``
(empty if the run behaved as documented). Trials that are in the file already are skipped, so an
interrupted campaign can be resumed. At the end, a table with the counts of each part is printed.
"""

import argparse
import collections
import contextlib
import functools
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest.mock
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcnn import train
from jaxcnn.commands.main import main as command
from jaxcnn.experiment import open_run, runner

sys.path.insert(0, str(Path(__file__).parent))
import bad_commands

TRAINER = Path(__file__).with_name("trainer.py")
# Without this capability, permissions apply to root too.
AS_OWNER = ("setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override")
EPOCHS, STEPS = 3, 4  # steps of an epoch; a snapshot is saved after each step
FLAGS = (
    *("--model", "lenet5", "--epochs", str(EPOCHS), "--batch-size", "75"),
    *("--ema-decay", "0.9", "--early-stopping", "3", "--min-delta", "10", "--keep-best"),
    *("--checkpoint-seconds", "1e-6"),
)  # patience begins after the first epoch


class Place:
    """A folder with data and an uninterrupted run to compare with."""

    def __init__(self, folder: Path):
        self.folder = folder
        rng = np.random.default_rng(0)
        arrays: dict[str, np.ndarray] = {}
        for split, count in (("train", 333), ("test", 66)):
            labels = np.arange(count) % 3
            noise = rng.integers(0, 120, (count, 12, 12, 1))
            arrays[f"{split}_images"] = (noise + 60 * labels[:, None, None, None]).astype(np.uint8)
            arrays[f"{split}_labels"] = labels
        np.savez(folder / "data.npz", **arrays)
        self.whole, self.inputs = folder / "whole", folder / "inputs"
        self.flags = ("--data", str(folder / "data.npz"), *FLAGS)
        if run_here("train", *self.flags, "--workdir", str(self.whole)) != 0:
            raise RuntimeError("the reference run failed")

    def clear(self) -> None:
        """Delete the runs of a trial."""
        for path in self.folder.iterdir():
            if path.is_dir() and path not in (self.whole, self.inputs):
                shutil.rmtree(path, ignore_errors=True)

    def fresh(self) -> Path:
        """Return the path of a new run, which does not exist yet."""
        return Path(tempfile.mkdtemp(dir=self.folder)) / "run"

    def copy(self) -> Path:
        """Return a copy of the finished run."""
        return shutil.copytree(self.whole, self.fresh())

    def train(
        self,
        run: Path,
        moment: str = "-:0:SIGTERM:0",
        *,
        prefix: Sequence[str] = (),
        **options: Any,
    ) -> subprocess.Popen:
        """Start training in a process that signals itself at a moment."""
        arguments = [*prefix, sys.executable, str(TRAINER), moment, str(run.parent / "events")]
        return start([*arguments, "train", *self.flags, "--workdir", str(run)], **options)

    def finish(self, run: Path) -> str:
        """Resume a run, and return what differs from the uninterrupted one."""
        if run_here("train", *self.flags, "--workdir", str(run), "--resume", "auto") != 0:
            return "the run cannot be resumed"
        return self.difference(run)

    def difference(self, run: Path) -> str:
        """Return what differs between a finished run and the uninterrupted one."""
        both = (run, self.whole)
        ours, theirs = (json.loads((path / "result.json").read_text()) for path in both)
        for values in (ours, theirs):
            values.pop("wall_seconds")
            values["last_epoch"].pop("seconds")
        if ours != theirs:
            return f"result.json differs in {[k for k in theirs if ours.get(k) != theirs[k]]}"
        if history(run) != history(self.whole):
            return "metrics.jsonl differs"
        states = [train.fingerprint(open_run(path).state) for path in both]
        return "" if states[0] == states[1] else "the state differs"


def history(run: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's history without the time that they took."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: row[name] for name in row if name != "seconds"} for row in rows]


def start(arguments: list[str], **options: Any) -> subprocess.Popen:
    """Start a process whose output is read at its end."""
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def run_here(*arguments: str) -> int:
    """Run a command in this process, quietly; return its exit code."""
    quiet = io.StringIO()
    without_figures = unittest.mock.patch.object(runner, "_draw")  # they are not compared
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet), without_figures:
        return command(list(arguments))


def events(run: Path) -> list[str]:
    """Return the moments that a trainer reached."""
    path = run.parent / "events"
    return path.read_text().splitlines() if path.exists() else []


def last_saved(run: Path) -> int | None:
    """Return the last step whose save was complete, None if there is none."""
    saved = [int(line.split()[1]) for line in events(run) if line.startswith("saved ")]
    return saved[-1] if saved else None


def is_saving(run: Path) -> bool:
    """Return whether a trainer ended after it began a save and before that save was complete."""
    began = [
        line.startswith("write ") for line in events(run) if line.startswith(("write", "saved"))
    ]
    return bool(began) and began[-1]


def check_state(run: Path) -> str:
    """Return a problem if the run cannot be read, or is older than its last complete save."""
    saved = last_saved(run)
    if saved is None:
        return ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step = int(open_run(run).state.step)
    if caught:
        return f"a warning: {caught[0].message}"
    return "" if step >= saved else f"step {step} is older than the last save, {saved}"


def check_line(errors: str, text: str = "") -> str:
    """Return a problem if a command did not end with one line that contains a text."""
    if "Traceback" in errors or errors.count("\n") != 1:
        return f"not one line: {errors[:300]!r}"
    return "" if text in errors else f"{text!r} is missing in {errors!r}"


def kill(place: Place, number: int) -> tuple[str, str]:
    """SIGKILL at a random moment; 4 of 10 inside a save."""
    rng = random.Random(number)
    inside = number % 10 < 4
    name = rng.choice(
        ["write", "verify", "clean"] if inside else ["step", "row", "train", "finish"]
    )
    count = {"write": 12, "verify": 12, "clean": 3, "step": 12, "row": 3}.get(name, 1)
    delay = rng.uniform(0, 0.04 if inside else 0.3)
    moment = f"{name}:{rng.randint(1, count)}:SIGKILL:{delay:.4f}"
    run = place.fresh()
    process = place.train(run, moment)
    process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        return moment, f"exit code {process.returncode}"
    if process.returncode == 0:
        moment = f"ended before {moment}"
    elif is_saving(run):
        moment = f"{moment} inside a save"
    return moment, check_state(run) or place.finish(run)


STOPS = [
    *(f"{name}:1" for name in ("config", "train")),
    *(f"step:{step}" for step in range(1, EPOCHS * STEPS + 1)),
    *(f"{name}:{count}" for name in ("validate", "row", "history") for count in (1, 2, 3)),
    *("write:1", "write:4", "write:5", "verify:3", "verify:8", "clean:1", "clean:2"),
    *("predict:1", "predict:2", "predict:3", "draw:1", "figure:1", "figure:4", "result:1"),
]


def stop(place: Place, number: int) -> tuple[str, str]:
    """Stop cleanly at each moment of a run, then resume."""
    moment = f"{STOPS[number]}:SIGTERM:0"
    run = place.fresh()
    process = place.train(run, moment)
    _, errors = process.communicate()
    if process.returncode == 0 and moment.startswith("result"):
        return moment, place.difference(run)
    if process.returncode != 75:
        return moment, f"exit code {process.returncode}: {errors[-300:]!r}"
    return moment, check_line(errors, "resume with: ") or check_state(run) or place.finish(run)


SIGNALS = (*[signal.SIGINT, signal.SIGTERM] * 3, signal.SIGUSR1)  # one round each
CODES = {signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGUSR1: 75}
DELAYS = (0.0, 0.2, 0.6, 1.2)  # seconds after the first line of the command
SIGNAL_MOMENTS = [
    *(("start", delay) for delay in DELAYS),
    *((name, 0.0) for name in ("read", "folder", "config", "train", "step", "write", "verify")),
    *((name, 0.0) for name in ("clean", "history", "validate", "row", "predict", "draw", "figure")),
]


def signals(place: Place, number: int) -> tuple[str, str]:
    """SIGINT and SIGTERM at 18 moments, three times each, and SIGUSR1 once."""
    sent = SIGNALS[number // len(SIGNAL_MOMENTS)]
    name, delay = SIGNAL_MOMENTS[number % len(SIGNAL_MOMENTS)]
    scene = f"{sent.name} at {name} {delay}"
    run = place.fresh()
    if name == "start":
        arguments = ["train", *place.flags, "--workdir", str(run)]
        process = start([sys.executable, "-m", "jaxcnn", *arguments])
        wait_for_handlers(process)
        time.sleep(delay)
        process.send_signal(sent)
    else:
        process = place.train(run, f"{name}:1:{sent.name}:0")
    _, errors = process.communicate()
    if process.returncode != CODES[sent]:
        return scene, f"exit code {process.returncode}: {errors[-300:]!r}"
    return scene, check_line(errors) or check_state(run) or place.finish(run)


def second_signal(place: Place, number: int) -> tuple[str, str]:
    """A second signal ends the process at once."""
    name = ("train", "step", "validate", "predict", "figure", "write")[number % 6]
    moment = f"{name}:1:SIGINT,SIGTERM:0"
    run = place.fresh()
    process = place.train(run, moment)
    _, errors = process.communicate()
    if process.returncode not in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        return moment, f"exit code {process.returncode}: {errors[-300:]!r}"
    problem = check_line(errors, "ended at once by a second signal")
    return moment, problem or check_state(run) or place.finish(run)


def wait_for_handlers(process: subprocess.Popen) -> None:
    """Wait until a process catches SIGUSR1."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        caught = next(line for line in status.read_text().splitlines() if "SigCgt" in line)
        if int(caught.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1:
            return
        time.sleep(0.001)


def outcome(run: Path, damaged: Path, values: dict[str, str]) -> str:
    """Read a damaged run: return ``newest``, ``older`` (announced), ``error`` or a problem.

    An error is accepted only if the configuration is damaged.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            opened = open_run(run)
        except (ValueError, OSError) as error:
            return "error" if damaged.parent == run else f"UNREADABLE: {error}"
    digest = train.fingerprint(opened.state)
    if digest not in values:
        return "SILENTLY WRONG" if not caught else "WRONG, with a warning"
    if values[digest] == "older" and not caught:
        return "older, without a warning"
    return values[digest]


@functools.cache
def values_of(place: Place) -> dict[str, str]:
    """Return the digests of the states that may be read from the finished run."""
    newest = {train.fingerprint(open_run(place.whole).state): "newest"}
    run = place.copy()
    shutil.rmtree(newest_files(run)[0].parent)
    return {train.fingerprint(open_run(run).state): "older"} | newest


def newest_files(run: Path) -> list[Path]:
    """Return the files of a run's newest checkpoint, and its configuration."""
    newest = max(run.joinpath("checkpoints").iterdir(), key=lambda path: int(path.name))
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    return [*files, run / "config.json", run / "run.json"]


def flip(place: Place, number: int) -> tuple[str, str]:
    """Flip one bit of a file of the newest checkpoint, of the configuration, or of an export."""
    rng = random.Random(number)
    run = place.copy()
    files = newest_files(run)
    if number % 10 == 9:
        exported = run / "network.safetensors"
        if run_here("export", str(run), str(exported)) != 0:
            return "export", "the run cannot be exported"
        return flip_bit(exported, rng), exported_outcome(exported, place)
    path = files[number % len(files)]
    scene = flip_bit(path, rng)
    found = outcome(run, path, values_of(place))
    return f"{scene}: {found}", "" if found in ("newest", "older", "error") else found


def flip_bit(path: Path, rng: random.Random) -> str:
    """Flip a random bit of a file, and describe it."""
    content = bytearray(path.read_bytes())
    position, bit = rng.randrange(max(1, len(content))), rng.randrange(8)
    if content:
        content[position] ^= 1 << bit
    path.write_bytes(content)
    return f"{path.name} bit {bit} of byte {position}"


def exported_outcome(path: Path, place: Place) -> str:
    """Return a problem if a damaged exported file gives another network without an error."""
    from jaxcnn import models

    try:
        found = models.load_pretrained(None, path)
    except ValueError:
        return ""
    opened = open_run(place.whole)
    same = train.fingerprint(found.variables) == train.fingerprint(opened.state.eval_variables)
    same &= found.classes == opened.network.classes
    same &= found.preprocess == opened.network.preprocess
    return "" if same else "SILENTLY WRONG"


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "deleted": lambda path: path.unlink(),
}


def damage(place: Place, number: int) -> tuple[str, str]:
    """Damage every file in four ways."""
    run = place.copy()
    path = newest_files(run)[number // len(DAMAGES)]
    name = list(DAMAGES)[number % len(DAMAGES)]
    DAMAGES[name](path)
    found = outcome(run, path, values_of(place))
    scene = f"{path.relative_to(run)} {name}: {found}"
    return scene, "" if found in ("newest", "older", "error") else found


STRAYS: dict[str, Callable[[Path], Any]] = {
    "empty 999": lambda folder: (folder / "999").mkdir(),
    "copy 999": lambda folder: shutil.copytree(folder / "12", folder / "999"),
    "file 999": lambda folder: (folder / "999").write_text(""),
    "²": lambda folder: (folder / "²").mkdir(),
    "link 13": lambda folder: (folder / "13").symlink_to("12"),
    "replaced-12": lambda folder: shutil.copytree(folder / "12", folder / "replaced-12"),
    "damaged newest": lambda folder: shutil.rmtree(folder / "12" / "state"),
    "link instead of newest": lambda folder: (
        (folder / "12").rename(folder / "elsewhere"),
        (folder / "12").symlink_to("elsewhere"),
    ),
}


def stray(place: Place, number: int) -> tuple[str, str]:
    """Put a stray thing among the checkpoints, resume, and count the saves: all must be made."""
    name = list(STRAYS)[number % len(STRAYS)]
    run = place.copy()
    STRAYS[name](run / "checkpoints")
    (run / "result.json").unlink()
    if run_here("train", "--workdir", str(run), "--resume", "--epochs", "5") != 0:
        return name, "the run cannot be resumed"
    step = int(open_run(run).state.step)
    # The patience ends with the fourth epoch.
    return name, "" if step == 4 * STEPS else f"the newest checkpoint is of step {step}"


def check_failure(process: subprocess.Popen, text: str) -> str:
    """Return a problem unless a trainer ends soon with exit code 2 and one line."""
    try:
        _, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        return "it did not end within 120 s"
    if process.returncode != 2:
        return f"exit code {process.returncode}: {errors[-300:]!r}"
    return check_line(errors, text)


def file_size_limit(place: Place, number: int) -> tuple[str, str]:
    """Limit the size of a file, so that a save fails."""
    limit = 20_000 + 3_000 * number
    run = place.fresh()
    process = place.train(run, prefix=("prlimit", f"--fsize={limit}"))
    problem = check_failure(process, "cannot save step")
    return f"{limit} bytes", problem or check_state(run) or place.finish(run)


@contextlib.contextmanager
def small_disk(place: Place) -> Iterator[Path]:
    """Mount a file system of 24 MiB (requires root)."""
    folder = Path(tempfile.mkdtemp(dir=place.folder))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def full_disk(place: Place, number: int) -> tuple[str, str]:
    """Fill the disk while a run trains."""
    with small_disk(place) as disk:
        run = disk / "run"
        process = place.train(run)
        wait_for(run, f"saved {1 + number % 8}")
        with contextlib.suppress(OSError), (disk / "filler").open("wb") as filler:
            while True:
                filler.write(bytes(1 << 16))
        began = time.monotonic()
        problem = check_failure(process, "cannot save step")
        seconds = time.monotonic() - began
        (disk / "filler").unlink()
        problem = problem or check_state(run) or place.finish(run)
        return f"ended after {seconds:.1f} s", problem


def wait_for(run: Path, event: str) -> None:
    """Wait until a trainer has reached a moment."""
    ending = time.monotonic() + 120
    while event not in events(run) and time.monotonic() < ending:
        time.sleep(0.01)


def read_only(place: Place, number: int) -> tuple[str, str]:
    """Take away the permission to write in the run folder (requires root)."""
    run = place.fresh()
    process = place.train(run, prefix=AS_OWNER)
    wait_for(run, f"saved {1 + number % 8}")
    folders = [run / "checkpoints"] if number % 2 else [run, run / "checkpoints"]
    for folder in folders:
        folder.chmod(0o555)
    began = time.monotonic()
    problem = check_failure(process, "")
    seconds = time.monotonic() - began
    for folder in folders:
        folder.chmod(0o755)
    problem = problem or check_state(run) or place.finish(run)
    return f"ended after {seconds:.1f} s", problem


def removed(place: Place, number: int) -> tuple[str, str]:
    """Remove the run folder while a run trains."""
    run = place.fresh()
    process = place.train(run)
    wait_for(run, f"saved {1 + number % 8}")
    while run.exists():
        shutil.rmtree(run, ignore_errors=True)
    began = time.monotonic()
    problem = check_failure(process, "")
    return f"ended after {time.monotonic() - began:.1f} s", problem


def together(place: Place, number: int) -> tuple[str, str]:
    """Two trainers in one folder: the second is rejected, the first is undisturbed."""
    kind = ("resume beside running", "two resumes", "two fresh", "after a kill")[number % 4]
    run = place.fresh()
    if kind in ("two resumes", "after a kill"):
        moment = f"step:5:{'SIGTERM' if kind == 'two resumes' else 'SIGKILL'}:0"
        place.train(run, moment).communicate()
    arguments = [sys.executable, "-m", "jaxcnn", "train", *place.flags, "--workdir", str(run)]
    resume = [*arguments, "--resume", "auto"]
    first = start(arguments if kind in ("resume beside running", "two fresh") else resume)
    if kind == "after a kill":
        _, errors = first.communicate()
        return kind, place.difference(run) if first.returncode == 0 else errors[-300:]
    if kind == "resume beside running":
        while not (run / "config.json").exists() and first.poll() is None:
            time.sleep(0.01)
    second = start(arguments if kind == "two fresh" else resume)
    ended = [(process.communicate()[1], process.returncode) for process in (first, second)]
    rejected = [errors for errors, code in ended if code == 2]
    if [code for _, code in ended].count(0) != 1 or len(rejected) != 1:
        codes = [code for _, code in ended]
        return kind, "" if codes == [0, 0] and "resume" in kind else f"exit codes {codes}"
    return kind, check_line(rejected[0]) or place.difference(run)


def evaluate(place: Place, number: int) -> tuple[str, str]:
    """Evaluate beside a trainer that saves after each step."""
    run = place.fresh()
    process = place.train(run)
    wait_for(run, "saved 1")
    problems = []
    count = 0
    while process.poll() is None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                open_run(run)
            except (ValueError, OSError) as error:
                problems.append(str(error))
        problems += [str(warning.message) for warning in caught]
        count += 1
    process.communicate()
    return f"{count} evaluations", "; ".join(problems) or place.difference(run)


@functools.cache
def bad_command_lines(place: Place) -> list[list[str]]:
    """Return command lines that must fail."""
    paths = bad_commands.make_inputs(place.inputs)
    return [*bad_commands.settings(), *bad_commands.inputs(paths, place.whole)]


def raise_timeout(number: int, frame: Any) -> None:
    """Raise an error that the command line does not report."""
    raise RuntimeError("no answer after 60 s")


def command_line(place: Place, number: int) -> tuple[str, str]:
    """Bad command lines and inputs: one line, exit code 2, nothing written."""
    arguments = bad_command_lines(place)[number]
    scene = " ".join(arguments)[:200]
    empty = place.fresh()
    empty.mkdir()
    errors, is_parsers = io.StringIO(), False
    signal.signal(signal.SIGALRM, raise_timeout)
    signal.alarm(60)
    with contextlib.chdir(empty), contextlib.redirect_stderr(errors):
        try:
            code: Any = command(arguments)
        except SystemExit as end:
            code, is_parsers = end.code, True
        except Exception as error:
            return scene, f"raised {error!r}"
        finally:
            signal.alarm(0)
    text = errors.getvalue()
    if code != 2:
        return scene, f"exit code {code}: {text[-300:]!r}"
    if any(empty.iterdir()):
        return scene, f"written: {[path.name for path in empty.iterdir()]}"
    if is_parsers:  # which prints a box, with the argument as it was given
        return scene, "a traceback" if "Traceback" in text else ""
    if "\x1b" in text:
        return scene, "a control character"
    lines = [line for line in text.splitlines() if not line.startswith("jaxcnn: warning: ")]
    return scene, check_line("".join(f"{line}\n" for line in lines))


def soak(place: Place, number: int) -> tuple[str, str]:
    """10,000 steps with saves: memory, files, threads and compilations stay constant."""
    rng = np.random.default_rng(number)
    labels = np.arange(33_400) % 3
    images = rng.integers(0, 255, (len(labels), 12, 12, 1)).astype(np.uint8)
    path = place.folder / "soak.npz"
    np.savez(
        path,
        train_images=images,
        train_labels=labels,
        test_images=images[:66],
        test_labels=labels[:66],
    )
    run = place.fresh()
    flags = ("--model", "lenet5", "--epochs", "25", "--batch-size", "75", "--clip-norm", "1")
    arguments = ["train", "--data", str(path), *flags, "--checkpoint-seconds", "0.5"]
    arguments += ["--workdir", str(run)]
    process = start(
        [sys.executable, str(TRAINER), "-:0:SIGTERM:0", str(run.parent / "events"), *arguments],
        env=os.environ | {"JAX_LOG_COMPILES": "1"},
    )
    output: list[str] = []
    reader = threading.Thread(target=lambda: output.append(process.communicate()[1]))
    reader.start()
    samples = []  # between saves: (steps, KiB, threads, files)
    while reader.is_alive():
        time.sleep(0.1)
        steps = sum(line.startswith("step ") for line in events(run))
        with contextlib.suppress(OSError, StopIteration):
            if is_saving(run):
                continue
            status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            kib = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
            threads = next(int(line.split()[1]) for line in status if line.startswith("Threads"))
            files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
            if not is_saving(run):
                samples.append((steps, kib, threads, files))
    reader.join()
    steady = [sample for sample in samples if 500 <= sample[0] < 9_900]
    compiled = output[0].count("Finished XLA compilation of jit(step)")
    saves = sum(line.startswith("saved ") for line in events(run))
    growth = steady[-1][1] / steady[0][1] - 1
    counts = [collections.Counter(sample[i] for sample in steady).most_common(4) for i in (2, 3)]
    scene = (
        f"{samples[-1][0]} steps, {saves} saves, {compiled} compilation of the training step, RSS "
        f"{steady[0][1] / 1024:.0f} MiB, growth {growth:.1%}, between saves threads {counts[0]}, "
        f"files {counts[1]}"
    )
    if process.returncode != 0 or samples[-1][0] < 10_000:
        return scene, f"exit code {process.returncode}: {output[0][-300:]!r}"
    return scene, "" if growth < 0.05 and compiled <= 2 else "not constant"


PARTS: dict[str, tuple[Callable[[Place, int], tuple[str, str]], int]] = {
    "kill": (kill, 100),
    "stop": (stop, len(STOPS)),
    "signals": (signals, len(SIGNALS) * len(SIGNAL_MOMENTS)),
    "second_signal": (second_signal, 18),
    "flip": (flip, 200),
    "damage": (damage, 68),
    "stray": (stray, 8),
    "file_size_limit": (file_size_limit, 20),
    "full_disk": (full_disk, 20),
    "read_only": (read_only, 20),
    "removed": (removed, 20),
    "together": (together, 20),
    "evaluate": (evaluate, 5),
    "command_line": (command_line, 454),
    "soak": (soak, 1),
}


def main() -> None:
    """Run the parts named on the command line, and print the counts."""
    parser = argparse.ArgumentParser(description="Run the fault campaign.")
    parser.add_argument("results", type=Path)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--trials", type=int, help="at most this many of each part")
    chosen = parser.parse_args()
    done = set()
    if chosen.results.exists():
        rows = [json.loads(line) for line in chosen.results.read_text().splitlines()]
        done = {(row["part"], row["number"]) for row in rows}
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    place = Place(folder)
    with chosen.results.open("a") as results:
        for part in chosen.parts or PARTS:
            trial, count = PARTS[part]
            for number in range(min(count, chosen.trials or count)):
                if (part, number) in done:
                    continue
                began = time.monotonic()
                scene, problem = trial(place, number)
                place.clear()
                row = {"part": part, "number": number, "scene": scene, "problem": problem}
                row["seconds"] = round(time.monotonic() - began, 1)
                results.write(json.dumps(row, ensure_ascii=False) + "\n")
                results.flush()
                if problem:
                    print(f"{part} {number}: {scene}: {problem}", flush=True)
    shutil.rmtree(folder)
    print_counts(chosen.results)


def print_counts(path: Path) -> None:
    """Print the number of trials and problems of each part."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    trials = collections.Counter(row["part"] for row in rows)
    problems = collections.Counter(row["part"] for row in rows if row["problem"])
    for part, count in trials.items():
        print(f"{part:16} {count:4} trials, {problems[part]} with a problem")


if __name__ == "__main__":
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    sys.unraisablehook = lambda unraisable: None  # from the threads of the storage libraries
    main()
