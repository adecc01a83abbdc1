"""Where the work stands: derived from the files each time, with what cannot have changed remembered."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from . import paths
from .claims import deaths_of, failures_of, live_workers, seemingly_claimed, seems_held
from .errors import HeadstartError
from .job import Job
from .kinds import Fingerprints, ItemCounts, known_kinds
from .liveness import Owner
from .markers import FailedItem, GroupMarkers, Marker, NotDone, read_marker
from .next_job import read_listing
from .quarantine import DEATHS, NO_HISTORY, History
from .queue import Reader, stretches
from .retire import CANCELLED, PAUSED
from .summaries import Look
from .tally import Tally
from .workspace import Workspace


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
    reader, fingerprints = Reader(workspace, known_kinds(), ItemCounts(workspace).of), Fingerprints(workspace)
    # Rows of a group stand together, so one group at a time is in memory; where they do not, its parts simply add up.
    for jobs in stretches(reader):
        try:
            look = Look(workspace, jobs)
            tally = look.remembered(fingerprints)
            if tally is None:
                tally = _count(workspace, jobs, fingerprints)
                look.keep(fingerprints, tally)
        except HeadstartError as error:  # one damaged folder must not hide the others
            tally = Tally.of(jobs)
            tally.unreadable = len(jobs)
            if str(error) not in status.problems:
                status.problems.append(str(error))
        status.folders.setdefault((jobs[0].kind, jobs[0].folder), Tally()).add(tally)
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
    for jobs in stretches(Reader(workspace, known_kinds())):
        listing = read_listing(workspace, jobs[0])
        for job in jobs:
            if job.job_id in listing.histories:
                yield job, listing.histories[job.job_id], job.job_id in listing.done
