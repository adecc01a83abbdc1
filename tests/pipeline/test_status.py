import json

import pytest

from headstart.pipeline.retry import retry
from headstart.pipeline.status import read_status
from headstart.pipeline.verify import verify
from tests.support import enqueue_fakes, run_python

from .workers import MAIN, tally, work


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


@pytest.mark.parametrize("value", [None, "n/a", [], float("nan"), True], ids=str)
def test_facts_of_a_marker_decide_nothing(workspace, value):
    [job] = enqueue_fakes(workspace, 10)
    work(workspace)
    marker = workspace.marker(job)
    facts = json.loads(marker.read_text())
    del facts["seal"]
    facts["facts"] = dict.fromkeys(["seconds", "peak_rss_bytes", "vram_process_bytes"], value)
    marker.write_text(json.dumps(facts))
    assert tally(workspace).done == 1


def test_exit_status_tells_what_more_runs_would_change(workspace):
    jobs = enqueue_fakes(workspace, 30)
    (workspace.root / "features/fake" / f"raise_{jobs[1].job_id}").touch()
    arguments = ("work", "--exit-status", "-w", str(workspace.root))
    assert run_python(MAIN, *arguments, "--max-jobs", "1")[0] == 10
    assert run_python(MAIN, *arguments)[0] == 1
    (workspace.root / "features/fake" / f"raise_{jobs[1].job_id}").unlink()
    retry(workspace, None)
    assert run_python(MAIN, *arguments)[0] == 0
