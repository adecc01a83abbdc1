"""What every fault is followed by: the same commands again with one fresh worker, and a look at what was promised."""

import contextlib
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import load_kind
from headstart.pipeline.markers import NotDone, read_marker
from headstart.pipeline.workspace import Workspace, open_workspace

from . import small_run
from .disk import State
from .recording import IGNORED

WEDGED_S = 20

Trial = TypeVar("Trial")


@dataclass(frozen=True)
class Violation:
    """What a fault broke: `kind` is a column of the report."""

    kind: str
    text: str


class Wedged(Exception):
    """Something took longer than it ever should."""


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises Wedged in the main thread after `seconds`."""

    def late(number: int, frame: object) -> None:
        raise Wedged

    previous = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder, in memory where that is possible: thousands of small trees are made in it."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def snapshot(folder: Path) -> State:
    """Every file and folder below `folder`, as `materialize` takes it."""
    paths = sorted(path for path in folder.rglob("*") if not path.name.endswith(IGNORED))
    return {path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes() for path in paths}


def in_parallel(check: Callable[[Trial], list[Violation]], trials: Sequence[Trial]) -> list[tuple[Trial, Violation]]:
    """What `check` finds in each trial, on every core."""
    fork = multiprocessing.get_context("fork")  # trials are inherited, not copied
    count = max(1, min(len(os.sched_getaffinity(0)), len(trials)))
    pipes = []
    for start in range(count):
        receiving, sending = fork.Pipe(duplex=False)
        process = fork.Process(target=_check_each, args=(check, trials, start, count, sending))
        process.start()
        sending.close()
        pipes.append((process, receiving))
    found = []
    for process, receiving in pipes:
        found += [(trials[place], violation) for place, violation in receiving.recv()]
        process.join()
    return found


def _check_each(check: Callable[[Trial], list[Violation]], trials: Sequence[Trial], start: int, step: int, sending: Connection) -> None:
    places = range(start, len(trials), step)
    sending.send([(place, violation) for place in places for violation in check(trials[place])])


def violations(root: Path, promised: frozenset[str], payloads: dict[str, bytes], is_damaged: bool = False) -> list[Violation]:
    """Resumes with the same commands as before the fault, and says what was broken.

    Args:
        promised: what the interrupted run had reported: jobs done by their id, and `5 jobs queued`.
        payloads: what an uninterrupted run commits.
        is_damaged: bytes were changed behind our back, which only `verify --deep` is promised to find.
    """
    try:
        with deadline(WEDGED_S):
            return [*_broken_promises(root, promised, is_damaged)] or [*_flaws_after_resuming(root, payloads)]
    except Wedged:
        return [Violation("wedged", f"not resumed within {WEDGED_S} s")]
    except HeadstartError as error:
        return [Violation("wedged", f"{type(error).__name__}: {error}")]


def _broken_promises(root: Path, promised: frozenset[str], is_damaged: bool) -> Iterator[Violation]:
    try:
        workspace = open_workspace(root)
    except HeadstartError as error:
        if promised:
            yield Violation("lost", f"the workspace: {error}")
        return
    queued = small_run.queue_of(workspace)
    for promise in sorted(promised):
        if promise.endswith("queued") and len(queued) < int(promise.split()[0]):
            yield Violation("lost", f"{promise}, found {len(queued)}")
    for job in queued:
        is_promised, is_done = job.job_id in promised, is_sound(workspace, job)
        if is_promised and not is_done:
            yield Violation("lost", f"{job.job_id} was reported as done")
        elif (is_promised or (is_done and not is_damaged)) and not is_sound(workspace, job, deep=True):
            yield Violation("wrong", f"{job.job_id} counts as done, but its bytes are others")


def _flaws_after_resuming(root: Path, payloads: dict[str, bytes]) -> Iterator[Violation]:
    workspace = small_run.enqueue(root, small_run.JOB_SIZE * len(payloads))
    missing = sum(not is_sound(workspace, job) for job in small_run.queue_of(workspace))
    done: list[object] = []
    summary = small_run.work(workspace, done.append)
    if len(done) != missing:
        yield Violation("duplicated", f"{len(done)} jobs done, {missing} were missing")
    if summary.problems:
        yield Violation("wrong", f"the queue: {summary.problems[0]}")
    if small_run.repair(workspace):
        yield Violation("lost", "verify --deep --repair could not mend it")
    yield from check_drained(workspace, payloads)


def is_sound(workspace: Workspace, job: Job, deep: bool = False) -> bool:
    try:
        read_marker(workspace, job, load_kind(job.kind).fingerprint(workspace, job.folder), deep)
        return True
    except NotDone:
        return False


def check_drained(ws, payloads):
    got=small_run.payloads(ws.root)
    if got!=payloads: yield Violation('wrong','payloads %s vs %s'%(sorted(got),sorted(payloads)))
    left=[str(p) for p in ws.root.rglob('.tmp-*')]+[str(p) for p in ws.workers.glob('*')]+[str(p) for p in ws.root.glob('features/fake/claims/*/*')]
    if left: yield Violation('orphans',str(left))
