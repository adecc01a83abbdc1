"""A launch on a real Ray cluster of three nodes on this machine: a node is killed, every job is done once."""

import contextlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec

import psutil
import pytest

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.launch import Asked, begin, stop
from tests.support import ROOT

from .launching import LAUNCHED, done, ended, outcome, outcome_of_one, wait_until, workspace_of

JOBS = 60
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'headstart[ray]'; make launches runs it")
# What a node costs here: nothing is put into Ray's store of objects.
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(LAUNCHED), os.environ.get("PYTHONPATH", "")]))
    from ray.cluster_utils import Cluster

    running = Cluster(initialize_head=True, head_node_args=NODE)
    monkeypatch.setenv("RAY_ADDRESS", running.address)
    for _ in range(2):
        running.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    try:
        yield running
    finally:
        import ray

        ray.shutdown()
        running.shutdown()


def launch(workspace, *arguments):
    command = [sys.executable, str(ROOT / "cli.py"), "launch", "--on", "ray", "-w", str(workspace.root), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def workers_in(workspace):
    """Processes of this machine that stand in the workspace's folder: workers, whoever is above them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd() == str(workspace.root) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


@needs_ray
def test_a_node_and_the_launch_are_killed_and_every_job_is_done_once(cluster, tmp_path):
    workspace = workspace_of(tmp_path / "w", JOBS, is_slow=True)
    process = launch(workspace, "--workers", 3, "--json")
    wait_until(lambda: done(workspace) >= 3)
    process.kill()
    process.communicate()
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    said = ended(launch(workspace, "--json"))
    facts = json.loads(said[said.index("{") : said.index("}") + 1])
    assert (facts["state"], facts["done"], facts["left"], facts["workers"]) == ("ended", JOBS, 0, 0)
    assert outcome(workspace) == outcome_of_one(tmp_path / "one", JOBS)
    wait_until(lambda: workers_in(workspace) == [])


@needs_ray
def test_stop_leaves_no_worker_although_some_wait_for_their_place(cluster, tmp_path):
    workspace = workspace_of(tmp_path / "w", 500, is_slow=True)
    process = launch(workspace, "--workers", 5)  # three places
    wait_until(lambda: done(workspace) >= 1)
    assert stop(workspace) == {"ray": 0}
    assert "stopped" in ended(process)
    wait_until(lambda: workers_in(workspace) == [])


def test_where_there_is_no_ray_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        HeadstartError, match=r"there is no Ray here\. Install it, here and on the nodes: pip install 'headstart\[ray\]'"
    ):
        begin(workspace_of(tmp_path / "w", 1), "ray", Asked())


@needs_ray
def test_where_no_cluster_answers_it_says_how_to_start_one(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(HeadstartError, match=r"no Ray cluster answers here\. Start one"):
        begin(workspace_of(tmp_path / "w", 1), "ray", Asked())


def test_ray_is_named_in_one_file_of_the_package():
    named = [
        path.relative_to(ROOT).as_posix()
        for room in ("pipeline", "features", "experiments", "jobs", "commands", "headstart")
        for path in (ROOT / room).rglob("*.py")
        if "import ray" in path.read_text()
    ]
    assert named == ["pipeline/executors/ray.py"]
