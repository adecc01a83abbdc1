"""Jobs that were withdrawn: a list beside the queue that only grows; what it says last of a job counts.

The queue itself is never rewritten: a row that left it could come back from a copy, or get lost beside a worker that reads it.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from . import paths
from .doors import reading, records
from .files import environment_faults
from .job import Job, is_job_id
from .workspace import Workspace

HEADER = "job_id,state,why,seal"
_UNSEALED_HEADER = "job_id,state,why"  # of a list by an earlier version
PAUSED, CANCELLED, REMOVED, LIVE = "paused", "cancelled", "removed", "live"
_MEND = "Delete the line, and remove or pause again what it was about"
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
        problems: one line each, naming the line of the file: what stands there was not written, and says nothing.
    """

    jobs: dict[str, Withdrawal]
    problems: tuple[str, ...] = ()

    def of(self, job: Job) -> Withdrawal | None:
        """Why nobody may work on a job; None if somebody may."""
        return self.jobs.get(job.job_id)

    def is_removed(self, job_id: str) -> bool:
        """Whether what the job left counts no more."""
        withdrawal = self.jobs.get(job_id)
        return withdrawal is not None and withdrawal.state == REMOVED


def read_withdrawn(workspace: Workspace) -> Withdrawn:
    """A last line that is half written says nothing, and one that is not what was written is a problem."""
    path = workspace.withdrawn
    try:
        with environment_faults(f"cannot read {path}"):
            lines = reading.read(path, reading.TABLE_BYTES).split(b"\n")
    except FileNotFoundError:
        return Withdrawn({})
    header = lines[0].rstrip(b"\r").decode("utf-8", "replace")
    is_sealed = header != _UNSEALED_HEADER
    problems = []
    if is_sealed and header != HEADER:
        problems.append(f"{path.name} line 1: expected the header {HEADER}, found {header[:60]!r}")
    jobs: dict[str, Withdrawal] = {}
    whole, last = lines[1:-1], lines[-1] if len(lines) > 1 else b""
    if is_sealed and (unended := _unended(last)) is not None:
        whole.append(unended)
    for number, line in enumerate(whole, start=2):
        row = _row(line, is_sealed)
        if row is None:
            if is_sealed:
                problems.append(f"{path.name} line {number}: it is not what was written, and counts for no job. {_MEND}")
            continue
        job_id, withdrawal = row
        if withdrawal.state != LIVE:
            jobs[job_id] = withdrawal
        elif job_id in jobs and jobs[job_id].state != REMOVED:
            del jobs[job_id]
    return Withdrawn(jobs, tuple(problems))


def _row(line: bytes, is_sealed: bool) -> tuple[str, Withdrawal] | None:
    text = records.unseal_line(line) if is_sealed else line
    if text is None:
        return None
    job_id, _, rest = text.decode("utf-8", "replace").rstrip("\r").partition(",")
    state, _, why = rest.partition(",")
    return (job_id, Withdrawal(state, why)) if is_job_id(job_id) and state in _STATES else None


def _unended(last: bytes) -> bytes | None:
    """The last line, if it is whole but for its end, which is missing or another byte by now; None if it is half written."""
    return next((line for line in (last, last[:-1]) if _row(line, is_sealed=True) is not None), None)


def withdraw(workspace: Workspace, jobs: Iterable[Job], state: str, why: str) -> None:
    """Says a word on each job, durably and all at once for whoever reads complete lines; call it inside `queue_lock`.

    Args: state: PAUSED, CANCELLED, REMOVED or LIVE.
    """
    rows = b"".join(records.seal_line(f"{job.job_id},{state},{why}".encode()) for job in jobs)
    if not rows:
        return
    path = workspace.withdrawn
    workspace.make_folder(path.parent)
    if not paths.exists(path):
        workspace.files.replace(path, HEADER.encode() + b"\n" + rows)
        return
    with environment_faults(f"cannot append to {path}"), workspace.files.open_update(path) as file:
        written = file.read()
        complete = written.rfind(b"\n") + 1  # without the half line that a crash left
        kept = _kept(written, complete)
        if kept != written[:complete]:
            file.close()  # Windows replaces no file that is open
            workspace.files.replace(path, kept + rows)
            return
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


def _kept(written: bytes, complete: int) -> bytes:
    """The list as this version writes it; a line that is not what was written stays what it is."""
    header, *lines = written[:complete].split(b"\n")[:-1] or [b""]
    is_sealed = header.rstrip(b"\r") != _UNSEALED_HEADER.encode()
    if is_sealed and (unended := _unended(written[complete:])) is not None:
        lines.append(unended)
    if not is_sealed:
        lines = [records.seal_line(line.rstrip(b"\r"))[:-1] for line in lines if _row(line, is_sealed=False) is not None]
    return b"".join(line + b"\n" for line in [HEADER.encode(), *lines])


class Watch:
    """What the list says now, read again only when its file changed."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._path = workspace.withdrawn  # once: it is asked before each job
        self._folder = paths.Held(self._path.parent)
        self._stamp: tuple[int, int] | None = None
        self._now = Withdrawn({})

    def now(self) -> Withdrawn:
        if not self._folder.may_have(self._path.name):
            return self._now
        try:
            stat = paths.stat(self._path)
            stamp = (stat.st_mtime_ns, stat.st_size)
        except OSError:  # none, or out of reach for a moment
            return self._now
        if stamp != self._stamp:
            self._now, self._stamp = read_withdrawn(self._workspace), stamp
        return self._now
