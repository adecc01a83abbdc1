"""A lock is held by one, let go at its holder's death, and neither made nor cut outside of its workspace."""

import os
import signal

import pytest

from headstart.pipeline import paths
from headstart.pipeline.doors import locks
from headstart.pipeline.doors.locks import LockTimeout
from headstart.pipeline.doors.reading import UnreadableError
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.paths import LinkError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="filelock's concern there")


def held_by_a_child(path):
    ready, says = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with locks.held(path, 1):
                os.write(says, b"!")
                signal.pause()
        finally:
            os._exit(1)
    assert os.read(ready, 1) == b"!"
    return child


def test_one_holds_it_at_a_time_and_death_lets_go(tmp_path):
    child = held_by_a_child(tmp_path / "lock")
    with pytest.raises(LockTimeout), locks.held(tmp_path / "lock", 0.1):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with locks.held(tmp_path / "lock", 1):
        pass


def test_filelock_of_an_older_version_and_this_one_hold_each_other_off(tmp_path):
    from filelock import FileLock, Timeout

    child = held_by_a_child(tmp_path / "lock")
    try:
        with pytest.raises(Timeout):
            FileLock(tmp_path / "lock", timeout=0.1).acquire()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("kind", ["file", "dangling link", "pipe", "folder"])
def test_what_stands_in_its_place_is_left_alone(tmp_path, kind):
    root, notes = tmp_path / "w", tmp_path / "notes"
    root.mkdir()
    paths.enter(root)
    notes.write_text("keep")
    lock = root / "lock"
    if kind == "pipe":
        os.mkfifo(lock)
    elif kind == "folder":
        lock.mkdir()
    else:
        lock.symlink_to(notes if kind == "file" else tmp_path / "nowhere")
    with pytest.raises((LinkError, UnreadableError, IsADirectoryError)), locks.held(lock, 0.1):
        pass
    assert notes.read_text() == "keep"
    assert not (tmp_path / "nowhere").exists()


def test_what_a_lock_file_holds_is_not_cut(tmp_path):
    (tmp_path / "lock").write_text("something")
    with locks.held(tmp_path / "lock", 1):
        pass
    assert (tmp_path / "lock").read_text() == "something"


def test_who_waits_in_vain_is_told_by_whom_and_to_try_later(tmp_path):
    child = held_by_a_child(tmp_path / "lock")
    try:
        with (
            pytest.raises(TryLaterError, match=r"^a process that packs for 0 s\. Wait for it"),
            locks.held_or_later(tmp_path / "lock", 0.1, "a process that packs"),
        ):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_an_error_of_whoever_holds_it_is_handed_on_as_it_is_and_lets_go(tmp_path):
    for _ in range(2):
        with pytest.raises(PermissionError, match="theirs"), locks.held_or_later(tmp_path / "lock", 1, "nobody"):
            raise PermissionError("theirs")


def test_a_lock_that_this_user_may_not_write_is_a_mistake_in_one_line(tmp_path, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(paths, "open_file", refuse)
    with (
        pytest.raises(HeadstartError, match=r"cannot lock .*: Permission denied\. Give"),
        locks.held_or_later(tmp_path / "lock", 1, "x"),
    ):
        pass


def test_what_goes_wrong_while_a_lock_is_held_is_told_as_it_is(tmp_path):
    with pytest.raises(PermissionError, match="inside"), locks.held_or_later(tmp_path / "lock", 1, "x"):
        raise PermissionError("inside")
