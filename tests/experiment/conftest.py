"""Fixtures for tests of runs that do not check the figures."""

import pytest

from jaxcnn.experiment import runner


@pytest.fixture(scope="module")
def without_figures():
    """Skip drawing figures for a whole module; drawing takes a third of a short run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_draw", lambda *arguments: None)
        yield


@pytest.fixture
def no_figures(monkeypatch):
    """Skip drawing figures for a single test."""
    monkeypatch.setattr(runner, "_draw", lambda *arguments: None)
