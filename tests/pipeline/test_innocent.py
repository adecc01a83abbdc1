"""Random kills prove nothing: whatever they hit, every job is done in the end, with its bytes, and none is quarantined."""

import multiprocessing
import os
import random
import signal
import time

import pytest

from headstart.pipeline.kinds import Settings
from headstart.pipeline.quarantine import read_histories
from headstart.pipeline.retry import retry
from headstart.pipeline.status import quarantined_jobs
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import open_workspace

from .suspects import FOLDER, die_holding, enqueue_fragile, outcome, squares, work
from .test_supervisor import is_gone

KILLS = 60


def _work(root):
    Worker(open_workspace(root), Settings(), Limits(), lambda finished: None).run()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_no_number_of_random_kills_quarantines_a_job_or_costs_an_item(workspace):
    jobs = enqueue_fragile(workspace, 150, *(f"doze_{item}" for item in range(150)), job_size=3)
    context, moments = multiprocessing.get_context("fork"), random.Random(0)
    deepest = 0
    for _ in range(KILLS):
        workers = [context.Process(target=_work, args=(workspace.root,)) for _ in range(2)]
        for worker in workers:
            worker.start()
        time.sleep(moments.uniform(0.005, 0.08))
        for worker in workers:
            worker.kill()
            worker.join()
        histories = read_histories(workspace.claims(jobs[0]))
        deepest = max([deepest, *(len(history.open) for history in histories.values())])
        assert all(history.failures == 0 and not history.killers for history in histories.values())
    assert deepest >= 2  # there were suspects, and they were killed, too
    assert work(workspace).is_drained
    assert not list(quarantined_jobs(workspace))
    for job in jobs:
        assert outcome(workspace, job) == (squares(*range(job.start, job.stop)), {})


def test_a_job_in_hand_at_a_hundred_deaths_is_done_like_any_other(workspace):
    [job] = enqueue_fragile(workspace, 5)
    die_holding(workspace, job, times=100)
    work(workspace)
    assert outcome(workspace, job) == (squares(0, 1, 2, 3, 4), {})


def test_a_child_dies_with_its_worker(workspace):
    [job] = enqueue_fragile(workspace, 5, "hang_0")
    die_holding(workspace, job, times=2)
    worker = multiprocessing.get_context("fork").Process(target=_work, args=(workspace.root,))
    worker.start()
    log = workspace.root / FOLDER / "examined.log"
    while not log.exists() or not log.read_text().endswith("\n"):
        time.sleep(0.01)
    child = int(log.read_text().split()[1])
    assert child != worker.pid
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert is_gone(child)


def test_retry_of_a_suspect_is_a_new_life(workspace):
    [job] = enqueue_fragile(workspace, 5, "crash_3")
    die_holding(workspace, job, times=2)
    work(workspace)
    assert retry(workspace, frozenset({job.job_id})) == [job]
    assert read_histories(workspace.claims(job))[job.job_id].open == ()
