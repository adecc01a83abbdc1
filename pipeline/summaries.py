"""Summaries of finished stretches of the queue: derived, sealed, made by whoever passes, so that nobody looks at each job again.

A stretch is rows of one kind, folder and group that follow one another; it is finished when each of its jobs has a marker that
counts. A summary is believed as long as no name came or went in the folders of the group's markers and payloads: `status`
counts by it, and a worker that looks for fresh work passes over it. It cannot know what became of bytes under the same name. So
no worker says by a summary that nothing is left: before that it has read every marker itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from . import paths
from .blocks import Span
from .doors import records
from .errors import ExplainedError
from .job import Job, job_id_of
from .kinds import Fingerprints
from .tally import Tally
from .workspace import Workspace

FORMAT = 1
LEAST_JOBS = 64  # of a stretch; so few markers are read as fast as a summary is
# A folder's time stamp has the grain of the kernel's tick, or of the server's; younger folders may still change unseen.
_SETTLED_S = 3.0
_MOST_BYTES = 1 << 24
_NO_FOLDER = [0, 0, 0]

Stamps = list[list[int]]  # of the folders of a group's markers and payloads: inode, mtime_ns and ctime_ns of each


class Look:
    """One look at a stretch: what a summary says of it, or else what was counted becomes one.

    It is made before anything of the stretch is looked at, so that what changes meanwhile is noticed.

    Attributes: is_worth_it: whether a summary saves time.
    """

    def __init__(self, workspace: Workspace, jobs: Sequence[Job]) -> None:
        self._workspace, self._jobs = workspace, jobs
        self.is_worth_it = len(jobs) >= LEAST_JOBS
        self._begun_ns = time.time_ns()
        self._stamps = _stamps(workspace, jobs[0]) if self.is_worth_it else []

    @property
    def is_settled(self) -> bool:
        """Whether nothing came or went a moment ago."""
        newest = max((time_ns for stamp in self._stamps for time_ns in stamp[1:]), default=0)
        return newest < self._begun_ns - int(_SETTLED_S * 1e9)

    def remembered(self, fingerprints: Fingerprints) -> Tally | None:
        """What a summary counted, if it is of these very rows and results; None if there is none.

        Raises: what `Fingerprints.of` raises.
        """
        with contextlib.suppress(records.DamagedError, records.NewerError):
            facts = _read(self._workspace.summary(self._jobs[0])) if self.is_worth_it else None
            if facts is not None and _is_of(facts, self._jobs[0], self._stamps, fingerprints.of(self._jobs[0])):
                wanted = _described(self._jobs)
                for stretch in facts.records("stretches"):
                    if {key: stretch.get(key) for key in wanted} == wanted:
                        tally = _tally(stretch.record("tally"))
                        return tally if tally is not None and tally.jobs == tally.done == len(self._jobs) else None
        return None

    def keep(self, fingerprints: Fingerprints, tally: Tally) -> None:
        """Makes a summary of what was counted since this look began, if all is done and lay still before.

        Where something came or went meanwhile, the stamps of before fit no more. A disk that is full costs the summary alone.
        """
        job = self._jobs[0]
        if not self.is_worth_it or not self.is_settled or tally.done != len(self._jobs) or not self._is_dated():
            return
        path, fingerprint = self._workspace.summary(job), fingerprints.of(job)
        mine = {**_described(self._jobs), "tally": asdict(tally)}
        try:
            before = _read(path)
        except records.NewerError:
            return
        others: list[records.Record] = []
        if before is not None:
            with contextlib.suppress(records.DamagedError):
                if _is_of(before, job, self._stamps, fingerprint):
                    others = [stretch for stretch in before.records("stretches") if stretch.get("first") != mine["first"]]
        facts = {"format": FORMAT, "kind": job.kind, "fingerprint": fingerprint, "stamps": self._stamps}
        with contextlib.suppress(OSError, ExplainedError):
            self._workspace.make_folder(path.parent)
            # Torn by a power cut it is as good as none.
            replace(self._workspace.files, fsync=False).replace(path, records.seal({**facts, "stretches": [*others, mine]}))

    def _is_dated(self) -> bool:
        """Whether the folder changed since its first marker was written: on a drive where it never does its time says nothing."""
        try:
            written = [paths.stat(self._workspace.marker(job)).st_mtime_ns for job in (self._jobs[0], self._jobs[-1])]
        except (OSError, paths.LinkError):
            return False
        return min(written) < self._stamps[0][1]


def finished_spans(workspace: Workspace, fingerprints: Fingerprints) -> list[Span]:
    """Jobs of which summaries say that they are done, in ascending order, as far as they may be believed. It reads no queue."""
    spans = sorted(span for path in workspace.summaries() for span in _spans_of(workspace, path, fingerprints))
    merged: list[Span] = []
    for span in spans:
        if merged and span.first <= merged[-1].last + 1:
            merged[-1] = Span(merged[-1].first, max(span.last, merged[-1].last))
        else:
            merged.append(span)
    return merged


def _spans_of(workspace: Workspace, path: Path, fingerprints: Fingerprints) -> Iterator[Span]:
    # Damaged, by a newer version, or of a folder that cannot be used or read, which whoever walks there will say.
    with contextlib.suppress(ExplainedError, OSError):
        facts = _read(path)
        if facts is None:
            return
        for stretch in facts.records("stretches"):
            first = stretch.integer("first")
            last = stretch.integer("last", least=first)
            # As much of a row as its paths and its fingerprint are asked by.
            job = Job(job_id_of(first), facts.text("kind"), workspace.relative(path.parent.parent), "", 0, 1)
            # A job that is missing between may come back: it was paused, or its row is gone.
            is_whole = stretch.integer("jobs") == last - first + 1
            if is_whole and _is_of(facts, job, _stamps(workspace, job), fingerprints.of(job)):
                yield Span(first, last)


def _read(path: Path) -> records.Record | None:
    """Raises: NewerError."""
    try:
        return records.read_record(path, FORMAT, limit=_MOST_BYTES)
    except (OSError, records.DamagedError, paths.LinkError):
        return None


def _is_of(facts: records.Record, job: Job, stamps: Stamps, fingerprint: str) -> bool:
    """Whether it is of these folders as they are now. Where there are no markers nothing is done, whatever it says."""
    return (
        stamps[0] != _NO_FOLDER
        and facts.get("stamps") == stamps
        and (facts.text("kind"), facts.text("fingerprint")) == (job.kind, fingerprint)
    )


def _described(jobs: Sequence[Job]) -> dict[str, int | str]:
    rows = "\n".join([f"{job[0]},{job[3]},{job[4]},{job[5]}" for job in jobs])
    digest = hashlib.blake2b(rows.encode(), digest_size=8).hexdigest()
    return {"first": jobs[0].number, "last": jobs[-1].number, "jobs": len(jobs), "rows": digest}


def _tally(facts: records.Record) -> Tally | None:
    """None of a version that counts something else."""
    is_sound = all(type(value) in (int, float) and 0 <= value < records.LARGEST for value in facts.values())
    return Tally(**facts) if is_sound and facts.keys() == vars(Tally()).keys() else None


def _stamps(workspace: Workspace, job: Job) -> Stamps:
    return [_stamp(workspace.marker(job).parent), _stamp(workspace.payloads(job))]


def _stamp(folder: Path) -> list[int]:
    """The inode tells a copy whose times were copied, too; the ctime a folder whose mtime was set back. All change by a name."""
    try:
        facts = paths.stat(folder)
    except (OSError, paths.LinkError):
        return _NO_FOLDER
    return [facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns]
