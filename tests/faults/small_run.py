"""A small run of the fake kind, whole: enqueue, work, enqueue more, work, retry, verify. What the campaigns interrupt."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

from headstart.commands.verify import command as verify_command
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import Settings, known_kinds
from headstart.pipeline.queue import Work, append_work, queue_lock
from headstart.pipeline.restore import restorable_jobs
from headstart.pipeline.retry import retry
from headstart.pipeline.worker import Finished, Limits, Summary, Worker
from headstart.pipeline.workspace import Workspace, open_or_create_workspace

FOLDER = "features/fake"
ITEMS = 50
JOB_SIZE = 10
BAD_ITEM = "bad_7"  # the item that the fake kind fails

Promise = Callable[[str], None]


def ignore(_: object) -> None:
    """Nobody listens."""


def enqueue(root: Path, items: int) -> Workspace:
    """Queues what is not queued yet, as the command does."""
    workspace = open_or_create_workspace(root)
    workspace.make_folder(workspace.root / FOLDER)
    with queue_lock(workspace):
        work = Work("fake", FOLDER, "features/source", items, JOB_SIZE)
        append_work(workspace, [work], known_kinds(), lambda reader: restorable_jobs(workspace, reader))
    return workspace


def work(workspace: Workspace, report: Callable[[Finished], None] = ignore) -> Summary:
    return Worker(workspace, Settings(), Limits(), report).run()


def repair(workspace: Workspace) -> int:
    """`headstart verify --deep --repair`, in this process; returns its exit code."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = verify_command.main(["--deep", "--repair", "-w", str(workspace.root)], standalone_mode=False)
    return int(code)


def run(root: Path, promise: Promise = ignore) -> None:
    """From nothing to five jobs done. `promise` hears what a user may count on from then on."""

    def done(finished: Finished) -> None:
        promise(finished.job.job_id)

    workspace = enqueue(root, 30)
    promise("3 jobs queued")
    work(workspace, done)
    enqueue(root, ITEMS)
    promise("5 jobs queued")
    work(workspace, done)
    repair(workspace)


def run_again(root: Path, promise: Promise = ignore) -> None:
    """Jobs with failed items are retried, and give the same bytes."""
    workspace = enqueue(root, ITEMS)
    promise("5 jobs queued")
    retry(workspace, None)
    work(workspace, lambda finished: promise(finished.job.job_id))
    repair(workspace)


def mend(root: Path, promise: Promise = ignore) -> None:
    """`verify --deep --repair` of a damaged workspace."""
    workspace = enqueue(root, ITEMS)
    promise("5 jobs queued")
    *mended, _, sound = queue_of(workspace)
    promise(sound.job_id)
    repair(workspace)
    for job in mended:
        promise(job.job_id)


def run_with_a_bad_item(root: Path) -> Workspace:
    workspace = enqueue(root, ITEMS)
    (workspace.root / FOLDER / BAD_ITEM).touch()
    work(workspace)
    return workspace


def damage(workspace: Workspace) -> None:
    """One job of each sort of damage; the fifth is sound."""
    flipped, shortened, missing, unmarked, _ = queue_of(workspace)
    path = payload_of(workspace, flipped)
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    marker = workspace.marker(shortened)
    marker.write_bytes(marker.read_bytes()[:99])
    payload_of(workspace, missing).unlink()
    workspace.marker(unmarked).unlink()


def queue_of(workspace: Workspace) -> list[Job]:
    from headstart.pipeline.queue import Reader

    return list(Reader(workspace, known_kinds()))


def payload_of(workspace: Workspace, job: Job) -> Path:
    (path,) = workspace.payloads(job).glob(f"{job.job_id}.*")
    return path


def payloads(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.glob(f"{FOLDER}/shards/*/*")}
