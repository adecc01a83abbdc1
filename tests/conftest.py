"""Fixtures of every room."""

import pytest

import tests.support  # noqa: F401  the fake kind becomes known
from headstart.pipeline.workspace import Workspace, open_or_create_workspace


@pytest.fixture(autouse=True)
def _no_workspace_from_outside(monkeypatch):
    monkeypatch.delenv("HEADSTART_WORKSPACE", raising=False)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return open_or_create_workspace(tmp_path / "workspace")
