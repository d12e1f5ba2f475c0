"""Fixtures for runs that are about something else than their figures."""

import pytest

from jaxcnn.experiment import runner


@pytest.fixture(scope="module")
def without_figures():
    """Skip the figures of every run in a module: they take a third of the time of a short run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_draw", lambda *arguments: None)
        yield


@pytest.fixture
def no_figures(monkeypatch):
    """Skip the figures of the runs in a test."""
    monkeypatch.setattr(runner, "_draw", lambda *arguments: None)
