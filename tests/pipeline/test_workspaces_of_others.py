"""A workspace that somebody else put above the current folder is nobody's own."""

import os

import pytest

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import find_root, open_or_create_workspace

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners of files")


@pytest.fixture
def found(tmp_path, monkeypatch):
    """A workspace that is found by walking up from the current folder."""
    place = open_or_create_workspace(tmp_path / "workspace")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    return place


def be(monkeypatch, user, sudo=None):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.delenv("SUDO_UID", raising=False)
    if sudo is not None:
        monkeypatch.setenv("SUDO_UID", str(sudo))


def test_ones_own_is_found(found):
    assert find_root(None) == found.root


@pytest.mark.parametrize("sudo", [None, 4_000_002, "nobody", "-1"], ids=["no sudo", "another's sudo", "no number", "negative"])
@pytest.mark.parametrize("user", [4_000_001, 0], ids=["a user", "root"])
def test_anothers_is_refused_and_the_way_to_name_it_is_said(found, monkeypatch, user, sudo):
    if user == found.root.stat().st_uid:
        os.chown(found.root, 4_000_003, -1)
    be(monkeypatch, user, sudo)
    with pytest.raises(HeadstartError, match=r"belongs to user \S+, not to you\. If you trust it, name it: -w ") as caught:
        find_root(None)
    assert str(found.root) in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("what", ["", "workspace.json"], ids=["its folder", "its file"])
def test_one_part_of_it_that_is_anothers_is_enough(found, what):
    os.chown(found.root / what, 4_000_003, -1)
    with pytest.raises(HeadstartError, match="belongs to user 4000003"):
        find_root(None)


def test_anothers_is_taken_where_it_is_named(found, monkeypatch):
    be(monkeypatch, 4_000_001)
    assert find_root(found.root) == found.root
    monkeypatch.setenv("HEADSTART_WORKSPACE", str(found.root))
    assert find_root(None) == found.root


def test_who_called_sudo_is_who_is_meant(found, monkeypatch):
    be(monkeypatch, 0, sudo=found.root.stat().st_uid)
    assert find_root(None) == found.root
