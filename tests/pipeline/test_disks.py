"""Disks that fill, break, turn read-only and vanish."""

import errno
import os
import random

import pytest

from headstart.pipeline import paths
from headstart.pipeline.enqueue import Work, append_work, queue_lock
from headstart.pipeline.errors import TryLaterError
from headstart.pipeline.files import FileSystem, probe
from headstart.pipeline.markers import Result, commit
from headstart.pipeline.status import quarantined_jobs
from headstart.pipeline.verify import verify
from headstart.pipeline.workspace import open_or_create_workspace
from tests.support import enqueue_fakes, run_python

from .disks import mount, small_disk
from .workers import MAIN, tally, work


def enqueue_bulk(workspace, jobs):
    with queue_lock(workspace):
        return append_work(
            workspace, [Work("bulk", "features/bulk", "features/source", jobs, 1)], frozenset({"bulk"}), lambda r: []
        )[1]


def test_a_disk_of_64_mb_that_fills_in_the_middle_tears_nothing_and_the_run_completes_once_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk", "64m") as disk:
        workspace = open_or_create_workspace(disk / "w")
        jobs = enqueue_bulk(workspace, 80)
        status, _, errors = run_python(MAIN, "work", "-w", str(workspace.root))
        assert status == 75, errors
        assert "No space left on device. Nothing is lost: free some space" in errors
        findings = verify(workspace, deep=True)
        assert 55 < findings.sound < 64
        assert (findings.torn, findings.orphans, findings.pending) == ([], [], 80 - findings.sound)
        assert not list(workspace.root.rglob("*.g*"))
        assert mount(disk, "-o", "remount,size=128m")
        assert run_python(MAIN, "work", "-w", str(workspace.root))[0] == 0
        assert verify(workspace, deep=True).sound == 80
        [payload] = workspace.payloads(jobs[70]).glob("job_000070.*")
        assert payload.read_bytes() == random.Random(70).randbytes(2**20)
        assert not list(quarantined_jobs(workspace))


AFTER_A_JOB = """
import subprocess
from pathlib import Path
from headstart.pipeline.errors import TryLaterError
from headstart.pipeline.kinds import Settings
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import open_workspace
heard = []

def hear(finished):
    if not heard:
        heard.append(subprocess.run(sys.argv[2:], check=True))

try:
    Worker(open_workspace(Path(sys.argv[1])), Settings(), Limits(), hear).run()
except TryLaterError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_disk_that_turns_read_only_ends_the_worker_with_75_and_the_next_run_completes(tmp_path):
    with small_disk(tmp_path / "disk", "64m") as disk:
        workspace = open_or_create_workspace(disk / "w")
        enqueue_bulk(workspace, 30)
        status, said, errors = run_python(AFTER_A_JOB, str(workspace.root), "mount", "-o", "remount,ro", str(disk))
        assert status == 75, errors
        assert "Read-only file system. Nothing is lost" in said
        assert mount(disk, "-o", "remount,rw")
        work(workspace)
        assert (tally(workspace).done, tally(workspace).quarantined) == (30, 0)


def test_a_mount_that_goes_away_under_a_worker_is_75_and_nothing_is_written_in_its_place(tmp_path):
    with small_disk(tmp_path / "disk", "64m") as disk:
        workspace = open_or_create_workspace(disk / "w")
        enqueue_bulk(workspace, 50)
        status, said, errors = run_python(AFTER_A_JOB, str(workspace.root), "umount", "-l", str(disk))
        assert status == 75, errors
        assert "is gone. Check the disk or mount" in said
        assert not list(disk.iterdir())


class _Broken:
    """A file that fails at one step."""

    def __init__(self, file, step, number):
        self.file, self.step, self.number = file, step, number

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self._fail("close")

    def write(self, data):
        self._fail("write")
        return self.file.write(data[: max(1, len(data) // 2)])  # a disk that is nearly full takes a part first

    def fileno(self):
        return self.file.fileno()

    def _fail(self, step):
        if step == self.step:
            raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE], ids=["ENOSPC", "EDQUOT", "EIO", "ESTALE"]
)
@pytest.mark.parametrize("step", ["open", "write", "close"])
@pytest.mark.parametrize("call", [0, 1], ids=["payload", "marker"])
def test_a_disk_that_refuses_at_any_step_commits_nothing_and_leaves_nothing(workspace, monkeypatch, number, step, call):
    [job] = enqueue_fakes(workspace, 10)
    for folder in (workspace.payloads(job), workspace.marker(job).parent):
        workspace.make_folder(folder)
    calls = []

    create = paths.create

    def failing(path):
        calls.append(path)
        if len(calls) <= call:
            return create(path)
        if step == "open":
            raise OSError(number, os.strerror(number))
        return _Broken(create(path), step, number)

    monkeypatch.setattr(paths, "create", failing)
    result = Result(b"payload", ".txt", {}, 10, 10)
    with pytest.raises(TryLaterError, match="Nothing is lost"):
        commit(workspace, job, "f", result)
    monkeypatch.undo()
    assert not list(workspace.root.rglob(".tmp-*"))
    assert not workspace.marker(job).exists()
    assert commit(workspace, job, "f", result) is True


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL])
@pytest.mark.parametrize("call", ["link", "fsync"])
def test_what_a_file_system_cannot_do_is_found_by_trying(tmp_path, monkeypatch, call, number):
    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refuse)
    assert probe(tmp_path) == FileSystem(hard_links=call != "link", fsync=call != "fsync")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_in_pieces_appears_whole_under_the_name_that_its_last_piece_settles(tmp_path, hard_links):
    said = []

    def pieces():
        for number in range(3):
            assert [path.name for path in tmp_path.glob("part*")] == []
            said.append(number)
            yield bytes([number])

    files = FileSystem(hard_links=hard_links)
    path = files.publish_by_pieces(tmp_path, pieces(), lambda: f"part_{sum(said)}")
    assert (path, path.read_bytes(), list(tmp_path.iterdir())) == (tmp_path / "part_3", b"\0\1\2", [path])
    files.publish_by_pieces(tmp_path, [b"other"], lambda: "part_3")
    assert path.read_bytes() == b"\0\1\2"  # what is there stays


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), KeyError("a row")])
def test_pieces_that_cannot_be_had_or_written_leave_nothing(tmp_path, fault):
    def pieces():
        yield b"first"
        raise fault

    with pytest.raises(TryLaterError if isinstance(fault, OSError) else KeyError):
        FileSystem().publish_by_pieces(tmp_path, pieces(), lambda: "part")
    assert list(tmp_path.iterdir()) == []
