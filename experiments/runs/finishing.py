"""Brings the job of a training that was begun to its end, in this process; whatever it trains."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from headstart.experiments.runs.beginning.begin import Begun
from headstart.experiments.training.failure import told
from headstart.pipeline.doors import reading
from headstart.pipeline.doors.records import Record, parse_record
from headstart.pipeline.enqueue import Work, enqueue_work
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import Fingerprints, Settings, known_kinds
from headstart.pipeline.markers import NotDone, read_marker
from headstart.pipeline.queue import Reader
from headstart.pipeline.retry import bytes_of, retire, retry
from headstart.pipeline.text import plural
from headstart.pipeline.work import COME_BACK
from headstart.pipeline.worker import Finished, Limits, Worker
from headstart.pipeline.workspace import Workspace

from .experiment import AnyExperiment


@dataclass(frozen=True)
class Words:
    """How a training of its sort is spoken of.

    Attributes:
        same: what makes a finished one the one that was asked for: "the same heads on the same 70 training images".
        again: what to do if another one was meant: "train them again".
        begun: said of one that goes on, such as what it was begun on; '' or from a comma on.
        about: a line on what is trained; '' for none.
    """

    same: str
    again: str
    begun: str = ""
    about: str = ""


@dataclass(frozen=True)
class Ending(Generic[AnyExperiment]):
    """An experiment, and how far it is.

    Attributes:
        is_finished: whether what it trains and its numbers are there; if not, the same call goes on from the last checkpoint.
        exit_code: of the command: 10 where a time limit ended it.
    """

    experiment: AnyExperiment
    is_finished: bool
    exit_code: int = 0


def finish(
    workspace: Workspace,
    begun: Begun[AnyExperiment],
    words: Words,
    settings: Settings,
    time_limit_s: float | None,
    report: Callable[[str], None],
    removed: Callable[[AnyExperiment, Record], frozenset[Path]] = lambda experiment, payload: frozenset(),
) -> Ending[AnyExperiment]:
    """Trains it, unless it is finished and every file is as it was.

    Args:
        removed: files that its user took back, by the experiment and its job's payload; they are not missed.

    Raises: HeadstartError if the training failed, or another worker gave up on it.
    """
    experiment, job = begun.experiment, begun.job
    marker_bytes = bytes_of(workspace, job)
    try:
        marker = read_marker(workspace, job, experiment.identity, deep=True)
        payload = parse_record(reading.read(marker.payload), marker.payload, None)
        damaged = damaged_files(experiment.folder, payload, removed(experiment, payload))
        if not damaged:
            report(f"{experiment.folder.name} is finished: {words.same}")
            report(f"{words.again} under another name: --name NEW")
            return Ending(experiment, is_finished=True)
        report(f"note: {experiment.folder.name} lost {damaged[0]}; it is made again")
        retire(workspace, job, marker_bytes)
    except NotDone:
        pass
    retry(workspace, frozenset({job.job_id}))  # failed attempts are forgiven: whoever calls this wants another one
    if not begun.is_new:
        report(f"goes on with {experiment.folder.name}{words.begun}")
    if words.about:
        report(words.about)
    failures: list[str] = []

    def note(finished: Finished) -> None:
        if finished.error is not None:
            failures.append(finished.error)

    limits = Limits(max_jobs=1, only=frozenset({job.job_id}), seconds=time_limit_s)
    summary = Worker(workspace, settings, limits, note).run()
    if failures:
        raise HeadstartError(told(failures[0]))
    with contextlib.suppress(NotDone):
        read_marker(workspace, job, experiment.identity)
        return Ending(experiment, is_finished=True)
    is_over = time_limit_s is not None and summary.seconds >= time_limit_s
    if summary.exit_code or summary.withdrawn or is_over:
        for line in summary.withdrawn:
            report(f"note: {line}")
        report("left; the same command goes on from the last checkpoint, and so does: headstart work")
        return Ending(experiment, is_finished=False, exit_code=summary.exit_code or (COME_BACK if is_over else 0))
    reason = next(iter(summary.problems), f"another worker gave up on {job.job_id}; see: headstart status --failed")
    raise HeadstartError(f"{experiment.folder.name} is not finished: {reason}. Run the same command again")


def do_first(
    workspace: Workspace,
    works: Sequence[Work],
    settings: Settings,
    time_limit_s: float | None,
    report: Callable[[str], None],
    heard: Callable[[Finished], None] = lambda finished: None,
) -> int | None:
    """Queues jobs and does them. Returns: the exit status of the command if it did not get to their end.

    Args:
        heard: told of each job.

    Raises: HeadstartError if a job failed.
    """
    if not works:
        return None
    enqueue_work(workspace, works)
    folders = {work.folder for work in works}
    jobs = frozenset(job.job_id for job in Reader(workspace, known_kinds()) if job.folder in folders)
    failures: list[str] = []

    def note(finished: Finished) -> None:
        heard(finished)
        if finished.error is not None:
            failures.append(finished.error)

    summary = Worker(workspace, settings, Limits(only=jobs, seconds=time_limit_s), note).run()
    if summary.jobs:
        report(f"{', '.join(sorted(folders))}: {plural(summary.jobs, 'job')} done in {summary.seconds:.1f} s")
    if failures:
        raise HeadstartError(
            f"{plural(len(failures), 'job')} that had to be done failed: {told(failures[0])}. See: headstart status --failed"
        )
    is_over = time_limit_s is not None and not summary.is_drained and summary.seconds >= time_limit_s
    if summary.exit_code or is_over:
        report("left; the same command goes on where it was")
        return summary.exit_code or COME_BACK
    left = _not_done(workspace, folders)
    if left:
        reason = next(iter(summary.problems), "another worker gave up on it; see: headstart status --failed")
        raise HeadstartError(f"{left[0].job_id} is not done: {reason}. Run the same command again")
    return None


def _not_done(workspace: Workspace, folders: set[str]) -> list[Job]:
    left, fingerprints = [], Fingerprints(workspace)
    for job in Reader(workspace, known_kinds()):
        if job.folder in folders:
            try:
                read_marker(workspace, job, fingerprints.of(job))
            except NotDone:
                left.append(job)
    return left


def damaged_files(folder: Path, payload: Record, removed: frozenset[Path]) -> list[str]:
    """Files of an experiment that are missing or other than its job's payload says, but the removed ones."""
    result = []
    for name, digest in payload.record("files").items():
        path = folder / name
        if path in removed:
            continue
        try:
            with environment_faults(f"cannot read {path}"):
                is_whole = hashlib.sha256(reading.read(path, reading.PAYLOAD_BYTES)).hexdigest() == digest
        except (OSError, HeadstartError):
            is_whole = False
        if not is_whole:
            result.append(name)
    return result
