"""Fixtures of every room."""

import pytest
from hypothesis import HealthCheck, settings

import tests.support  # noqa: F401  the fake kind becomes known
from headstart.pipeline.workspace import Workspace, open_or_create_workspace

# How fast examples are drawn says how busy the machine is, not whether the code is right.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def _no_workspace_from_outside(tmp_path_factory):
    """Neither the one that the environment names nor one above the temporary folder, here and in every process started.

    Nor encoders that were kept outside: what a test says of making one would not be tried.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HEADSTART_WORKSPACE", raising=False)
        patch.setenv("HEADSTART_CEILING", str(tmp_path_factory.getbasetemp()))
        patch.setenv("HEADSTART_CACHE", "")
        yield


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return open_or_create_workspace(tmp_path / "workspace")
