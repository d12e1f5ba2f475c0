"""Bad input on the command line: a clear message, exit code 2, nothing written."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from jaxcnn.commands import datasets, training
from jaxcnn.commands import main as command_line
from jaxcnn.commands.parse import parse
from jaxcnn.experiment import Execution, Experiment, run_folder
from jaxcnn.experiment.config import RECIPES

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

# Arguments that the parser itself rejects, and part of the parser's message.
PARSED = [
    ("", "Missing subcommand"),
    ("train --epoch 3", "Unrecognized options: --epoch, 3"),
    ("train --epochs ten", "Error parsing --epochs: invalid literal"),
    ("train --epochs", "--epochs"),
    ("train --epochs 1.5", "Error parsing --epochs: invalid literal"),
    ("train --optimizer adm", "invalid choice 'adm' for argument '--optimizer'"),
    ("train --model-options dropout", "--model-options"),
    ("train --task regresion", "invalid choice 'regresion' for argument '--task'"),
    ("train --class-weights balance", "--class-weights"),
    ("train --augment flop", "invalid choice 'flop'"),
    ("train --precision float16", "invalid choice 'float16'"),
    ("train --recipe moderne", "invalid choice 'moderne'"),
    ("evaluate", "Missing from jaxcnn evaluate"),
    ("evaluate {tmp}/config_only --split tset", "invalid choice 'tset'"),
    ("prepare", "Missing from jaxcnn prepare"),
]
# Other invalid arguments, and part of the one-line error message.
CASES = [
    ("trian", "unknown command 'trian'. Did you mean 'train'?"),
    ("train --epochs 0", "epochs must be >= 1, got 0"),
    ("train --batch-size -1", "batch_size must be >= 1, got -1"),
    ("train --learning-rate nan", "learning_rate must be finite and > 0, got nan"),
    ("train --learning-rate inf", "learning_rate must be finite and > 0, got inf"),
    ("train --learning-rate 0", "learning_rate must be finite and > 0, got 0.0"),
    ("train --seed -1", "seed must be from 0 to 2**32 - 1, got -1"),
    ("train --validation-fraction 1", "validation_fraction must be in [0, 1), got 1.0"),
    ("train --validation-fraction 1e-9", "examples into two nonempty parts, got 1e-09"),
    ("train --weight-decay -0.1", "weight_decay must be finite and >= 0, got -0.1"),
    ("train --clip-norm 0", "clip_norm must be finite and > 0, got 0.0"),
    ("train --warmup-epochs 10", "warmup_epochs must be smaller than epochs, got 10.0"),
    ("train --model lenet", "got 'lenet'. Did you mean 'lenet5'?"),
    ("train --model-options dropuot 0.1", "include 'dropuot'. Did you mean 'dropout'?"),
    ("train --model-options dropout 2", "rate must be in [0, 1), got 2"),
    ("train --model-options dtype float33", "raised TypeError"),
    ("train --data fashion_mnst", "got 'fashion_mnst'. Did you mean 'fashion_mnist'?"),
    ("train --data fashion_mnist --data-dir {tmp}/none", "fashion_mnist"),
    ("train --model {tmp}/absent.py:make_model", "is not a Python file"),
    ("train --model {tmp}/raises.py:make_model", "raised ZeroDivisionError: division by zero"),
    ("train --model {tmp}/raises.py:make_mode", "no function 'make_mode'; did you mean"),
    ("train --model {tmp}/broken.py:make_model", "raised SyntaxError"),
    ("train --model {tmp}/exits.py:make_model", "raised SystemExit"),
    ("train --model {tmp}/not_a_model.py:make_model", "must return a Linen module"),
    ("train --model {tmp}/wrong_logits.py:make_model", "to outputs of shape (2, 10), got (2, 11)"),
    ("train --model {tmp}/no_arguments.py:make_model", "raised TypeError"),
    ("train --label-smoothing 1", "label_smoothing must be in [0, 1), got 1.0"),
    ("train --focal-gamma 0.5", "focal_gamma must be 0, or finite and >= 1, got 0.5"),
    ("train --task regression", "or binary"),
    (
        "train --data ~no-such-user/x",
        "~no-such-user/x starts with the home folder of an unknown user",
    ),
    ("train --task multi_label", "multi_class or binary"),
    ("train --task binary", "task binary needs 2 classes, got 10"),
    ("train --data {tmp}/targets.npz", "regression"),
    ("train --data {tmp}/several.npz", "multi_label"),
    ("train --task regression --label-smoothing 0.1", "label_smoothing must be 0 for regression"),
    ("train --huber-delta 1", "huber_delta must be omitted unless the task is regression"),
    ("train --task regression --huber-delta 0", "huber_delta must be finite and > 0, got 0.0"),
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
    ("train --l2 1e-4 --penalized kernels", "pattern 'kernels'"),
    ("train --frozen backbone", "pattern 'backbone'"),
    ("train --learning-rate-factors head 0.1", "pattern 'head'"),
    ("train --learning-rate-factors conv -1", "learning_rate_factors must be finite multipliers"),
    ("train --early-stopping -2", "early_stopping must be >= 1, got -2"),
    ("train --early-stopping 2 --min-delta -1", "min_delta must be finite and >= 0, got -1.0"),
    ("train --early-stopping 2 --start-epoch 11", "start_epoch must be at most epochs"),
    ("train --min-delta 0.1", "min_delta must be 0 unless early_stopping is set, got 0.1"),
    (
        "train --early-stopping 2 --validation-fraction 0",
        "omitted unless there is a validation split, got 2",
    ),
    (
        "train --schedule plateau --validation-fraction 0",
        "schedule must be constant, cosine or step",
    ),
    ("train --schedule plateau --plateau-patience 0", "plateau_patience must be >= 1, got 0"),
    ("train --schedule step", "step_epochs must be set if and only if the schedule is step"),
    ("train --schedule step --step-epochs 5 3", "step_epochs must be increasing epochs >= 1"),
    ("train --schedule-factor 0.5", "schedule_factor must be omitted unless the schedule is step"),
    ("train --plateau-patience 5", "plateau_patience must be omitted unless the schedule is plat"),
    ("train --step-epochs 3", "step_epochs must be set if and only if the schedule is step"),
    ("train --schedule-factor 1", "schedule_factor must be in (0, 1), got 1.0"),
    ("train --schedule step --step-epochs 10", "step_epochs must be after warmup and before"),
    ("train --frozen *", "frozen must leave at least one parameter to train, got *"),
    ("train --penalized conv*", "penalized must be omitted unless l1 or l2 is set"),
    (
        "train --precision bfloat16 --model-options dtype float32",
        "precision must be float32 when model_options sets dtype",
    ),
    ("train --model {tmp}/train_only.py:make_model", "raised ScopeParamNotFoundError"),
    ("train --resume --workdir {tmp}/config_only --recipe modern", "--recipe must be omitted"),
    ("train --data {tmp}/line.npz", "data must contain [N, H, W, C] images for an experiment"),
    ("train --input-noise nan", "input_noise must be finite and >= 0, got nan"),
    ("train --folds 1", "folds must be >= 2, got 1"),
    ("train --folds 5 --fold 5", "fold must be from 0 to folds - 1, with folds set, got 5"),
    ("train --fold 1", "fold must be from 0 to folds - 1, with folds set, got 1"),
    ("train --seeds 1 2 1", "seeds must be distinct, got 1 2 1"),
    ("train --seeds 1 2 --model lenet", "got 'lenet'. Did you mean 'lenet5'?"),
    ("train --recipe modern --epochs 1", "warmup_epochs must be smaller than epochs, got 1.0"),
    ("train --model-options pool median", "pool must be one of max, avg, sum, none, got 'median'"),
    ("train --model-options norm layer", "norm must be one of none, batch, group, got 'layer'"),
    ("train --data {tmp}/absent.npz", "absent.npz"),
    ("train --data {tmp}/damaged.npz", "damaged.npz"),
    ("train --data {tmp}/incomplete.npz", "train_labels"),
    ("train --data {tmp}/no_test.npz", "test_images"),
    (
        "train --data {tmp}/other_test.npz",
        "must have images of shape (8, 8, 1), as in the training",
    ),
    ("find-learning-rate --low 0", "low and high must satisfy 0 < low < high, got 0.0"),
    ("find-learning-rate --steps 5", "steps must be an integer >= 10, got 5"),
    ("find-learning-rate --workdir {tmp}/config_only", "is not empty; choose another"),
    ("train --resume", "resume needs the run folder"),
    ("train --resume --workdir {tmp}/empty", "is not a run folder"),
    ("train --resume auto", "--resume auto needs a run folder"),
    ("train --resume --workdir {tmp}/config_only --seed 5", "must keep its seed: it is 0"),
    ("train --workdir {tmp}/config_only", "is not empty; choose another"),
    ("train --workdir {tmp}/raises.py", "raises.py"),
    ("evaluate {tmp}/absent", "is not a run folder"),
    ("evaluate {tmp}/config_only", "checkpoint"),
    (
        "evaluate {tmp}/unknown_key",
        "the configuration has no field 'epoch'. Did you mean 'epochs'?",
    ),
    ("evaluate {tmp}/not_json", "config.json cannot be read"),
    ("evaluate {tmp}/wrong_type", "epochs must be int, got 'ten'"),
    ("predict {tmp}/config_only", "predict needs at least one image file"),
    ("inspect {tmp}/empty", "is not a run folder"),
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
    run_folder.write_record(
        tmp / "config_only", run_folder.Record(Experiment(), Experiment().sha256(), [])
    )
    for name, values in (("unknown_key", {"epoch": 1}), ("wrong_type", {"epochs": "ten"})):
        (tmp / name / "config.json").write_text(json.dumps(values))
    for name in ("unknown_key", "wrong_type", "not_json"):
        shutil.copy(tmp / "config_only" / "run.json", tmp / name)
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
def test_bad_input_is_reported_in_one_line(arguments, message, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = listing(place)
    assert command_line.main(arguments.format(tmp=place).split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"jaxcnn: error: [^\n]+\n", captured.err)
    assert message in captured.err
    assert listing(place) == before


@pytest.mark.parametrize(("arguments", "message"), PARSED, ids=[case[0] for case in PARSED])
def test_parser_reports_its_errors_itself(arguments, message, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = listing(place)
    with pytest.raises(SystemExit, match="2"):
        command_line.main(arguments.format(tmp=place).split())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in " ".join(captured.err.replace("│", " ").split())
    assert listing(place) == before


@pytest.mark.parametrize(
    "command",
    ["", "train", "find-learning-rate", "evaluate", "predict", "inspect", "prepare"],
)
def test_help_is_printed(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        command_line.main([*command.split(), "--help"])
    out = capsys.readouterr().out
    assert out.startswith(f"usage: jaxcnn {command}".rstrip())
    assert "None)" not in re.sub(r"\(default:\s+None\)", "", out)


def test_every_field_of_the_configuration_has_a_flag(capsys):
    with pytest.raises(SystemExit):
        command_line.main(["train", "--help"])
    out = capsys.readouterr().out
    for field in (*dataclasses.fields(Experiment), *dataclasses.fields(Execution)):
        name = field.name
        assert re.search(rf"--{name.replace('_', '-')}(?![\w-])", out), name


def test_tracebacks_are_shown_on_demand(monkeypatch):
    monkeypatch.setenv("JAXCNN_TRACEBACK", "1")
    with pytest.raises(ValueError, match="resume needs the run folder"):
        command_line.main(["train", "--resume"])


UNPRIVILEGED = """
import os, sys
from jaxcnn.commands.main import main
import jaxcnn.data
jaxcnn.data.load("fashion_mnist_slice")  # late imports need the owner's rights
main(["train", "--workdir", sys.argv[1] + "/absent.py", "--epochs", "0"])
os.seteuid(65534)
sys.exit(main(["train", "--workdir", sys.argv[1] + "/run", "--model", "lenet5", "--epochs", "1"]))
"""


@pytest.mark.parametrize(
    ("command", "error", "code", "line"),
    [
        ("prepare", OSError("no disk"), 2, "jaxcnn: error: no disk\n"),
        ("train", MemoryError(), 2, "jaxcnn: error: not enough memory\n"),
        ("train", RecursionError("x"), 2, "jaxcnn: error: the input is nested too deeply"),
        ("train", ValueError("a\x1b[31m"), 2, "jaxcnn: error: a\\x1b[31m\n"),
    ],
)
def test_end_of_a_command_is_reported_in_one_line(command, error, code, line, monkeypatch, capsys):
    def fail(self):
        raise error

    kind = {"prepare": datasets.Prepare, "train": training.Train}[command]
    monkeypatch.setattr(kind, "__call__", fail)
    assert command_line.main([command, *(["mnist"] if command == "prepare" else [])]) == code
    errors = capsys.readouterr().err
    assert errors.startswith(line)
    assert errors.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become an unprivileged user")
def test_folder_that_cannot_be_written_is_bad_input(tmp_path):
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
def test_bad_fields_are_rejected_from_python(field, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Experiment(**{field: value})


def test_experiment_survives_json(tmp_path):
    experiment = Experiment(model_options={"dropout": 0.5}, clip_norm=1.0, epochs=3)
    assert Experiment.from_json(json.loads(json.dumps(experiment.to_json()))) == experiment
    run_folder.write_record(tmp_path, run_folder.Record(experiment, experiment.sha256(), []))
    assert run_folder.read_config(tmp_path) == experiment


def test_flags_override_a_recipe():
    command = parse(["train", "--recipe", "modern", "--label-smoothing", "0.2"])
    assert command.experiment == Experiment(**RECIPES["modern"] | {"label_smoothing": 0.2})
    arguments = "train --recipe=modern --task regression --checkpoint-seconds 9"
    command = parse(arguments.split())
    assert command.experiment.label_smoothing == 0
    assert command.execution == Execution(checkpoint_seconds=9.0)
