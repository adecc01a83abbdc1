"""What `headstart verify` does, as one call; asked to repair, torn jobs are done again, leftovers of the dead removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from .job import Job
from .kinds import Settings
from .markers import PayloadStore
from .retry import reopen
from .verify import Findings, sweep, verify
from .worker import Finished, Limits, Worker
from .workspace import Workspace


class Repaired(NamedTuple):
    """What a repair mended.

    Attributes:
        redone: jobs that were torn and are sound now.
        removed: leftover files that are gone.
        interrupted: exit status of the signal that ended it early, else 0.
    """

    redone: int = 0
    removed: int = 0
    interrupted: int = 0


@dataclass(frozen=True)
class Verified:
    """What stands in a workspace, and what was mended.

    Attributes:
        findings: from before anything was mended.
    """

    findings: Findings
    repaired: Repaired

    @property
    def still_torn(self) -> int:
        """Jobs."""
        return len(self.findings.torn) - self.repaired.redone

    @property
    def exit_code(self) -> int:
        """Of the command: 1 if something is torn and was not mended, or the queue has a problem."""
        return self.repaired.interrupted or (1 if self.still_torn or self.findings.problems else 0)


def verify_all(
    workspace: Workspace,
    deep: bool = False,
    repairs: bool = False,
    settings: Settings | None = None,
    report: Callable[[Finished], None] = lambda finished: None,
    objects: str | None = None,
) -> Verified:
    """Compares every marker with its payload, and mends what is torn or left over if asked.

    Args:
        deep: compare every byte, not only sizes.
        settings: how torn jobs are done again; report: called for each of them.
        objects: URL of the object store that payloads were put into: they are looked at, and put there again.
    """
    store = None
    if objects is not None:
        from .objects import open_objects

        store = open_objects(objects)
    findings = verify(workspace, deep, store)
    return Verified(findings, repair(workspace, findings, deep, settings, report, store) if repairs else Repaired())


def repair(
    workspace: Workspace,
    findings: Findings,
    deep: bool = False,
    settings: Settings | None = None,
    report: Callable[[Finished], None] = lambda finished: None,
    objects: PayloadStore | None = None,
) -> Repaired:
    """Mends what `verify` listed, and looks again. A job that somebody has mended since is left alone.

    Args:
        deep: also compare every byte when looking again.
        report: called for each job that was done again.
    """
    torn = {job for job, _ in findings.torn}
    interrupted = _redo(workspace, sorted(torn), settings or Settings(), report, objects) if torn else 0
    after = verify(workspace, deep, objects) if torn else findings
    return Repaired(len(torn & after.sound_jobs), sweep(after.orphans), interrupted)


def _redo(
    workspace: Workspace, torn: list[Job], settings: Settings, report: Callable[[Finished], None], objects: PayloadStore | None
) -> int:
    for job in torn:
        reopen(workspace, job, objects)
    limits = Limits(only=frozenset(job.job_id for job in torn))
    return Worker(workspace, settings, limits, report, objects).run().exit_code
