import pytest

from tests.conftest import enqueue_fakes

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
