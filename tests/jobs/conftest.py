"""Pictures, a workspace in which they are extracted, and one to train heads in: made once, changed by no test."""

import shutil
from pathlib import Path

import pytest

from headstart.pipeline.workspace import Workspace, open_workspace

from .extraction import draw, enqueue, work
from .killed_head import extracted


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """150 pictures of three classes."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(150):
        draw(folder / "abc"[number % 3] / f"{number:03d}.png", number)
    return folder


@pytest.fixture(scope="session")
def finished(photos, tmp_path_factory) -> Workspace:
    """A workspace in which every job over `photos` is done."""
    workspace = enqueue(photos, tmp_path_factory.mktemp("finished") / "w")
    assert work(workspace).is_drained
    return workspace


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """A workspace with features of three classes and no experiment."""
    return extracted(tmp_path_factory.mktemp("prepared") / "workspace").workspace.root


@pytest.fixture
def ready(prepared, tmp_path) -> Workspace:
    """A copy of `prepared` that a test may train in."""
    shutil.copytree(prepared, tmp_path / "workspace")
    return open_workspace(tmp_path / "workspace")
