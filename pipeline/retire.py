"""Jobs that were withdrawn: a list beside the queue that only grows; what it says last of a job counts.

The queue itself is never rewritten: a row that left it could come back from a copy, or get lost beside a worker that reads it.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from . import paths
from .doors import reading
from .files import environment_faults
from .job import Job, is_job_id
from .workspace import Workspace

HEADER = "job_id,state,why"
PAUSED, CANCELLED, REMOVED, LIVE = "paused", "cancelled", "removed", "live"
_STATES = (PAUSED, CANCELLED, REMOVED, LIVE)


class Withdrawal(NamedTuple):
    """What became of a job.

    Attributes:
        state: paused or cancelled, and then LIVE brings it back; or removed, which is for good.
        why: what was removed or paused, such as `experiment exp_0001_linear`.
    """

    state: str
    why: str


@dataclass(frozen=True)
class Withdrawn:
    """What the list says at one moment.

    Attributes:
        jobs: by id, those that are not live.
    """

    jobs: dict[str, Withdrawal]

    def of(self, job: Job) -> Withdrawal | None:
        """Why nobody may work on a job; None if somebody may."""
        return self.jobs.get(job.job_id)

    def is_removed(self, job_id: str) -> bool:
        """Whether what the job left counts no more."""
        withdrawal = self.jobs.get(job_id)
        return withdrawal is not None and withdrawal.state == REMOVED


def read_withdrawn(workspace: Workspace) -> Withdrawn:
    """A line that is half written, or was edited into nonsense, says nothing."""
    try:
        with environment_faults(f"cannot read {workspace.withdrawn}"):
            text = reading.read(workspace.withdrawn, reading.TABLE_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return Withdrawn({})
    jobs: dict[str, Withdrawal] = {}
    for line in text.split("\n")[:-1]:
        job_id, _, rest = line.rstrip("\r").partition(",")
        state, _, why = rest.partition(",")
        if not is_job_id(job_id) or state not in _STATES:
            continue
        if state == LIVE and job_id in jobs and jobs[job_id].state != REMOVED:
            del jobs[job_id]
        elif state != LIVE:
            jobs[job_id] = Withdrawal(state, why)
    return Withdrawn(jobs)


def withdraw(workspace: Workspace, jobs: Iterable[Job], state: str, why: str) -> None:
    """Says a word on each job, durably and all at once for whoever reads complete lines; call it inside `queue_lock`.

    Args: state: PAUSED, CANCELLED, REMOVED or LIVE.
    """
    rows = "".join(f"{job.job_id},{state},{why}\n" for job in jobs).encode()
    if not rows:
        return
    path = workspace.withdrawn
    workspace.make_folder(path.parent)
    if not paths.exists(path):
        workspace.files.replace(path, HEADER.encode() + b"\n" + rows)
        return
    with environment_faults(f"cannot append to {path}"), paths.open_update(path) as file:
        complete = file.read().rfind(b"\n") + 1  # without the half line that a crash left
        file.truncate(complete)
        file.seek(complete)
        try:
            view = memoryview(rows)
            while view:
                view = view[file.write(view) :]
            if workspace.files.fsync:
                os.fsync(file.fileno())
            workspace.files.sync_folder(path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(complete)
            raise


class Watch:
    """What the list says now, read again only when its file changed."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._stamp: tuple[int, int] | None = None
        self._now = Withdrawn({})

    def now(self) -> Withdrawn:
        try:
            stat = paths.stat(self._workspace.withdrawn)
            stamp = (stat.st_mtime_ns, stat.st_size)
        except OSError:  # none, or out of reach for a moment
            return self._now
        if stamp != self._stamp:
            self._now, self._stamp = read_withdrawn(self._workspace), stamp
        return self._now
