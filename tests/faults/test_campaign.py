"""A sample of the fault campaign; CONTRIBUTING.md shows how to run all of it."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).with_name("campaign.py")


@pytest.fixture(scope="module")
def campaign():
    spec = importlib.util.spec_from_file_location("campaign", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(PATH.parent))


@pytest.fixture(scope="module")
def place(campaign, tmp_path_factory):
    return campaign.Place(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize(
    ("part", "number"),
    [
        pytest.param("kill", 0, marks=pytest.mark.slow),
        ("flip", 2),
        ("flip", 9),
        ("damage", 10),
        ("removed", 1),
        ("command_line", 3),
        ("command_line", 450),
        pytest.param("stop", 6, marks=pytest.mark.slow),
        pytest.param("signals", 50, marks=pytest.mark.slow),
        pytest.param("second_signal", 2, marks=pytest.mark.slow),
        pytest.param("together", 0, marks=pytest.mark.slow),
        pytest.param("evaluate", 0, marks=pytest.mark.slow),
    ],
)
def test_nothing_is_lost(part, number, campaign, place):
    trial, count = campaign.PARTS[part]
    assert number < count
    scene, problem = trial(place, number)
    place.clear()
    assert not problem, scene
