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
