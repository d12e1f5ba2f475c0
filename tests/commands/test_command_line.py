"""Bad input on the command line: one clear line, exit code 2, nothing written."""

import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxcnn import __main__ as command_line
from jaxcnn import commands
from jaxcnn.experiment import run_folder
from jaxcnn.experiment.config import Experiment

RAISES = "def make_model(num_classes):\n    raise ZeroDivisionError('division by zero')\n"
BROKEN = "def make_model(num_classes)\n"
EXITS = "import sys\nsys.exit(3)\n"
NOT_A_MODEL = "def make_model(num_classes):\n    return 42\n"
WRONG_LOGITS = """
from jaxcnn.models import LeNet5
def make_model(num_classes):
    return LeNet5(num_classes + 1)
"""
NO_ARGUMENTS = "def make_model():\n    return None\n"

TRAIN_ONLY = """
import flax.linen as nn
from jaxcnn.models.layers import Dense
from jaxcnn.ops import flatten
class Net(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        if train:
            self.sow("intermediates", "aux_logits", Dense(10)(flatten(images)))
        return Dense(10, name="main")(flatten(images))
def make_model(num_classes):
    return Net()
"""

# Arguments, and what the one line must say.
CASES = [
    ("", "Expected one of {train, find-learning-rate, evaluate"),
    ("trian", "no command 'trian'. Did you mean 'train'?"),
    ("train --epoch 3", "--epoch, 3; did you mean --epochs?"),
    ("train --epochs ten", "--epochs: invalid literal for int"),
    ("train --epochs", "--epochs"),
    ("train --epochs 0", "epochs must be >= 1, got 0"),
    ("train --epochs 1.5", "--epochs: invalid literal"),
    ("train --batch-size -1", "batch_size must be >= 1, got -1"),
    ("train --learning-rate nan", "learning_rate must be finite and > 0, got nan"),
    ("train --learning-rate inf", "learning_rate must be finite and > 0, got inf"),
    ("train --learning-rate 0", "learning_rate must be finite and > 0, got 0.0"),
    ("train --seed -1", "seed must be from 0 to 2**32 - 1, got -1"),
    ("train --validation-fraction 1", "validation_fraction must be in [0, 1), got 1.0"),
    ("train --validation-fraction 1e-9", "fraction must leave examples on both sides"),
    ("train --weight-decay -0.1", "weight_decay must be finite and >= 0, got -0.1"),
    ("train --clip-norm 0", "clip_norm must be finite and > 0, got 0.0"),
    ("train --warmup-epochs 10", "warmup_epochs must be smaller than epochs, got 10.0"),
    ("train --optimizer adm", "invalid choice 'adm' for argument '--optimizer'"),
    ("train --model lenet", "got 'lenet'. Did you mean 'lenet5'?"),
    ("train --model-options dropuot 0.1", "include 'dropuot'. Did you mean 'dropout'?"),
    ("train --model-options dropout 2", "rate must be in [0, 1), got 2"),
    ("train --model-options dtype float33", "raised TypeError"),
    ("train --model-options dropout", "--model-options"),
    ("train --data fashion_mnst", "got 'fashion_mnst'. Did you mean 'fashion_mnist'?"),
    ("train --data fashion_mnist --data-dir {tmp}/none", "fashion_mnist is not prepared in"),
    ("train --model {tmp}/absent.py:make_model", "there is no Python file"),
    ("train --model {tmp}/raises.py:make_model", "raised ZeroDivisionError: division by zero"),
    ("train --model {tmp}/raises.py:make_mode", "no function 'make_mode'; did you mean"),
    ("train --model {tmp}/broken.py:make_model", "raised SyntaxError"),
    ("train --model {tmp}/exits.py:make_model", "raised SystemExit"),
    ("train --model {tmp}/not_a_model.py:make_model", "must return a Linen module"),
    ("train --model {tmp}/wrong_logits.py:make_model", "into outputs (2, 10), got (2, 11)"),
    ("train --model {tmp}/no_arguments.py:make_model", "raised TypeError"),
    ("train --label-smoothing 1", "label_smoothing must be in [0, 1), got 1.0"),
    ("train --focal-gamma 0.5", "focal_gamma must be 0, or finite and >= 1, got 0.5"),
    ("train --task regresion", "invalid choice 'regresion' for argument '--task'"),
    ("train --task regression", "(or binary); write whole numbers with a decimal point (20.0)"),
    ("train --data ~no-such-user/x", "~no-such-user/x names the home of a user who is not known"),
    ("train --task multi_label", "which are labels for multi_class (or binary)"),
    ("train --task binary", "task binary needs 2 classes, got 10"),
    ("train --data {tmp}/targets.npz", "which are labels for regression"),
    ("train --data {tmp}/several.npz", "which are labels for multi_label"),
    ("train --task regression --label-smoothing 0.1", "label_smoothing must be 0 for regression"),
    ("train --huber-delta 1", "huber_delta must be left out unless the task is regression"),
    ("train --task regression --huber-delta 0", "huber_delta must be finite and > 0, got 0.0"),
    ("train --class-weights balance", "['balance'] does not match choices ('none', 'balanced')"),
    ("train --accumulate 3", "accumulate must be a divisor of batch_size, got 3"),
    ("train --accumulate 0", "accumulate must be >= 1, got 0"),
    ("train --class-weights 1 2", "class_weights must be 10 numbers, got [1.0, 2.0]"),
    ("train --class-weights 1 -2", "class_weights must be none, balanced, or finite numbers > 0"),
    (
        "train --task multi_label --class-weights 1 2",
        "class_weights must be none or balanced for multi_label, got (1.0, 2.0)",
    ),
    ("train --steps-per-call 0", "steps_per_call must be >= 1, got 0"),
    ("train --ema-decay 1", "ema_decay must be in (0, 1), got 1.0"),
    ("train --l1 -1", "l1 must be finite and >= 0, got -1.0"),
    ("train --l2 1e-4 --penalized kernels", "pattern 'kernels' matches no parameter"),
    ("train --frozen backbone", "pattern 'backbone' matches no parameter; there are conv/"),
    ("train --learning-rate-factors head 0.1", "pattern 'head' matches no parameter"),
    ("train --learning-rate-factors conv -1", "learning_rate_factors must be factors that are"),
    ("train --early-stopping -2", "early_stopping must be >= 1, got -2"),
    ("train --early-stopping 2 --min-delta -1", "min_delta must be finite and >= 0, got -1.0"),
    ("train --early-stopping 2 --start-epoch 11", "start_epoch must be at most epochs"),
    ("train --min-delta 0.1", "min_delta must be 0 without early_stopping, got 0.1"),
    ("train --early-stopping 2 --validation-fraction 0", "without a validation slice, got 2"),
    ("train --schedule plateau --validation-fraction 0", "schedule must be another one without"),
    ("train --schedule plateau --plateau-patience 0", "plateau_patience must be >= 1, got 0"),
    ("train --schedule step", "step_epochs must be given if the schedule is step"),
    ("train --schedule step --step-epochs 5 3", "step_epochs must be rising epochs >= 1"),
    ("train --schedule-factor 0.5", "schedule_factor must be left out unless the schedule is step"),
    ("train --plateau-patience 5", "plateau_patience must be left out unless the schedule is plat"),
    ("train --step-epochs 3", "step_epochs must be given if the schedule is step, and only then"),
    ("train --schedule-factor 1", "schedule_factor must be in (0, 1), got 1.0"),
    ("train --schedule step --step-epochs 10", "step_epochs must be after the warm-up and before"),
    ("train --frozen *", "frozen must leave a parameter to train, got *"),
    ("train --penalized conv*", "penalized must be left out without l1 and l2"),
    (
        "train --precision bfloat16 --model-options dtype float32",
        "precision must be the only setting of the dtype",
    ),
    ("train --model {tmp}/train_only.py:make_model", "raised ScopeParamNotFoundError"),
    ("train --resume --workdir {tmp}/config_only --recipe modern", "--recipe has no place"),
    ("train --data {tmp}/line.npz", "data must hold images [N, H, W, C] for an experiment"),
    ("train --augment flop", "invalid choice 'flop'"),
    ("train --input-noise nan", "input_noise must be finite and >= 0, got nan"),
    ("train --precision float16", "invalid choice 'float16'"),
    ("train --folds 1", "folds must be >= 2, got 1"),
    ("train --folds 5 --fold 5", "fold must be from 0 to folds - 1, with folds given, got 5"),
    ("train --fold 1", "fold must be from 0 to folds - 1, with folds given, got 1"),
    ("train --seeds 1 2 1", "seeds must differ, got 1 2 1"),
    ("train --seeds 1 2 --model lenet", "got 'lenet'. Did you mean 'lenet5'?"),
    ("train --recipe moderne", "invalid choice 'moderne'"),
    ("train --recipe modern --epochs 1", "warmup_epochs must be smaller than epochs, got 1.0"),
    ("train --model-options pool median", "pool must be one of max, avg, sum, none, got 'median'"),
    ("train --model-options norm layer", "norm must be one of none, batch, group, got 'layer'"),
    ("train --data {tmp}/absent.npz", "there is no file"),
    ("train --data {tmp}/damaged.npz", "damaged.npz cannot be used"),
    ("train --data {tmp}/incomplete.npz", "it holds no train_labels, only train_images"),
    ("train --data {tmp}/no_test.npz", "it holds no test_images, only train_images"),
    ("train --data {tmp}/other_test.npz", "must have images of shape (8, 8, 1), as the training"),
    ("find-learning-rate --low 0", "low and high must be 0 < low < high, got 0.0"),
    ("find-learning-rate --steps 5", "steps must be an integer >= 10, got 5"),
    ("find-learning-rate --workdir {tmp}/config_only", "is not empty; choose another"),
    ("train --resume", "resume needs the folder of the run"),
    ("train --resume --workdir {tmp}/empty", "is not the folder of a run"),
    ("train --resume --workdir {tmp}/config_only", "no checkpoint in"),
    ("train --resume --workdir {tmp}/config_only --seed 5", "keeps its seed: it is 0"),
    ("train --workdir {tmp}/config_only", "is not empty; choose another"),
    ("train --workdir {tmp}/raises.py", "raises.py"),
    ("evaluate", "Missing from jaxcnn evaluate: RUN"),
    ("evaluate {tmp}/absent", "is not the folder of a run"),
    ("evaluate {tmp}/config_only", "no checkpoint in"),
    ("evaluate {tmp}/config_only --split tset", "invalid choice 'tset'"),
    (
        "evaluate {tmp}/unknown_key",
        "the configuration has no field 'epoch'. Did you mean 'epochs'?",
    ),
    ("evaluate {tmp}/not_json", "config.json cannot be read"),
    ("evaluate {tmp}/wrong_type", "epochs must be int, got 'ten'"),
    ("predict {tmp}/config_only", "predict needs at least one image file"),
    ("inspect {tmp}/empty", "is not the folder of a run"),
    ("prepare", "Missing from jaxcnn prepare: STR"),
    ("prepare fashion", "got 'fashion'. Did you mean 'fashion_mnist'?"),
    ("prepare fashion_mnist --from {tmp}/empty --data-dir {tmp}/empty", "does not exist"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("place")
    for name in (
        *("raises", "broken", "exits", "not_a_model", "wrong_logits", "no_arguments"),
        "train_only",
    ):
        (tmp / f"{name}.py").write_text(globals()[name.upper()])
    for name in ("empty", "config_only", "unknown_key", "not_json", "wrong_type"):
        (tmp / name).mkdir()
    (tmp / "config_only" / "config.json").write_text("{}")
    (tmp / "unknown_key" / "config.json").write_text(json.dumps({"epoch": 1}))
    (tmp / "wrong_type" / "config.json").write_text(json.dumps({"epochs": "ten"}))
    (tmp / "not_json" / "config.json").write_text("epochs: 1")
    images = np.zeros((40, 8, 8, 1), np.uint8)
    for name, labels in (("targets", np.zeros(40)), ("several", np.zeros((40, 3), int))):
        arrays = {"train_images": images, "train_labels": labels}
        np.savez(tmp / f"{name}.npz", test_images=images, test_labels=labels, **arrays)
    line = {f"{split}_images": images[..., 0] for split in ("train", "test")}
    line |= {f"{split}_labels": np.arange(40) % 2 for split in ("train", "test")}
    np.savez(tmp / "line.npz", **line)
    np.savez(tmp / "no_test.npz", train_images=images, train_labels=np.arange(40) % 2)
    np.savez(
        tmp / "other_test.npz",
        train_images=images,
        train_labels=np.arange(40) % 2,
        test_images=images[:, :4],
        test_labels=np.arange(40) % 2,
    )
    np.savez(tmp / "incomplete.npz", train_images=images)
    content = (tmp / "targets.npz").read_bytes()
    (tmp / "damaged.npz").write_bytes(content[: len(content) // 2])
    return tmp


def listing(folder):
    return {
        path: path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=[case[0] for case in CASES])
def test_bad_input(arguments, message, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = listing(place)
    assert command_line.main(arguments.format(tmp=place).split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"jaxcnn: error: [^\n]+\n", captured.err)
    assert message in captured.err
    assert listing(place) == before


@pytest.mark.parametrize(
    "command",
    ["", "train", "find-learning-rate", "evaluate", "predict", "inspect", "prepare"],
)
def test_help(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        command_line.main([*command.split(), "--help"])
    out = capsys.readouterr().out
    assert out.startswith(f"usage: jaxcnn {command}".rstrip())
    assert "None)" not in re.sub(r"\(default:\s+None\)", "", out)


def test_every_field_of_the_configuration_has_a_flag(capsys):
    with pytest.raises(SystemExit):
        command_line.main(["train", "--help"])
    out = capsys.readouterr().out
    for name in Experiment.__dataclass_fields__:
        assert re.search(rf"--{name.replace('_', '-')}(?![\w-])", out), name


def test_tracebacks_can_be_had(monkeypatch):
    monkeypatch.setenv("JAXCNN_TRACEBACK", "1")
    with pytest.raises(ValueError, match="resume needs the folder"):
        command_line.main(["train", "--resume"])


UNPRIVILEGED = """
import os, sys
from jaxcnn.__main__ import main
import jaxcnn.data
jaxcnn.data.load("fashion_mnist_slice")  # what is imported late is imported as the owner
main(["train", "--workdir", sys.argv[1] + "/absent.py", "--epochs", "0"])
os.seteuid(65534)
sys.exit(main(["train", "--workdir", sys.argv[1] + "/run", "--model", "lenet5", "--epochs", "1"]))
"""


@pytest.mark.parametrize(
    ("command", "error", "code", "said"),
    [
        ("prepare", KeyboardInterrupt(), 130, "interrupted\n"),
        ("train", KeyboardInterrupt(), 130, "interrupted; a run that has a checkpoint goes on"),
        ("train", MemoryError(), 2, "jaxcnn: error: there is not enough memory\n"),
        ("train", RecursionError("x"), 2, "jaxcnn: error: something is nested too deeply"),
        ("train", ValueError("a\x1b[31m"), 2, "jaxcnn: error: a\\x1b[31m\n"),
    ],
)
def test_what_ends_a_command_is_said_in_one_line(command, error, code, said, monkeypatch, capsys):
    def fail(self):
        raise error

    kind = {"prepare": commands.Prepare, "train": commands.Train}[command]
    monkeypatch.setattr(kind, "__call__", fail)
    assert command_line.main([command, *(["mnist"] if command == "prepare" else [])]) == code
    errors = capsys.readouterr().err
    assert errors.startswith(said)
    assert errors.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become an unprivileged user")
def test_a_folder_that_cannot_be_written(tmp_path):
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.getuid() and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    command = [sys.executable, "-c", UNPRIVILEGED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/")
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(r"jaxcnn: error: .*Permission denied.*", done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", "ten", "epochs must be int, got 'ten'"),
        ("epochs", True, "epochs must be int, got True"),
        ("learning_rate", "fast", "learning_rate must be float, got 'fast'"),
        ("optimizer", "adm", "optimizer must be one of adam, sgd, got 'adm'"),
        ("model_options", [1], "model_options must be"),
        ("model_options", {"a": None}, "model_options must be"),
        ("clip_norm", "1", "clip_norm must be"),
        ("data_dir", 3, "data_dir must be"),
    ],
)
def test_bad_fields_from_python(field, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Experiment(**{field: value})


def test_a_config_survives_the_way_through_json(tmp_path):
    experiment = Experiment(model_options={"dropout": 0.5}, clip_norm=1.0, epochs=3)
    run_folder.write_json(tmp_path / "config.json", experiment.__dict__)
    assert run_folder.read_config(tmp_path) == experiment


@pytest.mark.parametrize("kind", ["free", "taken", "set"])
def test_compiled_programs_are_kept_in_the_users_cache(kind, tmp_path, monkeypatch):
    before = {
        name: getattr(jax.config, name)
        for name in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    }
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if kind == "taken":
        (tmp_path / "cache").write_text("a file, where a folder should be")
    jax.config.update("jax_compilation_cache_dir", "elsewhere" if kind == "set" else None)
    try:
        command_line._keep_compiled_programs()
        found = jax.config.jax_compilation_cache_dir
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    folder = str(tmp_path / "cache" / "jaxcnn" / "compiled")
    assert found == {"free": folder, "taken": None, "set": "elsewhere"}[kind]
