"""Where the work stands: derived from the files each time, with what cannot have changed remembered."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from . import paths
from .claims import deaths_of, failures_of, live_workers, seemingly_claimed, seems_held
from .doors import records
from .errors import ExplainedError, HeadstartError
from .job import Job
from .kinds import Fingerprints, ItemCounts, known_kinds
from .liveness import Owner
from .markers import FailedItem, GroupMarkers, Marker, NotDone, read_marker
from .next_job import read_listing
from .quarantine import DEATHS, NO_HISTORY, History
from .queue import Reader
from .retire import CANCELLED, PAUSED
from .tally import Tally
from .workspace import Workspace

# A folder's time stamp has the grain of the kernel's tick, or of the server's; younger folders may still change unseen.
_SETTLED_S = 3.0
_CACHE_BYTES = 1 << 30


@dataclass
class Status:
    """Tallies by kind and folder, the live workers, what is wrong with the queue, and what waits: state, what, jobs."""

    folders: dict[tuple[str, str], Tally] = field(default_factory=dict)
    workers: list[Owner] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    withdrawn: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def remaining(self) -> int:
        """Jobs that a worker would still do."""
        return sum(tally.pending + tally.running for tally in self.folders.values())


def read_status(workspace: Workspace) -> Status:
    status = Status(workers=live_workers(workspace))
    reader = Reader(workspace, known_kinds(), ItemCounts(workspace).of)
    remembered, fingerprints = _Remembered(workspace), Fingerprints(workspace)
    # Rows of a group stand together, so one group at a time is in memory; where they do not, its parts simply add up.
    for (kind, folder, _), rows in groupby(reader, key=lambda job: (job.kind, job.folder, job.job_id[:-3])):
        jobs = list(rows)
        try:
            tally = remembered.get(jobs) or remembered.keep(jobs, _count(workspace, jobs, fingerprints))
        except HeadstartError as error:  # one damaged folder must not hide the others
            tally = Tally.of(jobs)
            tally.unreadable = len(jobs)
            if str(error) not in status.problems:
                status.problems.append(str(error))
        status.folders.setdefault((kind, folder), Tally()).add(tally)
    remembered.save()
    status.problems = [*reader.problems, *status.problems]
    waiting = Counter(
        (withdrawal.state, withdrawal.why) for _, withdrawal in reader.withdrawn if withdrawal.state in (PAUSED, CANCELLED)
    )
    status.withdrawn = [(state, why, jobs) for (state, why), jobs in waiting.items()]
    return status


def _count(workspace: Workspace, jobs: list[Job], fingerprints: Fingerprints) -> Tally:
    listing = read_listing(workspace, jobs[0])
    tally = Tally.of(jobs)
    if not listing.done and not listing.histories and not listing.blocks:  # most groups of a long queue
        tally.pending = len(jobs)
        return tally
    markers = GroupMarkers(workspace, jobs[0], fingerprints.of(jobs[0])) if listing.done else None
    held = seemingly_claimed(workspace, jobs[0], listing.blocks)
    for job in jobs:
        if markers is not None and job.job_id in listing.done:
            try:
                tally.add_done(markers.counts(job))
                continue
            except NotDone:
                pass
        history = listing.histories.get(job.job_id, NO_HISTORY)
        if history.is_quarantined:
            tally.quarantined += 1
        elif seems_held(workspace, job, history) or (not history.generation and any(span.covers(job.number) for span in held)):
            tally.running += 1
        else:
            tally.pending += 1
    return tally


class _Remembered:
    """Tallies of groups that are wholly done, valid as long as nothing was created or renamed in their folders.

    That is told by the times of the folders. On a drive that does not date them (mounted cloud storage), nothing is remembered.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.changed = False
        try:
            self.groups: dict[str, dict[str, Any]] = dict(records.read_record(workspace.status_cache, None, limit=_CACHE_BYTES))
        except (OSError, HeadstartError):
            self.groups = {}

    def get(self, jobs: list[Job]) -> Tally | None:
        try:
            known = self.groups[_key(jobs)]
            is_current = known["stamps"] == self._stamps(jobs[0]) and known["tally"].keys() == vars(Tally()).keys()
            is_sound = all(type(value) in (int, float) and 0 <= value < 2**63 for value in known["tally"].values())
            return Tally(**known["tally"]) if is_current and is_sound else None
        except (KeyError, TypeError, AttributeError):
            return None

    def keep(self, jobs: list[Job], tally: Tally) -> Tally:
        stamps = self._stamps(jobs[0])
        if tally.done == len(jobs) and max(stamps) < time.time_ns() - int(_SETTLED_S * 1e9) and self._are_dated(jobs[0], stamps):
            self.groups[_key(jobs)] = {"stamps": stamps, "tally": asdict(tally)}
            self.changed = True
        return tally

    def save(self) -> None:
        if self.changed:  # derived and never trusted blindly, so neither durable nor worth an error
            data = records.seal(self.groups, indent=None)
            with contextlib.suppress(OSError, ExplainedError):
                replace(self.workspace.files, fsync=False).replace(self.workspace.status_cache, data)

    def _stamps(self, job: Job) -> list[int]:
        return [_modified(folder) for folder in self._folders(job)]

    def _are_dated(self, job: Job, stamps: list[int]) -> bool:
        """Whether the folders changed since the first file in them was written: one that never does says nothing."""
        return all(_oldest(folder) < stamp for folder, stamp in zip(self._folders(job), stamps, strict=True))

    def _folders(self, job: Job) -> tuple[Path, Path]:
        return self.workspace.marker(job).parent, self.workspace.payloads(job)


def _key(jobs: list[Job]) -> str:
    return f"{jobs[0].folder} {jobs[0].job_id} {jobs[-1].job_id} {len(jobs)}"


def _modified(folder: Path) -> int:
    try:
        return paths.stat(folder).st_mtime_ns
    except OSError:
        return 0


def _oldest(folder: Path) -> int:
    """When the first file in it was written; of an empty folder, and of none, before all times."""
    try:
        with paths.entries(folder) as entries:
            return min((entry.stat(follow_symlinks=False).st_mtime_ns for entry in entries), default=-1)
    except OSError:
        return -1


def read_failures(workspace: Workspace) -> dict[str, list[dict[str, Any]]]:
    """Items that gave no result, and quarantined and suspect jobs, with reasons: what `status --failed` lists; ready for JSON."""
    return {
        "failed_items": [{"job_id": job.job_id, "folder": job.folder, **asdict(item)} for job, item in failed_items(workspace)],
        "quarantined_jobs": [
            {"job_id": job.job_id, "folder": job.folder, "reasons": why} for job, why in quarantined_jobs(workspace)
        ],
        "suspect_jobs": [
            {"job_id": job.job_id, "folder": job.folder, "deaths": deaths} for job, deaths in suspect_jobs(workspace)
        ],
    }


def failed_items(workspace: Workspace) -> Iterator[tuple[Job, FailedItem]]:
    """Every item of a done job that gave no result, in the order of the queue; none of a damaged folder."""
    fingerprints = Fingerprints(workspace)
    for job in Reader(workspace, known_kinds()):
        if paths.exists(workspace.marker(job)) and (marker := _marker(workspace, job, fingerprints)) is not None:
            yield from ((job, item) for item in marker.failed)


def quarantined_jobs(workspace: Workspace) -> Iterator[tuple[Job, list[str]]]:
    """Jobs that failed too often, each with the reasons, oldest first."""
    fingerprints = Fingerprints(workspace)
    for job, history, is_marked in _tried_jobs(workspace):
        if history.is_quarantined and not (is_marked and _marker(workspace, job, fingerprints)):
            yield job, failures_of(workspace, job)


def suspect_jobs(workspace: Workspace) -> Iterator[tuple[Job, int]]:
    """Unfinished jobs that were in hand when several workers died, each with the number of deaths; they run in suspect mode."""
    for job, history, is_marked in _tried_jobs(workspace):
        if not is_marked and not history.is_quarantined and len(history.open) >= DEATHS:
            deaths = deaths_of(workspace, job, history)
            if deaths >= DEATHS:
                yield job, deaths


def _marker(workspace: Workspace, job: Job, fingerprints: Fingerprints) -> Marker | None:
    """What counts; None also where the folder is damaged, which `read_status` tells."""
    try:
        return read_marker(workspace, job, fingerprints.of(job))
    except NotDone:
        return None
    except HeadstartError:
        return None


def _tried_jobs(workspace: Workspace) -> Iterator[tuple[Job, History, bool]]:
    """Every job that claims tell of, and whether it has a marker."""
    for _, rows in groupby(Reader(workspace, known_kinds()), key=lambda job: (job.folder, job.job_id[:-3])):
        jobs = list(rows)
        listing = read_listing(workspace, jobs[0])
        for job in jobs:
            if job.job_id in listing.histories:
                yield job, listing.histories[job.job_id], job.job_id in listing.done
