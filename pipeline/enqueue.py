"""Adds jobs to the queue, one caller at a time, and brings back rows that somebody removed by hand."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

from . import paths
from .doors.locks import held_or_later
from .errors import HeadstartError
from .files import environment_faults
from .job import Job, job_id_of
from .kinds import known_kinds
from .markers import recorded_jobs
from .queue import HEADER, LARGEST_GAP, LONGEST_LINE, Reader
from .workspace import Workspace


def restorable_jobs(workspace: Workspace, reader: Reader) -> list[Job]:
    """Committed jobs that no row names any more, after `reader` has read the queue; in the order of their numbers.

    Only markers beyond or between the rows are looked at in a whole queue: reading all of them would cost every enqueue.
    """
    lowest = reader.missing.lowest()
    first = reader.highest + 1 if lowest is None else lowest
    recorded = {job.number: job for job in recorded_jobs(workspace, first)}
    restorable, highest = [], reader.highest
    for number, job in sorted(recorded.items()):
        # Far beyond all others it is none of ours, and would take the last numbers there are.
        if number in reader.missing or highest < number <= highest + LARGEST_GAP:
            restorable.append(job)
            highest = max(highest, number)
    return restorable


class Work(NamedTuple):
    """What a kind of job wants done: every item of a source, cut into jobs of `job_size`."""

    kind: str
    folder: str
    source: str
    items: int
    job_size: int


@contextlib.contextmanager
def queue_lock(workspace: Workspace, timeout_s: float = 60) -> Iterator[None]:
    """Holds off other enqueuers. Workers never wait for it."""
    workspace.make_folder(workspace.queue_lock.parent)
    with held_or_later(workspace.queue_lock, timeout_s, f"another enqueue holds {workspace.queue_lock}"):
        yield


def enqueue_work(workspace: Workspace, works: Iterable[Work]) -> list[Job]:
    """Adds a job for every item that no job covers yet, and rows that somebody removed; calling it again adds nothing.

    Returns: the new jobs. Raises: TryLaterError if another enqueue goes on for a minute.
    """
    with queue_lock(workspace):
        return append_work(workspace, works, known_kinds(), lambda reader: restorable_jobs(workspace, reader))[1]


def append_work(
    workspace: Workspace,
    works: Iterable[Work],
    known_kinds: frozenset[str],
    recorded: Callable[[Reader], list[Job]],
) -> tuple[list[Job], list[Job]]:
    """Adds a job for every item that no job covers yet; call it inside `queue_lock`.

    Args:
        recorded: committed jobs whose rows are gone from the queue (read from their markers).

    Returns: the restored and the new jobs. What a crash left half-written is repaired on the way.
    """
    restored, fresh = planned_jobs(workspace, works, known_kinds, recorded)
    append_jobs(workspace, [*restored, *fresh])
    return restored, fresh


def planned_jobs(
    workspace: Workspace,
    works: Iterable[Work],
    known_kinds: frozenset[str],
    recorded: Callable[[Reader], list[Job]],
) -> tuple[list[Job], list[Job]]:
    """What `append_work` would append, as long as `queue_lock` is held: for who has to name its jobs before they are queued."""
    reader = Reader(workspace, known_kinds)
    covered: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for job in reader:
        covered[job.folder, job.source].append((job.start, job.stop))
    for job in reader.foreign:
        covered[job.folder, job.source].append((job.start, job.stop))
    restored = recorded(reader)
    taken = {job.number for job in restored}
    for job in restored:
        covered[job.folder, job.source].append((job.start, job.stop))
    free = (number for number in chain(reader.missing, count(max([reader.highest, *taken]) + 1)) if number not in taken)
    fresh = [
        Job(job_id_of(next(free)), work.kind, work.folder, work.source, start, stop)
        for work in works
        for start, stop in _uncovered(work, covered[work.folder, work.source])
    ]
    return restored, fresh


def _uncovered(work: Work, ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    position = 0
    for start, stop in [*sorted(ranges), (work.items, work.items)]:
        for begin in range(position, start, work.job_size):
            yield begin, min(begin + work.job_size, start)
        position = max(position, stop)


def append_jobs(workspace: Workspace, jobs: list[Job]) -> None:
    """Adds these rows; call it inside `queue_lock`. What a crash left half-written is repaired on the way."""
    rows = "".join(",".join(map(str, job)) + "\n" for job in jobs).encode()
    if not paths.exists(workspace.queue):
        workspace.files.replace(workspace.queue, HEADER.encode() + b"\n" + rows)
        return
    with environment_faults(f"cannot append to {workspace.queue}"), workspace.files.open_update(workspace.queue) as file:
        complete = _complete_bytes(file, workspace.queue)
        file.truncate(complete)
        file.seek(complete)
        try:
            view = memoryview(rows if complete else HEADER.encode() + b"\n" + rows)
            while view:
                view = view[file.write(view) :]
            if workspace.files.fsync:
                os.fsync(file.fileno())
            # Whoever made the file may have been killed before its name was durable.
            workspace.files.sync_folder(workspace.queue.parent)
        except OSError:
            with contextlib.suppress(OSError):  # half a line is passed over by every reader, too
                file.truncate(complete)
            raise


def _complete_bytes(file: FileIO, path: Path) -> int:
    """Length without a half-written last line. Raises: HeadstartError if what has no line end is longer than any row."""
    end = file.seek(0, os.SEEK_END)
    begin = file.seek(max(0, end - LONGEST_LINE))
    newline = file.read(end - begin).rfind(b"\n")
    if newline < 0 and begin:
        raise HeadstartError(
            f"{path} is damaged (no line ends in its last {LONGEST_LINE:,} bytes). Restore it from a copy, or move it away: the "
            "next enqueue writes it anew and keeps what is done"
        )
    return begin + newline + 1
