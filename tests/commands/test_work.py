import pytest

from headstart.pipeline import drives
from headstart.pipeline.kinds import Settings
from headstart.pipeline.worker import Limits, Worker
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


@pytest.mark.parametrize("gone", ["before the others", "after the others"])
def test_data_that_is_gone_holds_up_nobody_else_and_the_loop_waits_for_it(workspace, gone):
    folders = ["features/gone", "features/fake"]
    for folder in folders if gone == "before the others" else reversed(folders):
        enqueue_fakes(workspace, 50, folder=folder)
    (workspace.root / "features/gone/gone").touch()
    runs = [call("work", "--max-jobs", 3, "--exit-status", "-w", workspace.root) for _ in range(4)]
    assert [run.status for run in runs][-1] == 75
    assert {run.status for run in runs} <= {10, 75}
    assert "5 of 5 done" in call("status", "-w", workspace.root).output
    assert "gone's data is gone" in runs[-1].errors
    (workspace.root / "features/gone/gone").unlink()
    assert call("work", "--exit-status", "-w", workspace.root).status == 0


def test_a_worker_that_waits_looks_again_at_data_that_was_gone(workspace):
    enqueue_fakes(workspace, 30, folder="features/gone")
    gone = workspace.root / "features/gone/gone"
    gone.touch()
    worker = Worker(workspace, Settings(), Limits(loop_s=0.01, max_jobs=3), lambda finished: None)
    plain = worker.stop.wait

    def back(seconds):
        gone.unlink(missing_ok=True)
        plain(0)

    worker.stop.wait = back
    assert worker.run().jobs == 3


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


@pytest.mark.parametrize("command", [("work",), ("launch", "--on", "local")], ids=["work", "launch"])
def test_where_other_machines_see_changes_late_that_is_said_before_anything_is_done(workspace, monkeypatch, command):
    plain = call(*command, "-w", workspace.root).errors
    monkeypatch.setattr(drives, "kind_of_drive", lambda folder: "fuse.rclone")
    said = call(*command, "-w", workspace.root).errors
    assert said.startswith(f"note: {workspace.root} lies on fuse.rclone: other machines see changes late. Let one machine")
    assert "see changes late" not in plain
