"""Outputs and inputs that commands check before their work: one line, and nothing written."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxcnn import train
from jaxcnn.commands import main as command_line
from jaxcnn.experiment import Experiment, run, run_folder, runner


def experiment(place):
    return Experiment(data=str(place / "data.npz"), epochs=1, batch_size=100)


@pytest.fixture(scope="module")
def place(few_images, tmp_path_factory):
    """A folder with a run, files of other kinds, and damaged copies."""
    tmp = tmp_path_factory.mktemp("outputs")
    shutil.copy(few_images, tmp / "data.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_draw", lambda *arguments: None)
        run(experiment(tmp), tmp / "run")
    for name in ("notes.txt", "notes.npz", "notes.safetensors"):
        (tmp / name).write_text("my own notes")
    for name, file, content in (
        ("bad_rows", "bad_examples.jsonl", '{"split": "train'),
        ("no_seeds", "sweep.json", json.dumps({"format": run_folder.FORMAT, "config": {}})),
        (
            "seeds",
            "sweep.json",
            json.dumps({"format": run_folder.FORMAT, "config": {}, "seeds": "abc"}),
        ),
    ):
        shutil.copytree(tmp / "run", tmp / name)
        (tmp / name / file).write_text(content)
    np.save(tmp / "array.npy", np.zeros(3))
    (tmp / "array.npy").rename(tmp / "array.npz")
    parts = [f"{split}_{part}" for split in ("train", "test") for part in ("images", "labels")]
    np.savez(tmp / "objects.npz", **dict.fromkeys(parts, np.array([{}])))
    with zipfile.ZipFile(tmp / "member.npz", "w") as archive:
        for split in ("train", "test"):
            archive.writestr(f"{split}_images.npy", b"not an array")
            archive.writestr(f"{split}_labels.npy", b"")
    return tmp


LONG = "x" * 5000
CASES = [
    ("export {tmp}/run {tmp}/notes.safetensors", "was not written by this command"),
    ("export {tmp}/run {tmp}/none/net.safetensors --checkpoint first", "checkpoint must be last"),
    ("export {tmp}/run {tmp}/notes.txt/net.safetensors", "notes.txt is a file"),
    (
        "features {tmp}/run --data {tmp}/data.npz --output {tmp}/notes.npz",
        "replace it with --force",
    ),
    ("features {tmp}/run --data {tmp}/data.npz --output {tmp}/notes.txt/a.npz", "is a file"),
    ("inspect {tmp}/run --output {tmp}/notes.txt", "--output must be a folder, but"),
    ("inspect {tmp}/run --output s3://bucket/figures", "got the URL s3:/bucket/figures"),
    ("find-learning-rate --data {tmp}/data.npz --workdir {tmp}/notes.txt", "workdir must be a"),
    ("find-learning-rate --data {tmp}/data.npz --workdir gs://b/run", "got the URL gs:/b/run"),
    ("train --data {tmp}/data.npz --workdir {tmp}/notes.txt/run", "notes.txt is a file"),
    ("train --data {tmp}/data.npz --workdir gs://bucket/run", "workdir must be a folder on a file"),
    ("train --data {tmp}/data.npz --seeds 1 2 --workdir hdfs://host/run", "got the URL hdfs:/host"),
    ("inspect-data {tmp}/data.npz --workdir {tmp}/notes.npz", "workdir must be a folder"),
    ("train --workdir {tmp}/bad_rows --resume --epochs 2", "bad_examples.jsonl is damaged"),
    ("train --workdir {tmp}/no_seeds --resume", "sweep.json cannot be read"),
    ("train --workdir {tmp}/seeds --resume", "seeds must be a list of integers, got 'abc'"),
    ("train --data {tmp}/data.npz --batch-size 2000000000", "batch_size must be at most 1024 for"),
    ("train --data {tmp}/notes.npz", "it is not an archive of arrays"),
    ("train --data {tmp}/array.npz", "it is not an archive of arrays"),
    ("train --data {tmp}/objects.npz", "its train_labels contains Python objects"),
    ("train --data {tmp}/member.npz", "its train_labels is not a NumPy array"),
    (f"train --data {{tmp}}/{LONG}.npz", "File name too long"),
    (f"train --model {LONG}", "model must name a network"),
    (f"evaluate {{tmp}}/{LONG}", "File name too long"),
]


def listing(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def check_error(arguments, message, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = listing(place)
    assert command_line.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"jaxcnn: error: [^\n]{1,1010}\n", captured.err)
    assert message in captured.err
    assert listing(place) == before


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=[case[0][:60] for case in CASES])
def test_checked_before_the_work(arguments, message, place, monkeypatch, capsys):
    arguments = [argument.format(tmp=place) for argument in arguments.split()]
    check_error(arguments, message, place, monkeypatch, capsys)


@pytest.mark.parametrize(
    "arguments", [["train", "--workdir", ""], ["inspect", "{tmp}/run", "--output", ""], [""]]
)
def test_an_empty_argument_is_rejected(arguments, place, monkeypatch, capsys):
    arguments = [argument.format(tmp=place) for argument in arguments]
    check_error(arguments, "empty argument after", place, monkeypatch, capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        "export {tmp}/run {tmp}/out/{name}.safetensors",
        FEATURES := ("features {tmp}/run --data {tmp}/data.npz --output {tmp}/out/{name}.npz"),
    ],
)
def test_own_files_are_replaced_and_others_with_force(arguments, place):
    suffix = "npz" if arguments is FEATURES else "safetensors"
    for name, extra in (("own", []), ("own", []), ("other", ["--force"])):
        if name == "other":
            shutil.copy(place / "notes.txt", place / "out" / f"other.{suffix}")
        command = [part.format(tmp=place, name=name) for part in arguments.split()]
        assert command_line.main([*command, *extra]) == 0
    written = [(place / "out" / f"{name}.{suffix}").read_bytes() for name in ("own", "other")]
    assert written[0] == written[1] if suffix == "safetensors" else len(written[1]) > 1000


@pytest.mark.parametrize("flags", [[], ["--tensorboard"]])
def test_a_step_that_does_not_fit_in_memory(flags, place, monkeypatch, capsys):
    def fail(job, start):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(runner, "_train", fail)
    workdir = place / "large"
    arguments = f"--data {place}/data.npz --batch-size 1000 --workdir {workdir}".split()
    assert command_line.main(["train", *arguments, *flags]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"jaxcnn: error: not enough memory: [^\n]+\n", error)
    assert re.search(
        "a training step on 1000 images of 8 x 8 keeps about [1-9][0-9]+ MiB of", error
    )
    assert "--accumulate (now 1)" in error
    assert not workdir.exists()


def test_a_run_that_was_resumed_keeps_its_folder(place, monkeypatch, tmp_path):
    """A run without a checkpoint is started over, which fails."""
    run_folder.write_record(
        tmp_path, run_folder.Record(experiment(place), experiment(place).sha256(), [])
    )

    def fail(job, start):
        raise train.DivergedError("nan")

    monkeypatch.setattr(runner, "_train", fail)
    assert command_line.main(["train", "--workdir", str(tmp_path), "--resume"]) == 1
    assert (tmp_path / "config.json").is_file()


@pytest.mark.parametrize("extra", ["notes.txt", "checkpoints/8/state", "metrics.jsonl"])
def test_a_folder_with_other_files_is_not_removed(extra, tmp_path):
    names = ("config.json", "run.json", "trainer.lock", extra)
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    run_folder._remove_unstarted(tmp_path)
    assert all((tmp_path / name).exists() for name in names)


def test_a_folder_that_cannot_be_removed_is_emptied(tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").touch()
    monkeypatch.chdir(tmp_path)
    run_folder._remove_unstarted(Path())  # the current folder cannot be removed by this name
    assert not any(tmp_path.iterdir())
    run_folder._remove_unstarted(tmp_path / "absent")


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit, match="0"):
        command_line.main(["--version"])
    assert re.fullmatch(
        r"jaxcnn [\d.]+\S*, jax [\d.]+\S*, Python [\d.]+\S*\n", capsys.readouterr().out
    )


@pytest.mark.parametrize("line", ["train", "find-learning-rate", "inspect-data {data}"])
def test_the_default_folder_is_checked_before_the_work(line, place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("runs").write_text("a file, where a folder should be")
    for module in ("jaxcnn.experiment.runner", "jaxcnn.commands.training"):
        monkeypatch.setattr(f"{module}.assemble", lambda *arguments: pytest.fail("work was done"))
    monkeypatch.setattr("jaxcnn.commands.datasets.data.load", lambda *_: pytest.fail("data read"))
    assert command_line.main(line.format(data=place / "data.npz").split()) == 2
    message = "jaxcnn: error: the folder for new runs (choose another: --workdir) must be a folder"
    assert capsys.readouterr().err.startswith(message)
