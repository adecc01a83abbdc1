"""A launch on a real Slurm cluster of three nodes on this machine: nodes and controller are killed, every job is done once."""

import json
import os
import signal
import subprocess
import sys

import pytest

from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.executor import Launch, executor_of
from headstart.pipeline.launch import Asked, begin, stop
from tests.support import ROOT

from .launching import LAUNCHED, done, ended, outcome, outcome_of_one, wait_until, workspace_of
from .slurm_cluster import Cluster, missing

JOBS = 40
# As `headstart launch`, but it looks more often: the test is not to wait for it.
LAUNCH = """
import sys
from headstart.pipeline.executors.slurm import SlurmArrays
from headstart.cli import main
SlurmArrays.poll_s = 0.5
sys.argv[0] = "headstart"
main()
"""


@pytest.fixture
def cluster(tmp_path_factory, monkeypatch):
    if reason := missing():
        pytest.skip(reason)
    monkeypatch.setenv("PATH", "/usr/sbin:/sbin:" + os.environ["PATH"])
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{LAUNCHED}")
    with Cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def launch(workspace, *arguments):
    command = [sys.executable, "-c", LAUNCH, "launch", "--on", "slurm", "-w", str(workspace.root), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_nodes_slurmd_and_the_controller_are_killed_and_every_job_is_done_once(cluster, tmp_path):
    workspace = workspace_of(tmp_path / "w", JOBS, is_slow=True)
    process = launch(workspace, "--workers", 3, "--json")
    wait_until(lambda: done(workspace) >= 3)
    cluster.kill_node(0)  # as a power cut: its workers, too
    wait_until(lambda: done(workspace) >= 8)
    cluster.kill("n1")  # the daemon alone: its worker goes on, and the controller believes it lost
    cluster.kill("slurmctld")
    before = done(workspace)
    wait_until(lambda: done(workspace) > before or done(workspace) == JOBS)  # nobody needs the controller to go on with what runs
    process.send_signal(signal.SIGKILL)  # and the launch
    process.communicate()
    cluster.start_controller()
    cluster.start_node(0)
    cluster.start_node(1)
    said = ended(launch(workspace, "--json"))
    facts = json.loads(said[said.index("{") : said.index("}") + 1])
    assert (facts["state"], facts["done"], facts["left"], facts["workers"]) == ("ended", JOBS, 0, 0)
    assert outcome(workspace) == outcome_of_one(tmp_path / "one", JOBS)
    wait_until(lambda: cluster.queue() == [])
    wait_until(lambda: cluster.steps() == [])


def test_stop_leaves_nothing_in_the_queue_although_most_of_it_never_ran(cluster, tmp_path):
    workspace = workspace_of(tmp_path / "w", 2000, is_slow=True)
    process = launch(workspace, "--workers", 1500)  # more than one array may have
    wait_until(lambda: len(cluster.queue()) >= 1000)
    wait_until(lambda: done(workspace) >= 1)
    assert stop(workspace) == {"slurm": 0}
    assert "stopped" in ended(process)
    assert cluster.queue() == []
    wait_until(lambda: cluster.steps() == [])


def test_a_controller_that_is_away_is_asked_again_and_refuses_nothing(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("headstart.pipeline.doors.programs.ANSWER_S", 1.0)
    workspace = workspace_of(tmp_path / "w", 4)
    executor = executor_of(workspace, Launch("headstart-00000000", "slurm", 1))
    assert executor.running() == 0
    cluster.kill("slurmctld")
    with pytest.raises(TryLaterError, match=r"squeue.*(gave no answer|Unable to contact)"):
        executor.running()


def test_where_there_is_no_slurm_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HeadstartError, match=r"there is no sbatch on this machine\. Run it where Slurm's commands are"):
        begin(workspace_of(tmp_path / "w", 1), "slurm", Asked())


def test_the_script_asks_for_time_and_gpus_and_names_no_path_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr("headstart.pipeline.doors.programs.find", lambda name, hint: f"/usr/bin/{name}")
    workspace = workspace_of(tmp_path / "w", 1)
    script = executor_of(workspace, Launch("headstart-00000000", "slurm", 1, 2, 3600.0)).script
    assert "#SBATCH --time=65\n" in script
    assert "#SBATCH --gres=gpu:2\n" in script
    assert "#SBATCH --output=launches/slurm/%A_%a.log\n" in script
    assert not [word for word in script.removeprefix("#!/bin/sh").split() if word.startswith("/") or str(tmp_path) in word]
