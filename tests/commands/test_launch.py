"""`headstart launch`: what a mistake says, and what it never starts."""

import pytest

from headstart.pipeline import launch as launching
from headstart.pipeline.executor import known_executors

from .calling import call


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        pytest.param((), 2, f"say where: --on {'|'.join(known_executors())}", id="nowhere"),
        pytest.param(("--on", "kubernetes"), 2, "'kubernetes' is not", id="an executor that there is not"),
        pytest.param(("--on", "local", "--workers", "0"), 2, "0 is not in the range 1<=x<=1000000", id="no worker"),
        pytest.param(("--on", "local", "--workers", "many"), 2, "'many' is not a valid integer range", id="no number"),
        pytest.param(("--on", "local", "--gpus-per-worker", "-1"), 2, "-1 is not in the range", id="fewer than no GPU"),
        pytest.param(("--on", "local", "--time-limit", "soon"), 2, "'soon' is not a duration", id="no time"),
        pytest.param(("--on", "local", "--time-limit", "0s"), 2, "--time-limit is less than a second", id="less than a second"),
        pytest.param(
            ("--on", "local", "--gpus-per-worker", "9"), 1, "do not fit this machine, which has 2", id="more GPUs than are here"
        ),
        pytest.param(
            ("--on", "local", "--", "--loop", "9s"), 2, "--loop is not for workers of a launch", id="workers that never end"
        ),
        pytest.param(("--on", "local", "--", "--time-limit", "9s"), 2, "--time-limit is not for workers", id="a second limit"),
        pytest.param(("--on", "local", "--", "-w", "x"), 2, "-w stands before the --", id="another workspace"),
        pytest.param(("--on", "local", "--", "--devise", "cpu"), 2, "No such option", id="a slip in an option of work"),
        pytest.param(
            ("--on", "local", "--", "--max-jobs", "x"), 2, "Invalid value for '--max-jobs'", id="a value that work refuses"
        ),
        pytest.param(("--on", "local", "--", "--jobs", "nonsense"), 1, "unknown kind of job 'nonsense'", id="an unknown kind"),
        pytest.param(("--on", "local", "cpu"), 2, "unexpected extra argument", id="an argument that is none"),
        pytest.param(("--stop",), 1, "nothing was launched here", id="a stop of nothing"),
        pytest.param(("--stop", "--workers", "2"), 2, "--workers and --stop exclude each other", id="a stop of some"),
        pytest.param(("--stop", "--detach"), 2, "--detach and --stop exclude each other", id="a stop that does not wait"),
    ],
)
def test_a_mistake_is_said_in_one_line_and_starts_nobody(workspace, monkeypatch, words, status, said):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    called = call("launch", "-w", workspace.root, *words)
    assert (called.status, called.output) == (status, "")
    assert said in called.errors
    assert not list(workspace.root.glob("launches/*/launch.json"))


def test_a_launch_on_an_empty_queue_says_so(workspace):
    called = call("launch", "--on", "local", "--json", "-w", workspace.root)
    assert called.status == 0, called.errors
    assert "the queue is empty, no worker was started" in called.errors
    assert {key: called.json[key] for key in ("state", "started", "workers", "jobs")} == {
        "state": launching.ENDED,
        "started": 0,
        "workers": 0,
        "jobs": 0,
    }
    assert "nothing was launched" not in call("launch", "--stop", "-w", workspace.root).errors


def test_a_launch_where_there_is_no_workspace_says_how_to_make_one(tmp_path):
    assert "Make one: headstart enqueue DATA" in call("launch", "--on", "local", "-w", tmp_path / "none").reason
