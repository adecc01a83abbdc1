"""A small run of the kind `tiny`: enqueue, work, enqueue more, work, verify. What power cuts and system calls interrupt."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from headstart.commands.running.verify import command as verify_command
from headstart.pipeline import worker
from headstart.pipeline.doors.records import seal
from headstart.pipeline.enqueue import Work, append_work, queue_lock, restorable_jobs
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import Settings, known_kinds
from headstart.pipeline.queue import Reader
from headstart.pipeline.retry import retire
from headstart.pipeline.worker import Finished, Limits, Summary, Worker
from headstart.pipeline.workspace import Workspace, open_or_create_workspace
from tests.faults import fakes

from .kinds import tiny

FEW = 5
JOBS = 8
SOUND = 7

Promise = Callable[[str], None]


def ignore(_: object) -> None:
    """Nobody listens."""


def enqueue(root: Path, jobs: int) -> Workspace:
    """Makes the workspace if need be and queues what is missing of the first `jobs` jobs, as CONTRIBUTING.md shows."""
    workspace = open_or_create_workspace(root)
    with queue_lock(workspace):
        rows = Work("tiny", tiny.FOLDER, fakes.SOURCE, jobs * fakes.JOB_SIZE, fakes.JOB_SIZE)
        append_work(workspace, [rows], known_kinds(), lambda reader: restorable_jobs(workspace, reader))
    return workspace


def work(workspace: Workspace, report: Callable[[Finished], None] = ignore) -> Summary:
    # Nobody starts Python children for jobs whose workers died: they are not what is measured, and each takes a second.
    with mock.patch.object(worker, "DEATHS", 10**9):
        return Worker(workspace, Settings(), Limits(), report).run()


def repair(workspace: Workspace) -> int:
    """`headstart verify --deep --repair`, in this process; returns its exit code."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return int(verify_command.main(["--deep", "--repair", "-w", str(workspace.root)], standalone_mode=False))


def run(root: Path, promise: Promise = ignore) -> None:
    """From nothing to `FEW` jobs done. `promise` hears what a user may count on from then on."""

    def done(finished: Finished) -> None:
        promise(finished.job.job_id)

    workspace = enqueue(root, 3)
    promise("3 jobs queued")
    work(workspace, done)
    enqueue(root, FEW)
    promise(f"{FEW} jobs queued")
    work(workspace, done)
    repair(workspace)


def run_again(root: Path, promise: Promise = ignore) -> None:
    """Done jobs are done anew, and give the same bytes."""
    workspace = enqueue(root, JOBS)
    promise(f"{JOBS} jobs queued")
    for job in queue_of(workspace):
        retire(workspace, job, workspace.marker(job).read_bytes())
        promise(f"{job.job_id} retired")
    work(workspace, lambda finished: promise(finished.job.job_id))
    repair(workspace)


def mend(root: Path, promise: Promise = ignore) -> None:
    """`verify --deep --repair` and a worker, after `damage`."""
    workspace = enqueue(root, JOBS)
    promise(f"{JOBS} jobs queued")
    promise(queue_of(workspace)[SOUND].job_id)
    repair(workspace)
    work(workspace)
    for job in queue_of(workspace):
        promise(job.job_id)


def damage(workspace: Workspace) -> None:
    """One job of each sort of damage; the last is sound."""
    flipped, shortened, missing, unmarked, torn, swapped, stale, sound = queue_of(workspace)
    payload = _payload_of(workspace, flipped)
    payload.write_bytes(bytes([payload.read_bytes()[0] ^ 1]) + payload.read_bytes()[1:])
    payload = _payload_of(workspace, shortened)
    payload.write_bytes(payload.read_bytes()[:-1])
    _payload_of(workspace, missing).unlink()
    workspace.marker(unmarked).unlink()
    marker = workspace.marker(torn)
    marker.write_bytes(marker.read_bytes()[:99])
    workspace.marker(swapped).write_bytes(workspace.marker(sound).read_bytes())
    marker = workspace.marker(stale)
    facts = json.loads(marker.read_bytes()) | {"fingerprint": "squares of an older version"}
    del facts["seal"]
    marker.write_bytes(seal(facts))  # sound in itself


def queue_of(workspace: Workspace) -> list[Job]:
    return list(Reader(workspace, known_kinds()))


def _payload_of(workspace: Workspace, job: Job) -> Path:
    (path,) = workspace.payloads(job).glob(f"{job.job_id}.*")
    return path
