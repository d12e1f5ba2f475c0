"""Runs in folders of their own: what they leave behind, same bytes twice, real interruptions."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from jaxcnn import __main__ as command_line
from jaxcnn import data, runs
from jaxcnn.experiment import Experiment

# Many short steps, so that a signal sent on the first line of output arrives in the middle.
SMALL = Experiment(model="lenet5", epochs=2, batch_size=50)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return runs.run(SMALL, folder), folder


def test_the_folder_is_complete(finished):
    result, folder = finished
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "metrics.jsonl", "result.json", "checkpoints", "pictures")
    }
    assert {path.name for path in (folder / "pictures").iterdir()} == {
        *("learning_curves.png", "confusion_matrix.png", "mistakes.png", "kernels.png"),
        *("feature_maps_conv1.png", "feature_maps_conv2.png"),
    }
    for picture in (folder / "pictures").iterdir():
        with PIL.Image.open(picture) as opened:
            assert min(opened.size) > 200
    assert Experiment.from_json(json.loads((folder / "config.json").read_text())) == SMALL
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [180, 360]
    stored = json.loads((folder / "result.json").read_text())
    assert stored == {name: value for name, value in result.items() if name != "workdir"}
    assert {"test_accuracy", "params_sha256", "seed", "steps", "wall_seconds"} <= set(stored)
    assert {"versions", "device", "config"} <= set(stored)


def test_the_result_is_that_of_the_split_it_names(finished):
    result, folder = finished
    trained = runs.open_run(folder)
    source = data.load("fashion_mnist_slice", split="test")
    images = trained.network.preprocess(source.images)
    logits = trained.network.model.apply(trained.state.variables, images, train=False)
    assert result["test_examples"] == 2000
    assert result["test_accuracy"] == np.mean(np.argmax(logits, -1) == source.labels)
    assert result["test_accuracy"] > 0.7


def test_evaluate_agrees_with_the_history(finished, capsys):
    result, folder = finished
    assert command_line.main(["evaluate", str(folder), "--split", "validation"]) == 0
    assert f"validation accuracy: {result['validation_accuracy']:.4f} (1,000 images)" in (
        capsys.readouterr().out
    )
    assert command_line.main(["evaluate", str(folder)]) == 0
    assert f"test accuracy: {result['test_accuracy']:.4f} (2,000" in capsys.readouterr().out


def test_predict_names_classes_of_any_image(finished, tmp_path, capsys):
    _, folder = finished
    source = data.load("fashion_mnist_slice", split="test")
    PIL.Image.fromarray(source.images[0, ..., 0]).save(tmp_path / "grey.png")
    PIL.Image.new("RGB", (123, 77), "red").save(tmp_path / "red.jpg")
    paths = [str(tmp_path / name) for name in ("grey.png", "red.jpg")]
    assert command_line.main(["predict", str(folder), *paths, "--top", "2", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["image"] for answer in answers] == paths
    trained = runs.open_run(folder)
    logits = trained.network.model.apply(
        trained.state.variables, trained.network.preprocess(source.images[:1]), train=False
    )
    best = answers[0]["predictions"]
    assert best[0]["class"] == source.classes[int(np.argmax(logits))]
    assert 1 >= best[0]["probability"] >= best[1]["probability"] >= 0
    assert command_line.main(["predict", str(folder), paths[0], "--top", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"{paths[0]}: {best[0]['class']} ")


def test_inspect_prints_tables_and_draws(finished, capsys, tmp_path):
    _, folder = finished
    PIL.Image.new("L", (50, 50), 99).save(tmp_path / "square.png")
    arguments = ["inspect", str(folder), "--image", str(tmp_path / "square.png")]
    assert command_line.main(arguments) == 0
    out = capsys.readouterr().out
    assert "params/conv1/kernel    5x5x1x6" in out
    assert "total 61,706 values" in out
    assert "conv2  10x10x16      14x14" in out


def test_a_second_run_never_overwrites_the_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = Experiment(model="lenet5", epochs=1, batch_size=3000)
    folders = [runs.run(tiny)["workdir"] for _ in range(2)]
    name = "runs/lenet5-fashion_mnist_slice-seed0"
    assert folders == [name, f"{name}-2"]
    results = [json.loads((Path(folder) / "result.json").read_text()) for folder in folders]
    assert results[0]["params_sha256"] == results[1]["params_sha256"]


def train_process(folder, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "jaxcnn", "train", "--workdir", str(folder), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


FLAGS = ("--model", "lenet5", "--epochs", "2", "--batch-size", "50")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_an_interrupted_run_resumes_to_the_same_bytes(finished, tmp_path, number, code):
    """A real process, stopped in the middle of the first epoch or killed after it."""
    result, _ = finished
    folder = tmp_path / "run"
    with train_process(folder, *FLAGS) as process:
        awaited = "epoch 1/2" if number == signal.SIGKILL else "compiled"
        for line in process.stdout:
            if line.startswith(awaited):
                break
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == code
    assert not (folder / "result.json").exists()
    if number != signal.SIGKILL:
        assert f"go on with: jaxcnn train --workdir {folder} --resume" in errors
        assert errors.count("\n") == 1
    assert command_line.main(["train", "--workdir", str(folder), "--resume"]) == 0
    resumed = json.loads((folder / "result.json").read_text())
    assert resumed["params_sha256"] == result["params_sha256"]
    assert resumed["test_accuracy"] == result["test_accuracy"]
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 2


def test_resume_with_more_epochs(finished, tmp_path):
    runs.run(dataclasses.replace(SMALL, epochs=1), tmp_path / "run")
    resumed = runs.run(SMALL, tmp_path / "run", resume=True)
    assert resumed["params_sha256"] == finished[0]["params_sha256"]


MODEL_FILE = """
from jaxcnn.models import LeNet5

def make_model(num_classes):
    return LeNet5(num_classes)
"""


def test_a_network_from_a_file(tmp_path, capsys):
    """It is executed only where the user names it: a run's folder alone never decides that."""
    (tmp_path / "net.py").write_text(MODEL_FILE)
    model = f"{tmp_path / 'net.py'}:make_model"
    folder = str(tmp_path / "run")
    flags = ["--epochs", "1", "--batch-size", "3000"]
    assert command_line.main(["train", "--model", model, *flags, "--workdir", folder]) == 0
    assert command_line.main(["evaluate", folder]) == 2
    assert f"if you trust it, add --model {model}" in capsys.readouterr().err
    assert command_line.main(["evaluate", folder, "--model", model]) == 0
    assert command_line.main(["train", "--workdir", folder, "--resume", "--epochs", "2"]) == 2
    resume = ["train", "--workdir", folder, "--resume", "--epochs", "2", "--model", model]
    assert command_line.main(resume) == 0
