"""What cannot be opened or used holds up nobody else, and is told."""

import time

import pytest

from headstart.pipeline import stop as stop_module
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.status import read_status
from headstart.pipeline.stop import Stop
from tests.support import enqueue_fakes

from .workers import work


def both(workspace):
    """Jobs in two folders; those of the first come first."""
    return [enqueue_fakes(workspace, 30, folder=f"features/{name}") for name in ("first", "second")]


def done(workspace):
    return {folder: tally.done for (_, folder), tally in read_status(workspace).folders.items()}


@pytest.mark.parametrize("obstacle", ["closed", "unfit_job_000000"], ids=["at the start", "in a job"])
def test_what_cannot_be_opened_or_used_is_passed_over(workspace, obstacle):
    both(workspace)
    (workspace.root / "features/first" / obstacle).touch()
    summary, heard = work(workspace)
    assert done(workspace)["features/second"] == 3
    assert [finished.error for finished in heard if finished.error] == []  # no job is to blame
    [problem] = summary.problems
    assert "Mend it" in problem or "smaller one" in problem
    assert not list(workspace.root.glob("features/*/claims/*/*"))
    (workspace.root / "features/first" / obstacle).unlink()
    work(workspace)
    assert done(workspace) == {"features/first": 3, "features/second": 3}


def test_where_nothing_can_be_opened_the_worker_says_so_and_fails(workspace):
    both(workspace)
    for name in ("first", "second"):
        (workspace.root / "features" / name / "closed").touch()
    with pytest.raises(HeadstartError, match="features/first cannot be opened"):
        work(workspace)
    assert not list(workspace.root.glob("features/*/claims/*/*"))


def test_max_jobs_counts_only_jobs_that_were_begun(workspace):
    both(workspace)
    (workspace.root / "features/first/closed").touch()
    assert work(workspace, max_jobs=2)[0].jobs == 2


def test_a_caller_that_goes_on_after_its_worker_was_asked_to_leave_is_left_alone(workspace, monkeypatch):
    monkeypatch.setattr(stop_module, "LEAVE_S", 0.05)
    left = []
    monkeypatch.setattr(stop_module.os, "_exit", left.append)
    with Stop(lambda: None) as stop:
        stop.ask()
    time.sleep(0.2)
    assert left == []
