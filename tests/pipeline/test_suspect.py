import pytest

from headstart.pipeline import suspect, worker
from headstart.pipeline.errors import TryLaterError
from headstart.pipeline.markers import read_marker
from headstart.pipeline.retry import retry
from headstart.pipeline.status import quarantined_jobs
from tests.support import enqueue_fakes

from .suspects import FINGERPRINT, FOLDER, claim, die_holding, enqueue_fragile, history_of, outcome, squares, work
from .workers import tally


@pytest.mark.parametrize(
    ("mishap", "limit_s", "reason"),
    [
        ("crash_7", 60, "ended its process with SIGSEGV"),
        ("hang_7", 0.5, "did not end within 0.5 s"),
        ("spin_7", 0.5, "did not end within 0.5 s"),
        ("eat_7", 60, "took more than 0.2 GB of memory"),
    ],
)
def test_an_item_that_ends_its_process_fails_alone_and_the_others_are_done(workspace, monkeypatch, mishap, limit_s, reason):
    monkeypatch.setattr(suspect, "ITEM_BYTES", 200_000_000)
    monkeypatch.setattr(worker, "ITEM_S", limit_s)
    [first, second] = enqueue_fragile(workspace, 10, mishap)
    die_holding(workspace, second, times=2)
    assert work(workspace).is_drained
    assert outcome(workspace, first) == (squares(0, 1, 2, 3, 4), {})
    assert outcome(workspace, second) == (squares(5, 6, 8, 9), {7: ("killed", reason)})


def test_a_suspect_without_a_killer_gives_the_bytes_that_it_always_gives(workspace, tmp_path):
    jobs = enqueue_fragile(workspace, 10)
    work(workspace)
    before = [read_marker(workspace, job, FINGERPRINT) for job in jobs]
    for job in jobs:
        workspace.marker(job).unlink()
        die_holding(workspace, job, times=5)
    work(workspace)
    after = [read_marker(workspace, job, FINGERPRINT, deep=True) for job in jobs]
    assert [marker.sha256 for marker in after] == [marker.sha256 for marker in before]
    assert [marker.facts["deaths"] for marker in after] == [5, 5]


def test_an_item_whose_child_died_once_is_not_marked_dead(workspace):
    [job] = enqueue_fragile(workspace, 5, "slip_3")
    die_holding(workspace, job, times=2)
    work(workspace)
    assert outcome(workspace, job) == (squares(0, 1, 2, 3, 4), {})


def test_each_killer_of_a_job_is_found(workspace):
    [job] = enqueue_fragile(workspace, 5, "crash_0", "crash_1", "crash_4")
    die_holding(workspace, job, times=2)
    work(workspace)
    results, failed = outcome(workspace, job)
    assert results == squares(2, 3)
    assert set(failed) == {0, 1, 4}


@pytest.mark.parametrize(
    ("special", "deaths"),
    [({}, 2), ({"machine": "another boot/pid:[1]"}, 0), ({"host": "renamed"}, 2)],
    ids=["this boot", "another boot or machine", "another host name"],
)
def test_only_deaths_of_this_boot_count(workspace, special, deaths, monkeypatch):
    from headstart.pipeline import claims

    monkeypatch.setattr(claims, "LEASE_S", 0.0)
    [job] = enqueue_fragile(workspace, 5)
    die_holding(workspace, job, times=2, lease_s=0.0, **special)
    assert claim(workspace, job).deaths == deaths


def test_a_torn_claim_is_no_death(workspace):
    [job] = enqueue_fragile(workspace, 5)
    die_holding(workspace, job, times=3)
    (workspace.claims(job) / f"{job.job_id}.g1").write_bytes(b"")
    assert claim(workspace, job).deaths == 2


def test_an_attempt_that_failed_is_no_death(workspace):
    [job] = enqueue_fragile(workspace, 5)
    die_holding(workspace, job, times=3)
    (workspace.claims(job) / f"{job.job_id}.g3.failed").write_text("ValueError: no")
    assert claim(workspace, job).deaths == 2


def test_an_item_that_is_marked_dead_is_not_tried_again_until_it_is_retried(workspace):
    [job] = enqueue_fragile(workspace, 5, "crash_3")
    die_holding(workspace, job, times=2)
    work(workspace)
    workspace.marker(job).unlink()
    die_holding(workspace, job)  # the worker died before the marker was there
    log = workspace.root / FOLDER / "examined.log"
    log.unlink()
    (workspace.root / FOLDER / "crash_3").unlink()
    work(workspace)
    assert outcome(workspace, job)[0] == squares(0, 1, 2, 4)
    assert not any(line.startswith("3 ") for line in log.read_text().splitlines())
    assert retry(workspace, None) == [job]
    work(workspace)
    assert outcome(workspace, job) == (squares(0, 1, 2, 3, 4), {})
    assert list(workspace.claims(job).glob("*.item3"))  # history is kept


def test_a_job_that_ends_every_process_although_no_item_does_is_quarantined(workspace):
    first, second = enqueue_fragile(workspace, 10)
    (workspace.root / FOLDER / f"encoder_{first.job_id}").touch()
    die_holding(workspace, first, times=2)
    summary = work(workspace)
    assert (summary.jobs, summary.failed_jobs, summary.is_drained) == (1, 3, True)
    [(job, reasons)] = quarantined_jobs(workspace)
    assert job == first
    assert reasons == ["ChildEnded: ended its process with SIGSEGV"] * 3
    assert outcome(workspace, second)[0] == squares(5, 6, 7, 8, 9)


def test_a_kind_that_cannot_examine_its_items_runs_as_a_whole_in_a_child(workspace):
    [job] = enqueue_fakes(workspace, 10)
    die_holding(workspace, job, times=2)
    (workspace.root / "features/fake" / f"kill_{job.job_id}").touch()  # once
    summary = work(workspace)
    assert (summary.jobs, summary.failed_jobs) == (1, 1)
    assert tally(workspace).items_done == 10


@pytest.mark.parametrize(("mishap", "failures"), [("wrong_3", 3), ("full_3", 0)], ids=["its own error", "a full disk"])
def test_an_error_in_a_child_counts_as_it_would_here(workspace, mishap, failures):
    [job] = enqueue_fragile(workspace, 5, mishap)
    die_holding(workspace, job, times=2)
    if failures:
        work(workspace)
        assert dict(quarantined_jobs(workspace))[job] == ["JobError: ValueError: asked to fail"] * 3
    else:
        with pytest.raises(TryLaterError, match="the disk is full"):
            work(workspace)
        assert (history_of(workspace, job).failures, history_of(workspace, job).generation) == (0, 2)


def test_nothing_is_prepared_beside_a_suspect(workspace):
    first, second = enqueue_fragile(workspace, 10)
    for job in (first, second):
        die_holding(workspace, job)
    die_holding(workspace, first)
    work(workspace)
    # Item 5 belongs to the job after the suspect: it was touched after all of the suspect's.
    lines = (workspace.root / FOLDER / "examined.log").read_text().splitlines()
    assert [line.split()[0] for line in lines] == list("0123401234") + list("56789")
