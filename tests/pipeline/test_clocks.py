"""Clocks that jump, and pauses between the attempts of a job."""

import os
import time

import pytest

from tests.support import enqueue_fakes

from .workers import work


@pytest.mark.parametrize("jump_s", [-10 * 365 * 86400.0, 10 * 365 * 86400.0], ids=["ten years back", "ten years on"])
def test_a_clock_that_jumps_stops_no_worker(workspace, monkeypatch, jump_s):
    jobs = enqueue_fakes(workspace, 30)
    genuine = time.time
    monkeypatch.setattr(time, "time", lambda: genuine() + jump_s)
    folder = workspace.claims(jobs[0])
    folder.mkdir(parents=True)
    for job in jobs[:2]:  # failed just now, says a clock that was wrong then or is now
        (folder / f"{job.job_id}.g1").write_text("{}")
        (folder / f"{job.job_id}.g1.failed").write_text("before the jump")
        os.utime(folder / f"{job.job_id}.g1.failed", (genuine() + jump_s, genuine() + jump_s))
    begun = time.monotonic()
    assert work(workspace)[0].jobs == 3
    assert time.monotonic() - begun < 5


def test_a_job_that_failed_is_left_alone_for_a_moment_longer_each_time_and_never_for_long(workspace):
    from headstart.pipeline.quarantine import History

    pauses = [History(n, True, n).pause_s("job_000001") for n in (1, 2)]
    assert pauses == [History(n, True, n).pause_s("job_000001") for n in (1, 2)]
    assert 0.1 < pauses[0] < pauses[1] < 3
    assert History(1, True, 1).pause_s("job_000002") != pauses[0]
    assert History(5, False, 0, (1, 2, 3, 4, 5)).pause_s("job_000001") == 0


def test_a_pause_delays_no_other_job(workspace):
    jobs = enqueue_fakes(workspace, 60)
    (workspace.root / "features/fake" / f"raise_{jobs[0].job_id}").touch()
    _, heard = work(workspace)
    assert [finished.job.number for finished in heard if finished.job != jobs[0]] == [1, 2, 3, 4, 5]
    assert [finished.job == jobs[0] for finished in heard].index(True) < len(heard) - 3
    assert sum(finished.job == jobs[0] for finished in heard) == 3
