"""Several runs in one command: their folders, their summary, and going on after an interruption."""

import json
import os
import shutil
import signal
import statistics

import pytest

from jaxcnn import __main__ as command_line
from jaxcnn import train
from jaxcnn.experiment import run_folder, runner, sweeps
from jaxcnn.experiment.config import Experiment


@pytest.fixture(scope="module")
def tiny(few_images):
    return Experiment(data=few_images, epochs=1, batch_size=100)


@pytest.fixture(scope="module")
def swept(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("swept") / "sweep"
    return sweeps.run_sweep(tiny, folder, seeds=[3, 5]), folder


def test_a_run_for_each_seed_and_their_summary(swept):
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


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on(few_images, tmp_path, monkeypatch, capsys):
    """The second run is stopped in the middle: the first one stays, the second one goes on."""
    folder, saved = tmp_path / "sweep", []
    save, run = train.save, runner.run

    def save_and_stop(where, snapshot):
        save(where, snapshot)
        saved.append(where.parent.name)
        if saved[-1] == "seed5":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train, "save", save_and_stop)
    flags = ["train", "--data", few_images, "--epochs", "2", "--batch-size", "100"]
    assert command_line.main([*flags, "--seeds", "3", "5", "--workdir", str(folder)]) == 130
    assert f"jaxcnn train --workdir {folder} --resume" in capsys.readouterr().err
    monkeypatch.undo()
    went_on = []

    def watched(experiment, where, *, resume, **options):
        went_on.append((where.name, resume))
        return run(experiment, where, resume=resume, **options)

    monkeypatch.setattr(runner, "run", watched)
    assert command_line.main(["train", "--workdir", str(folder), "--resume"]) == 0
    assert went_on == [("seed5", True)]
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


def test_a_run_killed_in_its_first_save_starts_anew(swept, tiny, tmp_path):
    """What such a kill leaves: a folder with an unfinished checkpoint."""
    folder = tmp_path / "sweep"
    shutil.copytree(swept[1], folder)
    for name in ("result.json", "pictures", "metrics.jsonl"):
        path = folder / "seed5" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(folder / "seed5" / "checkpoints")
    (folder / "seed5" / "checkpoints" / "9.orbax-checkpoint-tmp-1").mkdir(parents=True)
    summary = sweeps.run_sweep(tiny, folder, resume=True)
    assert summary["test_accuracy"] == swept[0]["test_accuracy"]


def test_a_sweep_is_found_from_another_folder(few_images, tmp_path, monkeypatch):
    """Its data file was named relative to the folder it was started in."""
    shutil.copy(few_images, tmp_path / "few.npz")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    flags = ["train", "--data", "few.npz", "--epochs", "1", "--batch-size", "100", "--seeds", "3"]
    assert command_line.main([*flags, "--workdir", "sweep"]) == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "sweep" / "summary.json").unlink()
    assert command_line.main(["train", "--workdir", "../sweep", "--resume"]) == 0
    assert (tmp_path / "sweep" / "summary.json").is_file()


def test_other_seeds_are_refused_on_resume(swept, tiny):
    with pytest.raises(ValueError, match=r"a resumed sweep keeps its seeds, \[3, 5\], got \[4\]"):
        sweeps.run_sweep(tiny, swept[1], seeds=[4], resume=True)


def test_another_configuration_is_refused(swept, capsys):
    _, folder = swept
    arguments = ["train", "--workdir", str(folder), "--resume", "--epochs", "2"]
    assert command_line.main(arguments) == 2
    assert "a resumed sweep keeps its configuration" in capsys.readouterr().err


def test_a_damaged_description_is_bad_input(tmp_path, capsys):
    (tmp_path / "sweep.json").write_text("{")
    assert command_line.main(["train", "--workdir", str(tmp_path), "--resume"]) == 2
    assert "sweep.json cannot be read" in capsys.readouterr().err


def test_one_run_of_an_experiment_with_folds_needs_a_fold(tmp_path):
    with pytest.raises(ValueError, match="fold must be from 0 to 2 in a single run, got None"):
        runner.run(Experiment(folds=3), tmp_path / "run")
