"""A small run of the kind `tiny`: enqueue, work, enqueue more, work, verify. What power cuts and system calls interrupt."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

from headstart.commands.verify import command as verify_command
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import Settings, known_kinds
from headstart.pipeline.queue import Reader
from headstart.pipeline.retry import retire
from headstart.pipeline.worker import Finished, Limits, Summary, Worker
from headstart.pipeline.workspace import Workspace, open_or_create_workspace

from . import fakes

JOBS = 5

Promise = Callable[[str], None]


def ignore(_: object) -> None:
    """Nobody listens."""


def enqueue(root: Path, jobs: int) -> Workspace:
    """Makes the workspace if need be and queues what is missing of the first `jobs` jobs, as the command does."""
    workspace = open_or_create_workspace(root)
    fakes.enqueue(workspace, jobs * fakes.JOB_SIZE)
    return workspace


def work(workspace: Workspace, report: Callable[[Finished], None] = ignore) -> Summary:
    return Worker(workspace, Settings(), Limits(), report).run()


def repair(workspace: Workspace) -> int:
    """`headstart verify --deep --repair`, in this process; returns its exit code."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return int(verify_command.main(["--deep", "--repair", "-w", str(workspace.root)], standalone_mode=False))


def run(root: Path, promise: Promise = ignore) -> None:
    """From nothing to five jobs done. `promise` hears what a user may count on from then on."""

    def done(finished: Finished) -> None:
        promise(finished.job.job_id)

    workspace = enqueue(root, 3)
    promise("3 jobs queued")
    work(workspace, done)
    enqueue(root, JOBS)
    promise("5 jobs queued")
    work(workspace, done)
    repair(workspace)


def run_again(root: Path, promise: Promise = ignore) -> None:
    """Done jobs are done anew, and give the same bytes."""
    workspace = enqueue(root, JOBS)
    promise("5 jobs queued")
    for job in queue_of(workspace):
        retire(workspace, job)
    work(workspace, lambda finished: promise(finished.job.job_id))
    repair(workspace)


def mend(root: Path, promise: Promise = ignore) -> None:
    """`verify --deep --repair` of a workspace after `damage`."""
    workspace = enqueue(root, JOBS)
    promise("5 jobs queued")
    *torn, _, sound = queue_of(workspace)
    promise(sound.job_id)
    repair(workspace)
    for job in torn:
        promise(job.job_id)


def damage(workspace: Workspace) -> None:
    """One job of each sort of damage; the fifth is sound."""
    flipped, shortened, missing, unmarked, _ = queue_of(workspace)
    payload = _payload_of(workspace, flipped)
    payload.write_bytes(bytes([payload.read_bytes()[0] ^ 1]) + payload.read_bytes()[1:])
    marker = workspace.marker(shortened)
    marker.write_bytes(marker.read_bytes()[:99])
    _payload_of(workspace, missing).unlink()
    workspace.marker(unmarked).unlink()


def queue_of(workspace: Workspace) -> list[Job]:
    return list(Reader(workspace, known_kinds()))


def _payload_of(workspace: Workspace, job: Job) -> Path:
    (path,) = workspace.payloads(job).glob(f"{job.job_id}.*")
    return path
