"""Commands for a trained network: evaluate, predict, inspect, features, export."""

import dataclasses
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import safetensors
import tyro

from jaxcnn import data, models
from jaxcnn import train as training
from jaxcnn.commands.outputs import check_output_file
from jaxcnn.commands.tables import print_table
from jaxcnn.data.files import atomic_write, is_zip, json_text
from jaxcnn.data.lazy import in_parts
from jaxcnn.experiment import open_run, run_folder, saved
from jaxcnn.experiment.network import Source
from jaxcnn.experiment.splits import LABEL_KINDS, load_split
from jaxcnn.messages import printable
from jaxcnn.models.weights.hub import HUB
from jaxcnn.models.weights.jaxcnn_files import is_own
from jaxcnn.models.weights.variables_files import holds_variables
from jaxcnn.view import inspection
from jaxcnn.view.predictions import describe

_Run = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Opened:
    """Flags for commands that accept a run or a weights file."""

    run: _Run
    """Run folder, or a weights file as accepted by `jaxcnn train --pretrained`."""
    model: str | None = None
    """The run's file.py:function, if its network is custom; or the network's name, if it cannot be
    inferred from the weights file."""
    source: Source = "auto"
    """Library that wrote the weights file, if it cannot be inferred from the file."""

    def open(self) -> saved.Trained:
        """Open the network."""
        if not self.is_weights:
            if self.source != "auto":
                raise ValueError(f"--source must be omitted for a run, got {self.source}")
            return open_run(self.run, model=self.model)
        source = None if self.source == "auto" else self.source
        return saved.open_weights(str(self.run), model=self.model, source=source)

    @property
    def is_weights(self) -> bool:
        """True if the argument is a weights file."""
        return self.run.is_file() or str(self.run).startswith(HUB)


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluate a trained network on one split of its data."""

    run: _Run
    """Run folder."""
    split: Literal["test", "validation", "train"] = "test"
    """Split to evaluate on."""
    model: str | None = None
    """The run's file.py:function, if its network is custom."""
    checkpoint: str = "last"
    """Checkpoint to evaluate: last, best (by validation score), or a step."""

    def __call__(self) -> None:
        """Print the metrics."""
        run = open_run(self.run, model=self.model, checkpoint=self.checkpoint)
        source = load_split(run.experiment, run.experiment.task, self.split, run.metadata)
        values = training.evaluate(
            run.network.eval_step(),
            run.state,
            data.batches(source, run.experiment.batch_size),
            overall=run.network.task.overall,
        )
        if bad := len(source.bad):
            print(f"skipped {bad:,} unreadable images")
        for name, value in values.items():
            print(f"{self.split} {name}: {value:.4f} ({len(source) - bad:,} images)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict(_Opened):
    """Predict the classes, labels or numeric targets of images."""

    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE")]
    """Image files of any size, in color or grayscale."""
    top: int | None = None
    """Number of classes to print; by default 3 or, for multi-label networks, every label with a
    probability above 0.5."""
    json: bool = False
    """Print JSON."""

    def __call__(self) -> None:
        """Print the classes with their probabilities, or the predicted targets."""
        if not self.images:
            raise ValueError("predict needs at least one image file")
        opened = self.open()
        network = opened.network
        if self.top is not None and not 1 <= self.top <= len(network.classes):
            raise ValueError(f"--top must be from 1 to {len(network.classes)}, got {self.top}")
        size, channels = network.preprocess.size, network.preprocess.channels
        pixels = [data.decode_image(path, size=size, channels=channels) for path in self.images]
        task = network.task
        outputs = network.predict_step()(opened.state, np.stack(pixels))
        rows = np.asarray(task.activate(task.decode(outputs)))
        predictions = [describe(task, row, network.classes, top=self.top) for row in rows]
        is_value = network.task.name == "regression"
        if self.json:
            keys = ("target", "value") if is_value else ("class", "probability")
            records = [
                {
                    "image": str(path),
                    "predictions": [dict(zip(keys, pair, strict=True)) for pair in pairs],
                }
                for path, pairs in zip(self.images, predictions, strict=True)
            ]
            print(json_text(records, indent=2))
            return
        for path, pairs in zip(self.images, predictions, strict=True):
            shown = [
                f"{name} {value:.4g}" if is_value else f"{name} {value:.1%}"
                for name, value in pairs
            ]
            print(printable(f"{path}: {', '.join(shown) or 'none'}"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspect(_Opened):
    """Inspect a trained network: parameters, layers, kernels, feature maps and attribution."""

    image: Path | None = None
    """Image for feature maps and attribution; by default, one from the run's training split;
    required for a weights file."""
    output: Path | None = None
    """Folder for the figures; by default, figures/ in the run folder, or a new folder in runs/ for
    a weights file."""

    def __call__(self) -> None:
        """Print the tables and draw the figures."""
        from jaxcnn.view import plots, run_figures  # matplotlib would delay other commands

        if self.is_weights and self.image is None:
            raise ValueError("--image must be given for a weights file, which contains no images")
        if self.output is not None:
            run_folder.check_writable(self.output, "--output")
        elif not self.is_weights:
            run_folder.check_no_links(self.run)
        opened = self.open()
        network, variables = opened.network, opened.state.eval_variables
        figures: dict[str, Any] = {}
        if self.image is None or network.augment is not None:
            examples = load_split(
                opened.experiment, opened.experiment.task, "train", opened.metadata
            )
            image = next(in_parts(examples.images, rows=1))[0]  # the first readable image
            figures |= run_figures.augmentation_figures(
                opened.state.key, network.augment, examples, network.preprocess
            )
        size, channels = network.preprocess.size, network.preprocess.channels
        if self.image is not None:
            image = data.decode_image(self.image, size=size, channels=channels)
        _print_tables(network.model, variables, (*size, channels))
        figures |= run_figures.network_figures(network.model, variables, network.preprocess, image)
        figures |= run_figures.attribution_figures(
            network.task, network.model, variables, network.preprocess, image, network.classes
        )
        folder = self._folder(opened)
        for name, figure in figures.items():
            plots.save_figure(figure, folder / f"{name}.png")
        print(f"\nfigures: {folder}")

    def _folder(self, opened: saved.Trained) -> Path:
        if self.output is not None:
            return self.output
        if self.is_weights:
            return run_folder.new_folder(None, f"{opened.experiment.model}-figures")
        return self.run / "figures"


def _print_tables(model: Any, variables: Any, size: tuple[int, int, int]) -> None:
    """Print the arrays and the layers of a network."""
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
    """Save features (inputs to a network's last layer) for each image in a dataset to a file."""

    data: str
    """Dataset, as in `jaxcnn train --data`."""
    output: Path
    """Output file, FILE.npz, for the features and labels of each split and the class names."""
    data_dir: str | None = None
    """Folder of prepared datasets; by default, TFDS's own."""
    test_fraction: float = 0.2
    """Fraction of each class to hold out as the test split, if the data has only training
    examples."""
    group: str | None = None
    """Keep groups of images in the same split, as in `jaxcnn train --group`."""
    label_separator: str | None = None
    """String between several labels in one cell of a table, such as a space."""
    on_bad_example: Literal["raise", "skip"] = "raise"
    """Images that cannot be read: stop and name the first (raise), or skip them (skip)."""
    batch_size: int = 64
    """Number of images per batch."""
    force: bool = False
    """Replace an existing file even if this command did not write it."""

    def __call__(self) -> None:
        """Write the file."""
        if self.output.suffix != ".npz":
            raise ValueError(f"--output must end in .npz, got {self.output}")
        check_output_file(
            self.output, "--output", is_replaceable=_contains_features, force=self.force
        )
        opened = self.open()
        preprocess = opened.network.preprocess
        splits = data.load_splits(
            self.data,
            data_dir=self.data_dir,
            size=preprocess.size,
            channels=preprocess.channels,
            test_fraction=self.test_fraction,
            on_bad=self.on_bad_example,
            group=self.group,
            label_separator=self.label_separator,
            label_kind=LABEL_KINDS[opened.experiment.task],
        )
        arrays: dict[str, np.ndarray] = {}
        for name, source in splits.items():
            rows, labels = saved.features(opened, source, batch_size=self.batch_size)
            arrays |= {f"{name}_features": rows, f"{name}_labels": labels}
            arrays["classes"] = np.array(source.classes)
            print(f"{name}: {rows.shape[0]:,} examples with {rows.shape[1]:,} features")
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.output) as path, path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        print(f"features: {self.output}")


@dataclasses.dataclass(frozen=True)
class Export:
    """Export a run's network to a file for `train --pretrained`, `predict` and other commands."""

    run: _Run
    """Run folder."""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.safetensors")]
    """Output file."""
    model: str | None = None
    """The run's file.py:function, if its network is custom; the file then contains the variables
    alone, for jaxcnn.models.load_variables."""
    checkpoint: str = "last"
    """Checkpoint to export: last, best (by validation score), or a step."""
    force: bool = False
    """Replace an existing file even if this command did not write it."""

    def __call__(self) -> None:
        """Write the file."""
        if self.output.suffix != ".safetensors":
            raise ValueError(f"the file must end in .safetensors, got {self.output}")
        check_output_file(self.output, "the file", is_replaceable=_is_exported, force=self.force)
        run = open_run(self.run, model=self.model, checkpoint=self.checkpoint)
        self.output.parent.mkdir(parents=True, exist_ok=True)
        if run.experiment.is_custom:
            models.save_variables(self.output, run.state.eval_variables)
        else:
            models.save_pretrained(self.output, saved.to_pretrained(run))
        print(f"weights: {self.output} ({self.output.stat().st_size:,} bytes)")


def _contains_features(path: Path) -> bool:
    try:
        if not is_zip(path):
            return False
        with np.load(path, allow_pickle=False) as arrays:
            parts = [name.rpartition("_")[2] for name in arrays.files if name != "classes"]
            return "classes" in arrays.files and set(parts) == {"features", "labels"}
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _is_exported(path: Path) -> bool:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            return is_own(metadata) or holds_variables(metadata)
    except (safetensors.SafetensorError, OSError):
        return False
