import os
import signal
import subprocess

import pytest

from headstart.pipeline.claims import Claimant
from headstart.pipeline.errors import TryLaterError
from headstart.pipeline.markers import read_marker
from headstart.pipeline.quarantine import NO_HISTORY
from headstart.pipeline.stop import Stop
from headstart.pipeline.verify import sweep, verify
from headstart.pipeline.worker import run_job
from tests.support import enqueue_fakes, run_python, spawn_python

from .workers import MAIN, WORK, spawn_worker, tally, work


def test_a_killed_worker_is_replaced_and_the_result_is_the_same(workspace, tmp_path):
    jobs = enqueue_fakes(workspace, 50)
    (workspace.root / "features/fake" / f"kill_{jobs[2].job_id}").touch()
    worker = spawn_worker(workspace)
    assert worker.wait(60) == -signal.SIGKILL
    assert tally(workspace).done < 5
    assert work(workspace)[0].is_drained
    assert tally(workspace).done == 5
    assert verify(workspace, deep=True).sound == 5
    findings = verify(workspace)
    sweep(findings.orphans)
    assert not list(workspace.root.rglob("*.g*"))
    assert not list(workspace.root.rglob(".tmp-*"))
    assert not list(workspace.workers.iterdir())


def test_a_job_that_killed_its_worker_is_tried_after_all_others(workspace):
    jobs = enqueue_fakes(workspace, 50)
    (workspace.root / "features/fake" / f"kill_{jobs[0].job_id}").touch()
    spawn_worker(workspace).wait(60)
    _, heard = work(workspace)
    assert jobs[0] in [finished.job for finished in heard[-2:]]  # with the job that was prepared while it ran


def test_a_worker_waits_for_jobs_that_others_hold_and_takes_over_when_they_die(workspace):
    job = enqueue_fakes(workspace, 10)[0]
    with Claimant(workspace) as other:
        other.acquire(job, NO_HISTORY)
        waiting = spawn_worker(workspace)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)
        assert tally(workspace).running == 1
    assert waiting.wait(30) == 0
    assert tally(workspace).done == 1


def test_a_small_queue_is_looked_at_often_while_others_hold_its_last_jobs(workspace, monkeypatch):
    job, pauses = enqueue_fakes(workspace, 10)[0], []
    with Claimant(workspace) as other:
        claim = other.acquire(job, NO_HISTORY)

        def wait(stop, seconds):
            pauses.append(seconds)
            if len(pauses) == 3:
                other.release(claim)

        monkeypatch.setattr(Stop, "wait", wait)
        assert work(workspace)[0].jobs == 1
    assert min(pauses) < 0.5  # else a worker stayed half a second longer than the last job


def test_a_full_disk_ends_the_worker_blames_no_job_and_gives_claims_back(workspace):
    jobs = enqueue_fakes(workspace, 30)
    obstacle = workspace.root / "features/fake" / f"full_{jobs[1].job_id}"
    obstacle.touch()
    with pytest.raises(TryLaterError):
        work(workspace)
    assert not list(workspace.root.rglob("*.g*"))
    obstacle.unlink()
    assert work(workspace)[0].is_drained
    assert tally(workspace).done == 3


def test_a_worker_that_lost_the_race_changes_nothing(workspace):
    job = enqueue_fakes(workspace, 10)[0]
    run_job(workspace, job.job_id)
    before = workspace.marker(job).read_bytes()

    from headstart.pipeline.markers import Result, commit

    late = Result(b"other bytes", ".txt", {}, 10, 10)
    assert commit(workspace, job, "fingerprint of features/fake", late) is False
    assert workspace.marker(job).read_bytes() == before
    assert read_marker(workspace, job, "fingerprint of features/fake", deep=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_a_waiting_worker_with_its_exit_code_and_no_claim(workspace, number, tmp_path):
    enqueue_fakes(workspace, 10)
    process = spawn_python(WORK.replace("Limits()", "Limits(loop_s=3600)"), str(workspace.root))
    assert process.stdout.readline() == "heard\n"
    os.kill(process.pid, number)
    assert process.wait(20) == 128 + number
    assert not list(workspace.root.rglob("*.g*"))


VANISH = """
from pathlib import Path
from headstart.pipeline.errors import TryLaterError
from headstart.pipeline.kinds import Settings
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import open_workspace
root = Path(sys.argv[1])

def vanish(finished):
    if not Path(sys.argv[2]).exists():
        root.rename(sys.argv[2])
        root.mkdir()

try:
    Worker(open_workspace(root), Settings(), Limits(), vanish).run()
except TryLaterError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_mount_that_vanishes_ends_the_worker_with_75_and_nothing_is_written_in_its_place(workspace, tmp_path):
    enqueue_fakes(workspace, 100)
    status, said, errors = run_python(VANISH, str(workspace.root), str(tmp_path / "unmounted"))
    assert status == 75, errors
    assert "is gone" in said
    assert not list(workspace.root.iterdir())
    workspace.root.rmdir()
    (tmp_path / "unmounted").rename(workspace.root)
    assert work(workspace)[0].is_drained
    assert (tally(workspace).done, tally(workspace).quarantined) == (10, 0)


def test_an_unwritable_standard_error_does_not_stop_the_work(workspace):
    enqueue_fakes(workspace, 30)
    code = MAIN.replace("main()", "sys.stderr = open('/dev/full', 'w')\nmain()")
    status, _, _ = run_python(code, "work", "-w", str(workspace.root))
    assert status == 0
    assert tally(workspace).done == 3
