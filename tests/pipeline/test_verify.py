import os
import time
from types import SimpleNamespace

import pytest

from headstart.pipeline import verify as verify_module
from headstart.pipeline.claims import LEASE_S, Claimant
from headstart.pipeline.quarantine import NO_HISTORY
from headstart.pipeline.verify import sweep, verify
from headstart.pipeline.worker import run_job
from tests.support import enqueue_fakes

from .workers import payloads, work

OLD = (1, 1)


def age(*paths):
    for path in paths:
        os.utime(path, OLD)


def test_what_is_committed_is_never_swept_however_old_it_is(workspace):
    enqueue_fakes(workspace, 30)
    work(workspace)
    committed = payloads(workspace)
    age(*workspace.root.glob("features/fake/*/*/*"))
    findings = verify(workspace, deep=True)
    assert (findings.sound, findings.orphans) == (3, [])
    sweep(findings.orphans)
    assert payloads(workspace) == committed
    assert verify(workspace, deep=True).sound == 3


@pytest.mark.parametrize(
    ("is_old", "is_done", "is_orphan"),
    [(True, True, True), (False, True, False), (True, False, False)],
    ids=["lost the race long ago", "young", "its job is under way"],
)
def test_a_payload_that_no_marker_names_goes_once_it_is_old_and_its_job_done(workspace, is_old, is_done, is_orphan):
    job = enqueue_fakes(workspace, 10)[0]
    if is_done:
        run_job(workspace, job.job_id)
    other = workspace.payload(job, "0" * 64, ".txt")
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text("other bytes")
    if is_old:
        age(other)
    orphans = verify(workspace).orphans
    assert orphans == ([other] if is_orphan else [])
    assert sweep(orphans) == len(orphans)
    assert other.exists() is not is_orphan


def test_what_was_committed_while_verify_looked_is_no_orphan(workspace, monkeypatch):
    job = enqueue_fakes(workspace, 10)[0]
    run_job(workspace, job.job_id)
    newer = workspace.payload(job, "0" * 64, ".txt")  # the job was retried and done again after its marker had been read
    newer.write_text("other bytes")
    clock, read = [time.time()], verify_module.read_marker
    monkeypatch.setattr(verify_module, "read_marker", lambda *given: clock.append(clock[0] + 10 * LEASE_S) or read(*given))
    monkeypatch.setattr(verify_module, "time", SimpleNamespace(time=lambda: clock[-1]))
    assert verify(workspace).orphans == []


def test_claims_and_files_of_the_living_are_no_orphans_and_those_of_the_dead_are(workspace):
    jobs = enqueue_fakes(workspace, 20)
    with Claimant(workspace) as claimant:
        claim = claimant.acquire(jobs[0], NO_HISTORY)
        run_job(workspace, jobs[0].job_id)  # done by somebody else meanwhile
        assert verify(workspace).orphans == []
        dead = claimant._file.with_name("dead.json")
        dead.write_text(claimant._file.read_text().replace(f'"pid": {os.getpid()}', '"pid": 999999999'))
        left = workspace.claims(jobs[0]) / f"{jobs[0].job_id}.g7"
        os.link(dead, left)
        unreadable = claim.path.with_name(f"{jobs[0].job_id}.g9")
        unreadable.touch()
        assert verify(workspace).orphans == [left, dead]
        age(unreadable)
        assert verify(workspace).orphans == [left, unreadable, dead]
    assert LEASE_S > 60  # what is young must not become old while this test runs


def lose_last_row(workspace):
    workspace.queue.write_text("".join(workspace.queue.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("keeps_marker", [False, True], ids=["no marker", "marker"])
def test_what_a_job_left_whose_row_was_lost_is_an_orphan_unless_its_marker_can_bring_it_back(workspace, keeps_marker):
    jobs = enqueue_fakes(workspace, 20)
    for job in jobs:
        run_job(workspace, job.job_id)
    claim = workspace.claims(jobs[1]) / f"{jobs[1].job_id}.g1"
    claim.parent.mkdir(parents=True)
    claim.write_text("{}")
    [payload] = workspace.payloads(jobs[1]).glob(f"{jobs[1].job_id}.*")
    if not keeps_marker:
        workspace.marker(jobs[1]).unlink()
    lose_last_row(workspace)
    age(*workspace.root.rglob("*"))
    assert verify(workspace).orphans == ([] if keeps_marker else [claim, payload])
