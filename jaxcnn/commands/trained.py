"""Commands that use a trained network: evaluate, predict, inspect."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jaxcnn import assembly, data, inspection, plots, reports, runs
from jaxcnn import train as training
from jaxcnn.augmentations import make_augment
from jaxcnn.commands.tables import print_table
from jaxcnn.examples import load_split

_Run = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]


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
        print_table(
            ("array", "shape", "values"),
            [(p.name, "x".join(map(str, p.shape)), f"{p.size:,}") for p in parameters],
        )
        print(f"total {sum(p.size for p in parameters):,} values\n")
        layers = inspection.receptive_fields(network.model, variables, (*size, channels))
        print_table(
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
