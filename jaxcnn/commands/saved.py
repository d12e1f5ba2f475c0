"""Commands that use a trained network: evaluate, predict, inspect, features, export."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jaxcnn import data, models
from jaxcnn import train as training
from jaxcnn.commands.tables import print_table
from jaxcnn.data.files import atomic_write
from jaxcnn.experiment import build, run_folder, saved
from jaxcnn.experiment.augment import make_augment
from jaxcnn.experiment.splits import load_split
from jaxcnn.messages import printable
from jaxcnn.view import inspection, plots, run_figures

_Run = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Opened:
    """What commands that take a run or a file of weights have in common."""

    run: _Run
    """Folder of a run; or a file of weights, as --pretrained of jaxcnn train takes it."""
    model: str | None = None
    """The run's file.py:function, if its network is one of your own; the network's name, if a file
    of weights does not say it."""
    source: Literal["auto", "torchvision", "timm", "timm_tf", "efficientnet_pytorch", "keras"] = (
        "auto"
    )
    """Whose weights a file holds, if it does not tell."""

    def open(self) -> saved.Trained:
        """The network."""
        if not self.is_weights:
            if self.source != "auto":
                raise ValueError(f"--source must be left out for a run, got {self.source}")
            return saved.open_run(self.run, model=self.model)
        source = None if self.source == "auto" else self.source
        return saved.open_weights(str(self.run), model=self.model, source=source)

    @property
    def is_weights(self) -> bool:
        """Whether it is a file of weights."""
        return self.run.is_file() or str(self.run).startswith("hf-hub:")


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
        run = saved.open_run(self.run, model=self.model)
        source = load_split(run.experiment, self.split, run.metadata)
        step = build.make_eval_step(run.experiment, run.network)
        batches = data.batches(source, run.experiment.batch_size)
        values = training.evaluate(step, run.state, batches, overall=run.network.task.overall)
        if bad := len(source.bad):
            print(f"{bad:,} images that cannot be read were left out")
        for name, value in values.items():
            print(f"{self.split} {name}: {value:.4f} ({len(source) - bad:,} images)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict(_Opened):
    """Say what images show: the most probable classes of each."""

    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE")]
    """Image files of any size, colour or grey."""
    top: int | None = None
    """How many classes to print; by default 3, and of several labels those above one half."""
    json: bool = False
    """Print JSON instead of text."""

    def __call__(self) -> None:
        """Print the classes."""
        if not self.images:
            raise ValueError("predict needs at least one image file")
        opened = self.open()
        network = opened.network
        if self.top is not None and not 1 <= self.top <= len(network.classes):
            raise ValueError(f"--top must be from 1 to {len(network.classes)}, got {self.top}")
        size, channels = network.preprocess.size, network.preprocess.channels
        pixels = [data.decode_image(path, size=size, channels=channels) for path in self.images]
        step = build.make_predict_step(opened.experiment, network)
        outputs = step(opened.state, np.stack(pixels))
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
            print(printable(f"{path}: {', '.join(words) or 'none'}"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspect(_Opened):
    """Look into a trained network: parameters, layers, kernels, maps, what speaks for a class."""

    image: Path | None = None
    """Image to look at with it; by default one of the run's training images."""
    output: Path | None = None
    """Folder for the pictures; by default the run's folder pictures/, or a new one below runs/ for
    a file of weights."""

    def __call__(self) -> None:
        """Print the tables and draw the pictures."""
        if self.is_weights and self.image is None:
            raise ValueError("--image must be given for a file of weights, which has no images")
        opened = self.open()
        network, variables = opened.network, opened.state.eval_variables
        figures: dict[str, Any] = {}
        augment = None if self.is_weights else make_augment(opened.experiment, len(network.classes))
        if self.image is None or augment is not None:
            examples = load_split(opened.experiment, "train", opened.metadata)
            examples.images[: run_figures.EPOCHS]  # what is bad of these is known now
            picture = examples.without_bad().images[0]
            figures |= run_figures.augmentation_figures(
                augment, examples, network.preprocess, opened.state.key
            )
        size, channels = network.preprocess.size, network.preprocess.channels
        if self.image is not None:
            picture = data.decode_image(self.image, size=size, channels=channels)
        _print_tables(network.model, variables, (*size, channels))
        figures |= run_figures.network_figures(
            network.model, variables, network.preprocess, picture
        )
        figures |= run_figures.attribution_figures(
            network.task, network.model, variables, network.preprocess, picture, network.classes
        )
        folder = self._folder(opened)
        for name, figure in figures.items():
            plots.save_figure(figure, folder / f"{name}.png")
        print(f"\npictures: {folder}")

    def _folder(self, opened: saved.Trained) -> Path:
        if self.output is not None:
            return self.output
        if self.is_weights:
            return run_folder.new_folder(None, f"{opened.experiment.model}-pictures")
        return self.run / "pictures"


def _print_tables(model: Any, variables: Any, size: tuple[int, int, int]) -> None:
    """The arrays and the layers of a network."""
    parameters = inspection.parameter_table(variables)
    print_table(
        ("array", "shape", "values"),
        [(p.name, "x".join(map(str, p.shape)), f"{p.size:,}") for p in parameters],
    )
    print(f"total {sum(p.size for p in parameters):,} values\n")
    print_table(
        ("layer", "feature maps", "receptive field"),
        [
            (layer.name, "x".join(map(str, layer.shape)), "x".join(map(str, layer.receptive_field)))
            for layer in inspection.receptive_fields(model, variables, size)
        ],
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features(_Opened):
    """Write what a network's last layer sees of each image of a data set to a file of arrays."""

    data: str
    """Data set, as --data of jaxcnn train takes it."""
    output: Path
    """File to write, FILE.npz: for each split its features and labels, and the classes."""
    data_dir: str | None = None
    """Folder of prepared data sets; by default TFDS's own."""
    test_fraction: float = 0.2
    """Share of each class that becomes the test split, if the data has none."""
    on_bad_example: Literal["raise", "skip"] = "raise"
    """An image that cannot be read: stop and name it, or leave it out."""
    batch_size: int = 64
    """Images at a time."""

    def __call__(self) -> None:
        """Write the file."""
        if self.output.suffix != ".npz":
            raise ValueError(f"--output must be a file .npz, got {self.output}")
        opened = self.open()
        preprocess = opened.network.preprocess
        splits = data.load_splits(
            self.data,
            data_dir=self.data_dir,
            size=preprocess.size,
            channels=preprocess.channels,
            test_fraction=self.test_fraction,
            on_bad=self.on_bad_example,
        )
        arrays: dict[str, np.ndarray] = {}
        for name, source in splits.items():
            rows, labels = saved.features(opened, source, batch_size=self.batch_size)
            arrays |= {f"{name}_features": rows, f"{name}_labels": labels}
            arrays["classes"] = np.array(source.classes)
            print(f"{name}: {rows.shape[0]:,} examples of {rows.shape[1]:,} features")
        with atomic_write(self.output) as path, path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        print(f"features: {self.output}")


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a run's network to one file, which --pretrained, predict and others take."""

    run: _Run
    """Folder of the run."""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.safetensors")]
    """File to write."""

    def __call__(self) -> None:
        """Write the file."""
        if self.output.suffix != ".safetensors":
            raise ValueError(f"the file must be called .safetensors, got {self.output}")
        models.save_pretrained(self.output, saved.to_pretrained(saved.open_run(self.run)))
        print(f"weights: {self.output} ({self.output.stat().st_size:,} bytes)")
