"""Splits of image folders and runs on them: unreadable images, changed data, resuming."""

import dataclasses
import json
import os
import shutil
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from jaxcnn import data
from jaxcnn.commands import main as command_line
from jaxcnn.experiment import Experiment, open_run, run, run_folder
from jaxcnn.experiment.splits import load_splits


def photographs(root, *, each=20, classes=("dark", "light"), bad=()):
    """Write class folders of noise images of various sizes, each class brighter than the last."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(each):
            size = (*rng.integers(10, 30, 2), 3)
            pixels = rng.integers(0, 100, size) + 150 * label
            path = root / name / f"{number:02}.png"
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(path)
            if f"{name}/{number:02}" in bad:
                path.write_bytes(path.read_bytes()[:40])
    return root


def experiment(root, **options):
    options = {"epochs": 2, "batch_size": 8, "image_size": (16, 16), "model": "lenet5"} | options
    return Experiment(data=str(root), **options)


pytestmark = pytest.mark.usefixtures("without_figures")
SMALL = ("--image-size", "16", "16", "--batch-size", "8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run on a folder with three unreadable files, which were skipped."""
    root = photographs(tmp_path_factory.mktemp("photos"), bad=("dark/03", "light/07", "light/11"))
    folder = tmp_path_factory.mktemp("runs") / "run"
    before = set(threading.enumerate())
    result = run(experiment(root, on_bad_example="skip", normalization="standardize"), folder)
    return root, folder, result, set(threading.enumerate()) - before


def test_run_on_a_folder_learns_and_closes_its_threads(finished):
    root, folder, result, threads = finished
    assert result["test_accuracy"] == 1.0
    assert json.loads((folder / "config.json").read_text())["data"] == str(root)
    assert not [thread for thread in threads if thread.name.startswith("decode")]


def test_bad_examples_are_listed_once_and_skipped(finished):
    root, folder, result, _ = finished
    rows = [json.loads(line) for line in (folder / "bad_examples.jsonl").read_text().splitlines()]
    names = sorted(os.path.relpath(row["file"], root) for row in rows)
    assert names == ["dark/03.png", "light/07.png", "light/11.png"]
    assert {row["label"] for row in rows} == {"dark", "light"}
    assert {row["split"] for row in rows} <= {"train", "validation", "test"}
    assert result["bad_examples"] == 3
    splits = load_splits(experiment(root, on_bad_example="skip"))
    in_test = sum(row["split"] == "test" for row in rows)
    assert result["test_examples"] == len(splits.test) - in_test


def test_bad_example_is_named_without_skip(finished, tmp_path, capsys):
    root, *_ = finished
    arguments = f"train --data {root} --workdir {tmp_path}/run --epochs 1 --model lenet5"
    assert command_line.main([*arguments.split(), "--image-size", "16", "16"]) == 2
    error = capsys.readouterr().err
    assert "cannot be read: " in error
    assert "--on-bad-example skip" in error
    assert len(error.splitlines()) == 1


def test_evaluate_and_predict_decode_like_training(finished, capsys):
    root, folder, result, _ = finished
    assert command_line.main(["evaluate", str(folder)]) == 0
    assert f"test accuracy: {result['test_accuracy']:.4f}" in capsys.readouterr().out
    photo = str(root / "light" / "00.png")
    assert command_line.main(["predict", str(folder), photo, "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    trained = open_run(folder)
    assert trained.network.preprocess.size == (16, 16)
    pixels = data.decode_image(photo, size=(16, 16), channels=3)
    logits = trained.network.model.apply(
        trained.state.variables, trained.network.preprocess(pixels[None]), train=False
    )
    assert record["predictions"][0]["class"] == ("dark", "light")[int(np.argmax(logits))]


@pytest.mark.slow
def test_inspect_and_find_learning_rate_accept_image_folders(finished, tmp_path, capsys):
    root, folder, *_ = finished
    assert command_line.main(["inspect", str(folder)]) == 0
    arguments = f"--data {root} --image-size 16 16 --model lenet5 --batch-size 8 --steps 12"
    arguments += f" --on-bad-example skip --workdir {tmp_path}/range"
    assert command_line.main(["find-learning-rate", *arguments.split()]) == 0
    assert "suggested learning rate" in capsys.readouterr().out


@pytest.mark.slow
def test_resumed_run_on_a_folder_gives_the_same_bytes(tmp_path):
    root = photographs(tmp_path / "photos", bad=("dark/05",))
    options = {"on_bad_example": "skip", "balanced": True, "stratified": True}
    whole = run(experiment(root, epochs=3, **options), tmp_path / "whole")
    run(experiment(root, epochs=1, **options), tmp_path / "parts")
    resumed = run(experiment(root, epochs=3, **options), tmp_path / "parts", resume=True)
    assert resumed["params_sha256"] == whole["params_sha256"]
    assert resumed["bad_examples"] == whole["bad_examples"] == 1


@pytest.mark.slow
def test_changed_files_are_rejected(tmp_path, capsys):
    root = photographs(tmp_path / "photos")
    run(experiment(root, epochs=1), tmp_path / "run")
    shutil.copy(root / "dark" / "01.png", root / "dark" / "new.png")
    with pytest.raises(ValueError, match=r"has changed since the run in .* was started"):
        run(experiment(root, epochs=2), tmp_path / "run", resume=True)
    expected = "has changed since this run was trained: its train split has changed"
    for command in ("evaluate", "inspect"):
        assert command_line.main([command, str(tmp_path / "run")]) == 2
        assert expected in capsys.readouterr().err
    (root / "dark" / "new.png").unlink()
    (root / "dark").rename(root / "night")
    assert command_line.main(["evaluate", str(tmp_path / "run")]) == 2
    assert "its classes or their order have changed (dark, night)" in capsys.readouterr().err


def test_run_with_a_bad_test_image_is_finished_by_a_resume_that_skips(tmp_path):
    root = photographs(tmp_path / "photos")
    raising = experiment(root, epochs=1)
    path = Path(load_splits(raising).test.images.name(0))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="--on-bad-example skip"):
        run(raising, tmp_path / "run")
    rows = (tmp_path / "run" / "metrics.jsonl").read_text()
    skipping = dataclasses.replace(raising, on_bad_example="skip")
    result = run(skipping, tmp_path / "run", resume=True)
    assert (result["test_examples"], result["bad_examples"]) == (7, 1)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == rows, "the resumed run trained"
    (change,) = result["amendments"]
    assert change == {"field": "on_bad_example", "from": "raise", "to": "skip", "step": 4}


def test_validation_split_of_the_data_is_used(tmp_path):
    for split, each in (("train", 10), ("val", 3), ("test", 4)):
        photographs(tmp_path / split, each=each)
    splits = load_splits(experiment(tmp_path))
    assert [len(source) for source in splits] == [20, 6, 8]
    splits = load_splits(experiment(tmp_path, validation_fraction=0.0))
    assert [len(source) for source in splits] == [20, 0, 8]
    splits = load_splits(experiment(tmp_path, folds=4, fold=1))
    assert [len(source) for source in splits] == [15, 5, 8]


def test_stratified_holds_out_a_share_of_every_class(tmp_path):
    root = photographs(tmp_path, each=25)
    splits = load_splits(experiment(root, stratified=True, validation_fraction=0.25))
    assert [np.bincount(source.labels).tolist() for source in splits] == [[15, 15], [5, 5], [5, 5]]


def test_channel_moments_are_those_of_the_decoded_images(tmp_path):
    root = photographs(tmp_path)
    source = load_splits(experiment(root)).train
    expected = source.images[:].reshape(-1, 3) / 255
    mean, std = data.channel_moments(source.images)
    np.testing.assert_allclose(mean, expected.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, expected.std(0), rtol=1e-12)


@pytest.mark.slow
def test_batches_without_a_readable_image_give_finite_losses(tmp_path):
    root = photographs(tmp_path / "photos", each=10)
    for path in (root / "dark").iterdir():
        path.write_bytes(b"")
    options = {"on_bad_example": "skip", "model": "classic_cnn", "batch_size": 1, "epochs": 1}
    result = run(experiment(root, stratified=True, **options), tmp_path / "run")
    assert np.isfinite(result["train_loss"])
    assert result["bad_examples"] == 10


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_split_without_a_readable_image_is_named(split, tmp_path, capsys):
    root = tmp_path / "photos"
    for name in ("train", "val", "test"):
        photographs(root / name, each=3)
    for path in (root / split).rglob("*.png"):
        path.write_bytes(b"")
    arguments = ["--data", str(root), "--on-bad-example", "skip", "--model", "lenet5"]
    named = {"val": "validation"}.get(split, split)
    for command in ("train", "find-learning-rate"):
        folder = tmp_path / command
        assert command_line.main([command, *arguments, "--workdir", str(folder)]) == 2
        captured = capsys.readouterr()
        assert f"the {named} split of {root} must have at least one readable image" in captured.err
        assert (
            f"got 6 unreadable images, the first of them {root}/{split}/dark/00.png: "
            in captured.err
        )
        assert captured.out == ""
        assert not folder.exists()


def test_number_of_skipped_images_is_printed(tmp_path, capsys):
    bad = [f"light/{number:02}" for number in range(20)]
    root = photographs(tmp_path / "photos", bad=("dark/00", *bad))
    arguments = ["--data", str(root), "--on-bad-example", "skip", "--model", "lenet5"]
    arguments += ["--epochs", "1", "--workdir", str(tmp_path / "run"), *SMALL]
    assert command_line.main(["train", *arguments]) == 0
    expected = (
        f"21 of 40 images could not be read, including all images of light: {tmp_path}/run/bad_ex"
    )
    assert expected in capsys.readouterr().out


@pytest.mark.slow
def test_any_class_name_is_printable(tmp_path, capsys):
    names = ("a$_$", "b\x1b[31m\nc" + os.fsdecode(b"caf\xe9"))
    root = photographs(tmp_path / "photos", classes=names)
    run = str(tmp_path / "run")
    arguments = ["--data", str(root), "--epochs", "1", "--workdir", run]
    arguments += ["--model", "lenet5", *SMALL]
    assert command_line.main(["train", *arguments]) == 0
    assert command_line.main(["predict", run, str(next(root.rglob("*.png")))]) == 0
    report = ["inspect-data", str(root), "--workdir", str(tmp_path / "out")]
    assert command_line.main(report) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert r"  b\x1b[31m\nccaf\udce9  " in captured.out
    assert "\x1b" not in captured.out
    trained = json.loads((tmp_path / "run" / "result.json").read_text())
    assert trained["test_examples"] == 8


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (".", "my.photos"),
        ("../my.photos/", "my.photos"),
        ("photos.tar.gz", "photos"),
        ("photos.zip", "photos"),
        ("labels.csv", "labels"),
        ("cifar10", "cifar10"),
    ],
)
def test_folder_is_named_after_the_data(given, name, tmp_path, monkeypatch):
    (tmp_path / "my.photos").mkdir()
    monkeypatch.chdir(tmp_path / "my.photos")
    assert run_folder.data_name(given) == name
    assert run_folder.run_name(Experiment(data=given)) == f"classic_cnn-{name}"


@pytest.mark.slow
def test_multi_label_and_regression_from_a_table(tmp_path):
    root = photographs(tmp_path / "photos")
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
    light = ["light" in name for name in names]
    tables = {
        "multi_label": [
            "file,light,dark",
            *(f"{n},{int(x)},{int(not x)}" for n, x in zip(names, light, strict=True)),
        ],
        "regression": [
            "file,light",
            *(f"{n},{x + 0.5}" for n, x in zip(names, light, strict=True)),
        ],
    }
    for task, lines in tables.items():
        (root / f"{task}.csv").write_text("\n".join(lines))
        result = run(experiment(root / f"{task}.csv", task=task, epochs=3), tmp_path / task)
        assert result["test_examples"] == 8
        assert np.isfinite(result["test_loss"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": (16,)}, "image_size must be a height and a width"),
        ({"image_size": (0, 4)}, "image_size must be a height and a width"),
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
        ({"test_fraction": 1.0}, "test_fraction must be in"),
        ({"on_bad_example": "ignore"}, "on_bad_example must be one of raise, skip"),
        ({"stratified": True, "folds": 3}, "stratified must be omitted if folds is set"),
        ({"balanced": True, "task": "regression"}, "balanced must be omitted unless"),
    ],
)
def test_bad_settings_are_rejected(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Experiment(), **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_fraction": 0.0}, "test_fraction must be > 0 if there is no test split"),
        ({"test_fraction": 0.001}, "fraction must split .* into two nonempty parts"),
    ],
)
def test_bad_settings_for_a_folder_are_rejected(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load_splits(experiment(photographs(tmp_path), **change))


def test_steps_per_call_needs_arrays(tmp_path, capsys):
    arguments = f"train --data {photographs(tmp_path / 'x')} --steps-per-call 2"
    assert command_line.main([*arguments.split(), "--workdir", str(tmp_path / "run")]) == 2
    assert "steps_per_call must be 1 for images that are decoded" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"size": (0, 4)},
        {"size": (4,)},
        {"size": (4, 4), "channels": 2},
        {"size": (4, 4), "on_bad": "ignore"},
    ],
)
def test_bad_options_are_not_reported_as_bad_images(tmp_path, options):
    with pytest.raises(ValueError, match=r"(size|channels|on_bad) must be "):
        data.from_folder(photographs(tmp_path), **options)


def test_float_arrays_are_not_resized(tmp_path):
    images = np.zeros((4, 8, 8, 1), np.float32)
    labels = np.arange(4) % 2
    np.savez(
        tmp_path / "x.npz",
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
    )
    with pytest.raises(ValueError, match="image_size and channels must be omitted unless"):
        load_splits(experiment(tmp_path / "x.npz"))


def test_arrays_of_bytes_are_resized_like_files():
    source = data.load("fashion_mnist_slice", split="test", size=(14, 20), channels=3)
    plain = data.load("fashion_mnist_slice", split="test")
    assert source.images.shape == (2000, 14, 20, 3)
    np.testing.assert_array_equal(
        source.images[5], data.decode_image(plain.images[5], size=(14, 20), channels=3)
    )


@pytest.mark.slow
def test_memory_stays_flat_over_epochs(tmp_path):
    """Memory may vary by one batch in flight, but must not grow over the epochs."""
    rng = np.random.default_rng(0)
    for number in range(400):
        path = tmp_path / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 256, (375, 500, 3), np.uint8)).save(path)
    source = data.from_folder(tmp_path, size=(224, 224))["train"]
    batches = data.batches(source, 32, seed=0)

    def resident():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    source.images._shared.cache = None  # as for a dataset that does not fit in the cache
    step = jax.jit(jnp.sum)
    held = []
    for epoch in range(10):
        for batch in data.prefetch(batches.epoch(epoch)):
            step(batch.image).block_until_ready()
        held.append(resident())
    assert max(held[5:]) < 1.05 * max(held[:5])
