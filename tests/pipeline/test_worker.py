import pytest

from headstart.pipeline import worker
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import commit
from headstart.pipeline.worker import Limits, Worker, run_job
from tests.support import enqueue_fakes

from .workers import payloads, spawn_worker, tally, work


def test_a_worker_does_every_job_once_and_leaves_no_claim(workspace):
    enqueue_fakes(workspace, 95)
    summary, heard = work(workspace)
    assert (summary.jobs, summary.items, summary.is_drained, summary.exit_code) == (10, 95, True, 0)
    assert [finished.job.number for finished in heard] == list(range(10))
    assert len(payloads(workspace)) == 10
    assert not list(workspace.root.rglob("*.g*"))
    assert not list(workspace.root.rglob(".tmp-*"))
    assert not list(workspace.workers.iterdir())


def test_a_job_is_claimed_until_its_marker_is_there(workspace, monkeypatch):
    jobs = enqueue_fakes(workspace, 30)
    claimed = []

    def look_and_commit(workspace, job, *rest):
        is_mine = commit(workspace, job, *rest)
        claimed.append(bool(list(workspace.claims(job).glob(f"{job.job_id}.g*"))))
        return is_mine

    monkeypatch.setattr(worker, "commit", look_and_commit)
    work(workspace)
    assert claimed == [True] * len(jobs)


def test_a_second_worker_finds_nothing_to_do(workspace):
    enqueue_fakes(workspace, 30)
    work(workspace)
    before = payloads(workspace)
    summary, _ = work(workspace)
    assert summary.jobs == 0
    assert summary.is_drained
    assert payloads(workspace) == before


TORN = {
    "empty marker": lambda marker, payload: marker.write_bytes(b""),
    "truncated marker": lambda marker, payload: marker.write_bytes(marker.read_bytes()[:-40]),
    "missing payload": lambda marker, payload: payload.unlink(),
    "truncated payload": lambda marker, payload: payload.write_bytes(payload.read_bytes()[:-1]),
}


@pytest.mark.parametrize("tear", TORN.values(), ids=TORN)
def test_a_worker_redoes_a_job_whose_marker_or_payload_is_torn(workspace, tear):
    jobs = enqueue_fakes(workspace, 30)
    work(workspace)
    before = payloads(workspace)
    [payload] = workspace.payloads(jobs[1]).glob(f"{jobs[1].job_id}.*")
    tear(workspace.marker(jobs[1]), payload)
    summary, heard = work(workspace)
    assert ([finished.job for finished in heard], summary.is_drained) == ([jobs[1]], True)
    assert payloads(workspace) == before
    assert tally(workspace).done == 3


def test_max_jobs_ends_a_worker_early_and_the_next_goes_on(workspace):
    enqueue_fakes(workspace, 50)
    assert work(workspace, max_jobs=2)[0].jobs == 2
    assert tally(workspace).pending == 3
    assert work(workspace, max_jobs=2)[0].jobs == 2
    assert work(workspace, max_jobs=2)[0].jobs == 1


def test_a_time_limit_that_has_passed_begins_no_job(workspace):
    enqueue_fakes(workspace, 50)
    assert work(workspace, seconds=0.0)[0].jobs == 0


def test_a_time_limit_shorter_than_a_job_still_does_one_a_call(workspace):
    enqueue_fakes(workspace, 20)
    (workspace.root / "features" / "fake" / "slow").touch()
    assert [work(workspace, seconds=0.35)[0].jobs for _ in range(3)] == [1, 1, 0]  # a job takes 0.4 s at least
    assert tally(workspace).done == 2


def test_a_time_limit_ends_a_job_that_keeps_what_it_did_where_it_is(workspace):
    enqueue_fakes(workspace, 20)
    for name in ("slow", "keeps"):
        (workspace.root / "features" / "fake" / name).touch()
    assert work(workspace, seconds=0.1)[0].jobs == 0
    assert (tally(workspace).pending, tally(workspace).running) == (2, 0)


def test_four_workers_at_once_do_each_job_once(workspace):
    enqueue_fakes(workspace, 400)
    workers = [spawn_worker(workspace) for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0, 0]
    assert tally(workspace).done == 40
    prepared = (workspace.root / "features/fake/prepared.log").read_text().split()
    assert len(prepared) == len(set(prepared)) == 40


def test_jobs_enqueued_while_a_worker_runs_are_done_too(workspace):
    enqueue_fakes(workspace, 10)
    added = []

    def hear(finished):
        if not added:
            added.extend(enqueue_fakes(workspace, 30))

    summary = Worker(workspace, Settings(), Limits(), hear).run()
    assert len(added) == 2
    assert summary.jobs == 3


def test_run_job_needs_no_claim_and_does_a_job_once(workspace):
    job = enqueue_fakes(workspace, 10)[0]
    first = run_job(workspace, job.job_id)
    again = run_job(workspace, job.job_id)
    assert first == again
    assert (workspace.root / "features/fake/prepared.log").read_text().split() == [job.job_id]
    with pytest.raises(HeadstartError, match="has no job_000007"):
        run_job(workspace, "job_000007")
