"""What earlier processes left half-way (made, but not yet durable or whole) is completed by the next."""

import errno
import os

import pytest

from headstart.pipeline.claims import Claimant
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.files import FileSystem
from headstart.pipeline.quarantine import NO_HISTORY
from headstart.pipeline.retry import reopen
from headstart.pipeline.worker import run_job
from headstart.pipeline.workspace import Workspace, open_or_create_workspace
from tests.support import enqueue_fakes


@pytest.fixture
def synced(monkeypatch):
    """Folders in the order in which their names were made durable."""
    folders = []
    sync = FileSystem.sync_folder
    monkeypatch.setattr(FileSystem, "sync_folder", lambda files, folder: (folders.append(folder), sync(files, folder))[1])
    return folders


def test_folders_that_a_killed_process_made_become_durable_before_they_are_used(workspace, synced):
    (workspace.root / "features" / "fake" / "done").mkdir(parents=True)
    workspace.make_folder(workspace.root / "features" / "fake" / "done")
    assert set(synced) == {workspace.root, workspace.features, workspace.features / "fake"}


def test_folders_known_to_be_durable_cost_nothing(workspace, synced):
    workspace.make_folder(workspace.features)
    synced.clear()
    workspace.make_folder(workspace.features)
    assert synced == []


def test_the_name_of_a_queue_that_a_killed_process_made_becomes_durable_when_it_grows(workspace, synced):
    enqueue_fakes(workspace, 10)
    synced.clear()
    enqueue_fakes(workspace, 20)
    assert workspace.features in synced


def refuse(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP], ids=lambda number: errno.errorcode[number])
def test_a_workspace_moved_to_where_hard_links_do_not_work_says_what_to_do_and_that_helps(workspace, monkeypatch, number):
    workspace.make_folder(workspace.features)
    monkeypatch.setattr(os, "link", refuse(number))
    with pytest.raises(HeadstartError, match=r"delete workspace\.json") as caught:
        workspace.files.publish(workspace.features / "a", b"a")
    assert caught.value.exit_code == 1
    (workspace.root / "workspace.json").unlink()
    poor = open_or_create_workspace(workspace.root)
    assert not poor.files.hard_links
    assert poor.files.publish(poor.features / "a", b"a")


def test_a_marker_that_cannot_be_read_now_is_no_reason_to_judge_it(workspace, monkeypatch):
    job = enqueue_fakes(workspace, 10)[0]
    run_job(workspace, job.job_id)
    with monkeypatch.context() as broken:
        workspace.marker(job).write_bytes(b"torn")
        genuine, reads = reading.read, iter([refuse(errno.EIO)])
        broken.setattr(reading, "read", lambda path: next(reads, genuine)(path))  # noqa: PLW0108 - each call is another
        with pytest.raises(TryLaterError):
            reopen(workspace, job)
    assert workspace.marker(job).is_file()


def test_a_claim_that_could_not_be_written_is_taken_back(workspace, monkeypatch):
    poor = Workspace(workspace.root, workspace.id, FileSystem(hard_links=False))
    job = enqueue_fakes(poor, 10)[0]
    with Claimant(poor) as claimant, monkeypatch.context() as broken:
        broken.setattr(os, "write", refuse(errno.ENOSPC))
        with pytest.raises(TryLaterError):
            claimant.acquire(job, NO_HISTORY)
    assert not list(poor.claims(job).iterdir())
