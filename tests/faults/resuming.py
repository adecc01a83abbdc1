"""What a fault is followed by: the same commands again with one fresh worker, and a look at what had been promised."""

import contextlib
import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace, open_workspace
from tests.faults import small_run

from .fakes import JOB_SIZE, expected_squares
from .invariants import check_drained, queue_rows, unsound_markers
from .kinds import tiny

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
        promised: what the interrupted run had reported: done jobs by their id, `5 jobs queued`, `job_000003 retired`.
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
    if not is_damaged:
        yield from unsound_markers(workspace)
    queued, sound = len(queue_rows(workspace)), sound_jobs(workspace, deep=True)
    for promise in sorted(promised):
        number, _, what = promise.partition(" ")
        if what == "jobs queued" and queued < int(number):
            yield f"lost: {promise}, found {queued}"
        if what == "retired" and not list(workspace.root.glob(f"*/*/done/*/{number}.done.retired*")):
            yield f"lost: {promise}, but counts as done again"
        if not what and promise not in sound:
            yield f"lost: {promise} was reported as done"


def _flaws_after_resuming(root: Path, jobs: int) -> Iterator[str]:
    workspace = small_run.enqueue(root, jobs)
    missing = {row["job_id"] for row in queue_rows(workspace)} - sound_jobs(workspace)
    done: list[str] = []
    summary = small_run.work(workspace, lambda finished: done.append(finished.job.job_id))
    if sorted(done) != sorted(missing):
        yield f"{'lost' if missing - set(done) else 'duplicated'}: {len(missing)} jobs were missing, {len(done)} were done"
    if summary.problems:
        yield f"wrong: the queue: {summary.problems[0]}"
    if small_run.repair(workspace):
        yield "lost: verify --deep --repair could not mend it"
    yield from check_drained(workspace, expected_squares(jobs * JOB_SIZE))


def sound_jobs(workspace: Workspace, deep: bool = False) -> set[str]:
    """Ids of the jobs that count as done, told from the files alone; with `deep` their payloads have the right digest, too."""
    return {row["job_id"] for row in queue_rows(workspace) if _is_sound(workspace, row, deep)}


def _is_sound(workspace: Workspace, row: dict[str, str], deep: bool) -> bool:
    folder, group = workspace.root / row["folder"], f"{int(row['job_id'][4:]) // 1000:04d}"
    try:
        facts = json.loads((folder / "done" / group / f"{row['job_id']}.done").read_bytes())
        data = (folder / "shards" / group / facts["payload"]["name"]).read_bytes()
    except (OSError, ValueError):
        return False
    is_its_own = {key: str(value) for key, value in facts["job"].items()} == row and facts["fingerprint"] == tiny.FINGERPRINT
    if not is_its_own or len(data) != facts["payload"]["bytes"]:
        return False
    return not deep or hashlib.sha256(data).hexdigest() == facts["payload"]["sha256"]
