import json
import multiprocessing
import os
import signal
from dataclasses import replace

import psutil  # noqa: F401 - before a test pretends to be on another system
import pytest

from headstart.pipeline import claims, liveness
from headstart.pipeline.claims import LEASE_S, Claimant, live_workers
from headstart.pipeline.files import FileSystem
from headstart.pipeline.liveness import current_owner, is_alive
from headstart.pipeline.next_job import Frontier
from headstart.pipeline.quarantine import NO_HISTORY, History, read_histories
from headstart.pipeline.workspace import Workspace, open_workspace
from tests.support import enqueue_fakes, spawn_python

HOLD = """
from pathlib import Path
from headstart.pipeline.claims import Claimant
from headstart.pipeline.next_job import Frontier
from headstart.pipeline.workspace import open_workspace
workspace = open_workspace(Path(sys.argv[1]))
claimant = Claimant(workspace).__enter__()
print(Frontier(workspace, claimant, None, None).next_claim().job.job_id, flush=True)
__import__("signal").pause()
"""


@pytest.fixture(params=[True, False], ids=["hard links", "no hard links"])
def place(workspace, request) -> Workspace:
    return Workspace(workspace.root, workspace.id, FileSystem(hard_links=request.param, fsync=True))


@pytest.fixture
def job(place):
    return enqueue_fakes(place, 10)[0]


def history_of(workspace, job):
    return read_histories(workspace.claims(job)).get(job.job_id, NO_HISTORY)


def test_a_claimed_job_is_not_claimed_again_and_a_released_one_is(place, job):
    with Claimant(place) as first, Claimant(place) as second:
        claim = first.acquire(job, NO_HISTORY)
        assert claim is not None
        assert second.acquire(job, NO_HISTORY) is None
        assert second.acquire(job, history_of(place, job)) is None
        first.release(claim)
        assert history_of(place, job) == NO_HISTORY
        assert second.acquire(job, history_of(place, job)) is not None


def test_a_claim_that_was_given_back_since_the_look_is_not_followed_by_a_second_generation(place, job):
    with Claimant(place) as first, Claimant(place) as second:
        claim = first.acquire(job, NO_HISTORY)
        seen = history_of(place, job)
        first.release(claim)
        assert second.acquire(job, seen) is None


def test_leaving_gives_every_claim_back(place):
    jobs = enqueue_fakes(place, 30)
    with Claimant(place) as claimant:
        for job in jobs:
            claimant.acquire(job, NO_HISTORY)
    assert not list(place.root.rglob("*.g*"))
    assert live_workers(place) == []


def test_a_failed_attempt_is_over_though_its_worker_lives(place, job):
    with Claimant(place) as first, Claimant(place) as second:
        first.fail(first.acquire(job, NO_HISTORY), "ValueError: no")
        assert history_of(place, job) == History(generation=1, ended=True, failures=1, last=1)
        assert second.acquire(job, history_of(place, job)) is not None


def test_the_claim_of_a_killed_process_is_followed_by_the_next_generation(workspace):
    [job] = enqueue_fakes(workspace, 10)
    process = spawn_python(HOLD, str(workspace.root))
    assert process.stdout.readline().strip() == job.job_id
    with Claimant(workspace) as claimant:
        assert claimant.acquire(job, history_of(workspace, job)) is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        claim = claimant.acquire(job, history_of(workspace, job))
        assert claim is not None
        assert claim.path.name == "job_000000.g2"


def test_a_zombie_is_dead():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reading, 1)
        os._exit(0)
    owner = replace(current_owner(LEASE_S), pid=child, started=liveness._start_of(child))
    assert is_alive(owner) is True
    os.write(writing, b"x")
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # ended, but not reaped
    assert is_alive(owner) is False
    os.waitpid(child, 0)


def test_a_reused_pid_is_not_the_owner():
    owner = current_owner(LEASE_S)
    assert is_alive(owner) is True
    assert is_alive(replace(owner, started=owner.started + 1)) is False


def test_nothing_is_known_about_a_process_of_another_machine():
    assert is_alive(replace(current_owner(LEASE_S), machine="elsewhere")) is None


@pytest.mark.parametrize(
    ("age", "is_taken_over"), [(LEASE_S - 20, False), (LEASE_S + 20, True)], ids=["in its lease", "after its lease"]
)
def test_the_claim_of_another_host_is_respected_for_its_lease(place, job, age, is_taken_over):
    owner = replace(current_owner(LEASE_S), machine="elsewhere", worker="far-1")
    place.claims(job).mkdir(parents=True)
    path = place.claims(job) / "job_000000.g1"
    path.write_text(json.dumps(owner.as_json()))
    with Claimant(place) as claimant:
        now = claimant._file_system_now()
        os.utime(path, (now - age, now - age))
        assert (claimant.acquire(job, history_of(place, job)) is not None) is is_taken_over


def test_a_heartbeat_moves_every_claim_of_its_worker(workspace):
    jobs = enqueue_fakes(workspace, 20)
    with Claimant(workspace) as claimant:
        taken = [claimant.acquire(job, NO_HISTORY) for job in jobs]
        os.utime(claimant._file, (1, 1))
        claimant._touch()
        assert all(claim.path.stat().st_mtime > 1 for claim in taken)


def test_a_torn_claim_blocks_a_job_for_a_lease_and_no_longer(place, job):
    place.claims(job).mkdir(parents=True)
    path = place.claims(job) / "job_000000.g1"
    path.write_bytes(b'{"worker":')
    with Claimant(place) as claimant:
        assert claimant.acquire(job, history_of(place, job)) is None
        os.utime(path, (1, 1))
        assert claimant.acquire(job, history_of(place, job)) is not None


def _claim_all(root, barrier, results):
    workspace = open_workspace(root)
    with Claimant(workspace) as claimant:
        frontier = Frontier(workspace, claimant, None, None)
        barrier.wait()
        taken = []
        while (claim := frontier.next_claim()) is not None:
            taken.append(claim.job.job_id)
        results.put(taken)
        barrier.wait()  # nobody lets go before everybody has tried


def test_sixty_four_processes_claiming_at_once_claim_no_job_twice(workspace):
    jobs = enqueue_fakes(workspace, 3000)
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(64), context.SimpleQueue()
    processes = [context.Process(target=_claim_all, args=(workspace.root, barrier, results)) for _ in range(64)]
    for process in processes:
        process.start()
    taken = [job_id for _ in processes for job_id in results.get()]
    for process in processes:
        process.join(60)
    assert sorted(taken) == [job.job_id for job in jobs]


def test_the_heart_beats_within_the_lease():
    assert claims.BEAT_S * 4 <= claims.LEASE_S


def test_without_proc_the_library_answers(monkeypatch):
    monkeypatch.setattr(liveness.sys, "platform", "darwin")
    owner = current_owner(LEASE_S)
    assert is_alive(owner) is True
    assert is_alive(replace(owner, pid=2**22 - 3)) is False
