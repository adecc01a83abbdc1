import errno
import json
import os
import shutil
from types import SimpleNamespace

import pytest

from headstart.pipeline import next_job, paths, status, summaries
from headstart.pipeline.blocks import Span
from headstart.pipeline.claims import Claimant
from headstart.pipeline.doors.records import seal
from headstart.pipeline.kinds import Fingerprints, load_kind
from headstart.pipeline.markers import GroupMarkers
from headstart.pipeline.next_job import Frontier
from headstart.pipeline.queue import HEADER, Reader
from headstart.pipeline.retire import LIVE, PAUSED, REMOVED, withdraw
from headstart.pipeline.retry import bytes_of, retire
from headstart.pipeline.status import read_status
from headstart.pipeline.sync import synchronize_folder
from headstart.pipeline.verify import sweep, verify
from headstart.pipeline.worker import run_job
from tests.support import KINDS, enqueue_fakes, flipped, run_python

from .workers import tally, work

IS_DATED = summaries.Look._is_dated


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Short stretches get summaries, too, need not have lain still, and may be done within one tick of the clock."""
    monkeypatch.setattr(summaries, "LEAST_JOBS", 1)
    monkeypatch.setattr(summaries.Look, "_is_dated", lambda look: True)
    monkeypatch.setattr(summaries, "_SETTLED_S", -60.0)


@pytest.fixture
def jobs(workspace):
    """Three that are done, of which `status` has made a summary."""
    jobs = enqueue_fakes(workspace, 30)
    for job in jobs:
        run_job(workspace, job.job_id)
    assert tally(workspace).done == 3
    return jobs


def spans(workspace):
    return summaries.finished_spans(workspace, Fingerprints(workspace))


def payload_of(workspace, job):
    [path] = workspace.payloads(job).glob(f"{job.job_id}.*")
    return path


def remembered(workspace, monkeypatch):
    """What `status` says without looking at one marker."""
    with monkeypatch.context() as patch:
        patch.setattr(status, "_count", None)
        return tally(workspace)


def seal_as_it_stands(workspace, job):
    """A summary that lies: it says of folders as they are now what was so before."""
    path = workspace.summary(job)
    facts = json.loads(path.read_bytes())
    del facts["seal"]
    facts["stamps"] = summaries._stamps(workspace, job)
    path.write_bytes(seal(facts))


def handed_out(workspace):
    """Every job that a worker gets, in order, none of which it finishes."""
    with Claimant(workspace) as claimant:
        frontier = Frontier(workspace, claimant, None, None)
        return [claim.job for claim in iter(frontier.next_claim, None)]


def test_status_counts_by_a_summary_what_it_would_count_by_markers(workspace, jobs, monkeypatch):
    counted = tally(workspace)
    assert remembered(workspace, monkeypatch) == counted
    workspace.summary(jobs[0]).unlink()
    assert tally(workspace) == counted


def _mtime_set_back(workspace, jobs):
    folder = workspace.marker(jobs[0]).parent
    before = folder.stat()
    workspace.marker(jobs[0]).unlink()
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


def _copied(workspace, jobs):
    """As a backup is brought back: with all its times, and with one payload left out."""
    folder = workspace.payloads(jobs[0])
    shutil.copytree(folder, folder.with_name("copy"), ignore=lambda *_: [payload_of(workspace, jobs[0]).name])
    shutil.copystat(folder, folder.with_name("copy"))
    shutil.rmtree(folder)
    folder.with_name("copy").rename(folder)


CHANGES = {
    "a marker is gone": (lambda w, jobs: w.marker(jobs[1]).unlink(), 2),
    "a marker is retired": (lambda w, jobs: retire(w, jobs[1], bytes_of(w, jobs[1])), 2),
    "a marker is replaced": (lambda w, jobs: w.files.replace(w.marker(jobs[1]), b"{}"), 2),
    "a payload is gone": (lambda w, jobs: payload_of(w, jobs[1]).unlink(), 2),
    "a payload is replaced": (lambda w, jobs: w.files.replace(payload_of(w, jobs[1]), b"x"), 2),
    "its mtime was set back": (_mtime_set_back, 2),
    "a folder is a copy": (_copied, 2),
    "all markers are gone": (lambda w, jobs: shutil.rmtree(w.marker(jobs[0]).parent), 0),
    "a row says something else": (lambda w, jobs: w.queue.write_bytes(w.queue.read_bytes().replace(b",20,30", b",20,31")), 2),
    "a job is paused": (lambda w, jobs: withdraw(w, jobs[:1], PAUSED, "it"), 2),
    "a job is removed": (lambda w, jobs: withdraw(w, jobs[:1], REMOVED, "it"), 2),
    "there are more rows": (lambda w, jobs: enqueue_fakes(w, 40), 3),
}


@pytest.mark.parametrize(("change", "done"), CHANGES.values(), ids=CHANGES.keys())
def test_status_believes_no_summary_of_what_changed_since(workspace, jobs, change, done):
    change(workspace, jobs)
    assert tally(workspace).done == done


@pytest.mark.parametrize("change", ["a marker is gone", "a folder is a copy"])
def test_where_a_folder_has_no_time_of_its_names_its_inode_and_mtime_tell(workspace, jobs, monkeypatch, change):
    look = paths.stat

    def without_ctime(path):
        facts = look(path)
        times = {"st_mtime_ns": facts.st_mtime_ns, "st_ctime_ns": 0}  # as Windows, where it is the time of creation
        return SimpleNamespace(**{name: getattr(facts, name) for name in dir(facts) if name.startswith("st_")} | times)

    monkeypatch.setattr(paths, "stat", without_ctime)
    workspace.summary(jobs[0]).unlink()
    assert (tally(workspace).done, spans(workspace)) == (3, [Span(0, 2)])
    CHANGES[change][0](workspace, jobs)
    assert (tally(workspace).done, spans(workspace)) == (2, [])


def test_a_summary_of_another_configuration_counts_nothing(workspace, jobs, monkeypatch):
    monkeypatch.setattr(load_kind("fake"), "fingerprint", lambda *_: "new")
    assert tally(workspace).done == 0
    assert spans(workspace) == []


def test_a_broken_folder_is_told_although_all_of_it_is_done(workspace, jobs):
    (workspace.root / "features/fake/broken").touch()
    assert (tally(workspace).done, tally(workspace).unreadable) == (0, 3)
    assert spans(workspace) == []


def test_jobs_that_are_paused_and_live_again_are_counted_by_what_was_known(workspace, jobs, monkeypatch):
    withdraw(workspace, jobs[:1], PAUSED, "it")
    assert tally(workspace).done == 2
    withdraw(workspace, jobs[:1], LIVE, "it")
    assert remembered(workspace, monkeypatch).done == 3


def test_a_job_that_was_paused_undone_comes_before_what_was_queued_after_it(workspace, jobs):
    workspace.marker(jobs[1]).unlink()
    fresh = enqueue_fakes(workspace, 10, folder="features/other")
    withdraw(workspace, [jobs[1]], PAUSED, "it")
    assert tally(workspace).done == 2
    withdraw(workspace, [jobs[1]], LIVE, "it")
    assert handed_out(workspace) == [jobs[1], *fresh]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', "[" * 100_000, "null", '{"format": 1, "stretches": [3]}'])
def test_a_damaged_summary_is_as_good_as_none(workspace, jobs, text):
    workspace.summary(jobs[0]).write_text(text)
    assert spans(workspace) == []
    assert handed_out(workspace) == []
    assert tally(workspace).done == 3


def test_no_flipped_bit_of_a_summary_makes_a_job_done(workspace, jobs):
    workspace.marker(jobs[1]).unlink()
    seal_as_it_stands(workspace, jobs[0])
    assert spans(workspace) == [Span(0, 2)]
    path = workspace.summary(jobs[0])
    data = path.read_bytes()
    for bit in range(0, len(data) * 8, 7):
        path.write_bytes(flipped(data, bit))
        assert spans(workspace) == [], bit


@pytest.mark.parametrize("part", range(10))
def test_a_torn_summary_is_as_good_as_none(workspace, jobs, part):
    path = workspace.summary(jobs[0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * part // 10])
    assert spans(workspace) == []
    assert tally(workspace).done == 3
    assert spans(workspace) == [Span(0, 2)]  # made anew


def test_a_summary_of_a_newer_version_says_nothing_and_is_left_alone(workspace, jobs):
    path = workspace.summary(jobs[0])
    newer = path.read_bytes().replace(b'"format": 1', b'"format": 2')
    path.write_bytes(newer)
    assert (tally(workspace).done, spans(workspace)) == (3, [])
    assert path.read_bytes() == newer


def test_a_summary_that_counts_other_things_is_made_anew(workspace, jobs):
    path = workspace.summary(jobs[0])
    facts = json.loads(path.read_bytes())
    del facts["seal"], facts["stretches"][0]["tally"]["peak_vram_bytes"]
    path.write_bytes(seal(facts))
    assert tally(workspace).done == 3
    assert "peak_vram_bytes" in path.read_text()


@pytest.mark.parametrize("least", [1, 4])
def test_what_was_just_done_and_what_is_short_get_no_summary(workspace, monkeypatch, least):
    monkeypatch.setattr(summaries, "LEAST_JOBS", least)
    monkeypatch.setattr(summaries, "_SETTLED_S", 60.0 if least == 1 else -60.0)
    enqueue_fakes(workspace, 30)
    work(workspace)
    assert tally(workspace).done == 3
    assert not list(workspace.summaries())


@pytest.mark.parametrize("look", [read_status, handed_out])
def test_what_changes_during_the_look_becomes_no_summary(workspace, jobs, monkeypatch, look):
    workspace.summary(jobs[0]).unlink()
    counts = GroupMarkers.counts

    def at_the_last_one(self, job):
        if job == jobs[2]:
            workspace.marker(jobs[0]).unlink(missing_ok=True)
        return counts(self, job)

    monkeypatch.setattr(GroupMarkers, "counts", at_the_last_one)
    look(workspace)
    assert spans(workspace) == []


KILLED = """
import os, signal
from pathlib import Path
from headstart.pipeline import paths, summaries
from headstart.pipeline.status import read_status
from headstart.pipeline.workspace import open_workspace
summaries.LEAST_JOBS, summaries._SETTLED_S = 1, -60.0
rename = paths.rename
def killed(old, new):
    if sys.argv[2] == "after":
        rename(old, new)
    os.kill(os.getpid(), signal.SIGKILL)
paths.rename = killed
read_status(open_workspace(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_is_killed_while_it_makes_a_summary_leaves_a_whole_one_or_none(workspace, jobs, when):
    workspace.summary(jobs[0]).unlink()
    assert run_python(KILLED, str(workspace.root), when)[0] == -9
    assert spans(workspace) == ([Span(0, 2)] if when == "after" else [])
    assert len(verify(workspace).orphans) == (when == "before")
    sweep(verify(workspace).orphans)
    assert tally(workspace).done == 3
    assert [path.name for path in workspace.summary(jobs[0]).parent.iterdir()] == ["0000.json"]


def test_a_folder_that_keeps_no_time_of_its_names_gets_no_summary(workspace, jobs, monkeypatch):
    """As in a mounted object store, where nothing would tell that a marker went."""
    look = paths.stat

    def timeless(path):
        facts = look(path)
        times = {} if path.suffix else {"st_mtime_ns": 0, "st_ctime_ns": 0}
        return SimpleNamespace(**{name: getattr(facts, name) for name in dir(facts) if name.startswith("st_")} | times)

    monkeypatch.setattr(summaries.Look, "_is_dated", IS_DATED)
    monkeypatch.setattr(paths, "stat", timeless)
    workspace.summary(jobs[0]).unlink()
    assert tally(workspace).done == 3
    workspace.marker(jobs[1]).unlink()
    assert tally(workspace).done == 2


def test_of_a_folder_that_is_not_there_no_summary_says_anything(workspace, jobs):
    shutil.rmtree(workspace.marker(jobs[0]).parent)
    shutil.rmtree(workspace.payloads(jobs[0]))
    seal_as_it_stands(workspace, jobs[0])
    assert (tally(workspace).done, spans(workspace)) == (0, [])


@pytest.mark.parametrize("folder", ["done/0000", "shards", "shards/0000", "summaries", "summaries/0000.json"])
def test_no_link_is_followed_for_a_summary(workspace, jobs, folder, tmp_path):
    fresh = enqueue_fakes(workspace, 10, folder="features/other")
    place = workspace.root / jobs[0].folder / folder
    place.rename(tmp_path / "away")
    (shutil.copytree if folder != "summaries/0000.json" else shutil.copy)(tmp_path / "away", tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert spans(workspace) == []
    if folder == "done/0000":
        with pytest.raises(paths.LinkError, match="is a symbolic link"):
            handed_out(workspace)
    else:
        assert handed_out(workspace) == fresh


def test_a_folder_in_its_place_is_no_summary(workspace, jobs):
    workspace.summary(jobs[0]).unlink()
    workspace.summary(jobs[0]).mkdir()
    assert (tally(workspace).done, spans(workspace), handed_out(workspace)) == (3, [], [])


def test_a_disk_that_gives_no_marker_back_costs_the_summary_and_no_fresh_work(workspace, jobs, monkeypatch):
    workspace.summary(jobs[0]).unlink()
    [fresh] = enqueue_fakes(workspace, 10, folder="features/other")

    def unreadable(self, job):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(workspace.marker(job)))

    monkeypatch.setattr(GroupMarkers, "counts", unreadable)
    with Claimant(workspace) as claimant:
        assert Frontier(workspace, claimant, None, None).next_claim().job == fresh


@pytest.mark.parametrize(("first", "last", "jobs_of_it"), [(2, 0, -1), (2, 1, 0), (-1, 1, 3), (0, 2**60, 2**60 + 1)])
def test_a_stretch_that_cannot_be_is_none(workspace, jobs, first, last, jobs_of_it):
    path = workspace.summary(jobs[0])
    facts = json.loads(path.read_bytes())
    del facts["seal"]
    facts["stretches"][0] |= {"first": first, "last": last, "jobs": jobs_of_it}
    path.write_bytes(seal(facts))
    assert spans(workspace) == []
    assert handed_out(workspace) == []


def test_a_folder_that_cannot_be_written_costs_the_summary_alone(workspace, jobs):
    shutil.rmtree(workspace.summary(jobs[0]).parent)
    workspace.summary(jobs[0]).parent.touch()
    assert tally(workspace).done == 3
    assert handed_out(workspace) == []


def test_what_is_wrong_with_a_queue_is_told_by_whoever_read_all_of_it(workspace, jobs):
    fresh = enqueue_fakes(workspace, 20, folder="features/other")
    with Claimant(workspace) as claimant:
        failing = Frontier(workspace, claimant, None, None).next_claim()
        claimant.fail(failing, "it would not work")
    os.utime(failing.path.with_name(f"{failing.path.name}.failed"), (0, 0))
    with workspace.queue.open("a") as rows:
        rows.write("nonsense\n")
    with Claimant(workspace) as claimant:
        frontier = Frontier(workspace, claimant, None, None)
        assert [frontier.next_claim().job, frontier.next_claim().job] == [fresh[1], fresh[0]]
        assert frontier.problems == []
        assert frontier.next_claim() is None
        assert [problem.partition(":")[0] for problem in frontier.problems] == ["jobs_queue.csv line 7"]


def test_a_worker_passes_over_what_is_finished_unread(workspace, jobs, monkeypatch):
    [fresh] = enqueue_fakes(workspace, 10, folder="features/other")
    listed = []
    listing = next_job.read_listing
    monkeypatch.setattr(next_job, "read_listing", lambda workspace, job: listed.append(job.folder) or listing(workspace, job))
    with Claimant(workspace) as claimant:
        assert Frontier(workspace, claimant, None, None).next_claim().job == fresh
    assert set(listed) == {"features/other"}


LIES = {
    "no marker": lambda w, job: w.marker(job).unlink(),
    "a cut marker": lambda w, job: w.marker(job).write_bytes(b"{"),
    "no payload": lambda w, job: payload_of(w, job).unlink(),
    "a cut payload": lambda w, job: payload_of(w, job).write_bytes(b""),
    "no marker at all": lambda w, job: [path.unlink() for path in w.marker(job).parent.iterdir()],
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
@pytest.mark.parametrize("block", [1, 8])
def test_a_summary_that_lies_costs_the_order_and_no_job(workspace, jobs, lie, block):
    fresh = enqueue_fakes(workspace, 20, folder="features/other")
    lie(workspace, jobs[1])
    seal_as_it_stands(workspace, jobs[0])
    assert spans(workspace) == [Span(0, 2)]
    torn = jobs if not workspace.marker(jobs[0]).exists() else [jobs[1]]
    with Claimant(workspace) as claimant:
        frontier = Frontier(workspace, claimant, None, None, block)
        assert [claim.job for claim in iter(frontier.next_claim, None)] == [*fresh, *torn]


@pytest.mark.parametrize("state", [PAUSED, REMOVED])
def test_nobody_gets_a_withdrawn_job_because_a_summary_lies(workspace, jobs, state):
    workspace.marker(jobs[1]).unlink()
    seal_as_it_stands(workspace, jobs[0])
    withdraw(workspace, [jobs[1]], state, "it")
    assert handed_out(workspace) == []


def test_a_job_that_is_made_pending_while_a_worker_passes_over_it_is_done_before_it_ends(workspace, jobs):
    fresh = enqueue_fakes(workspace, 10, folder="features/other")
    with Claimant(workspace) as claimant:
        frontier = Frontier(workspace, claimant, None, None)
        assert frontier.next_claim().job == fresh[0]
        retire(workspace, jobs[1], bytes_of(workspace, jobs[1]))
        assert frontier.next_claim().job == jobs[1]
        assert frontier.next_claim() is None


def test_a_worker_leaves_summaries_of_all_that_it_saw_done(workspace):
    for folder in ("features/a", "features/b", "features/c"):
        enqueue_fakes(workspace, 20, folder=folder)
    work(workspace, max_jobs=5)
    assert [path.parent.parent.name for path in workspace.summaries()] == ["a"]  # the second job of b was still in hand
    work(workspace)
    assert spans(workspace) == [Span(0, 5)]


def test_the_next_worker_makes_those_that_a_killed_one_did_not(workspace, jobs):
    shutil.rmtree(workspace.summary(jobs[0]).parent)
    enqueue_fakes(workspace, 10, folder="features/other")
    with Claimant(workspace) as claimant:
        Frontier(workspace, claimant, None, None).next_claim()
    assert spans(workspace) == [Span(0, 2)]


def test_a_worker_takes_no_longer_for_summaries_than_it_may(workspace, jobs, monkeypatch):
    shutil.rmtree(workspace.summary(jobs[0]).parent)
    enqueue_fakes(workspace, 10, folder="features/other")
    monkeypatch.setattr(next_job, "_SUMMARIZING_S", -1.0)
    with Claimant(workspace) as claimant:
        Frontier(workspace, claimant, None, None).next_claim()
    assert spans(workspace) == []


def test_who_sees_that_nothing_is_left_leaves_summaries_however_long_it_takes(workspace, jobs, monkeypatch):
    shutil.rmtree(workspace.summary(jobs[0]).parent)
    monkeypatch.setattr(next_job, "_SUMMARIZING_S", -1.0)
    assert handed_out(workspace) == []
    assert spans(workspace) == [Span(0, 2)]


def test_summaries_of_a_group_that_several_enqueues_filled_stand_side_by_side(workspace, jobs, monkeypatch):
    enqueue_fakes(workspace, 10, folder="features/other")
    for job in enqueue_fakes(workspace, 50):
        run_job(workspace, job.job_id)
    assert tally(workspace).done == 5  # in two stretches, with the other folder's row between them
    assert spans(workspace) == [Span(0, 2), Span(4, 5)]
    counted = []
    count = status._count
    monkeypatch.setattr(status, "_count", lambda w, jobs, f: counted.append(jobs[0].folder) or count(w, jobs, f))
    assert tally(workspace).done == 5
    assert counted == ["features/other"]
    workspace.marker(jobs[1]).unlink()
    assert tally(workspace).done == 4
    assert spans(workspace) == [Span(4, 5)]  # made anew, without what stood beside it


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda text: text.replace(f"{HEADER}\n", ""), id="no header"),
        pytest.param(lambda text: text.replace(",", ";"), id="another separator"),
        pytest.param(lambda text: "\ufeff" + text, id="a byte order mark"),
        pytest.param(lambda text: text.replace("\n", "\r\n"), id="other line ends"),
        pytest.param(lambda text: "\n".join([HEADER, *sorted(text.splitlines()[1:], reverse=True), ""]), id="backwards"),
    ],
)
def test_no_job_is_lost_whatever_a_spreadsheet_made_of_a_queue_that_is_passed_over(workspace, jobs, edit):
    fresh = enqueue_fakes(workspace, 20, folder="features/other")
    workspace.marker(jobs[1]).unlink()
    seal_as_it_stands(workspace, jobs[0])
    workspace.queue.write_text(edit(workspace.queue.read_text()), newline="")
    listed = set(Reader(workspace, KINDS))
    assert set(handed_out(workspace)) == listed & {jobs[1], *fresh}


def test_a_copy_by_sync_has_no_summaries(workspace, jobs, tmp_path):
    """Folders there have other stamps, so they would be worth nothing."""
    synchronize_folder(workspace.root, tmp_path / "packs")
    synchronize_folder(tmp_path / "copy", tmp_path / "packs")
    assert list(workspace.summaries())
    assert not list((tmp_path / "copy").rglob("summaries"))
