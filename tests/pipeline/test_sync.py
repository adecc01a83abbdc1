"""A copy of a workspace in few large files: identical bytes on the way back, whoever was killed on the way."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import pytest

from headstart.pipeline import sync
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.kinds import Settings
from headstart.pipeline.sync import latest, read_packs, synchronize_folder
from headstart.pipeline.work import work
from headstart.pipeline.worker import Limits
from headstart.pipeline.workspace import open_workspace
from tests.support import ROOT, enqueue_fakes


def contents(root):
    """Bytes by path of all that is copied."""
    workspace = open_workspace(root)
    return {name: (root / name).read_bytes() for name in sync._names(workspace)}


@pytest.fixture
def worked(workspace):
    enqueue_fakes(workspace, 60)
    work(workspace, Settings(), Limits(max_jobs=3))
    return workspace


def test_what_comes_back_has_the_same_bytes_and_the_work_goes_on(worked, tmp_path):
    done = synchronize_folder(worked.root, tmp_path / "drive")
    assert (done.packs, done.is_restored) == (1, False)
    back = synchronize_folder(tmp_path / "back", tmp_path / "drive")
    assert back.is_restored
    assert contents(tmp_path / "back") == contents(worked.root)
    summary = work(open_workspace(tmp_path / "back"), Settings(), Limits()).summary
    assert (summary.jobs, summary.is_drained) == (3, True)


def test_only_what_is_new_is_copied_again_and_the_packs_stay_as_they_are(worked, tmp_path):
    drive = tmp_path / "drive"
    synchronize_folder(worked.root, drive)
    before = {path.name: path.read_bytes() for path in drive.iterdir()}
    assert synchronize_folder(worked.root, drive).packs == 0
    work(worked, Settings(), Limits(max_jobs=1))
    again = synchronize_folder(worked.root, drive)
    assert again.packs == 1
    assert 2 <= again.files <= 4  # a payload and a marker; what the kind notes of itself
    assert {name: (drive / name).read_bytes() for name in before} == before


def test_what_was_removed_does_not_come_back(worked, tmp_path):
    synchronize_folder(worked.root, tmp_path / "drive")
    payload = next(iter(sorted(worked.features.glob("fake/shards/*/*"))))
    payload.unlink()
    assert synchronize_folder(worked.root, tmp_path / "drive").removed == 1
    synchronize_folder(tmp_path / "back", tmp_path / "drive")
    assert not (tmp_path / "back" / payload.relative_to(worked.root)).exists()


def test_files_are_few_and_large(worked, tmp_path, monkeypatch):
    monkeypatch.setattr(sync, "PACK_BYTES", 300)
    done = synchronize_folder(worked.root, tmp_path / "drive")
    assert done.packs > 2
    synchronize_folder(tmp_path / "back", tmp_path / "drive")
    assert contents(tmp_path / "back") == contents(worked.root)


def test_an_older_copy_never_overwrites_a_newer_one(worked, tmp_path):
    drive = tmp_path / "drive"
    synchronize_folder(worked.root, drive)
    other = tmp_path / "other"
    synchronize_folder(other, drive)
    work(open_workspace(other), Settings(), Limits(max_jobs=1))
    synchronize_folder(other, drive)
    work(worked, Settings(), Limits(max_jobs=1))
    with pytest.raises(HeadstartError, match="another copy of this workspace wrote"):
        synchronize_folder(worked.root, drive)


def cut(pack):
    pack.write_bytes(pack.read_bytes()[:-1])


def flipped(pack):
    data = bytearray(pack.read_bytes())
    data[-1] ^= 1
    pack.write_bytes(data)


def emptied(pack):
    pack.write_bytes(b"")


def gone(pack):
    pack.unlink()


def upward(pack):
    data = pack.read_bytes()
    pack.write_bytes(data.replace(b'"workspace.json"', b'"../rkspace.json"', 1))


BAD = {
    "cut off": (cut, "bytes, other than it says"),
    "one flipped bit": (flipped, "other bytes than its name says"),
    "empty": (emptied, "does not begin as a pack"),
    "gone": (gone, "no pack in|lacks the pack before"),
    "a path that leads out": (upward, "path"),
}


def deep(pack):
    renamed(pack, "/".join("d" * 3000))


def long(pack):
    renamed(pack, "x/" * 15 + "y" * 2000)


def renamed(pack, name):
    """Has one file lie at `name`, and is a whole pack all the same."""
    head, rest = pack.read_bytes()[:64], pack.read_bytes()[64:]
    size = int(head.removeprefix(b"headstart pack 1 "))
    index = json.loads(rest[:size])
    index["files"][0]["path"] = name
    written = json.dumps(index).encode()
    data = (b"headstart pack 1 " + str(len(written)).encode()).ljust(63) + b"\n" + written + rest[size:]
    pack.unlink()
    (pack.parent / f"pack_000001.{hashlib.sha256(data).hexdigest()[:16]}.pack").write_bytes(data)


BAD |= {"a path that is very deep": (deep, r"files\[0\].path"), "a path that is very long": (long, r"files\[0\].path")}


@pytest.mark.parametrize(("harm", "says"), BAD.values(), ids=BAD)
def test_a_damaged_pack_is_one_line_and_makes_no_workspace(worked, tmp_path, harm, says):
    synchronize_folder(worked.root, tmp_path / "drive")
    harm(next((tmp_path / "drive").glob("*.pack")))
    with pytest.raises(HeadstartError, match=says):
        synchronize_folder(tmp_path / "back", tmp_path / "drive")
    assert not (tmp_path / "back" / "workspace.json").exists()
    assert not (tmp_path / "rkspace.json").exists()


def test_another_workspace_is_refused(worked, tmp_path):
    from headstart.pipeline.workspace import open_or_create_workspace

    synchronize_folder(worked.root, tmp_path / "drive")
    with pytest.raises(HeadstartError, match="packs of another workspace"):
        synchronize_folder(open_or_create_workspace(tmp_path / "new").root, tmp_path / "drive")


def test_a_folder_with_something_else_in_it_is_left_alone(worked, tmp_path):
    synchronize_folder(worked.root, tmp_path / "drive")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(HeadstartError, match="is not empty and no workspace"):
        synchronize_folder(tmp_path / "mine", tmp_path / "drive")
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


def killed_sync(root, drive, writes):
    """Syncs in a process of its own that kills itself before a write of so many."""
    code = (
        f"import sys, os, signal; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path; from headstart.pipeline import paths, sync, files\n"
        "sync.PACK_BYTES = 400; left = [int(sys.argv[3])]\n"
        "def counted(function):\n"
        "    def call(*arguments, **named):\n"
        "        left[0] -= 1\n"
        "        if left[0] < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return function(*arguments, **named)\n"
        "    return call\n"
        "for name in ('create', 'rename', 'remove', 'make_folder', 'link'): setattr(paths, name, counted(getattr(paths, name)))\n"
        "sync.synchronize_folder(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", code, str(root), str(drive), str(writes)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_killed_twenty_times_on_both_ways_it_ends_in_identical_bytes(worked, tmp_path):
    kills = 0
    for writes in range(2, 24, 2):
        done = killed_sync(worked.root, tmp_path / "drive", writes)
        kills += done.returncode == -signal.SIGKILL
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        read_packs(tmp_path / "drive")  # whole at every moment
    synchronize_folder(worked.root, tmp_path / "drive")
    assert latest(read_packs(tmp_path / "drive")).keys() == contents(worked.root).keys()
    for writes in range(2, 80, 6):
        done = killed_sync(tmp_path / "back", tmp_path / "drive", writes)
        kills += done.returncode == -signal.SIGKILL
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not (tmp_path / "back" / "workspace.json").exists()
    synchronize_folder(tmp_path / "back", tmp_path / "drive") if not (tmp_path / "back" / "workspace.json").exists() else None
    assert kills >= 10
    assert contents(tmp_path / "back") == contents(worked.root)
    assert not list((tmp_path / "drive").glob(".tmp-*"))
