"""Tests of the one call that `headstart work` makes."""

import time
from dataclasses import replace

import pytest

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.status import Status
from headstart.pipeline.supervisor import Supervision
from headstart.pipeline.tally import Tally
from headstart.pipeline.work import Worked, work
from headstart.pipeline.worker import Limits, Summary
from tests.support import enqueue_fakes

from .suspects import enqueue_fragile


def test_one_call_does_all_jobs_and_says_where_the_queue_stands(workspace):
    enqueue_fakes(workspace, 35)
    finished = []
    worked = work(workspace, report=finished.append)
    assert (worked.summary.jobs, len(finished)) == (4, 4)
    assert (worked.status.folders["fake", "features/fake"].done, worked.remaining, worked.quarantined) == (4, 0, 0)
    assert worked.is_all_done
    assert worked.exit_code(tells_remaining=True) == 0


def test_only_jobs_of_the_kinds_that_were_asked_for_remain(workspace):
    enqueue_fakes(workspace, 30)
    enqueue_fragile(workspace, 5)
    worked = work(workspace, limits=Limits(kinds=frozenset({"fake"}), max_jobs=2))
    assert (worked.summary.jobs, worked.remaining, worked.exit_code(tells_remaining=True)) == (2, 1, 10)


def test_a_kind_that_there_is_not_is_refused_before_any_work(workspace):
    enqueue_fakes(workspace, 10)
    with pytest.raises(HeadstartError, match=r"unknown kind of job 'fak'; there are .*fake"):
        work(workspace, limits=Limits(kinds=frozenset({"fak"})))
    assert not workspace.workers.exists()


def test_what_predecessors_did_counts_against_the_limits(workspace):
    enqueue_fakes(workspace, 50)
    supervision = Supervision()
    assert work(workspace, limits=Limits(max_jobs=2), supervision=supervision).summary.jobs == 2
    assert work(workspace, limits=Limits(max_jobs=3), supervision=supervision).summary.jobs == 1
    supervision.begun = time.monotonic() - 60
    assert work(workspace, limits=Limits(seconds=59), supervision=supervision).summary.jobs == 0


DRAINED = Worked(Summary(is_drained=True), Status(folders={("fake", "f"): Tally()}), quarantined=0, remaining=0)
LEFT = replace(DRAINED, summary=Summary(), remaining=3)
CODES = {
    "all done": (DRAINED, 0, 0),
    "jobs left": (LEFT, 0, 10),
    "jobs left, some trouble": (replace(LEFT, summary=Summary(problems=["x"])), 1, 10),
    "drained, some trouble": (replace(DRAINED, summary=Summary(is_drained=True, problems=["x"]), remaining=3), 1, 1),
    "quarantined": (replace(DRAINED, quarantined=1), 0, 1),
    "enqueued since": (replace(DRAINED, remaining=3), 0, 10),
    "a signal": (replace(LEFT, summary=Summary(exit_code=143)), 143, 143),
}


@pytest.mark.parametrize(("worked", "plain", "telling"), CODES.values(), ids=CODES)
def test_the_exit_status_says_whether_to_come_back(worked, plain, telling):
    assert (worked.exit_code(), worked.exit_code(tells_remaining=True)) == (plain, telling)


@pytest.mark.parametrize(
    ("tally", "workers", "expected"),
    [
        (Tally(done=4, pending=6, running=2, seconds=20.0), 2, 20.0),
        (Tally(done=4, pending=6, running=2, seconds=20.0), 0, 40.0),
        (Tally(pending=6), 1, None),
        (Tally(done=4, seconds=20.0), 1, None),
    ],
    ids=["two workers", "no worker yet", "nothing to go by", "nothing left"],
)
def test_the_time_left_is_that_of_all_workers_together(tally, workers, expected):
    assert tally.seconds_left(workers) == expected
