"""Sizes and costs of the networks against published numbers and the table in the guide."""

import re
from pathlib import Path

import pytest

from jaxcnn import models
from jaxcnn.commands import main as command_line
from jaxcnn.ops.cpu.versions import BARRIERS_HOLD
from jaxcnn.view.model_table import describe

GUIDE = (Path(__file__).parents[2] / "experiments" / "guides" / "pretrained.md").read_text()
ROWS = dict(re.findall(r"^(\| (\w+) +\| \d+x\d+x\d .*)$", GUIDE, re.MULTILINE))
NAMES = {name: row for row, name in ROWS.items()}
QUICK = ("classic_cnn", "resnet18", "vgg11")
# One command writes all rows, so testing some of them is enough.
SLOW = ("lenet5", "vgg16_bn", "resnet50", "inception_v3", "efficientnet_b0", "efficientnet_lite0")


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        # torchvision's table, which counts only convolutions and dense layers
        ("vgg11", 7.609),
        ("resnet18", 1.814),
        pytest.param("vgg16", 15.47, marks=pytest.mark.slow),
        pytest.param("resnet50", 4.089, marks=pytest.mark.slow),
        pytest.param("inception_v3", 5.713, marks=pytest.mark.slow),
        pytest.param("efficientnet_b0", 0.386, marks=pytest.mark.slow),
    ],
)
def test_multiply_adds_are_as_published(name, billions):
    # Within 0.4%: Inception's auxiliary head does not run; biases and pooling are not counted.
    assert describe(name).multiply_adds == pytest.approx(billions * 1e9, rel=0.004)


def test_the_classical_network_counted_by_hand():
    found = describe("classic_cnn")
    assert (found.size, found.classes) == ((28, 28, 1), 10)
    assert found.parameters == 805_066
    assert found.multiply_adds == 28 * 28 * 25 * 32 + 14 * 14 * 32 * 128 + 128 * 10
    # At least the image and the inputs of the dense layers, which the kernel gradients need.
    assert 4 * (784 + 6272 + 128) < found.kept_bytes < 4 * 4 * 28 * 28 * 32


def test_every_network_has_a_row():
    assert set(NAMES) == set(models.names())


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_the_table_in_the_guide(name, capsys):
    assert command_line.main(["models", name]) == 0
    head, rule, row = capsys.readouterr().out.splitlines()
    assert f"{head}\n{rule}\n" in GUIDE
    if name == "classic_cnn" and not BARRIERS_HOLD:  # the convolution is not fused there
        assert NAMES[name].replace("0.2 MiB", "0.3 MiB") == row
    else:
        assert NAMES[name] == row


def test_an_unknown_network_is_rejected(capsys):
    assert command_line.main(["models", "classic_cnn", "resnet19"]) == 2
    output = capsys.readouterr()
    assert not output.out
    assert "model must name a network, got 'resnet19'. Did you mean 'resnet18'?" in output.err
