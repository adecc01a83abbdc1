"""Pictures, and a workspace in which they are extracted: made once, changed by no test."""

from pathlib import Path

import pytest

from headstart.pipeline.workspace import Workspace

from .extraction import draw, enqueue, work


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
