"""The benchmark command on a small network; its speed is not tested."""

import pytest

from jaxcnn import models
from jaxcnn.commands.main import main
from jaxcnn.view.benchmark import benchmark


@pytest.mark.slow
def test_the_table(capsys):
    flags = ["--model", "lenet5", "--batch-size", "4", "--rounds", "1", "--seconds", "0.01"]
    assert main(["benchmark", *flags]) == 0
    header, step, forward = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["ms", "images/s", "plain"]
    assert step.startswith("train step") and forward.startswith("forward pass")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "lenet"], "Did you mean 'lenet5'?"),
        (["--batch-size", "0"], "batch_size must be positive, got 0"),
        (["--rounds", "0"], "rounds must be positive, got 0"),
        (["--seconds", "-1"], "seconds must be positive, got -1.0"),
        (["--size", "28", "0", "1"], "--size must be three integers >= 1, got (28, 0, 1)"),
    ],
)
def test_bad_flags(flags, message, capsys):
    assert main(["benchmark", *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_counts_by_hand():
    timings = benchmark(
        models.create("lenet5", 10), (28, 28, 1), batch_size=2, rounds=1, seconds=0.01
    )
    # Each of 5 taps covers 28 rows, minus 2 + 1 at each end.
    first = (28 * 5 - 6) ** 2 * 6
    products = first + 25 * 6 * 16 * 100 + 400 * 120 + 120 * 84 + 84 * 10
    step, forward = timings
    assert 2 * 2 * products <= forward.flops < 1.02 * 2 * 2 * products
    # Gradients for the kernels and the layer inputs, except the images.
    expected = 2 * 2 * (3 * products - first)
    assert expected <= step.flops < 1.05 * expected
    assert 0 < forward.floor_seconds < forward.seconds and forward.compile_seconds > 0
