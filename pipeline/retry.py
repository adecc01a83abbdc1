"""Gives jobs a new life: quarantine is forgiven, a marker that records failed items is retired. Nothing is erased."""

import contextlib
import os
from collections.abc import Iterator

from .claims import forgive
from .errors import HeadstartError
from .frontier import read_listing
from .history import NO_HISTORY
from .job import Job
from .kinds import known_kinds, load_kind
from .markers import NotDone, read_marker
from .queue import Reader
from .workspace import Workspace


def retry(workspace: Workspace, job_ids: frozenset[str] | None) -> list[Job]:
    """Makes jobs pending again; returns them.

    Args:
        job_ids: which jobs; None for every one that is quarantined or has failed items.

    Raises: HeadstartError if one is not in the queue.
    """
    revived = []
    unknown = set(job_ids or ())
    for job in Reader(workspace, known_kinds()):
        if job_ids is None or job.job_id in job_ids:
            unknown.discard(job.job_id)
            if _revive(workspace, job):
                revived.append(job)
    if unknown:
        raise HeadstartError(f"{min(unknown)} is not in {workspace.queue}. See what is: headstart status --failed")
    return revived


def _revive(workspace: Workspace, job: Job) -> bool:
    history = read_listing(workspace, job).histories.get(job.job_id, NO_HISTORY)
    try:
        marker = read_marker(workspace, job, load_kind(job.kind).fingerprint(workspace, job.folder))
    except NotDone:
        if not history.failures:
            return False
        forgive(workspace, job, history)
        return True
    if not marker.failed:
        return False
    # Forgiven first: an image that ended a process would else stay out although it may be mended now.
    if history.last:
        forgive(workspace, job, history)
    retire(workspace, job)
    return True


def reopen(workspace: Workspace, job: Job) -> None:
    """Makes a torn job pending, unless somebody has mended it since: a payload of the right size would pass for done."""
    try:
        read_marker(workspace, job, load_kind(job.kind).fingerprint(workspace, job.folder), deep=True)
    except NotDone:
        retire(workspace, job)
        history = read_listing(workspace, job).histories.get(job.job_id, NO_HISTORY)
        if history.failures:
            forgive(workspace, job, history)


def retire(workspace: Workspace, job: Job) -> None:
    """Makes a done job pending; the marker stays beside its place under another name."""
    marker = workspace.marker(job)
    with contextlib.suppress(FileNotFoundError):
        os.replace(marker, next(_unused(workspace, job)))
        workspace.files.sync_folder(marker.parent)


def _unused(workspace: Workspace, job: Job) -> Iterator[os.PathLike[str]]:
    marker = workspace.marker(job)
    for number in range(1, 1_000_000):
        path = marker.with_name(f"{marker.name}.retired{number}")
        if not path.exists():
            yield path
