"""Finds what is torn, missing or left over, and sweeps it if asked."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import paths
from .blocks import span_of
from .claims import LEASE_S, read_owner
from .errors import HeadstartError
from .files import TEMPORARY_PREFIX, is_abandoned
from .job import Job
from .kinds import Fingerprints, ItemCounts, known_kinds
from .liveness import is_alive
from .markers import NotDone, PayloadStore, read_marker
from .quarantine import is_claim
from .queue import Reader
from .retire import read_withdrawn
from .workspace import Workspace

_MOST_LINKS = 10


@dataclass
class Findings:
    """The state of every file of a workspace.

    Attributes:
        sound_jobs: jobs whose marker and payload fit.
        pending: jobs nobody has finished.
        torn: jobs whose marker or payload lies, with the reason.
        orphans: files nobody needs: temporaries, payloads no marker names, claims and worker files of the dead.
        problems: what is wrong with the queue.
    """

    sound_jobs: set[Job] = field(default_factory=set)
    pending: int = 0
    torn: list[tuple[Job, str]] = field(default_factory=list)
    orphans: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def sound(self) -> int:
        return len(self.sound_jobs)


def verify(workspace: Workspace, deep: bool = False, objects: PayloadStore | None = None) -> Findings:
    """Looks at every marker and payload of the queue.

    Args:
        deep: also at every byte of every payload.
        objects: look there, too, for what no copy in the workspace stands for; None: no store is asked.
    """
    findings, begun = Findings(), time.time()
    reader, fingerprints = Reader(workspace, known_kinds(), ItemCounts(workspace).of), Fingerprints(workspace)
    folders: set[str] = set()
    unfinished: set[tuple[str, str]] = set()
    finished: set[tuple[str, str]] = set()
    named: set[Path] = set()
    damaged: dict[str, None] = {}
    for job in reader:
        folders.add(job.folder)
        unfinished.add((job.folder, job.job_id))
        try:
            marker = read_marker(workspace, job, fingerprints.of(job), deep)
            if objects is not None:
                objects.require(workspace, marker, deep)
        except NotDone as flaw:
            if flaw.is_absent:
                findings.pending += 1
            else:
                findings.torn.append((job, str(flaw)))
            continue
        except HeadstartError as error:  # one damaged folder, or a newer version's marker, must not hide the others
            damaged.setdefault(str(error))
            continue
        findings.sound_jobs.add(job)
        unfinished.discard((job.folder, job.job_id))
        finished.add((job.folder, job.job_id))
        named.add(marker.payload)
    findings.problems = [*reader.problems, *damaged, *_unlisted(workspace, unfinished | finished, reader)]
    for folder in folders:
        # A job whose row was lost gets it back from its marker; without one, nobody will ever ask for what it left.
        marked = {(folder, path.stem) for path in paths.matching(workspace.root / folder, "done/*/job_*.done")}
        unfinished |= marked - finished
    # A folder with a leftover's name was made by somebody else, and may hold anything.
    leftovers = _orphans(workspace, sorted(folders), unfinished, named, begun)
    findings.orphans = sorted(path for path in leftovers if not paths.is_folder(path))
    findings.problems += _links(workspace)
    return findings


def sweep(orphans: list[Path]) -> int:
    """Removes orphans; returns how many."""
    removed = 0
    for path in orphans:
        with contextlib.suppress(FileNotFoundError):
            paths.remove(path)
            removed += 1
    return removed


def _links(workspace: Workspace) -> list[str]:
    links = [path for path in paths.walk(workspace.root) if paths.is_link(path)]
    shown = [f"{path} is a symbolic link: what lies behind it is no part of the workspace" for path in links[:_MOST_LINKS]]
    return [*shown, f"and {len(links) - _MOST_LINKS:,} more links"] if len(links) > _MOST_LINKS else shown


def _unlisted(workspace: Workspace, listed: set[tuple[str, str]], reader: Reader) -> list[str]:
    """Results that no row of the queue asks for: a row is gone, or says something else by now."""
    known = (
        listed | {(job.folder, job.job_id) for job, _ in reader.withdrawn} | {(job.folder, job.job_id) for job in reader.foreign}
    )
    withdrawn = read_withdrawn(workspace)
    lost = [
        path
        for path in paths.matching(workspace.root, "*/*/done/*/job_*.done")
        if (workspace.relative(path.parent.parent.parent), path.stem) not in known and not withdrawn.is_removed(path.stem)
    ]
    if not lost:
        return []
    more = f" and {len(lost) - 1:,} more" if len(lost) > 1 else ""
    return [f"{workspace.queue.name} has no row for {lost[0]}{more}; the next enqueue of the same data restores what was there"]


def _orphans(
    workspace: Workspace, folders: list[str], unfinished: set[tuple[str, str]], named: set[Path], begun: float
) -> Iterator[Path]:
    for folder in folders:
        root = workspace.root / folder
        # The payload of a job under way stands there before its marker; what no marker names then, nobody needs.
        for path in paths.matching(root, "shards/*/job_*"):
            # Old when the markers were read: what was committed since then is named by one that was not.
            if path not in named and (folder, path.name.split(".")[0]) not in unfinished and _is_old(path, begun):
                yield path
        for path in paths.matching(root, "claims/*/job_*"):
            if is_claim(path.name) and (folder, path.name.split(".")[0]) not in unfinished and not _is_owned(path):
                yield path
        for path in paths.matching(root, "claims/*/blocks/jobs_*"):
            if span_of(path.name) is not None and not _is_owned(path):
                yield path
    for path in (path for path in paths.walk(workspace.root) if path.name.startswith(TEMPORARY_PREFIX)):
        abandoned = is_abandoned(path)
        if _is_old(path) if abandoned is None else abandoned:
            yield path
    for path in paths.matching(workspace.workers, "*.json"):
        if not _is_owned(path):
            yield path


def _is_owned(path: Path) -> bool:
    """Whether the worker that a claim or worker file names may still be alive."""
    try:
        owner = read_owner(path)
    except FileNotFoundError:
        return True  # gone by itself
    alive = is_alive(owner) if owner is not None else None
    return not _is_old(path) if alive is None else alive


def _is_old(path: Path, now: float | None = None) -> bool:
    try:
        return (time.time() if now is None else now) - paths.stat(path).st_mtime > LEASE_S
    except FileNotFoundError:
        return False
