"""What a fault is followed by: the same commands again with one fresh worker, and a look at what had been promised."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import load_kind
from headstart.pipeline.markers import NotDone, read_marker
from headstart.pipeline.workspace import Workspace, open_workspace

from . import small_run
from .fakes import JOB_SIZE, expected_squares
from .invariants import check_drained, unsound_markers

WEDGED_S = 20


class WedgedError(Exception):
    """Something took longer than it ever should."""


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises WedgedError in the main thread after `seconds`."""

    def late(number: int, frame: object) -> None:
        raise WedgedError

    previous = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def violations(root: Path, jobs: int, promised: frozenset[str] = frozenset(), is_damaged: bool = False) -> list[str]:
    """Resumes with the same commands as before the fault, and says what was broken.

    Args:
        jobs: how many the whole run has.
        promised: what the interrupted run had reported: done jobs by their id, and `5 jobs queued`.
        is_damaged: bytes were changed behind our back, which only `verify --deep` is promised to find.
    """
    try:
        with deadline(WEDGED_S):
            return [*_broken_promises(root, promised, is_damaged)] or [*_flaws_after_resuming(root, jobs)]
    except WedgedError:
        return [f"wedged: not resumed within {WEDGED_S} s"]
    except Exception as error:  # whatever it is, the next run of the same command meets it again
        return [f"wedged: {type(error).__name__}: {error}"]


def _broken_promises(root: Path, promised: frozenset[str], is_damaged: bool) -> Iterator[str]:
    try:
        workspace = open_workspace(root)
    except HeadstartError as error:
        if promised:
            yield f"lost: the workspace: {error}"
        return
    queued = small_run.queue_of(workspace)
    for promise in sorted(promised):
        if promise.endswith("queued") and len(queued) < int(promise.split()[0]):
            yield f"lost: {promise}, found {len(queued)}"
    if not is_damaged:
        yield from unsound_markers(workspace)
    for job in queued:
        if job.job_id in promised and not is_sound(workspace, job, deep=True):
            yield f"lost: {job.job_id} was reported as done"


def _flaws_after_resuming(root: Path, jobs: int) -> Iterator[str]:
    workspace = small_run.enqueue(root, jobs)
    missing = sum(not is_sound(workspace, job) for job in small_run.queue_of(workspace))
    done: list[object] = []
    summary = small_run.work(workspace, done.append)
    if len(done) != missing:
        yield f"duplicated: {len(done)} jobs done, {missing} were missing"
    if summary.problems:
        yield f"wrong: the queue: {summary.problems[0]}"
    if small_run.repair(workspace):
        yield "lost: verify --deep --repair could not mend it"
    yield from check_drained(workspace, expected_squares(jobs * JOB_SIZE))


def is_sound(workspace: Workspace, job: Job, deep: bool = False) -> bool:
    try:
        read_marker(workspace, job, load_kind(job.kind).fingerprint(workspace, job.folder), deep)
        return True
    except NotDone:
        return False
