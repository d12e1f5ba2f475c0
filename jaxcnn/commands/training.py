"""Commands that train: train, find-learning-rate."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import optax
import rich.console
import tyro

from jaxcnn import train as training
from jaxcnn.commands.tables import print_table
from jaxcnn.experiment import Execution, Experiment, run, run_folder, run_sweep, sweeps
from jaxcnn.experiment.build import assemble
from jaxcnn.experiment.finetune import as_resolved, resolve
from jaxcnn.experiment.optimizer import make_model_optimizer
from jaxcnn.messages import printable


@dataclasses.dataclass(frozen=True)
class _Configured:
    """A command with flags for the whole configuration."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=Experiment
    )
    recipe: Literal["plain", "modern"] = "plain"
    """Preset for the settings below; explicit flags override it."""


@dataclasses.dataclass(frozen=True)
class Train(_Configured):
    """Train and evaluate a network; by default, classic_cnn on the bundled Fashion-MNIST subset."""

    execution: Annotated[Execution, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=Execution
    )
    workdir: Path | None = None
    """Folder for the run, new or empty unless resuming; by default,
    runs/<model>-<data>-seed<seed>."""
    resume: Literal["no", "yes", "auto"] = "no"
    """Resume the run or sweep in --workdir from its last checkpoint; auto starts a new run if there
    is none, and reports the results if the run has finished. --resume alone means yes."""
    seeds: tuple[int, ...] = ()
    """Do one training run per seed, and print the mean and spread of the results."""

    def __call__(self) -> None:
        """Train, and print the results and where they are stored."""
        if self.resume == "auto" and self.workdir is None:
            raise ValueError("--resume auto needs a run folder: --workdir RUN")
        resume = self.resume == "yes" or (self.resume == "auto" and is_started(self.workdir))
        if resume and self.resume == "auto" and (result := self._finished()):
            print("the run is finished")
            _print_result(result)
            return
        console = _Console(highlight=False)
        resumes_sweep = resume and self.workdir and sweeps.is_sweep(self.workdir)
        every_fold = self.experiment.folds is not None and self.experiment.fold is None
        if self.seeds or every_fold or resumes_sweep:
            summary = run_sweep(
                self.experiment,
                self.workdir,
                seeds=self.seeds,
                execution=self.execution,
                resume=resume,
                console=console,
            )
            _print_summary(summary)
            return
        result = run(
            self.experiment,
            self.workdir,
            execution=self.execution,
            resume=resume,
            console=console,
        )
        _print_result(result)

    def _finished(self) -> dict[str, Any] | None:
        """Return the results in ``workdir`` if the run has finished and used these settings."""
        folder = self.workdir
        if folder is None or not (folder / "result.json").is_file() or sweeps.is_sweep(folder):
            return None
        stored = run_folder.read_config(folder)
        if as_resolved(self.experiment.with_absolute_paths(), stored) != stored:
            return None
        return run_folder.read_json(folder / "result.json") | {"workdir": str(folder)}


class _Console(rich.console.Console):
    """A console that raises an error if the program that reads its output has ended."""

    def on_broken_pipe(self) -> None:
        """Raise the error for the command line to handle; Rich's own method exits with code 1."""
        raise BrokenPipeError


def is_started(folder: Path | None) -> bool:
    """Return whether a folder contains a run or sweep, finished or not.

    Example:
      >>> is_started(Path("no/such/folder"))
      False
    """
    return folder is not None and ((folder / "config.json").is_file() or sweeps.is_sweep(folder))


def _print_result(result: dict[str, Any]) -> None:
    """Print the results of a run."""
    score = result["score"]
    print(f"run folder: {printable(result['workdir'])}")
    if "gap" in result:
        average = ", moving average" if result["config"]["ema_decay"] is not None else ""
        print(
            f"final network (evaluation mode{average}): train {score} "
            f"{result[f'train_{score}']:.4f} - validation {score} "
            f"{result[f'validation_{score}']:.4f} = overfitting gap {result['gap']:.4f}"
        )
    print(
        f"test {score}: {result[f'test_{score}']:.4f} "
        f"({result['test_examples']:,} images, {result['wall_seconds']:.0f} s)"
    )


@dataclasses.dataclass(frozen=True)
class FindLearningRate(_Configured):
    """Suggest a learning rate by training for a few hundred steps while increasing it."""

    workdir: Path | None = None
    """Folder for the figure, new or empty; by default, runs/<model>-<data>-learning-rate."""
    low: float = 1e-6
    """Learning rate at the first step."""
    high: float = 1.0
    """Learning rate at the last step."""
    steps: int = 200
    """Number of training steps; the test ends early if the loss diverges."""

    def __call__(self) -> None:
        """Run the range test and print the suggestion."""
        run_folder.check_free(self.workdir)
        # Suggest a rate for the whole network, not only for a new last layer.
        from jaxcnn.view import plots  # matplotlib would delay other commands

        experiment = dataclasses.replace(
            self.experiment,
            frozen_epochs=0,
            on_nonfinite="raise",  # the test ends there
        )
        experiment, weights = resolve(experiment)
        parts = assemble(experiment, weights)

        def prepare(schedule: optax.Schedule) -> tuple[training.TrainState, training.TrainStep]:
            optimizer = make_model_optimizer(
                experiment,
                parts.network.model,
                parts.network.example,
                epochs=experiment.epochs,
                steps_per_epoch=len(parts.train),
                schedule=schedule,
            )
            network = parts.network._replace(optimizer=optimizer)
            return network.initial_state(experiment.seed), network.train_step()

        found = training.find_learning_rate(
            prepare, parts.train, low=self.low, high=self.high, steps=self.steps
        )
        name = f"{run_folder.run_name(experiment)}-learning-rate"
        folder = run_folder.new_folder(self.workdir, name)
        plots.save_figure(plots.learning_rates(*found), folder / "learning_rates.png")
        record = {
            "suggestion": found.suggestion,
            "rates": found.rates.tolist(),
            "losses": found.losses.tolist(),
            "config": experiment.to_json(),
        }
        run_folder.write_json(folder / "learning_rates.json", record)
        print(f"figure: {folder / 'learning_rates.png'}")
        print(f"suggested learning rate: {found.suggestion:.1e}")


def _print_summary(summary: dict[str, Any]) -> None:
    score = summary["score"]
    shown = [f"{part}_{score}" for part in ("train", "validation", "test")] + ["gap"]
    shown = [name for name in shown if name in summary]
    print_table(
        ("run", *shown),
        [
            (run, *(f"{summary[name]['values'][number]:.4f}" for name in shown))
            for number, run in enumerate(summary["runs"])
        ],
    )
    print(f"folder: {printable(summary['workdir'])}")
    count = len(summary["runs"])
    for name in shown:
        mean, spread = summary[name]["mean"], summary[name]["sd"]
        print(f"{name.replace('_', ' ')}: {mean:.4f} ± {spread:.4f} ({count} runs)")
