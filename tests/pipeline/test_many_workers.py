"""Many workers at once, on any file system, and one that takes over from another."""

import multiprocessing
import os
import time

from headstart.pipeline.claims import LEASE_S, Claimant
from headstart.pipeline.files import FileSystem
from headstart.pipeline.quarantine import NO_HISTORY
from headstart.pipeline.verify import verify
from headstart.pipeline.workspace import open_or_create_workspace, open_workspace
from tests.support import enqueue_fakes, spawn_python

from .workers import MAIN, WORK, spawn_worker, tally, work


def test_workers_share_a_file_system_without_hard_links_and_fsync(tmp_path, monkeypatch):
    monkeypatch.setattr("headstart.pipeline.workspace.probe", lambda folder: FileSystem(hard_links=False, fsync=False))
    workspace = open_or_create_workspace(tmp_path / "w")
    assert workspace.files == FileSystem(hard_links=False, fsync=False)
    enqueue_fakes(workspace, 300)
    workers = [spawn_worker(workspace) for _ in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert sorted(job.number for job in verify(workspace, deep=True).sound_jobs) == list(range(30))
    assert not list(workspace.root.rglob("*.g*"))


def test_a_worker_killed_here_is_replaced_within_two_seconds_although_nobody_has_reaped_it(workspace):
    [job] = enqueue_fakes(workspace, 10)
    reading, writing = os.pipe()
    holder = os.fork()
    if holder == 0:
        Claimant(workspace).__enter__().acquire(job, NO_HISTORY)
        os.write(writing, b"x")
        time.sleep(600)
    os.read(reading, 1)
    waiting = spawn_python(WORK, str(workspace.root))
    time.sleep(1.5)  # it is up and waits
    assert waiting.poll() is None
    os.kill(holder, 9)  # a zombie from now on, as in a container without init
    killed = time.monotonic()
    assert waiting.stdout.readline() == "heard\n"
    assert time.monotonic() - killed < 2
    assert waiting.wait(30) == 0
    os.waitpid(holder, 0)
    assert LEASE_S == 120  # what docs/cron.md and docs/features.md state for other hosts


def _work(root):
    work(open_workspace(root))


def test_sixty_four_workers_at_once_do_each_job_once(workspace):
    enqueue_fakes(workspace, 640, job_size=2)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_work, args=(workspace.root,)) for _ in range(64)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(100)
    assert [worker.exitcode for worker in workers] == [0] * 64
    prepared = (workspace.root / "features/fake/prepared.log").read_text().split()
    assert len(prepared) == len(set(prepared)) == 320
    assert tally(workspace).done == 320
    assert not list(workspace.root.rglob("*.g*"))


def test_two_crons_at_once_share_the_jobs(workspace):
    enqueue_fakes(workspace, 200)
    crons = [spawn_python(MAIN, "work", "--time-limit", "9m", "-w", str(workspace.root)) for _ in range(2)]
    assert [cron.wait(60) for cron in crons] == [0, 0]
    done = [int(line.split()[0]) for cron in crons for line in cron.stderr if " done, " in line]
    assert sum(done) == 20
    prepared = (workspace.root / "features/fake/prepared.log").read_text().split()
    assert len(prepared) == len(set(prepared)) == 20


def test_two_enqueues_at_once_queue_each_item_once(tmp_path):
    workspace = open_or_create_workspace(tmp_path / "w")
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=enqueue_fakes, args=(workspace, 5000)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    jobs = workspace.queue.read_text().splitlines()[1:]
    assert len(jobs) == len(set(jobs)) == 500
