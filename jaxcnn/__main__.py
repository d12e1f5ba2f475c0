"""The command line: `jaxcnn.commands` parsed from arguments, and errors in one line.

Bad input ends with one line on standard error and exit code 2, a clean stop by a signal with
130. ``JAXCNN_TRACEBACK=1`` shows where an error came from.
"""

import argparse
import contextlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import tyro

from jaxcnn import commands
from jaxcnn import train as training
from jaxcnn.experiment import run_folder, runner, sweeps
from jaxcnn.experiment.config import RECIPES, Experiment, recipe
from jaxcnn.messages import did_you_mean, printable

_COMMANDS: dict[str, Any] = {
    "train": commands.Train,
    "find-learning-rate": commands.FindLearningRate,
    "evaluate": commands.Evaluate,
    "predict": commands.Predict,
    "inspect": commands.Inspect,
    "features": commands.Features,
    "export": commands.Export,
    "prepare": commands.Prepare,
    "data": commands.Data,
    "models": commands.Models,
    "benchmark": commands.Benchmark,
}
# What these say themselves is little, or nothing.
_IN_WORDS = {
    MemoryError: "there is not enough memory",
    RecursionError: "something is nested too deeply to be read",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
      argv: the arguments, by default those of the process.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports what we report
            command = _parse(argv)
            _keep_compiled_programs()
            training.keep_freed_memory()
            command()
    except runner.Interrupted as stop:
        print(stop, file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        goes_on = "; a run that has a checkpoint goes on with --resume"
        print(f"interrupted{goes_on if argv[:1] == ['train'] else ''}", file=sys.stderr)
        return 130
    except (ValueError, OSError, MemoryError, RecursionError, training.DivergedError) as error:
        if os.environ.get("JAXCNN_TRACEBACK"):
            raise
        print(f"jaxcnn: error: {_one_line(error)}", file=sys.stderr)
        return 1 if isinstance(error, training.DivergedError) else 2
    return 0


def _keep_compiled_programs() -> None:
    """Switch on JAX's compilation cache in the user's cache folder, unless it is set already.

    The second run of a network starts without compiling it.
    """
    if jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        return
    try:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(caches) / "jaxcnn" / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or none that may be written
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _print_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """A warning in the form of an error: one line, without the place in the source."""
    print(f"jaxcnn: warning: {_one_line(message)}", file=sys.stderr)


def _one_line(message: object) -> str:
    """A message on one line, whatever names of files and classes are in it."""
    line = printable(" ".join(str(message).split()))
    for kind, words in _IN_WORDS.items():
        if isinstance(message, kind):
            line = f"{words}: {line}" if line else words
    return line


def _parse(argv: list[str]) -> Any:
    if argv and not argv[0].startswith("-") and argv[0] not in _COMMANDS:
        raise ValueError(f"there is no command {argv[0]!r}. {did_you_mean(argv[0], _COMMANDS)}")
    config = (tyro.conf.FlagCreatePairsOff,)
    kind = _COMMANDS.get(argv[0]) if argv else None
    if kind in (commands.Train, commands.FindLearningRate):
        prog = f"jaxcnn {argv[0]}"
        default = kind(experiment=_default(argv[1:]))
        return _parsed(
            lambda: tyro.cli(kind, prog=prog, args=argv[1:], default=default, config=config)
        )
    return _parsed(
        lambda: tyro.extras.subcommand_cli_from_dict(
            _COMMANDS,
            prog="jaxcnn",
            description="Convolutional networks in JAX.",
            args=argv,
            config=config,
        )
    )


def _default(argv: list[str]) -> Experiment:
    """What the flags start from: the run that is to go on, a recipe, or the plain defaults."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--workdir", "--recipe", "--task", "--model"):
        parser.add_argument(flag, nargs="?")
    parser.add_argument("--resume", action="store_true")
    given, _ = parser.parse_known_args(argv)
    if given.resume and given.workdir:
        if given.recipe:
            raise ValueError("a resumed run keeps its configuration, so --recipe has no place")
        workdir = Path(given.workdir)
        read = sweeps.read_config if sweeps.is_sweep(workdir) else run_folder.read_config
        stored = read(workdir)
        if ":" in stored.model and not given.model:
            raise ValueError(
                "this run's network comes from a Python file; if you trust it, add "
                f"--model {stored.model}"
            )
        return stored
    # A name that is no recipe is the parser's to refuse.
    return recipe(given.recipe, task=given.task) if given.recipe in RECIPES else Experiment()


def _parsed(parse: Callable[[], Any]) -> Any:
    """Call a tyro parser; turn the box it would print on an error into one line."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return parse()
    except SystemExit as end:
        if end.code != 2:
            raise
        plain = re.sub(r"\x1b\[[0-9;]*m", "", box.getvalue())
        # A title, what is wrong, a rule, then suggestions and help. The title stands in the frame,
        # or above a rule of its own where the terminal's encoding has no frames.
        frame, *lines = plain.splitlines()
        title = frame.strip("╭─╮ ")
        lines = [line.strip("│ ") for line in lines]
        is_rule = [bool(re.fullmatch("[─╰╯-]+", line)) for line in lines]
        first = is_rule.index(False)
        message = " ".join(lines[first : is_rule.index(True, first)])
        if not message.startswith((title, "Error")):
            message = f"{title}: {message}"
        if "Perhaps you meant:" in lines:
            suggestion = lines[lines.index("Perhaps you meant:") + 1].split()[0]
            message += f"; did you mean {suggestion}?"
        raise ValueError(message) from None


if __name__ == "__main__":
    sys.exit(main())
