"""Suspect mode: a job whose workers died is done in a child, after its items were tried one by one.

A worker's death proves nothing: it may have been the machine, an impatient person, or the job beside this one. So it only
decides where the job runs next. What counts is what a living worker saw of its child: an item that ended two children in a
row is a killer and fails alone; a job whose children end though no item does is an attempt that failed, like any other error.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from .child import Child, ChildEnded
from .claims import Claim, Claimant
from .errors import HeadstartError, SourceGoneError, TryLaterError
from .job import Job
from .kinds import Settings, kind_folders
from .markers import FailedItem, Result
from .memory import available_bytes
from .watchdog import memory_limit
from .workspace import Workspace

OBSERVATIONS = 2  # then an item is a killer: one child alone may have been ended by somebody else
ITEM_S = 30.0
ITEM_BYTES, LEAST_ITEM_BYTES = 4 * 2**30, 2 * 2**30  # the largest image that is decoded takes 1.5 GB
_MEMORY_SHARE = 0.8


class SuspectSession:
    """Does one job as its kind's own session would, but in children. A `kinds.Session`.

    Args:
        item_s: how long one item may take.
        job_s: how long the job may show no sign of life.
    """

    def __init__(
        self, workspace: Workspace, claimant: Claimant, claim: Claim, settings: Settings, item_s: float, job_s: float
    ) -> None:
        self._workspace = workspace
        self._claimant = claimant
        self._claim = claim
        self._settings = settings
        self._item_s = item_s
        self._job_s = job_s

    def prepare(self, job: Job) -> Job:
        """Nothing: whatever is dangerous waits for a child."""
        return job

    def compute(self, job: Job, check: Callable[[], None]) -> Result:
        """The same bytes as from the kind's own session, but for items that are killers.

        Raises: ChildEnded if the job ends its process although no item does alone; what the kind raises, as it is told.
        """
        killers = dict(self._claim.killers)
        self._examine(job, killers, check)
        with self._opened(job, check) as (child, _):
            head, payload = _answer(child, {"killers": list(killers.items())}, self._job_s, None, check)
        failed = tuple(FailedItem(**item) for item in head["failed"])
        facts = {**head["facts"], "deaths": self._claim.deaths}
        return Result(payload, head["suffix"], head["arrays"], head["items"], head["ok"], failed, facts)

    def close(self) -> None:
        """Nothing is open between jobs."""

    def _examine(self, job: Job, killers: dict[int, str], check: Callable[[], None]) -> None:
        """Finds the items that end a process, each in a child that it has to itself from then on."""
        left = [item for item in range(job.start, job.stop) if item not in killers]
        ended = 0
        memory = _item_memory(self._settings.ram_bytes)
        while left:
            with self._opened(job, check) as (child, examines):
                if not examines:
                    return
                try:
                    while left:
                        _answer(child, {"item": left[0]}, self._item_s, memory, check)
                        del left[0]
                        ended = 0
                except ChildEnded as end:
                    ended += 1
                    if ended == OBSERVATIONS:
                        killers[left[0]] = str(end)
                        self._claimant.mark_dead(self._claim, left.pop(0), str(end))
                        ended = 0

    @contextmanager
    def _opened(self, job: Job, check: Callable[[], None]) -> Iterator[tuple[Child, bool]]:
        order = {
            "kinds": kind_folders(),
            "workspace": str(self._workspace.root),
            "job": list(job),
            "settings": asdict(self._settings),
        }
        with Child("headstart.pipeline.suspect_child") as child:
            head, _ = _answer(child, order, self._job_s, None, check)
            yield child, head["examines"]


class JobError(Exception):
    """What the kind raised in a child."""


def _answer(
    child: Child, request: dict[str, Any], seconds: float, memory: int | None, check: Callable[[], None]
) -> tuple[dict[str, Any], bytes]:
    head, body = child.ask(request, seconds, memory, check)
    if "error" not in head:
        return head, body
    for kind in (SourceGoneError, TryLaterError, HeadstartError):
        if head.get("kind") == kind.__name__:
            raise kind(head["error"])
    raise JobError(head["error"])


def _item_memory(ram_bytes: int | None) -> int:
    wanted = ITEM_BYTES if ram_bytes is None else max(LEAST_ITEM_BYTES, memory_limit(ram_bytes))
    return min(wanted, int(_MEMORY_SHARE * available_bytes()))
