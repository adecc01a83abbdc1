"""Workers as processes of this machine, under kills of the launch and of the workers."""

import json
import os
import signal
import sys

import psutil
import pytest

from headstart.pipeline import launch as launching
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.executor import Launch, executor_of
from headstart.pipeline.executors import local
from headstart.pipeline.launch import Asked, begin, follow, stop

from .launching import LAUNCHED, done, ended, launch, outcome, outcome_of_one, wait_until, workspace_of

JOBS = 32


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(LAUNCHED))


def workers_of(workspace):
    """Leaders of the launched workers, by the name that the record says."""
    name = json.loads(workspace.launch_record("local").read_bytes())["name"]
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HEADSTART_LAUNCH") == name and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def kill_a_worker(workspace):
    victim = wait_until(lambda: [process for process in workers_of(workspace) if os.getsid(process.pid) == process.pid])[0]
    for process in [*victim.children(recursive=True), victim]:
        process.kill()


def test_workers_that_are_killed_are_replaced_until_the_queue_is_drained(tmp_path):
    workspace = workspace_of(tmp_path / "w", JOBS, is_slow=True)
    process = launch(workspace, "--on", "local", "--workers", 2, "--json")
    for kills in range(1, 4):
        wait_until(lambda kills=kills: done(workspace) >= 2 * kills)
        kill_a_worker(workspace)
    said = ended(process)
    facts = json.loads(said[said.index("{") : said.index("}") + 1])
    assert (facts["state"], facts["done"], facts["left"], facts["workers"]) == ("ended", JOBS, 0, 0)
    assert facts["started"] > 2
    assert "next: headstart train-head" in said
    assert outcome(workspace) == outcome_of_one(tmp_path / "one", JOBS)
    assert workers_of(workspace) == []


def test_a_launch_that_is_killed_is_followed_again_and_its_workers_go_on_meanwhile(tmp_path):
    workspace = workspace_of(tmp_path / "w", JOBS, is_slow=True)
    process = launch(workspace, "--on", "local", "--workers", 2)
    wait_until(lambda: done(workspace) >= 1)
    process.kill()
    process.communicate()
    before = done(workspace)
    wait_until(lambda: done(workspace) > before or done(workspace) == JOBS)
    names = {json.loads(workspace.launch_record("local").read_bytes())["name"]}
    assert "2 workers on local" in ended(launch(workspace, "--on", "local"))  # what it was told holds
    names.add(json.loads(workspace.launch_record("local").read_bytes())["name"])
    assert len(names) == 1
    assert outcome(workspace) == outcome_of_one(tmp_path / "one", JOBS)
    assert workers_of(workspace) == []


def test_stop_leaves_nothing_running_and_ends_who_follows(tmp_path):
    workspace = workspace_of(tmp_path / "w", 200, is_slow=True)
    process = launch(workspace, "--on", "local", "--workers", 3)
    wait_until(lambda: done(workspace) >= 1)
    assert stop(workspace) == {"local": 0}
    assert workers_of(workspace) == []
    assert "stopped" in ended(process)
    assert workers_of(workspace) == []
    left = [*workspace.root.rglob("*.g*"), *workspace.root.rglob("blocks/*")]
    assert left == [], "a worker that is asked to leave gives its claims back"
    assert stop(workspace) == {"local": 0}  # again


def test_an_interrupt_ends_the_launch_and_not_its_workers(tmp_path):
    workspace = workspace_of(tmp_path / "w", 200, is_slow=True)
    process = launch(workspace, "--on", "local", "--workers", 1)
    wait_until(lambda: done(workspace) >= 1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the workers go on" in errors
    assert workers_of(workspace)
    stop(workspace)


def test_workers_that_end_again_and_again_in_vain_are_not_started_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "_FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(launching, "_IN_VAIN", 2)
    workspace = workspace_of(tmp_path / "w", 2)
    (workspace.root / "features/fake/closed").touch()
    begin(workspace, "local", Asked(workers=1))
    with pytest.raises(HeadstartError, match=r"ended 2 times in a row and no job was done\. See why in .*launches/local/\*\.log"):
        follow(workspace, "local")
    stop(workspace)
    assert "cannot be opened" in (workspace.root / "launches/local/worker_0.log").read_text()


def test_where_processes_have_no_sessions_it_is_refused(tmp_path, monkeypatch):
    workspace = workspace_of(tmp_path / "w", 1)
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(HeadstartError, match="Run headstart work in a window for each worker"):
        local.open_executor(workspace, Launch("headstart-00000000", "local", 1))


def test_each_worker_has_gpus_of_its_own_and_more_than_there_are_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    workspace = workspace_of(tmp_path / "w", 200, is_slow=True)
    one = begin(workspace, "local", Asked(workers=3, gpus_per_worker=1))
    executor = executor_of(workspace, one)
    executor.start(2)
    executor.start(1)
    # A worker is two processes: three of them may be of two workers still.
    assert wait_until(lambda: {each.environ()["CUDA_VISIBLE_DEVICES"] for each in workers_of(workspace)} == {"4", "5", "6"})
    assert executor.running() == 3
    stop(workspace)
    with pytest.raises(HeadstartError, match="2 workers with 2 GPUs each do not fit this machine, which has 3"):
        begin(workspace, "local", Asked(workers=2, gpus_per_worker=2))


def test_a_worker_that_is_becoming_its_program_keeps_its_place_and_its_gpu(tmp_path, monkeypatch):
    """In that moment the kernel has no environment of it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    workspace = workspace_of(tmp_path / "w", 200, is_slow=True)
    one = begin(workspace, "local", Asked(workers=2, gpus_per_worker=1))
    executor = executor_of(workspace, one)
    with monkeypatch.context() as patch:
        patch.setattr(psutil.Process, "environ", lambda process: {})
        executor.start(1)
        assert executor.running() == 1
        executor.start(1)
        assert executor.running() == 2
    assert wait_until(lambda: {each.environ()["CUDA_VISIBLE_DEVICES"] for each in workers_of(workspace)} == {"4", "5"})
    stop(workspace)


def test_a_record_that_asks_for_more_workers_than_a_machine_carries_starts_none(tmp_path):
    workspace = workspace_of(tmp_path / "w", 1)
    executor = executor_of(workspace, begin(workspace, "local", Asked(workers=1_000_000)))
    with pytest.raises(HeadstartError, match="1,000,000 workers are too many for this machine"):
        executor.start(1_000_000)
    assert workers_of(workspace) == []
