"""What several parity tests need."""

import importlib

import pytest


@pytest.fixture(scope="session", autouse=True)
def operators_of_torchvision():
    """torchvision without its compiled operators, which the index has for CUDA alone.

    Nothing here needs them, but the package refuses to be imported where they are unknown.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError:  # then the tests themselves fail
        yield
        return
    operators = torch.library.Library("torchvision", "FRAGMENT")  # must live as long as it is used
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield
