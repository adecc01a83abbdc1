"""Workspaces for fault campaigns: many small jobs of the kind `tiny`, on a RAM disk where there is one."""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import headstart.jobs
from headstart.pipeline import summaries
from headstart.pipeline.enqueue import Work, append_work, queue_lock, restorable_jobs
from headstart.pipeline.files import FileSystem
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import known_kinds
from headstart.pipeline.workspace import WORKSPACE_FILE, Workspace, open_or_create_workspace, open_workspace

from .invariants import Expected
from .kinds import tiny

KINDS = Path(__file__).resolve().parent / "kinds"
if str(KINDS) not in headstart.jobs.__path__:
    headstart.jobs.__path__.append(str(KINDS))
# The engine finds the kind by its name; as another module it would not hear what campaigns set (`log`, `dialect`).
sys.modules["headstart.jobs.tiny"] = tiny

JOB_SIZE = 5
SOURCE = "features/source"


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder in memory, if this machine has such a file system; thousands of small runs are bound by fsync otherwise.

    Meanwhile, in this process and its forks, summaries are made of whatever is done, be it one job that ended just now.
    """
    memory = Path("/dev/shm")
    with (
        mock.patch.object(summaries, "LEAST_JOBS", 1),
        mock.patch.object(summaries, "_SETTLED_S", -1e9),
        mock.patch.object(summaries.Look, "_is_dated", return_value=True),
        tempfile.TemporaryDirectory(prefix="headstart-faults-", dir=memory if os.access(memory, os.W_OK) else None) as folder,
    ):
        yield Path(folder)


def new_workspace(root: Path, files: FileSystem | None = None) -> Workspace:
    """An empty workspace at `root`; `files` overrides what the file system can do, for every process that opens it."""
    workspace = open_or_create_workspace(root)
    if files is None:
        return workspace
    path = root / WORKSPACE_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "file_system": asdict(files)}))
    return open_workspace(root)


def enqueue(workspace: Workspace, items: int) -> list[Job]:
    """Queues what is missing of the first `items` items, and restores rows that got lost; returns the new jobs."""
    workspace.make_folder(workspace.root / tiny.FOLDER)
    with queue_lock(workspace):
        work = Work("tiny", tiny.FOLDER, SOURCE, items, JOB_SIZE)
        return append_work(workspace, [work], known_kinds(), lambda reader: restorable_jobs(workspace, reader))[1]


def expected_squares(items: int) -> Expected:
    """What an uninterrupted run over `items` items commits; a test compares this with a real run."""
    ranges = [(start, min(start + JOB_SIZE, items)) for start in range(0, items, JOB_SIZE)]
    return {(tiny.FOLDER, start, stop): tiny.squares(start, stop) for start, stop in ranges}
