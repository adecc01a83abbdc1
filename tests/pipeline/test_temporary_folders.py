"""Temporary folders go at the end, and those of killed processes with the next one of their purpose; nothing else is touched."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from headstart.pipeline.files import temporary_folder
from headstart.pipeline.liveness import process_token

KILLED = """
import os, signal
from headstart.pipeline.files import temporary_folder

with temporary_folder("trial") as place:
    (place / "deep").mkdir()
    (place / "deep" / "weights").write_bytes(b"0" * 1000)
    print(place, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_by_killed(place):
    environment = {**os.environ, "TMPDIR": str(place)}
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True, check=False)
    left = Path(killed.stdout.strip())
    assert left.parent == place
    assert (left / "deep" / "weights").exists()
    return left


def test_what_a_killed_process_left_goes_with_the_next_of_its_purpose(place):
    left = left_by_killed(place)
    with temporary_folder("another"):
        assert left.exists()
    with temporary_folder("trial") as own:
        assert list(place.iterdir()) == [own]
    assert list(place.iterdir()) == []


def test_folder_of_a_living_process_stays(place):
    with temporary_folder("trial") as first, temporary_folder("trial") as second:
        assert first != second
        assert first.is_dir()
        assert second.is_dir()


@pytest.mark.parametrize("name", ["trial", "trial-x", "trial-00000000-1-2-x", "trial-{token}-x-y", "trial-{other}-x"])
def test_folder_that_nobody_dead_on_this_machine_is_known_to_have_left_stays(place, name):
    token = process_token(os.getpid())
    other = f"{'f' * 8}-{token.split('-', 1)[1]}"
    theirs = place / f"headstart-{name.format(token=token, other=other)}"
    theirs.mkdir()
    with temporary_folder("trial"):
        assert theirs.is_dir()


def test_neither_links_nor_folders_of_others_are_removed(place, monkeypatch):
    left = left_by_killed(place)
    theirs = place / "theirs"
    left.rename(theirs)
    left.symlink_to(theirs)
    with temporary_folder("trial"):
        assert (left / "deep" / "weights").exists()
    left.unlink()
    theirs.rename(left)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with temporary_folder("trial"):
        assert (left / "deep" / "weights").exists()
