import pytest

from headstart.pipeline.worker import Worker
from tests.pipeline.suspects import enqueue_fragile
from tests.support import enqueue_fakes

from .calling import call


@pytest.mark.parametrize("broken", ["before the others", "after the others"])
def test_a_loop_goes_on_past_a_broken_folder_until_only_that_is_left(workspace, broken):
    folders = ["features/broken", "features/fake"]
    for folder in folders if broken == "before the others" else reversed(folders):
        enqueue_fakes(workspace, 50, folder=folder)
    (workspace.root / "features/broken/broken").touch()
    runs = [call("work", "--max-jobs", 2, "--exit-status", "-w", workspace.root) for _ in range(4)]
    said = [next(line.partition(",")[0] for line in run.errors.splitlines() if " done, " in line) for run in runs]
    assert [run.status for run in runs] == [10, 10, 1, 1]
    assert said == ["2 jobs done", "2 jobs done", "1 job done", "0 jobs done"]
    assert "warning: features/broken is broken. Mend it" in runs[-1].errors


def test_jobs_of_other_kinds_are_nothing_to_come_back_for(workspace):
    enqueue_fakes(workspace, 10)
    enqueue_fragile(workspace, 5)
    run = call("work", "--jobs", "fake", "--exit-status", "-w", workspace.root)
    assert run.status == 0
    assert "all jobs are done" in run.errors
    assert call("work", "--exit-status", "-w", workspace.root).status == 0


def test_what_was_enqueued_while_a_worker_left_is_to_come_back_for(workspace, monkeypatch):
    enqueue_fakes(workspace, 10)
    plain = Worker.run
    monkeypatch.setattr(Worker, "run", lambda self: (plain(self), enqueue_fakes(workspace, 30))[0])
    assert call("work", "--exit-status", "-w", workspace.root).status == 10
