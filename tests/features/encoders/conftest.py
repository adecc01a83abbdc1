"""What several tests of encoders begin from."""

import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of this user, empty."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
