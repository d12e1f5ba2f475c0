"""Several runs in one command: their folders, their summary, and going on after an interruption."""

import json
import statistics

import pytest

from jaxcnn import __main__ as command_line
from jaxcnn import runs, sweeps
from jaxcnn.experiment import Experiment

TINY = Experiment(model="lenet5", epochs=1, batch_size=1000)
FLAGS = ("--model", "lenet5", "--epochs", "1", "--batch-size", "1000")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept") / "sweep"
    return sweeps.run(TINY, folder, seeds=[3, 5]), folder


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


def test_an_interrupted_sweep_goes_on(swept, tmp_path, monkeypatch, capsys):
    """The second run is stopped in the middle: the first one stays, the second one goes on."""
    folder, started = tmp_path / "sweep", []
    run = runs.run

    def stopped_in_the_second(experiment, where, **options):
        started.append(where.name)
        if len(started) == 2:
            raise runs.Interrupted("stopped")
        return run(experiment, where, **options)

    monkeypatch.setattr(runs, "run", stopped_in_the_second)
    flags = ["train", *FLAGS, "--seeds", "3", "5", "--workdir", str(folder)]
    assert command_line.main(flags) == 130
    assert f"jaxcnn train --workdir {folder} --resume" in capsys.readouterr().err
    assert command_line.main(["train", "--workdir", str(folder), "--resume"]) == 0
    assert started == ["seed3", "seed5", "seed5"]
    out = capsys.readouterr().out
    mean = swept[0]["test_accuracy"]["mean"]
    assert out.splitlines()[-2].startswith(f"test accuracy: {mean:.4f} ± ")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["test_accuracy"] == swept[0]["test_accuracy"]


def test_cross_validation_holds_out_each_fold(tmp_path):
    folder = tmp_path / "folds"
    flags = ["train", *FLAGS, "--folds", "2", "--workdir", str(folder)]
    assert command_line.main(flags) == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["runs"] == ["seed0-fold0", "seed0-fold1"]
    assert len(set(summary["validation_accuracy"]["values"])) == 2
    for number in range(2):
        config = runs.read_config(folder / f"seed0-fold{number}")
        assert (config.folds, config.fold) == (2, number)


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
        runs.run(Experiment(folds=3), tmp_path / "run")
