"""Commands for datasets: prepare, inspect-data."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxcnn import data
from jaxcnn.data.folders import skipped_files
from jaxcnn.data.reading import Reading
from jaxcnn.data.tables import LabelKind
from jaxcnn.experiment import run_folder
from jaxcnn.messages import printable


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Write a dataset to disk in TFDS format, verified against the official checksums."""

    name: tyro.conf.Positional[str]
    """Dataset: mnist, fashion_mnist, kmnist, emnist/balanced, cifar10, cifar100, caltech101,
    caltech256, corel1000, imagenet2012; other TFDS datasets require TensorFlow."""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Folder with the official files; by default, they are downloaded."""
    data_dir: Path | None = None
    """Folder for prepared datasets; by default, TFDS's own."""

    def __call__(self) -> None:
        """Write the dataset and print its folder."""
        folder = data.prepare(self.name, folder=self.source, data_dir=self.data_dir)
        print(f"prepared: {folder}")


@dataclasses.dataclass(frozen=True)
class InspectData:
    """Report on a dataset before training: classes, sizes, duplicates and unreadable files."""

    data: tyro.conf.Positional[str]
    """Dataset: a name, folder, archive, table or .npz file, as in `jaxcnn train --data`."""
    data_dir: Path | None = None
    """Folder of prepared datasets; by default, TFDS's own."""
    image_size: tuple[int, int] | None = None
    """Height and width to resize images to; by default, the dataset's own, or 64 64 if it has
    none (as for image files)."""
    channels: Literal[1, 3] | None = None
    """Number of channels, 1 for grayscale or 3 for color; by default, as in the dataset, or 3 for
    image files."""
    group: str | None = None
    """Groups of images, as in `jaxcnn train --group`, to count."""
    label_separator: str | None = None
    """String between several labels in one cell of a table, such as a space."""
    label_kind: LabelKind | None = None
    """Kind of labels in a table: one class per image, any number of labels, or numeric targets; by
    default, it is inferred."""
    workdir: Path | None = None
    """Folder for report.json and contact_sheet.png, new or empty; by default,
    runs/<data>-report."""

    def __call__(self) -> None:
        """Print the report, and write it to a file along with a contact sheet."""
        # matplotlib would delay other commands
        from jaxcnn.view.data_report import data_report, report_lines, write_contact_sheet

        run_folder.check_free(self.workdir)
        options: dict[str, Any] = {
            "size": self.image_size,
            "channels": self.channels,
            "test_fraction": None,
            "on_bad": "skip",
            "group": self.group,
            "label_separator": self.label_separator,
            "label_kind": self.label_kind,
        }
        splits = data.load_splits(self.data, data_dir=self.data_dir, **options)
        in_files = data.is_path(self.data) and not self.data.lower().endswith(".npz")
        path, reading = Path(self.data).expanduser(), Reading(**options)
        skipped = skipped_files(path, reading) if in_files else None
        report = data_report(splits, skipped)
        folder = run_folder.new_folder(self.workdir, f"{run_folder.data_name(self.data)}-report")
        run_folder.write_json(folder / "report.json", report)
        write_contact_sheet(folder / "contact_sheet.png", splits["train"])
        print("\n".join(report_lines(report)))
        print(f"report and contact sheet: {printable(folder)}")
