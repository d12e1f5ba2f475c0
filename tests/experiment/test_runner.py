"""Runs: files in the run folder, identical bytes after real interruptions, every task."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from jaxcnn import data, models, train
from jaxcnn.commands import main as command_line
from jaxcnn.experiment import Execution, Experiment, Interrupted, lock, open_run, run, runner
from jaxcnn.view import run_figures

# Many short steps, so that a signal sent at the first line of output arrives mid-run.
SMALL = Experiment(model="lenet5", epochs=2, batch_size=50)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return run(SMALL, folder), folder


@pytest.fixture(scope="module")
def tiny(few_images):
    return Experiment(data=few_images, epochs=1, batch_size=100)


@pytest.fixture(scope="module")
def one_epoch(tiny, tmp_path_factory):
    """The folder of a finished one-epoch run, for tests to copy."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_draw", lambda *arguments: None)
        run(tiny, folder)
    return folder


def test_folder_is_complete(finished):
    result, folder = finished
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "run.json", "trainer.lock", "metrics.jsonl", "result.json"),
        *("checkpoints", "figures"),
    }
    assert {path.name for path in (folder / "figures").iterdir()} == {
        *("learning_curves.png", "norms.png", "confusion_matrix.png", "mistakes.png"),
        *("calibration.png", "kernels.png", "feature_maps_conv1.png", "feature_maps_conv2.png"),
    }
    for figure in (folder / "figures").iterdir():
        with PIL.Image.open(figure) as opened:
            assert min(opened.size) > 150
    assert Experiment.from_json(json.loads((folder / "config.json").read_text())) == SMALL
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [180, 360]
    stored = json.loads((folder / "result.json").read_text())
    assert stored == {name: value for name, value in result.items() if name != "workdir"}
    assert {"test_accuracy", "params_sha256", "seed", "steps", "wall_seconds"} <= set(stored)
    assert {"versions", "device", "config"} <= set(stored)
    assert stored["experiment_sha256"] == SMALL.sha256()
    assert stored["amendments"] == []


def test_result_is_that_of_the_split_it_names(finished):
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


@pytest.mark.slow
def test_predict_names_classes_of_any_image(finished, tmp_path, capsys):
    _, folder = finished
    source = data.load("fashion_mnist_slice", split="test")
    PIL.Image.fromarray(source.images[0, ..., 0]).save(tmp_path / "gray.png")
    PIL.Image.new("RGB", (123, 77), "red").save(tmp_path / "red.jpg")
    paths = [str(tmp_path / name) for name in ("gray.png", "red.jpg")]
    assert command_line.main(["predict", str(folder), *paths, "--top", "2", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["image"] for record in records] == paths
    trained = open_run(folder)
    logits = trained.network.model.apply(
        trained.state.variables, trained.network.preprocess(source.images[:1]), train=False
    )
    best = records[0]["predictions"]
    assert best[0]["class"] == source.classes[int(np.argmax(logits))]
    assert 1 >= best[0]["probability"] >= best[1]["probability"] >= 0
    assert command_line.main(["predict", str(folder), paths[0], "--top", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"{paths[0]}: {best[0]['class']} ")


@pytest.mark.slow
def test_inspect_prints_tables_and_draws_figures(finished, capsys, tmp_path):
    _, folder = finished
    PIL.Image.new("L", (50, 50), 99).save(tmp_path / "square.png")
    arguments = ["inspect", str(folder), "--image", str(tmp_path / "square.png")]
    assert command_line.main(arguments) == 0
    out = capsys.readouterr().out
    assert "params/conv1/kernel    5x5x1x6" in out
    assert "total 61,706 values" in out
    assert "conv2  10x10x16      14x14" in out


@pytest.mark.slow
def test_second_run_does_not_overwrite_the_first(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [run(tiny)["workdir"] for _ in range(2)]
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
        pytest.param(signal.SIGTERM, 75, marks=pytest.mark.slow),
    ],
)
def test_interrupted_run_resumes_to_the_same_bytes(finished, tmp_path, number, code, no_figures):
    """Stop a real process during the first epoch, or kill it afterwards."""
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
        assert f"resume with: jaxcnn train --workdir {folder} --resume" in errors
        assert errors.count("\n") == 1
    assert command_line.main(["train", "--workdir", str(folder), "--resume"]) == 0
    resumed = json.loads((folder / "result.json").read_text())
    assert resumed["params_sha256"] == result["params_sha256"]
    assert resumed["test_accuracy"] == result["test_accuracy"]
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 2


@pytest.mark.slow
def test_resume_with_more_epochs_is_an_amendment(tiny, one_epoch, tmp_path, no_figures):
    folder = shutil.copytree(one_epoch, tmp_path / "run")
    longer = dataclasses.replace(tiny, epochs=2)
    resumed = run(longer, folder, resume=True)
    change = {"field": "epochs", "from": 1, "to": 2, "step": 3}
    assert resumed["amendments"] == [change]
    assert resumed["experiment_sha256"] == longer.sha256()
    assert json.loads((folder / "config.json").read_text())["epochs"] == 1
    assert open_run(folder).experiment == longer


@pytest.mark.slow
def test_resume_with_more_epochs_gives_the_same_bytes(finished, tmp_path):
    run(dataclasses.replace(SMALL, epochs=1), tmp_path / "run")
    resumed = run(SMALL, tmp_path / "run", resume=True)
    assert resumed["params_sha256"] == finished[0]["params_sha256"]


def test_edited_configuration_is_rejected_on_resume(one_epoch, tmp_path, capsys):
    folder = shutil.copytree(one_epoch, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"learning_rate": 0.5}))
    assert command_line.main(["train", "--workdir", str(folder), "--resume"]) == 2
    assert "config.json was edited after the run was started" in capsys.readouterr().err


def test_configuration_that_does_not_match_the_checkpoint_is_rejected(one_epoch, tmp_path, capsys):
    folder = shutil.copytree(one_epoch, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text()) | {"label_smoothing": 0.25}
    sha256 = Experiment.from_json(config).sha256()
    record = json.loads((folder / "run.json").read_text()) | {"experiment_sha256": sha256}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "run.json").write_text(json.dumps(record))
    for command in (["evaluate", str(folder)], ["train", "--resume", "--workdir", str(folder)]):
        assert command_line.main(command) == 2
        assert "whose label_smoothing is 0.0, got 0.25" in capsys.readouterr().err


def test_run_without_a_checkpoint_starts_over(tiny, one_epoch, tmp_path, no_figures):
    folder = shutil.copytree(one_epoch, tmp_path / "run")
    before = json.loads((folder / "result.json").read_text())
    shutil.rmtree(folder / "checkpoints")
    (folder / "result.json").unlink()
    assert run(tiny, folder, resume=True)["params_sha256"] == before["params_sha256"]


def test_resume_auto_starts_resumes_and_reports(tiny, tmp_path, capsys, no_figures):
    folder = str(tmp_path / "run")
    command = ["train", "--workdir", folder, "--resume", "auto", "--epochs", "1"]
    assert command_line.main([*command, "--data", tiny.data, "--batch-size", "100"]) == 0
    first = capsys.readouterr().out.splitlines()[-1]
    assert first.startswith("test accuracy")
    assert command_line.main(command) == 0
    reported = capsys.readouterr().out.splitlines()
    assert reported[0] == "the run is finished" and reported[-1] == first
    assert command_line.main([*command[:-1], "2"]) == 0  # more epochs resume it
    assert "epoch 2/2" in capsys.readouterr().out
    assert command_line.main([*command[:-1], "2", "--seed", "3"]) == 2
    assert "must keep its seed: it is 0" in capsys.readouterr().err


def test_resume_auto_repeats_the_command_that_started_the_run(
    few_images, tmp_path, capsys, monkeypatch, no_figures
):
    """With a path relative to the working directory, and a recipe."""
    monkeypatch.chdir(Path(few_images).parent)
    command = ["train", "--workdir", str(tmp_path / "run"), "--resume", "auto", "--epochs", "1"]
    command += ["--data", Path(few_images).name, "--recipe", "modern", "--warmup-epochs", "0"]
    command += ["--augment", "flip", "--schedule", "constant"]
    assert command_line.main(command) == 0
    first = capsys.readouterr().out.splitlines()[-1]
    assert command_line.main(command) == 0
    again = capsys.readouterr().out.splitlines()
    assert (again[0], again[-1]) == ("the run is finished", first)


def test_keep_best_needs_a_validation_split(tiny, tmp_path):
    experiment = dataclasses.replace(tiny, validation_fraction=0.0)
    with pytest.raises(ValueError, match="keep_best must be False for data without a validation"):
        run(experiment, tmp_path / "run", execution=Execution(keep_best=True))
    assert not (tmp_path / "run").exists()


def test_a_row_lost_in_a_crash_is_written_by_a_resume(one_epoch, tmp_path, no_figures):
    """A process may end between its last checkpoint and the row of the history."""
    folder = shutil.copytree(one_epoch, tmp_path / "run")
    rows = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").unlink()
    (folder / "result.json").unlink()
    assert command_line.main(["train", "--workdir", str(folder), "--resume"]) == 0
    assert (folder / "metrics.jsonl").read_text() == rows


@pytest.mark.slow
def test_a_changed_learning_rate_is_an_amendment(tiny, one_epoch, tmp_path, no_figures):
    folder = shutil.copytree(one_epoch, tmp_path / "run")
    changed = dataclasses.replace(tiny, epochs=2, learning_rate=1e-4)
    amendments = run(changed, folder, resume=True)["amendments"]
    assert [change["field"] for change in amendments] == ["epochs", "learning_rate"]
    assert open_run(folder).experiment == changed


def test_second_trainer_is_rejected_by_name(tiny, one_epoch, tmp_path, capsys):
    folder = shutil.copytree(one_epoch, tmp_path / "run")
    program = (
        "import sys, pathlib; from jaxcnn.experiment.lock import only_trainer\n"
        "with only_trainer(pathlib.Path(sys.argv[1])): print('locked', flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(folder)]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **streams) as holder:
        assert holder.stdout.readline() == "locked\n"
        arguments = ["train", "--resume", "--workdir", str(folder), "--epochs", "2"]
        assert command_line.main(arguments) == 2
        error = capsys.readouterr().err
        assert f"process {holder.pid}" in error and f"is already training in {folder}" in error
        assert command_line.main(["evaluate", str(folder)]) == 0
        holder.kill()
    assert (folder / "result.json").is_file()
    with lock.only_trainer(folder):  # a killed process holds nothing
        pass


def test_folders_that_are_links_are_not_written(one_epoch, tmp_path, capsys):
    folder = shutil.copytree(one_epoch, tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    (folder / "figures").symlink_to(tmp_path / "elsewhere")
    for command in (["inspect", str(folder)], ["train", "--resume", "--workdir", str(folder)]):
        assert command_line.main([*command, *["--epochs", "2"] * (command[0] == "train")]) == 2
        assert "figures must be a regular folder, got a link" in capsys.readouterr().err
    assert not any((tmp_path / "elsewhere").iterdir())


def test_best_checkpoint_is_kept(tiny, tmp_path, monkeypatch, no_figures):
    """The scores fall after the second of five epochs."""
    scores = iter([0.5, 0.9, 0.4, 0.3, 0.2])
    evaluate = train.evaluate
    monkeypatch.setattr(
        train, "evaluate", lambda *a, **more: evaluate(*a, **more) | {"accuracy": next(scores)}
    )
    folder = tmp_path / "run"
    experiment = dataclasses.replace(tiny, epochs=5)
    run(experiment, folder, execution=Execution(keep_best=True))
    steps = sorted(int(path.name) for path in (folder / "checkpoints").iterdir())
    assert steps == [6, 12, 15]
    opened = {name: open_run(folder, checkpoint=name) for name in ("best", "last", "12")}
    assert [int(trained.state.step) for trained in opened.values()] == [6, 15, 12]
    for wrong in ("5", "worst", "-1"):
        with pytest.raises(ValueError, match=r"(step|checkpoint) must be"):
            open_run(folder, checkpoint=wrong)


@pytest.mark.parametrize("command", ["train --resume --workdir", "evaluate", "inspect"])
def test_run_of_another_version_is_rejected_in_one_line(command, one_epoch, tmp_path, capsys):
    folder = shutil.copytree(one_epoch, tmp_path / "run")
    (folder / "run.json").unlink()
    assert command_line.main([*command.split(), str(folder)]) == 2
    error = capsys.readouterr().err
    assert f"{folder} was written by another version of jaxcnn" in error
    assert error.count("\n") == 1


def test_checkpoints_within_an_epoch(tiny, tmp_path, monkeypatch, no_figures):
    saved, save = [], train.save

    def record(folder, snapshot, **options):
        saved.append(int(snapshot.state.step))
        save(folder, snapshot, **options)

    monkeypatch.setattr(train.checkpoint, "save", record)
    run(tiny, tmp_path / "run", execution=Execution(checkpoint_seconds=1e-9))
    assert saved == [1, 2, 3]


def test_gap_is_that_of_the_final_network(finished, capsys):
    result, folder = finished
    assert result["gap"] == result["train_accuracy"] - result["validation_accuracy"]
    assert command_line.main(["evaluate", str(folder), "--split", "train"]) == 0
    assert f"train accuracy: {result['train_accuracy']:.4f} (9,000" in capsys.readouterr().out
    assert result["train_accuracy"] != result["last_epoch"]["train_accuracy"]


@pytest.mark.parametrize(("epochs", "note"), [(5, True), (50, False)])
def test_runs_with_few_steps_say_so(epochs, note, few_images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "fit", lambda *arguments, **options: pytest.fail("trained"))
    flags = ["--data", few_images, "--epochs", str(epochs), "--batch-size", "64"]
    with pytest.raises(pytest.fail.Exception):
        command_line.main(["train", *flags, "--workdir", str(tmp_path / "run")])
    warning = "warning: the run has only 25 steps, too few for most networks; raise --epochs to"
    assert (f"{warning} about 40, or lower --batch-size" in capsys.readouterr().out) == note


def write_task_data(path, task):
    """Write 400 gray images of random brightness, which determines the labels for the task."""
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


FIGURES = {
    "multi_class": {"confusion_matrix", "mistakes", "calibration"},
    "binary": {"confusion_matrix", "mistakes", "calibration", "roc", "precision_recall"},
    "multi_label": {"calibration", "roc", "precision_recall"},
    "regression": {"predicted_against_true", "mistakes"},
}


@pytest.mark.slow
@pytest.mark.parametrize("task", FIGURES)
def test_each_task_from_data_to_predictions(task, tmp_path, capsys):
    """Train, evaluate and predict using only the command line."""
    pixels = write_task_data(tmp_path / "data.npz", task)
    PIL.Image.fromarray(pixels).save(tmp_path / "image.png")
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
    drawn = {path.stem for path in (folder / "figures").iterdir()}
    assert FIGURES[task] == drawn - {"learning_curves", "norms", "kernels"} - {
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
    (record,) = json.loads(capsys.readouterr().out)
    if task == "regression":
        (guess,) = record["predictions"]
        assert guess["target"] == "level"
        assert abs(guess["value"] - (100 + 20 * float(pixels[0, 0]) / 255)) < 5
        assert f"level {guess['value']:.4g}" in text
    else:
        assert all(0 <= guess["probability"] <= 1 for guess in record["predictions"])


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
def test_run_with_every_setting_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    """Stop the run with a signal to its own process while it saves a checkpoint."""
    write_task_data(tmp_path / "data.npz", "multi_class")
    experiment = dataclasses.replace(EVERYTHING, data=str(tmp_path / "data.npz"))
    events = Execution(tensorboard=True)
    whole = run(experiment, tmp_path / "whole", execution=events)
    saved, signals = train.save, []

    def save_and_stop(folder, snapshot, **options):
        saved(folder, snapshot, **options)
        if len(snapshot.history) == 1 and not signals:
            signals.append(os.kill(os.getpid(), signal.SIGTERM))

    monkeypatch.setattr(train.checkpoint, "save", save_and_stop)
    # The save runs in the background, so the signal arrives during the second epoch.
    with pytest.raises(Interrupted, match=r"stopped at step \d+ of 21"):
        run(experiment, tmp_path / "stopped", execution=events)
    monkeypatch.undo()
    resumed = run(experiment, tmp_path / "stopped", resume=True, execution=events)
    for name in ("params_sha256", "test_accuracy", "test_loss", "gap", "best_epoch", "steps"):
        assert resumed[name] == whole[name]
    trained = open_run(tmp_path / "stopped")
    assert train.fingerprint(trained.state.eval_variables) == whole["params_sha256"]
    written = list((tmp_path / "stopped" / "tensorboard").iterdir())
    assert len(written) == 1
    assert written[0].read_bytes().count(b"loss/validation") == len(trained.history)


def test_resume_rejects_changed_data(tmp_path, no_figures):
    write_task_data(tmp_path / "data.npz", "multi_class")
    experiment = Experiment(epochs=1, batch_size=100, data=str(tmp_path / "data.npz"))
    run(experiment, tmp_path / "run")
    with np.load(tmp_path / "data.npz") as arrays:
        stored = dict(arrays)
    for split in ("train", "test"):
        name = f"{split}_images"
        np.savez(tmp_path / "data.npz", **stored | {name: stored[name] ^ 1})
        with pytest.raises(
            ValueError, match=f"has changed since the run in .*: its {split} split has changed"
        ):
            run(dataclasses.replace(experiment, epochs=2), tmp_path / "run", resume=True)
    arguments = ["evaluate", str(tmp_path / "run")]
    assert command_line.main(arguments) == 0, "a changed test split must be accepted"
    np.savez(tmp_path / "data.npz", **stored | {"classes": np.array(list("acb"))})
    assert command_line.main(arguments) == 2


def test_figure_that_cannot_be_drawn_is_a_warning(tiny, tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no font")

    monkeypatch.setattr(run_figures, "result_figures", broken)
    with pytest.warns(UserWarning, match=r"figures are missing in .*: RuntimeError: no font"):
        run(tiny, tmp_path / "run")
    assert (tmp_path / "run" / "result.json").is_file()
    figures = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert {"learning_curves.png", "kernels.png"} < figures


@pytest.mark.slow
def test_amended_run_can_be_stopped_while_it_is_measured(tiny, tmp_path, monkeypatch):
    run(tiny, tmp_path / "run")
    longer = dataclasses.replace(tiny, epochs=2)

    def stopped(*arguments):
        os.kill(os.getpid(), signal.SIGUSR1)
        return {}

    monkeypatch.setattr(run_figures, "result_figures", stopped)
    with pytest.raises(Interrupted, match="stopped after training"):
        run(longer, tmp_path / "run", resume=True)
    assert not (tmp_path / "run" / "result.json").exists()
    monkeypatch.undo()
    assert run(longer, tmp_path / "run", resume=True)["steps"] == 6


def test_tensorboard_needs_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ValueError, match=r'pip install "jaxcnn\[tensorboard\]"'):
        run(SMALL, tmp_path / "run", execution=Execution(tensorboard=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_find_learning_rate(few_images, tmp_path, capsys):
    folder = tmp_path / "found"
    flags = ["--data", few_images, "--steps", "40", "--workdir", str(folder)]
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
def test_custom_model_from_a_file(few_images, tmp_path, capsys):
    """The file is executed only if the user names it, never because a run folder refers to it."""
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
    file = tmp_path / "net.safetensors"
    assert command_line.main(["export", folder, str(file)]) == 2
    for _ in range(2):  # the second time, it replaces its own file
        assert command_line.main(["export", folder, str(file), "--model", model]) == 0
    state = open_run(folder, model=model).state
    loaded = models.load_variables(file, state.variables)
    assert train.fingerprint(loaded) == train.fingerprint(state.eval_variables)
