import json

import pytest

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.quarantine import MAX_FAILURES, read_histories
from headstart.pipeline.retry import retry
from headstart.pipeline.status import failed_items, quarantined_jobs, read_status
from headstart.pipeline.worker import run_job
from tests.support import enqueue_fakes, run_python

from .workers import MAIN, tally, work


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


def test_a_quarantined_job_that_was_done_after_all_is_quarantined_no_more(workspace):
    [job] = enqueue_fakes(workspace, 10)
    obstacle = workspace.root / "features/fake" / f"raise_{job.job_id}"
    obstacle.touch()
    work(workspace)
    assert [held for held, _ in quarantined_jobs(workspace)] == [job]
    obstacle.unlink()
    run_job(workspace, job.job_id)
    assert not list(quarantined_jobs(workspace))


def test_one_damaged_folder_holds_up_no_retry(workspace):
    enqueue_fakes(workspace, 10, folder="features/first")
    [job] = enqueue_fakes(workspace, 10, folder="features/second")
    (workspace.root / "features/second/bad_3").touch()
    work(workspace)
    (workspace.root / "features/first/broken").touch()
    assert [held for held, _ in failed_items(workspace)] == [job]
    with pytest.raises(HeadstartError, match="features/first is broken"):
        retry(workspace, None)
    assert read_status(workspace).folders["fake", "features/second"].pending == 1


def test_retry_names_a_job_that_is_not_queued(workspace):
    enqueue_fakes(workspace, 10)
    with pytest.raises(HeadstartError, match="job_000099 is not in"):
        retry(workspace, frozenset({"job_000099"}))


def test_histories_come_from_names_alone(tmp_path):
    for name in ("job_000001.g1", "job_000001.g1.failed", "job_000001.g2", "job_000002.g3", "job_000002.g2.retry", "note.txt"):
        (tmp_path / name).write_text(json.dumps({}))
    histories = read_histories(tmp_path)
    assert (histories["job_000001"].generation, histories["job_000001"].ended, histories["job_000001"].failures) == (2, False, 1)
    assert histories["job_000002"].generation == 3
    assert set(histories) == {"job_000001", "job_000002"}


def test_repair_also_redoes_a_torn_job_that_is_quarantined(workspace):
    jobs = enqueue_fakes(workspace, 30)
    work(workspace)
    for generation in range(1, 4):
        (workspace.claims(jobs[1]) / f"{jobs[1].job_id}.g{generation}.failed").write_text("before")
    workspace.marker(jobs[1]).write_bytes(b"")
    status, output, errors = run_python(MAIN, "verify", "--repair", "-w", str(workspace.root))
    assert status == 0, errors
    assert "1 job redone" in output
