"""Gives jobs a new life: quarantine is forgiven, a marker that records failed items is retired. Nothing is erased."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from . import paths
from .claims import forgive
from .doors import reading
from .errors import HeadstartError
from .files import environment_faults
from .job import Job
from .kinds import Fingerprints, known_kinds
from .markers import NotDone, PayloadStore, read_marker
from .next_job import read_listing
from .quarantine import NO_HISTORY
from .queue import Reader
from .workspace import Workspace


def retry(workspace: Workspace, job_ids: frozenset[str] | None) -> list[Job]:
    """Makes jobs pending again; returns them.

    Args:
        job_ids: which jobs; None for every one that is quarantined or has failed items.

    Raises: HeadstartError if one is not in the queue, or lies in a damaged folder; the others are pending then.
    """
    revived, damaged = [], []
    unknown = set(job_ids or ())
    fingerprints = Fingerprints(workspace)
    for job in Reader(workspace, known_kinds()):
        if job_ids is None or job.job_id in job_ids:
            unknown.discard(job.job_id)
            try:
                if _revive(workspace, job, fingerprints):
                    revived.append(job)
            except HeadstartError as error:
                damaged.append(error)
    if damaged:
        raise damaged[0]
    if unknown:
        raise HeadstartError(f"{min(unknown)} is not in {workspace.queue}. See what is: headstart status --failed")
    return revived


def _revive(workspace: Workspace, job: Job, fingerprints: Fingerprints) -> bool:
    history = read_listing(workspace, job).histories.get(job.job_id, NO_HISTORY)
    seen = bytes_of(workspace, job)
    try:
        marker = read_marker(workspace, job, fingerprints.of(job))
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
    retire(workspace, job, seen)
    return True


def reopen(workspace: Workspace, job: Job, objects: PayloadStore | None = None) -> None:
    """Makes a torn job pending, unless somebody has mended it since: a payload of the right size would pass for done.

    Args: objects: as of `verify.verify`.
    """
    seen = bytes_of(workspace, job)
    try:
        marker = read_marker(workspace, job, Fingerprints(workspace).of(job), deep=True)
        if objects is not None:
            objects.require(workspace, marker, deep=True)
    except NotDone:
        retire(workspace, job, seen)
        history = read_listing(workspace, job).histories.get(job.job_id, NO_HISTORY)
        if history.failures:
            forgive(workspace, job, history)


def retire(workspace: Workspace, job: Job, seen: bytes | None) -> None:
    """Makes a done job pending; the marker stays beside its place under another name.

    Args:
        seen: what the marker said when it was read; one that says something else now is left alone.
    """
    marker = workspace.marker(job)
    with contextlib.suppress(FileNotFoundError):
        retired = next(_unused(workspace, job))
        paths.rename(marker, retired)
        # Looked at after the move: whoever was stopped between the look and the move must not undo what others mended since.
        moved = reading.read(retired) if paths.is_file(retired) else None
        if moved is not None and moved != seen:
            workspace.files.publish(marker, moved)
            paths.remove(retired)
        workspace.files.sync_folder(marker.parent)


def bytes_of(workspace: Workspace, job: Job) -> bytes | None:
    """What the marker of `job` says, for `retire`; None if there is none that can be read."""
    marker = workspace.marker(job)
    try:
        with environment_faults(f"cannot read {marker}"):
            return reading.read(marker)
    except (OSError, reading.UnreadableError, paths.LinkError):
        return None


def _unused(workspace: Workspace, job: Job) -> Iterator[Path]:
    marker = workspace.marker(job)
    for number in range(1, 1_000_000):
        path = marker.with_name(f"{marker.name}.retired{number}")
        if not paths.exists(path):
            yield path
