"""Reports on datasets: counts, duplicates, unreadable files, and the command that writes them."""

import dataclasses
import json

import numpy as np
import PIL.Image
import pytest

from jaxcnn import data
from jaxcnn.commands import main as command_line
from jaxcnn.view.data_report import data_report, report_lines, write_contact_sheet

BAD = ("dark/03", "light/07", "light/11")


@pytest.fixture
def folder(tmp_path):
    """A folder with two classes of 20 noise images each, of various sizes; three are truncated."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 100, (*rng.integers(10, 30, 2), 3)) + 150 * label
            path = tmp_path / "photos" / name / f"{number:02}.png"
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(path)
            if f"{name}/{number:02}" in BAD:
                path.write_bytes(path.read_bytes()[:40])
    return tmp_path / "photos"


def inspect_data(source, out):
    return command_line.main(["inspect-data", str(source), "--workdir", str(out)])


def test_a_folder_with_duplicates_and_unreadable_files(folder, tmp_path, capsys):
    first = (folder / "dark" / "00.png").read_bytes()
    for name in ("dark/copy.png", "light/copy.png"):
        (folder / name).write_bytes(first)
    for name in ("dark/1.heic", "dark/2.heic", "notes"):
        (folder / name).write_bytes(b"")
    assert inspect_data(folder, tmp_path / "out") == 0
    out = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    splits = report["splits"]
    assert sum(split["classes"]["dark"] for split in splits.values()) == 20, (
        "only readable images must be counted"
    )
    assert sum(split["examples"] for split in splits.values()) == 39
    assert sum(len(split["bad"]) for split in splits.values()) == 3
    (group,) = report["duplicates"]
    assert sorted(label for _, _, label in group) == ["dark", "dark", "light"]
    assert out.count(" <- with several labels") == 1
    assert report["skipped_files"] == {".heic": 2, "": 1}
    assert "skipped files: 2 .heic, 1 without an extension" in out
    assert all(10 <= split["heights"][0] <= split["heights"][2] < 30 for split in splits.values())
    assert "groups of duplicates: 1" in out
    assert "light/07.png (light): " in out
    with PIL.Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert min(sheet.size) > 200


def test_a_contact_sheet_reads_images_itself(folder, tmp_path):
    source = data.from_folder(folder, test_fraction=None, on_bad="skip")["train"]
    write_contact_sheet(tmp_path / "sheet.png", source)  # no report was written before
    assert len(source.bad) == 3
    with PIL.Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 200


def test_duplicates_across_splits_are_marked():
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    source = data.from_arrays(images, np.array([0, 1, 0, 1]))
    report = data_report({"train": source, "test": source.take(np.array([2]))})
    assert report["duplicates"] == [[["train", "number 2", "0"], ["test", "number 0", "0"]]]
    assert "  train number 2 (0), test number 0 (0) <- in several splits" in report_lines(report)


def test_classes_of_one_name_are_counted_separately():
    source = data.from_arrays(np.zeros((3, 8, 8, 1), np.uint8), np.array([0, 1, 1]))
    report = data_report({"train": dataclasses.replace(source, classes=("cat", "cat"))})
    assert report["splits"]["train"]["classes"] == {"cat (number 0)": 1, "cat (number 1)": 2}


def test_images_must_have_two_spatial_dimensions(tmp_path, capsys):
    lines = np.zeros((4, 8, 1), np.float32)
    arrays = {"images": lines, "labels": np.arange(4) % 2}
    named = {f"{s}_{name}": value for s in ("train", "test") for name, value in arrays.items()}
    np.savez(tmp_path / "x.npz", **named)
    assert inspect_data(tmp_path / "x.npz", tmp_path / "out") == 2
    assert "[N, H, W, C] images for a report, got shape (4, 8, 1)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_dataset_by_name(capsys, tmp_path):
    assert inspect_data("fashion_mnist_slice", tmp_path / "out") == 0
    assert "train: 10,000 examples" in capsys.readouterr().out
