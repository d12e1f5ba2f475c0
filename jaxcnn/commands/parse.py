"""Parse the command line into a command, with tyro."""

import dataclasses
import importlib.metadata
import itertools
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import tyro

from jaxcnn.commands.datasets import InspectData, Prepare
from jaxcnn.commands.listing import Models
from jaxcnn.commands.saved import Evaluate, Export, Features, Inspect, Predict
from jaxcnn.commands.timing import Benchmark
from jaxcnn.commands.training import FindLearningRate, Train, is_started
from jaxcnn.experiment import Experiment, recipe, run_folder, sweeps
from jaxcnn.experiment.config import RECIPES
from jaxcnn.messages import did_you_mean

_COMMANDS: dict[str, Any] = {
    "train": Train,
    "find-learning-rate": FindLearningRate,
    "evaluate": Evaluate,
    "predict": Predict,
    "inspect": Inspect,
    "features": Features,
    "export": Export,
    "prepare": Prepare,
    "inspect-data": InspectData,
    "models": Models,
    "benchmark": Benchmark,
}
_CONFIG = (tyro.conf.FlagCreatePairsOff,)


@dataclasses.dataclass(frozen=True)
class _Base:
    """The flags that determine the defaults of the other flags."""

    workdir: Path | None = None
    recipe: str | None = None
    task: str | None = None
    model: str | None = None
    resume: Literal["no", "yes", "auto"] = "no"

    def experiment(self) -> Experiment:
        """Return the experiment to override: the resumed run's, the recipe's, or the default."""
        starts = self.resume == "no" or (self.resume == "auto" and not is_started(self.workdir))
        if self.recipe and self.resume == "auto":
            starts = True  # the command that started the run is repeated, and compared with it
        if starts or self.workdir is None:
            # The parser reports unknown recipes.
            return recipe(self.recipe, task=self.task) if self.recipe in RECIPES else Experiment()
        if self.recipe:
            raise ValueError("--recipe must be omitted with --resume, which keeps the settings")
        is_sweep = sweeps.is_sweep(self.workdir)
        stored = (sweeps if is_sweep else run_folder).read_config(self.workdir)
        if stored.is_custom and not self.model:
            raise ValueError(
                "this run's network comes from a Python file; if you trust it, add "
                f"--model {stored.model}"
            )
        return stored


def parse(argv: Sequence[str]) -> Any:
    """Parse arguments into a command, a callable without arguments.

    Raises:
      ValueError: if the command is unknown, or a setting is invalid.
      SystemExit: after the parser has printed help (code 0) or its own error (code 2).

    Example:
      >>> parse(["train", "--recipe", "modern", "--epochs", "3"]).experiment.label_smoothing
      0.1
    """
    argv = _with_values(argv)
    if argv[:1] == ["--version"]:
        versions = (f"{name} {importlib.metadata.version(name)}" for name in ("jaxcnn", "jax"))
        print(f"{', '.join(versions)}, Python {platform.python_version()}")
        raise SystemExit(0)
    if "" in argv:
        before = argv[argv.index("") - 1] if argv[0] else "the command"
        raise ValueError(f"empty argument after {before}; paths must not be empty")
    name, *arguments = argv or [""]
    if name and not name.startswith("-") and name not in _COMMANDS:
        raise ValueError(f"unknown command {name!r}. {did_you_mean(name, _COMMANDS)}")
    kind = _COMMANDS.get(name)
    if kind in (Train, FindLearningRate):
        base, _ = tyro.cli(
            _Base,
            prog=f"jaxcnn {name}",
            args=arguments,
            return_unknown_args=True,
            add_help=False,
            config=_CONFIG,
        )
        default = kind(experiment=base.experiment())
        return tyro.cli(
            kind, prog=f"jaxcnn {name}", args=arguments, default=default, config=_CONFIG
        )
    return tyro.extras.subcommand_cli_from_dict(
        _COMMANDS,
        prog="jaxcnn",
        description="Convolutional networks in JAX.",
        args=argv,
        config=_CONFIG,
    )


def _with_values(argv: Sequence[str]) -> list[str]:
    """Return the arguments with a bare ``--resume`` written as ``--resume yes``.

    tyro has no flags whose value may be omitted.
    """
    result: list[str] = []
    for argument, following in itertools.pairwise([*argv, ""]):
        result.append(argument)
        if argument == "--resume" and following not in ("no", "yes", "auto"):
            result.append("yes")
    return result
