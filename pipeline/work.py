"""What `headstart work` does, as one call: runs jobs, then says where the queue stands and whether to come back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .errors import HeadstartError, TryLaterError
from .kinds import Settings, known_kinds
from .status import Status, read_status
from .worker import Finished, Limits, Summary, Worker
from .workspace import Workspace

if TYPE_CHECKING:
    from .supervisor import Supervision

COME_BACK = 10  # exit status: jobs remain that another run would do


@dataclass(frozen=True)
class Worked:
    """What one run did, and where the queue stood at its end.

    Attributes:
        summary: of this worker alone.
        status: of the whole workspace.
        quarantined, remaining: jobs of the kinds that this run was for.
    """

    summary: Summary
    status: Status
    quarantined: int
    remaining: int

    @property
    def is_all_done(self) -> bool:
        """Whether there were jobs and nothing is left of them to do or to mend."""
        return bool(self.status.folders) and self.summary.is_drained and not self.remaining and not self.quarantined

    def exit_code(self, tells_remaining: bool = False) -> int:
        """The exit status of a command.

        Args:
            tells_remaining: 10 if jobs remain, and 1 if only quarantined ones do, so that a shell loop knows.
        """
        if self.summary.exit_code:
            return self.summary.exit_code
        if tells_remaining and self.remaining and not self.summary.is_drained:
            # Although there may be problems: they hold up their own jobs alone, and whoever drains the queue reports them.
            return COME_BACK
        if self.summary.problems or (tells_remaining and self.quarantined and not self.remaining):
            # What was passed over may be there later, or more runs of the same command would change nothing.
            return TryLaterError.exit_code if self.summary.is_source_gone else 1
        return COME_BACK if tells_remaining and self.remaining else 0  # what was enqueued since the queue was drained


def work(
    workspace: Workspace,
    settings: Settings | None = None,
    limits: Limits | None = None,
    report: Callable[[Finished], None] = lambda finished: None,
    supervision: Supervision | None = None,
    objects: str | None = None,
) -> Worked:
    """Runs jobs until nothing is left, or a limit is reached.

    Args:
        report: called for each job that this worker ended, from whatever thread ended it.
        supervision: of a worker that may have had predecessors; the limits are those of all of them together.
        objects: URL of an object store that takes the payloads of kinds that allow it, see `objects.open_objects`.

    Raises: HeadstartError if `limits` names a kind that there is not; whatever `Worker.run` raises.
    """
    limits = limits or Limits()
    unknown = (limits.kinds or frozenset()) - known_kinds()
    if unknown:
        raise HeadstartError(f"unknown kind of job {min(unknown)!r}; there are {', '.join(sorted(known_kinds()))}")

    def count(finished: Finished) -> None:
        if supervision is not None and finished.error is None:
            supervision.job_finished()
        report(finished)

    store = None
    if objects is not None:
        from .objects import open_objects

        store = open_objects(objects)
    summary = Worker(workspace, settings or Settings(), _left_of(limits, supervision), count, store).run()
    status = read_status(workspace)
    mine = [tally for (kind, _), tally in status.folders.items() if limits.kinds is None or kind in limits.kinds]
    return Worked(summary, status, sum(tally.quarantined for tally in mine), sum(tally.pending + tally.running for tally in mine))


def _left_of(limits: Limits, supervision: Supervision | None) -> Limits:
    """What the predecessors left of the limits."""
    if supervision is None:
        return limits
    return replace(
        limits,
        max_jobs=None if limits.max_jobs is None else limits.max_jobs - supervision.jobs,
        seconds=None if limits.seconds is None else limits.seconds + supervision.begun - time.monotonic(),
    )
