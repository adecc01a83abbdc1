"""A file of a workspace that has another name, which may be anywhere, is never changed in place."""

import contextlib
import os

import pytest

from headstart.experiments.runs.database.database import open_database
from headstart.features.manifest.digests import _Journal
from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.executor import start_worker
from headstart.pipeline.paths import LinkError
from headstart.pipeline.queue import Reader
from headstart.pipeline.retire import PAUSED, read_withdrawn, withdraw
from tests.support import KINDS, enqueue_fakes


@pytest.fixture
def outside(tmp_path):
    """A folder of the user that holds what a file of the workspace is linked to."""
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


def shared(path, outside):
    """Gives a file of the workspace a second name outside; returns that."""
    os.link(path, outside / "other")
    return outside / "other"


def test_the_queue_is_copied_before_it_grows(workspace, outside):
    enqueue_fakes(workspace, 20)
    other = shared(workspace.queue, outside)
    before = other.read_bytes()
    enqueue_fakes(workspace, 20, folder="features/fake2")
    assert other.read_bytes() == before
    assert len(list(Reader(workspace, KINDS))) == 4


def test_a_text_of_the_user_in_the_place_of_the_queue_stays_as_it_is(workspace, outside):
    (outside / "thesis").write_text("my thesis\nsecond line")
    workspace.queue.parent.mkdir(exist_ok=True)
    os.link(outside / "thesis", workspace.queue)
    with contextlib.suppress(HeadstartError):
        enqueue_fakes(workspace, 20)
    assert (outside / "thesis").read_text() == "my thesis\nsecond line"


def test_the_list_of_withdrawn_jobs_is_copied_before_it_grows(workspace, outside):
    jobs = enqueue_fakes(workspace, 20)
    withdraw(workspace, jobs[:1], PAUSED, "a")
    other = shared(workspace.withdrawn, outside)
    before = other.read_bytes()
    withdraw(workspace, jobs[1:], PAUSED, "b")
    assert other.read_bytes() == before
    assert len(read_withdrawn(workspace).jobs) == 2


def test_digests_under_way_go_into_no_file_that_has_another_name(workspace, outside):
    path = workspace.features / "digests" / "0123456789abcdef.csv"
    path.parent.mkdir(parents=True)
    path.write_text("a line\n")
    other = shared(path, outside)
    journal = _Journal(path)
    journal.add("a.png", "0" * 32, 1, 2)
    journal.flush()
    assert other.read_text() == "a line\n"


def test_a_log_of_a_launch_that_has_another_name_is_one_line(workspace, outside):
    log = workspace.root / "1.log"
    log.write_text("a line\n")
    other = shared(log, outside)
    with pytest.raises(LinkError, match="has another name"):
        start_worker("echo more", workspace.root, {}, log)
    assert other.read_text() == "a line\n"


def test_a_database_that_has_another_name_is_made_anew(workspace, outside):
    with open_database(workspace.database) as database:
        database.begin_run("exp_0001_a", "linear", "classification", {})
    other = shared(workspace.database, outside)
    before = other.read_bytes()
    with open_database(workspace.database) as database:
        assert database.runs() == []
        database.begin_run("exp_0002_b", "linear", "classification", {})
    assert other.read_bytes() == before


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_what_sqlite_keeps_beside_it_under_another_name_is_one_line(workspace, outside, suffix):
    with open_database(workspace.database):
        pass
    beside = workspace.database.with_name(workspace.database.name + suffix)
    (outside / "thesis").write_text("my thesis")
    os.link(outside / "thesis", beside)
    with pytest.raises(HeadstartError, match="has another name"), open_database(workspace.database):
        pass
    assert (outside / "thesis").read_text() == "my thesis"


@pytest.mark.parametrize("opened", [paths.open_update, paths.open_append], ids=["update", "append"])
def test_no_file_with_another_name_is_opened_to_be_changed(workspace, outside, opened):
    path = workspace.root / "file"
    path.write_text("mine")
    opened(path).close()
    shared(path, outside)
    with pytest.raises(LinkError, match="file has another name"):
        opened(path)
