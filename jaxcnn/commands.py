"""The commands, each a dataclass whose fields are its flags and whose call does the work."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import optax
import rich.console
import tyro

from jaxcnn import assembly, data, inspection, models, plots, reports, runs, sweeps
from jaxcnn import train as training
from jaxcnn.augmentations import make_augment
from jaxcnn.benchmark import benchmark
from jaxcnn.data_reports import data_report, report_lines, write_contact_sheet
from jaxcnn.examples import load_split
from jaxcnn.experiment import Experiment

_Run = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]


@dataclasses.dataclass(frozen=True)
class _Configured:
    """A command that takes the whole configuration."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=Experiment
    )
    recipe: Literal["plain", "modern"] = "plain"
    """Preset of the settings below, which flags overrule."""


@dataclasses.dataclass(frozen=True)
class Train(_Configured):
    """Train a network and measure it; without arguments, the classical CNN on real images."""

    workdir: Path | None = None
    """Folder for the run, new or empty; by default runs/<model>-<data>-seed<seed>."""
    resume: bool = False
    """Go on with the run in --workdir from its last checkpoint."""
    seeds: tuple[int, ...] = ()
    """Several runs, one for each of these seeds, with the mean and spread of their results."""
    tensorboard: bool = False
    """Write TensorBoard event files too."""

    def __call__(self) -> None:
        """Run it, and say where the results are."""
        console = rich.console.Console(highlight=False)
        resumes_sweep = self.resume and self.workdir and sweeps.is_sweep(self.workdir)
        every_fold = self.experiment.folds is not None and self.experiment.fold is None
        if self.seeds or every_fold or resumes_sweep:
            summary = sweeps.run(
                self.experiment,
                self.workdir,
                seeds=self.seeds,
                resume=self.resume,
                console=console,
                tensorboard=self.tensorboard,
            )
            _print_summary(summary)
            return
        result = runs.run(
            self.experiment,
            self.workdir,
            resume=self.resume,
            console=console,
            tensorboard=self.tensorboard,
        )
        score = result["score"]
        print(f"run folder: {result['workdir']}")
        if "gap" in result:
            print(
                f"over-fitting gap: {result['gap']:.4f} (train {score} "
                f"{result[f'train_{score}']:.4f} - validation {result[f'validation_{score}']:.4f})"
            )
        print(
            f"test {score}: {result[f'test_{score}']:.4f} "
            f"({result['test_examples']:,} images, {result['wall_seconds']:.0f} s)"
        )


@dataclasses.dataclass(frozen=True)
class FindLearningRate(_Configured):
    """Try growing learning rates for a few hundred steps, and suggest one."""

    workdir: Path | None = None
    """Folder for the picture, new or empty; by default runs/<model>-<data>-learning-rate."""
    low: float = 1e-6
    """First learning rate."""
    high: float = 1.0
    """Last learning rate."""
    steps: int = 200
    """How many steps from the one to the other."""

    def __call__(self) -> None:
        """Print the suggestion."""
        experiment = self.experiment
        runs.check_free(self.workdir)
        parts = assembly.assemble(experiment)

        def prepare(schedule: optax.Schedule) -> tuple[training.TrainState, training.TrainStep]:
            optimizer = assembly.make_optimizer(experiment, len(parts.train), schedule=schedule)
            network = parts.network._replace(optimizer=optimizer)
            return (
                network.initial_state(experiment.seed),
                assembly.make_train_step(experiment, network),
            )

        found = training.find_learning_rate(
            prepare, parts.train, low=self.low, high=self.high, steps=self.steps
        )
        name = f"{runs.run_name(experiment)}-learning-rate"
        folder = runs.new_folder(self.workdir, name)
        plots.save_figure(plots.learning_rates(*found), folder / "learning_rates.png")
        record = {
            "suggestion": found.suggestion,
            "rates": found.rates.tolist(),
            "losses": found.losses.tolist(),
            "config": experiment.to_json(),
        }
        runs.write_json(folder / "learning_rates.json", record)
        print(f"picture: {folder / 'learning_rates.png'}")
        print(f"suggested learning rate: {found.suggestion:.1e}")


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
        source = load_split(trained.experiment, self.split)
        step = assembly.make_eval_step(trained.experiment, trained.network)
        batches = data.batches(source, trained.experiment.batch_size)
        values = training.evaluate(
            step, trained.state, batches, overall=trained.network.task.overall
        )
        if bad := len(source.bad):
            print(f"{bad:,} images that cannot be read were left out")
        for name, value in values.items():
            print(f"{self.split} {name}: {value:.4f} ({len(source) - bad:,} images)")


@dataclasses.dataclass(frozen=True)
class Predict:
    """Say what images show: the most probable classes of each."""

    run: _Run
    """Folder of the run."""
    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE")]
    """Image files of any size, colour or grey."""
    top: int | None = None
    """How many classes to print; by default 3, and of several labels those above one half."""
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
        if self.top is not None and not 1 <= self.top <= len(network.classes):
            raise ValueError(f"--top must be from 1 to {len(network.classes)}, got {self.top}")
        size, channels = network.preprocess.size, network.preprocess.channels
        pixels = [data.decode_image(path, size=size, channels=channels) for path in self.images]
        step = assembly.make_predict_step(trained.experiment, network)
        outputs = step(trained.state, np.stack(pixels))
        rows = np.asarray(network.task.activate(outputs))
        answers = [network.task.answer(row, network.classes, self.top) for row in rows]
        is_value = network.task.name == "regression"
        if self.json:
            keys = ("target", "value") if is_value else ("class", "probability")
            records = [
                {
                    "image": str(path),
                    "predictions": [dict(zip(keys, pair, strict=True)) for pair in answer],
                }
                for path, answer in zip(self.images, answers, strict=True)
            ]
            print(json.dumps(records, indent=2))
            return
        for path, answer in zip(self.images, answers, strict=True):
            words = [
                f"{name} {value:.4g}" if is_value else f"{name} {value:.1%}"
                for name, value in answer
            ]
            print(f"{path}: {', '.join(words) or 'none'}")


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Look into a trained network: parameters, receptive fields, kernels, maps, augmentation."""

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
        figures: dict[str, Any] = {}
        augment = make_augment(trained.experiment, len(network.classes))
        if self.image is None or augment is not None:
            examples = load_split(trained.experiment, "train")
            examples.images[: reports.EPOCHS]  # what is bad of these is known now
            examples = examples.without_bad()
            picture = examples.images[0]
            figures |= reports.augmentation_figures(
                augment, examples, network.preprocess, trained.state.key
            )
        if self.image is not None:
            picture = data.decode_image(self.image, size=size, channels=channels)
        variables = trained.state.eval_variables
        parameters = inspection.parameter_table(variables)
        _print_table(
            ("array", "shape", "values"),
            [(p.name, "x".join(map(str, p.shape)), f"{p.size:,}") for p in parameters],
        )
        print(f"total {sum(p.size for p in parameters):,} values\n")
        layers = inspection.receptive_fields(network.model, variables, (*size, channels))
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
        figures |= reports.network_figures(network.model, variables, network.preprocess, picture)
        for name, figure in figures.items():
            plots.save_figure(figure, folder / f"{name}.png")
        print(f"\npictures: {folder}")


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Write a data set to disk in TFDS's format, checked against the official sums."""

    name: tyro.conf.Positional[str]
    """Data set: mnist, fashion_mnist, kmnist, emnist/balanced, cifar10, cifar100, caltech101,
    caltech256, corel1000, imagenet2012; others by TFDS itself, which needs TensorFlow."""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Folder with the official files; by default they are downloaded."""
    data_dir: Path | None = None
    """Where prepared data sets live; by default TFDS's own folder."""

    def __call__(self) -> None:
        """Write it, and say where."""
        folder = data.prepare(self.name, source=self.source, data_dir=self.data_dir)
        print(f"prepared: {folder}")


@dataclasses.dataclass(frozen=True)
class Data:
    """Look at a data set before training on it: report PATH."""

    action: tyro.conf.Positional[Literal["report"]]
    """report: classes, sizes, copies, unreadable files, statistics, a contact sheet."""
    data: tyro.conf.Positional[str]
    """Name of a data set, or a folder, archive, table or .npz file, as for jaxcnn train."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own."""
    image_size: tuple[int, int] | None = None
    """Height and width that images are brought to; by default their own, or 64 64 for files."""
    channels: Literal[1, 3] | None = None
    """1 for grey or 3 for colours."""
    workdir: Path | None = None
    """Folder for report.json and the picture, new or empty; by default runs/<data>-report."""

    def __call__(self) -> None:
        """Print it, and write it down."""
        runs.check_free(self.workdir)
        splits = data.load_splits(
            self.data,
            data_dir=self.data_dir,
            size=self.image_size,
            channels=self.channels,
            on_bad="skip",
        )
        report = data_report(splits)
        folder = runs.new_folder(self.workdir, f"{Path(self.data).stem}-report")
        runs.write_json(folder / "report.json", report)
        write_contact_sheet(folder / "contact_sheet.png", splits["train"])
        print("\n".join(report_lines(report)))
        print(f"report and contact sheet: {folder}")


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Time a network on this machine: training step and forward pass, beside plain XLA."""

    model: str = "classic_cnn"
    """Network by name."""
    size: tuple[int, int, int] = (28, 28, 1)
    """Height, width and channels of an image."""
    batch_size: int = 128
    """Images per step."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in."""
    rounds: int = 5
    """How often the two implementations take turns; medians are shown."""
    seconds: float = 1.0
    """About how long a turn is."""

    def __call__(self) -> None:
        """Print the table."""
        if min(self.size) < 1:
            raise ValueError(f"--size must be three positive integers, got {self.size}")
        timings = benchmark(
            models.create(self.model, 10, dtype=self.precision),
            self.size,
            batch_size=self.batch_size,
            rounds=self.rounds,
            seconds=self.seconds,
        )
        _print_table(
            ("", "ms", "images/s", "plain XLA ms", "floor ms", "GFLOP", "compile s"),
            [
                (
                    timing.name,
                    f"{timing.seconds * 1000:.2f}",
                    f"{self.batch_size / timing.seconds:,.0f}",
                    f"{timing.xla_seconds * 1000:.2f}",
                    f"{timing.floor_seconds * 1000:.2f}",
                    f"{timing.flops / 1e9:.2f}",
                    f"{timing.compile_seconds:.1f}",
                )
                for timing in timings
            ],
        )


COMMANDS: dict[str, Any] = {
    "train": Train,
    "find-learning-rate": FindLearningRate,
    "evaluate": Evaluate,
    "predict": Predict,
    "inspect": Inspect,
    "prepare": Prepare,
    "data": Data,
    "benchmark": Benchmark,
}


def _print_summary(summary: dict[str, Any]) -> None:
    score = summary["score"]
    shown = [f"{part}_{score}" for part in ("train", "validation", "test")] + ["gap"]
    shown = [name for name in shown if name in summary]
    _print_table(
        ("run", *shown),
        [
            (run, *(f"{summary[name]['values'][number]:.4f}" for name in shown))
            for number, run in enumerate(summary["runs"])
        ],
    )
    print(f"folder: {summary['workdir']}")
    count = len(summary["runs"])
    for name in shown:
        mean, spread = summary[name]["mean"], summary[name]["sd"]
        print(f"{name.replace('_', ' ')}: {mean:.4f} ± {spread:.4f} ({count} runs)")


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
