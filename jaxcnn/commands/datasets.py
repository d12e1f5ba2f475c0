"""Commands about data sets: prepare, data."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxcnn import data
from jaxcnn.data.folders import left_out
from jaxcnn.experiment import run_folder
from jaxcnn.messages import printable
from jaxcnn.view.data_report import data_report, report_lines, write_contact_sheet


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
        folder = data.prepare(self.name, folder=self.source, data_dir=self.data_dir)
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
        run_folder.check_free(self.workdir)
        splits = data.load_splits(
            self.data,
            data_dir=self.data_dir,
            size=self.image_size,
            channels=self.channels,
            test_fraction=None,
            on_bad="skip",
        )
        in_files = data.is_path(self.data) and not self.data.lower().endswith(".npz")
        report = data_report(splits, left_out(Path(self.data).expanduser()) if in_files else None)
        folder = run_folder.new_folder(self.workdir, f"{run_folder.data_name(self.data)}-report")
        run_folder.write_json(folder / "report.json", report)
        write_contact_sheet(folder / "contact_sheet.png", splits["train"])
        print("\n".join(report_lines(report)))
        print(f"report and contact sheet: {printable(folder)}")
