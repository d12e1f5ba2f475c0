"""Fixtures shared by the parity tests."""

import importlib

import pytest


@pytest.fixture(scope="session", autouse=True)
def operators_of_torchvision():
    """Let torchvision be imported without its compiled operators.

    The package index provides the operators only for CUDA. The tests do not need them, but
    importing torchvision fails if they are not registered.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError:  # the tests themselves will then fail
        yield
        return
    operators = torch.library.Library("torchvision", "FRAGMENT")  # must stay alive while in use
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield
