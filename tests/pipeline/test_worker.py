import json
import os
import signal
import subprocess

import pytest

from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.history import MAX_FAILURES, NO_HISTORY, read_histories
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import read_marker
from headstart.pipeline.retry import retry
from headstart.pipeline.status import failed_items, quarantined_jobs, read_status
from headstart.pipeline.verify import sweep, verify
from headstart.pipeline.worker import Limits, Worker, run_job
from tests.conftest import enqueue_fakes, run_python, spawn_python

WORK = """
from pathlib import Path
from headstart.pipeline.kinds import Settings
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import open_workspace
workspace = open_workspace(Path(sys.argv[1]))
summary = Worker(workspace, Settings(), Limits(), lambda finished: print("heard", flush=True)).run()
sys.exit(summary.exit_code)
"""


def work(workspace, **limits):
    heard = []
    return Worker(workspace, Settings(), Limits(**limits), heard.append).run(), heard


def payloads(workspace):
    return {path.name: path.read_bytes() for path in workspace.root.glob("features/fake/shards/*/*")}


def spawn_worker(workspace):
    return spawn_python(WORK, str(workspace.root))


def tally(workspace):
    return next(iter(read_status(workspace).folders.values()))


def test_a_worker_does_every_job_once_and_leaves_no_claim(workspace):
    enqueue_fakes(workspace, 95)
    summary, heard = work(workspace)
    assert (summary.jobs, summary.items, summary.is_drained, summary.exit_code) == (10, 95, True, 0)
    assert [finished.job.number for finished in heard] == list(range(10))
    assert len(payloads(workspace)) == 10
    assert not list(workspace.root.rglob("*.g*"))
    assert not list(workspace.root.rglob(".tmp-*"))
    assert not list(workspace.workers.iterdir())


def test_a_second_worker_finds_nothing_to_do(workspace):
    enqueue_fakes(workspace, 30)
    work(workspace)
    before = payloads(workspace)
    summary, _ = work(workspace)
    assert summary.jobs == 0
    assert summary.is_drained
    assert payloads(workspace) == before


def test_max_jobs_ends_a_worker_early_and_the_next_goes_on(workspace):
    enqueue_fakes(workspace, 50)
    assert work(workspace, max_jobs=2)[0].jobs == 2
    assert tally(workspace).pending == 3
    assert work(workspace, max_jobs=2)[0].jobs == 2
    assert work(workspace, max_jobs=2)[0].jobs == 1


def test_a_time_limit_that_has_passed_begins_no_job(workspace):
    enqueue_fakes(workspace, 50)
    assert work(workspace, seconds=0.0)[0].jobs == 0


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


def test_four_workers_at_once_do_each_job_once(workspace):
    enqueue_fakes(workspace, 400)
    workers = [spawn_worker(workspace) for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0, 0]
    assert tally(workspace).done == 40
    prepared = (workspace.root / "features/fake/prepared.log").read_text().split()
    assert len(prepared) == len(set(prepared)) == 40


def test_a_worker_waits_for_jobs_that_others_hold_and_takes_over_when_they_die(workspace):
    from headstart.pipeline.claims import Claimant

    job = enqueue_fakes(workspace, 10)[0]
    with Claimant(workspace) as other:
        other.acquire(job, NO_HISTORY)
        waiting = spawn_worker(workspace)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)
        assert tally(workspace).running == 1
    assert waiting.wait(30) == 0
    assert tally(workspace).done == 1


def test_an_error_in_a_job_costs_that_job_only_and_ends_in_quarantine(workspace):
    jobs = enqueue_fakes(workspace, 30)
    (workspace.root / "features/fake" / f"raise_{jobs[1].job_id}").touch()
    summary, _ = work(workspace)
    assert (summary.jobs, summary.failed_jobs) == (2, MAX_FAILURES)
    assert tally(workspace).quarantined == 1
    [(job, reasons)] = quarantined_jobs(workspace)
    assert job == jobs[1]
    assert reasons == ["ValueError: asked to fail"] * MAX_FAILURES


def test_retry_gives_a_quarantined_job_a_new_life_and_keeps_its_history(workspace):
    jobs = enqueue_fakes(workspace, 30)
    obstacle = workspace.root / "features/fake" / f"raise_{jobs[1].job_id}"
    obstacle.touch()
    work(workspace)
    obstacle.unlink()
    assert retry(workspace, None) == [jobs[1]]
    assert work(workspace)[0].jobs == 1
    assert len(list(workspace.claims(jobs[1]).glob("*.failed"))) == MAX_FAILURES


def test_retry_redoes_a_job_with_failed_items_once_they_are_mended(workspace):
    jobs = enqueue_fakes(workspace, 30)
    obstacle = workspace.root / "features/fake/bad_15"
    obstacle.touch()
    work(workspace)
    assert [(job, item.item) for job, item in failed_items(workspace)] == [(jobs[1], 15)]
    obstacle.unlink()
    assert retry(workspace, frozenset({jobs[1].job_id})) == [jobs[1]]
    work(workspace)
    assert not list(failed_items(workspace))
    assert tally(workspace).items_done == 30


def test_retry_names_a_job_that_is_not_queued(workspace):
    enqueue_fakes(workspace, 10)
    with pytest.raises(HeadstartError, match="job_000099 is not in"):
        retry(workspace, frozenset({"job_000099"}))


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


def test_histories_come_from_names_alone(tmp_path):
    for name in ("job_000001.g1", "job_000001.g1.failed", "job_000001.g2", "job_000002.g3", "job_000002.g2.retry", "note.txt"):
        (tmp_path / name).write_text(json.dumps({}))
    histories = read_histories(tmp_path)
    assert (histories["job_000001"].generation, histories["job_000001"].ended, histories["job_000001"].failures) == (2, False, 1)
    assert histories["job_000002"].generation == 3
    assert set(histories) == {"job_000001", "job_000002"}


MAIN = """
from headstart.cli import main
main()
"""
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


def test_one_damaged_folder_holds_up_no_other(workspace):
    enqueue_fakes(workspace, 20)
    enqueue_fakes(workspace, 20, folder="features/broken")
    (workspace.root / "features/broken/broken").touch()
    summary, _ = work(workspace)
    assert summary.jobs == 2
    assert summary.problems == ["features/broken is broken. Mend it"]
    status = read_status(workspace)
    assert {folder: (tally.done, tally.unreadable) for (_, folder), tally in status.folders.items()} == {
        "features/fake": (2, 0),
        "features/broken": (0, 0),
    }
    assert verify(workspace).problems == ["features/broken is broken. Mend it"]


@pytest.mark.parametrize("text", ["[]", "{", '{"features/fake job_000000 job_000002 3": {}}', "[" * 100_000, "null"])
def test_a_damaged_status_cache_is_as_good_as_none(workspace, text):
    enqueue_fakes(workspace, 30)
    work(workspace)
    (workspace.features / "status_cache.json").write_text(text)
    assert tally(workspace).done == 3


def test_a_settled_group_is_remembered_and_forgotten_when_its_folders_change(workspace, monkeypatch):
    from headstart.pipeline import status

    monkeypatch.setattr(status, "_SETTLED_S", -60.0)
    jobs = enqueue_fakes(workspace, 30)
    work(workspace)
    assert tally(workspace).done == 3
    monkeypatch.setattr(status, "_count", None)  # from now on only what is remembered can answer
    assert tally(workspace).done == 3
    monkeypatch.undo()
    workspace.marker(jobs[0]).unlink()
    assert tally(workspace).done == 2


def test_an_unwritable_standard_error_does_not_stop_the_work(workspace):
    enqueue_fakes(workspace, 30)
    code = MAIN.replace("main()", "sys.stderr = open('/dev/full', 'w')\nmain()")
    status, _, _ = run_python(code, "work", "-w", str(workspace.root))
    assert status == 0
    assert tally(workspace).done == 3


def test_exit_status_tells_what_more_runs_would_change(workspace):
    jobs = enqueue_fakes(workspace, 30)
    (workspace.root / "features/fake" / f"raise_{jobs[1].job_id}").touch()
    arguments = ("work", "--exit-status", "-w", str(workspace.root))
    assert run_python(MAIN, *arguments, "--max-jobs", "1")[0] == 10
    assert run_python(MAIN, *arguments)[0] == 1
    (workspace.root / "features/fake" / f"raise_{jobs[1].job_id}").unlink()
    retry(workspace, None)
    assert run_python(MAIN, *arguments)[0] == 0


def test_repair_also_redoes_a_torn_job_that_is_quarantined(workspace):
    jobs = enqueue_fakes(workspace, 30)
    work(workspace)
    for generation in range(1, 4):
        (workspace.claims(jobs[1]) / f"{jobs[1].job_id}.g{generation}.failed").write_text("before")
    workspace.marker(jobs[1]).write_bytes(b"")
    status, output, errors = run_python(MAIN, "verify", "--repair", "-w", str(workspace.root))
    assert status == 0, errors
    assert "1 job redone" in output
