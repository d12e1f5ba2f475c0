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
from jaxcnn import data, train
from jaxcnn.experiment import runner
from jaxcnn.experiment.config import RECIPES, Experiment
from jaxcnn.experiment.saved import open_run
from jaxcnn.experiment.splits import fingerprint
from jaxcnn.view import run_figures

# Many short steps, so that a signal sent on the first line of output arrives in the middle.
SMALL = Experiment(model="lenet5", epochs=2, batch_size=50)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return runner.run(SMALL, folder), folder


def test_the_folder_is_complete(finished):
    result, folder = finished
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "metrics.jsonl", "result.json", "checkpoints", "pictures")
    }
    assert {path.name for path in (folder / "pictures").iterdir()} == {
        *("learning_curves.png", "norms.png", "confusion_matrix.png", "mistakes.png"),
        *("calibration.png", "kernels.png", "feature_maps_conv1.png", "feature_maps_conv2.png"),
    }
    for picture in (folder / "pictures").iterdir():
        with PIL.Image.open(picture) as opened:
            assert min(opened.size) > 150
    assert Experiment.from_json(json.loads((folder / "config.json").read_text())) == SMALL
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [180, 360]
    stored = json.loads((folder / "result.json").read_text())
    assert stored == {name: value for name, value in result.items() if name != "workdir"}
    assert {"test_accuracy", "params_sha256", "seed", "steps", "wall_seconds"} <= set(stored)
    assert {"versions", "device", "config"} <= set(stored)


def test_the_result_is_that_of_the_split_it_names(finished):
    result, folder = finished
    trained = open_run(folder)
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
    trained = open_run(folder)
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


@pytest.mark.slow
def test_a_second_run_never_overwrites_the_first(few_images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = Experiment(data=few_images, epochs=1, batch_size=100)
    folders = [runner.run(tiny)["workdir"] for _ in range(2)]
    name = "runs/classic_cnn-few_images-seed0"
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
    ("number", "code"),
    [
        (signal.SIGKILL, -9),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 130, marks=pytest.mark.slow),
    ],
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


@pytest.mark.slow
def test_resume_with_more_epochs(finished, tmp_path):
    runner.run(dataclasses.replace(SMALL, epochs=1), tmp_path / "run")
    resumed = runner.run(SMALL, tmp_path / "run", resume=True)
    assert resumed["params_sha256"] == finished[0]["params_sha256"]


def test_the_gap_is_that_of_the_final_network(finished, capsys):
    result, folder = finished
    assert result["gap"] == result["train_accuracy"] - result["validation_accuracy"]
    assert command_line.main(["evaluate", str(folder), "--split", "train"]) == 0
    assert f"train accuracy: {result['train_accuracy']:.4f} (9,000" in capsys.readouterr().out
    assert result["train_accuracy"] != result["last_epoch"]["train_accuracy"]


def write_task_data(path, task):
    """Labels of every kind for 400 images that are brighter the larger their number."""
    rng = np.random.default_rng(0)
    levels = rng.uniform(0, 1, 400).astype(np.float32)
    images = np.round(255 * levels[:, None, None, None] * np.ones((1, 8, 8, 1))).astype(np.uint8)
    labels = {
        "multi_class": (levels * 2.999).astype(int),
        "binary": (levels > 0.5).astype(int),
        "multi_label": np.stack([levels > 0.3, levels > 0.6], 1).astype(int),
        "regression": 100 + 20 * levels[:, None],
    }[task]
    names = {"multi_class": "abc", "binary": ("dark", "bright")}.get(task, ("x", "y"))
    names = ("level",) if task == "regression" else names
    arrays = {"train_images": images[:300], "test_images": images[300:]}
    arrays |= {"train_labels": labels[:300], "test_labels": labels[300:]}
    np.savez(path, classes=np.array(list(names)), **arrays)
    return images[300, ..., 0]


PICTURES = {
    "multi_class": {"confusion_matrix", "mistakes", "calibration"},
    "binary": {"confusion_matrix", "mistakes", "calibration", "roc", "precision_recall"},
    "multi_label": {"calibration", "roc", "precision_recall"},
    "regression": {"predicted_against_true", "mistakes"},
}


@pytest.mark.parametrize(
    "task",
    [pytest.param(task, marks=[pytest.mark.slow] * (task != "multi_class")) for task in PICTURES],
)
def test_each_task_from_data_to_answers(task, tmp_path, capsys):
    """Trained, stored, measured and asked through the command line alone."""
    picture = write_task_data(tmp_path / "data.npz", task)
    PIL.Image.fromarray(picture).save(tmp_path / "image.png")
    folder = tmp_path / "run"
    flags = ["--task", task, "--data", str(tmp_path / "data.npz"), "--workdir", str(folder)]
    flags += ["--epochs", "12", "--batch-size", "30", "--learning-rate", "0.003"]
    flags += {
        "multi_class": ["--class-weights", "1", "1", "2", "--label-smoothing", "0.05"],
        "binary": ["--class-weights", "1", "1.5", "--label-smoothing", "0.05"],
        "multi_label": ["--class-weights", "balanced", "--label-smoothing", "0.05"],
        "regression": ["--huber-delta", "1"],
    }[task]
    assert command_line.main(["train", *flags]) == 0
    result = json.loads((folder / "result.json").read_text())
    score = {"multi_label": "f1_macro", "regression": "r2"}.get(task, "accuracy")
    assert result[f"test_{score}"] > 0.85
    drawn = {path.stem for path in (folder / "pictures").iterdir()}
    assert PICTURES[task] == drawn - {"learning_curves", "norms", "kernels"} - {
        name for name in drawn if name.startswith("feature_maps")
    }
    capsys.readouterr()
    assert command_line.main(["evaluate", str(folder)]) == 0
    assert f"test {score}: {result[f'test_{score}']:.4f} (100 images)" in capsys.readouterr().out
    assert (
        command_line.main(["predict", str(folder), str(tmp_path / "image.png"), "--top", "1"]) == 0
    )
    text = capsys.readouterr().out
    assert command_line.main(["predict", str(folder), str(tmp_path / "image.png"), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    if task == "regression":
        (guess,) = answer["predictions"]
        assert guess["target"] == "level"
        assert abs(guess["value"] - (100 + 20 * float(picture[0, 0]) / 255)) < 5
        assert f"level {guess['value']:.4g}" in text
    else:
        assert all(0 <= guess["probability"] <= 1 for guess in answer["predictions"])


EVERYTHING = Experiment(
    model="small_vgg",
    model_options={"dropout": 0.1, "norm": "group"},
    precision="bfloat16",
    normalization="standardize",
    augment=("flip", "shift", "color", "mixup", "cutmix"),
    input_noise=0.05,
    test_views=("flip", "shift"),
    label_smoothing=0.1,
    focal_gamma=1.0,
    class_weights="balanced",
    epochs=3,
    batch_size=40,
    accumulate=2,
    schedule="plateau",
    plateau_patience=1,
    warmup_epochs=0.5,
    learning_rate_factors={"convs_0": 0.1},
    frozen=("convs_1",),
    weight_decay=0.01,
    l1=1e-5,
    l2=1e-4,
    clip_norm=1.0,
    ema_decay=0.9,
    early_stopping=2,
    min_delta=1e-3,
    start_epoch=2,
)


@pytest.mark.slow
def test_a_run_with_everything_on_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    """Stopped by a signal to the own process while it saves; read back as it was measured."""
    write_task_data(tmp_path / "data.npz", "multi_class")
    experiment = dataclasses.replace(EVERYTHING, data=str(tmp_path / "data.npz"))
    whole = runner.run(experiment, tmp_path / "whole", tensorboard=True)
    saved = train.save

    def save_and_stop(folder, snapshot):
        saved(folder, snapshot)
        if len(snapshot.history) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train, "save", save_and_stop)
    with pytest.raises(runner.Interrupted, match="stopped at step 7 of 21"):
        runner.run(experiment, tmp_path / "stopped", tensorboard=True)
    monkeypatch.undo()
    resumed = runner.run(experiment, tmp_path / "stopped", resume=True, tensorboard=True)
    for name in ("params_sha256", "test_accuracy", "test_loss", "gap", "best_epoch", "steps"):
        assert resumed[name] == whole[name]
    trained = open_run(tmp_path / "stopped")
    assert train.fingerprint(trained.state.eval_variables) == whole["params_sha256"]
    events = list((tmp_path / "stopped" / "tensorboard").iterdir())
    assert len(events) == 1
    assert events[0].read_bytes().count(b"loss/validation") == len(trained.history)


def test_a_run_with_a_long_warm_up_is_read_back(few_images, tmp_path, capsys):
    """Its schedule would have no steps left if an epoch were one."""
    flags = ["--epochs", "2", "--warmup-epochs", "1.6", "--schedule", "cosine"]
    flags += ["--data", few_images, "--batch-size", "100", "--workdir", str(tmp_path / "run")]
    assert command_line.main(["train", *flags]) == 0
    assert command_line.main(["evaluate", str(tmp_path / "run")]) == 0
    assert "test accuracy" in capsys.readouterr().out


def test_a_run_goes_on_with_its_own_data_only(tmp_path):
    write_task_data(tmp_path / "data.npz", "multi_class")
    experiment = Experiment(epochs=1, data=str(tmp_path / "data.npz"))
    runner.run(experiment, tmp_path / "run")
    with np.load(tmp_path / "data.npz") as arrays:
        stored = dict(arrays)
    for split in ("train", "test"):
        name = f"{split}_images"
        np.savez(tmp_path / "data.npz", **stored | {name: stored[name] ^ 1})
        with pytest.raises(
            ValueError, match=f"is no longer what the run in .* its {split} split has changed"
        ):
            runner.run(dataclasses.replace(experiment, epochs=2), tmp_path / "run", resume=True)
    arguments = ["evaluate", str(tmp_path / "run")]
    assert command_line.main(arguments) == 0, "other images to be measured on are welcome"
    np.savez(tmp_path / "data.npz", **stored | {"classes": np.array(list("acb"))})
    assert command_line.main(arguments) == 2


def test_a_run_that_knows_its_training_split_alone_goes_on(few_images, tmp_path, monkeypatch):
    """As runs of older versions do."""
    tiny = Experiment(data=few_images, epochs=1, batch_size=100)
    with monkeypatch.context() as patch:
        patch.setattr(
            runner, "fingerprints", lambda splits: {"data_sha256": fingerprint(splits.train)}
        )
        runner.run(tiny, tmp_path / "run")
    longer = dataclasses.replace(tiny, epochs=2)
    assert runner.run(longer, tmp_path / "run", resume=True)["steps"] == 6


def test_a_picture_that_cannot_be_drawn_does_not_cost_the_run(few_images, tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no font")

    monkeypatch.setattr(run_figures, "result_figures", broken)
    tiny = Experiment(data=few_images, epochs=1, batch_size=100)
    with pytest.warns(UserWarning, match=r"pictures are missing in .*: RuntimeError: no font"):
        runner.run(tiny, tmp_path / "run")
    assert (tmp_path / "run" / "result.json").is_file()
    pictures = {path.name for path in (tmp_path / "run" / "pictures").iterdir()}
    assert {"learning_curves.png", "kernels.png"} < pictures


@pytest.mark.slow
def test_an_extended_run_can_be_stopped_while_it_is_measured(few_images, tmp_path, monkeypatch):
    tiny = Experiment(data=few_images, epochs=1, batch_size=100)
    runner.run(tiny, tmp_path / "run")
    longer = dataclasses.replace(tiny, epochs=2)

    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_figures, "result_figures", stopped)
    with pytest.raises(runner.Interrupted, match="stopped after training"):
        runner.run(longer, tmp_path / "run", resume=True)
    assert not (tmp_path / "run" / "result.json").exists()
    monkeypatch.undo()
    assert runner.run(longer, tmp_path / "run", resume=True)["steps"] == 6


def test_tensorboard_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ValueError, match=r'pip install "jaxcnn\[tensorboard\]"'):
        runner.run(SMALL, tmp_path / "run", tensorboard=True)
    assert not list(tmp_path.iterdir())


def test_a_recipe_is_a_set_of_values_that_flags_overrule(tmp_path, capsys):
    command = command_line._parse(["train", "--recipe", "modern", "--label-smoothing", "0.2"])
    assert command.experiment == dataclasses.replace(
        Experiment(**RECIPES["modern"]), label_smoothing=0.2
    )


def test_the_learning_rate_finder(tmp_path, capsys):
    folder = tmp_path / "found"
    flags = ["--model", "lenet5", "--steps", "40", "--workdir", str(folder)]
    assert command_line.main(["find-learning-rate", *flags]) == 0
    record = json.loads((folder / "learning_rates.json").read_text())
    assert f"suggested learning rate: {record['suggestion']:.1e}" in capsys.readouterr().out
    assert 1e-5 < record["suggestion"] < 1
    assert (folder / "learning_rates.png").is_file()


MODEL_FILE = """
from jaxcnn.models import ClassicCNN

def make_model(num_classes):
    return ClassicCNN(num_classes)
"""


@pytest.mark.slow
def test_a_network_from_a_file(few_images, tmp_path, capsys):
    """It is executed only where the user names it: a run's folder alone never decides that."""
    (tmp_path / "net.py").write_text(MODEL_FILE)
    model = f"{tmp_path / 'net.py'}:make_model"
    folder = str(tmp_path / "run")
    flags = ["--data", few_images, "--epochs", "1", "--batch-size", "100"]
    assert command_line.main(["train", "--model", model, *flags, "--workdir", folder]) == 0
    assert command_line.main(["evaluate", folder]) == 2
    assert f"if you trust it, add --model {model}" in capsys.readouterr().err
    assert command_line.main(["evaluate", folder, "--model", model]) == 0
    assert command_line.main(["train", "--workdir", folder, "--resume", "--epochs", "2"]) == 2
    resume = ["train", "--workdir", folder, "--resume", "--epochs", "2", "--model", model]
    assert command_line.main(resume) == 0
