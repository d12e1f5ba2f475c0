"""The command line: a thin layer over `jaxcnn.runs`.

Bad input ends with one line on standard error and exit code 2, a clean stop by a signal with
130. ``JAXCNN_TRACEBACK=1`` shows where an error came from.
"""

import contextlib
import dataclasses
import io
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import rich.console
import tyro

from jaxcnn import data, inspection, runs, shapes
from jaxcnn import train as training
from jaxcnn.experiment import Experiment

_Run = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a network and measure it; without arguments, the classical CNN on real images."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=Experiment
    )
    workdir: Path | None = None
    """Folder for the run, new or empty; by default runs/<model>-<data>-seed<seed>."""
    resume: bool = False
    """Go on with the run in --workdir from its last checkpoint."""

    def __call__(self) -> None:
        """Run it, and say where the results are."""
        console = rich.console.Console(highlight=False)
        result = runs.run(self.experiment, self.workdir, resume=self.resume, console=console)
        print(f"run folder: {result['workdir']}")
        print(
            f"test accuracy: {result['test_accuracy']:.4f} "
            f"({result['test_examples']:,} images, {result['wall_seconds']:.0f} s)"
        )


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure a trained network on one split of its data."""

    run: _Run
    """Folder of the run."""
    split: Literal["test", "validation", "train"] = "test"
    """Which examples to measure it on."""
    model: str | None = None
    """The run's file.py:function, if its network is one of your own."""

    def __call__(self) -> None:
        """Print the metrics."""
        trained = runs.open_run(self.run, model=self.model)
        source = runs.load_split(trained.experiment, self.split)
        step = training.make_eval_step(trained.network.model, preprocess=trained.network.preprocess)
        batches = data.batches(source, trained.experiment.batch_size)
        for name, value in training.evaluate(step, trained.state, batches).items():
            print(f"{self.split} {name}: {value:.4f} ({len(source):,} images)")


@dataclasses.dataclass(frozen=True)
class Predict:
    """Say what images show: the most probable classes of each."""

    run: _Run
    """Folder of the run."""
    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE")]
    """Image files of any size, colour or grey."""
    top: int = 3
    """How many classes to print."""
    json: bool = False
    """Print JSON instead of text."""
    model: str | None = None
    """The run's file.py:function, if its network is one of your own."""

    def __call__(self) -> None:
        """Print the classes."""
        if not self.images:
            raise ValueError("predict needs at least one image file")
        trained = runs.open_run(self.run, model=self.model)
        network = trained.network
        if not 1 <= self.top <= len(network.classes):
            raise ValueError(f"--top must be from 1 to {len(network.classes)}, got {self.top}")
        size, channels = network.preprocess.size, network.preprocess.channels
        pixels = [data.decode_image(path, size=size, channels=channels) for path in self.images]
        logits = network.model.apply(
            trained.state.variables, network.preprocess(np.stack(pixels)), train=False
        )
        answers = []
        for path, row in zip(self.images, np.asarray(jax.nn.softmax(logits)), strict=True):
            best = np.argsort(-row, kind="stable")[: self.top]
            guesses = [(network.classes[k], float(row[k])) for k in best]
            answers.append((str(path), guesses))
        if self.json:
            records = [
                {
                    "image": name,
                    "predictions": [{"class": c, "probability": p} for c, p in guesses],
                }
                for name, guesses in answers
            ]
            print(json.dumps(records, indent=2))
            return
        for name, guesses in answers:
            print(f"{name}: {', '.join(f'{c} {p:.1%}' for c, p in guesses)}")


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Look into a trained network: parameters, receptive fields, kernels, feature maps."""

    run: _Run
    """Folder of the run; pictures go to its folder pictures/."""
    image: Path | None = None
    """Image whose feature maps to draw; by default one of the run's training images."""
    model: str | None = None
    """The run's file.py:function, if its network is one of your own."""

    def __call__(self) -> None:
        """Print the tables and draw the pictures."""
        trained = runs.open_run(self.run, model=self.model)
        network = trained.network
        size, channels = network.preprocess.size, network.preprocess.channels
        if self.image is not None:
            picture = data.decode_image(self.image, size=size, channels=channels)
        else:
            picture = runs.load_split(trained.experiment, "train").images[0]
        parameters = inspection.parameter_table(trained.state.variables)
        _print_table(
            ("array", "shape", "values"),
            [(p.name, "x".join(map(str, p.shape)), f"{p.size:,}") for p in parameters],
        )
        print(f"total {sum(p.size for p in parameters):,} values\n")
        layers = inspection.receptive_fields(
            network.model, trained.state.variables, (*size, channels)
        )
        _print_table(
            ("layer", "feature maps", "receptive field"),
            [
                (
                    layer.name,
                    "x".join(map(str, layer.shape)),
                    "x".join(map(str, layer.receptive_field)),
                )
                for layer in layers
            ],
        )
        folder = self.run / "pictures"
        runs.draw_network(network, trained.state, picture, folder)
        print(f"\npictures: {folder}")


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Write a data set to disk in TFDS's format, checked against the official sums."""

    name: tyro.conf.Positional[str]
    """Data set: fashion_mnist."""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Folder with the official files; by default they are downloaded."""
    data_dir: Path | None = None
    """Where prepared data sets live; by default TFDS's own folder."""

    def __call__(self) -> None:
        """Write it, and say where."""
        folder = data.prepare(self.name, source=self.source, data_dir=self.data_dir)
        print(f"prepared: {folder}")


_COMMANDS: dict[str, Any] = {
    "train": Train,
    "evaluate": Evaluate,
    "predict": Predict,
    "inspect": Inspect,
    "prepare": Prepare,
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
            _parse(argv)()
    except runs.Interrupted as stop:
        print(stop, file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("interrupted; a run that has a checkpoint goes on with --resume", file=sys.stderr)
        return 130
    except (ValueError, OSError, training.DivergedError) as error:
        if os.environ.get("JAXCNN_TRACEBACK"):
            raise
        print(f"jaxcnn: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1 if isinstance(error, training.DivergedError) else 2
    return 0


def _print_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """A warning in the form of an error: one line, without the place in the source."""
    print(f"jaxcnn: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _parse(argv: list[str]) -> Any:
    if argv and not argv[0].startswith("-") and argv[0] not in _COMMANDS:
        raise ValueError(
            f"there is no command {argv[0]!r}. {shapes.did_you_mean(argv[0], _COMMANDS)}"
        )
    command = _parsed(
        lambda: tyro.extras.subcommand_cli_from_dict(
            _COMMANDS,
            prog="jaxcnn",
            description="Convolutional networks in JAX.",
            args=argv,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    )
    if not (isinstance(command, Train) and command.resume and command.workdir):
        return command
    # What the command line leaves out of a resumed run is as the run's folder has it, so it is
    # read again with that as the default.
    stored = runs.read_config(command.workdir)
    if ":" in stored.model and not any(part.startswith("--model") for part in argv):
        raise ValueError(
            "this run's network comes from a Python file; if you trust it, add "
            f"--model {stored.model}"
        )
    return _parsed(
        lambda: tyro.cli(
            Train,
            prog="jaxcnn train",
            args=argv[1:],
            default=Train(experiment=stored),
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    )


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


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


if __name__ == "__main__":
    sys.exit(main())
