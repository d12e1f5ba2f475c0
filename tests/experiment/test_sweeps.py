"""Sweeps: run folders, the summary, and resuming after an interruption."""

import json
import os
import shutil
import signal
import statistics
from pathlib import Path

import pytest

from jaxcnn import train
from jaxcnn.commands import main as command_line
from jaxcnn.experiment import Experiment, run, run_folder, run_sweep, runner

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture(scope="module")
def tiny(few_images):
    return Experiment(data=few_images, epochs=1, batch_size=100)


@pytest.fixture(scope="module")
def swept(tmp_path_factory, few_images):
    """A sweep whose data path was given relative to the working directory."""
    folder = tmp_path_factory.mktemp("swept") / "sweep"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(few_images).parent)
        experiment = Experiment(data="few_images.npz", epochs=1, batch_size=100)
        return run_sweep(experiment, folder, seeds=[3, 5]), folder


@pytest.mark.slow
def test_each_seed_has_a_run_and_the_summary_has_all(swept):
    summary, folder = swept
    assert {path.name for path in folder.iterdir()} == {
        *("sweep.json", "summary.json", "seed3", "seed5")
    }
    results = [json.loads((folder / f"seed{n}" / "result.json").read_text()) for n in (3, 5)]
    assert [result["seed"] for result in results] == [3, 5]
    assert results[0]["params_sha256"] != results[1]["params_sha256"]
    values = [result["test_accuracy"] for result in results]
    assert summary["test_accuracy"] == {
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values),
        "values": values,
    }
    assert summary["runs"] == ["seed3", "seed5"]
    stored = json.loads((folder / "summary.json").read_text())
    assert stored == {name: value for name, value in summary.items() if name != "workdir"}


def test_a_signal_after_a_run_stops_the_sweep(few_images, tmp_path, monkeypatch, capsys):
    def finish(experiment, folder, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return {"test_loss": 1.0}

    monkeypatch.setattr(runner, "run", finish)
    flags = ["--data", few_images, "--seeds", "3", "5", "--workdir", str(tmp_path / "sweep")]
    assert command_line.main(["train", *flags]) == 75
    error = capsys.readouterr().err
    assert f"stopped in {tmp_path / 'sweep' / 'seed5'}, all work saved" in error


@pytest.mark.slow
def test_interrupted_sweep_is_resumed(few_images, tmp_path, monkeypatch, capsys):
    """Stop the second run midway: the first run is kept, the second run is resumed."""
    folder, saved = tmp_path / "sweep", []
    save, run_member = train.save, runner.run

    def save_and_stop(where, snapshot, **options):
        save(where, snapshot, **options)
        saved.append(where.parent.name)
        if saved.count("seed5") == 1:  # in the background, during the second of three epochs
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train.checkpoint, "save", save_and_stop)
    flags = ["train", "--data", few_images, "--epochs", "3", "--batch-size", "100"]
    assert command_line.main([*flags, "--seeds", "3", "5", "--workdir", str(folder)]) == 75
    assert f"jaxcnn train --workdir {folder} --resume" in capsys.readouterr().err
    monkeypatch.undo()
    resumed = []

    def watched(experiment, where, *, resume, **options):
        resumed.append((where.name, resume))
        return run_member(experiment, where, resume=resume, **options)

    monkeypatch.setattr(runner, "run", watched)
    assert command_line.main(["train", "--workdir", str(folder), "--resume"]) == 0
    assert resumed == [("seed5", True)]
    out = capsys.readouterr().out
    summary = json.loads((folder / "summary.json").read_text())
    mean = summary["test_accuracy"]["mean"]
    assert out.splitlines()[-2].startswith(f"test accuracy: {mean:.4f} ± ")
    results = [json.loads((folder / f"seed{n}" / "result.json").read_text()) for n in (3, 5)]
    assert summary["test_accuracy"]["values"] == [r["test_accuracy"] for r in results]


@pytest.mark.slow
def test_cross_validation_holds_out_each_fold(few_images, tmp_path):
    folder = tmp_path / "folds"
    flags = ["train", "--data", few_images, "--epochs", "1", "--batch-size", "100"]
    assert command_line.main([*flags, "--folds", "2", "--workdir", str(folder)]) == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["runs"] == ["seed0-fold0", "seed0-fold1"]
    assert len(set(summary["validation_loss"]["values"])) == 2
    for number in range(2):
        config = run_folder.read_config(folder / f"seed0-fold{number}")
        assert (config.folds, config.fold) == (2, number)


def test_run_killed_in_its_first_save_starts_again(swept, tiny, tmp_path):
    """A kill during the first save leaves a folder with an unfinished checkpoint."""
    folder = tmp_path / "sweep"
    shutil.copytree(swept[1], folder)
    for name in ("result.json", "metrics.jsonl"):
        (folder / "seed5" / name).unlink()
    shutil.rmtree(folder / "seed5" / "checkpoints")
    (folder / "seed5" / "checkpoints" / "9.orbax-checkpoint-tmp-1").mkdir(parents=True)
    summary = run_sweep(tiny, folder, resume=True)
    assert summary["test_accuracy"] == swept[0]["test_accuracy"]


def test_sweep_is_resumed_from_another_folder(few_images, swept, tmp_path, monkeypatch):
    """The sweep stores the absolute path of its data file."""
    shutil.copytree(swept[1], tmp_path / "sweep")
    (tmp_path / "sweep" / "summary.json").unlink()
    stored = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert stored["config"]["data"] == few_images
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["train", "--workdir", "sweep", "--resume"]) == 0
    assert (tmp_path / "sweep" / "summary.json").is_file()


def test_sweep_of_another_version_is_rejected(swept, tmp_path):
    values = json.loads((swept[1] / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps(values | {"format": 1}))
    with pytest.raises(ValueError, match="was written by another version of jaxcnn"):
        run_sweep(Experiment(), tmp_path, resume=True)


def test_resumed_sweep_rejects_other_seeds(swept, tiny):
    with pytest.raises(
        ValueError, match=r"a resumed sweep must keep its seeds, \[3, 5\], got \[4\]"
    ):
        run_sweep(tiny, swept[1], seeds=[4], resume=True)


def test_resumed_sweep_rejects_another_configuration(swept, capsys):
    _, folder = swept
    arguments = ["train", "--workdir", str(folder), "--resume", "--epochs", "2"]
    assert command_line.main(arguments) == 2
    assert "a resumed sweep must keep its configuration" in capsys.readouterr().err


def test_damaged_sweep_file_is_bad_input(tmp_path, capsys):
    (tmp_path / "sweep.json").write_text("{")
    assert command_line.main(["train", "--workdir", str(tmp_path), "--resume"]) == 2
    assert "sweep.json cannot be read" in capsys.readouterr().err


def test_single_run_of_an_experiment_with_folds_needs_a_fold(tmp_path):
    with pytest.raises(ValueError, match="fold must be from 0 to 2 in a single run, got None"):
        run(Experiment(folds=3), tmp_path / "run")
