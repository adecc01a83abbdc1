"""The one loop: while one job computes, the next is prepared and the last is committed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from .claims import Claim, Claimant
from .errors import (
    ExplainedError,
    HeadstartError,
    InterruptedWork,
    ItemHung,
    SourceGoneError,
    TimeIsUp,
    TryLaterError,
    WithdrawnWork,
    as_shortage,
    is_shortage,
    missing_packages_explained,
)
from .files import environment_faults
from .job import Job
from .kinds import Session, Settings, known_kinds, load_kind
from .markers import Marker, NotDone, PayloadStore, Result, commit, read_marker
from .memory import peak_rss_bytes
from .next_job import Frontier
from .observing import Observing
from .quarantine import DEATHS
from .queue import Reader
from .retire import REMOVED
from .stop import Stop
from .suspect import ITEM_S, SuspectSession
from .watchdog import TIMED_OUT, Watchdog
from .workspace import Workspace


@dataclass(frozen=True)
class Limits:
    """When a worker ends although work remains.

    Attributes:
        max_jobs: jobs to commit, None for no limit.
        seconds: no job is begun that would probably end later than this after the start; one that does is given back then.
        kinds: only jobs of these kinds, None for all.
        only: only these jobs, None for all.
        loop_s: instead of ending when nothing is left, look again after this time.
        block: jobs to claim at once, at most; see `next_job.Frontier`.
        job_timeout_s: a job without a sign of life for this time ends its worker; None means: by what other jobs took.
    """

    max_jobs: int | None = None
    seconds: float | None = None
    kinds: frozenset[str] | None = None
    only: frozenset[str] | None = None
    loop_s: float | None = None
    job_timeout_s: float | None = None
    block: int = 1


@dataclass(frozen=True)
class Finished:
    """What a reporter is told of one job."""

    job: Job
    items: int
    failed_items: int
    seconds: float
    is_mine: bool = True
    error: str | None = None
    note: str = ""  # what its kind says of all that is done so far


@dataclass
class Summary:
    jobs: int = 0
    items: int = 0
    failed_items: int = 0
    failed_jobs: int = 0
    seconds: float = 0.0
    is_drained: bool = False
    exit_code: int = 0
    problems: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what kinds say at the end of what is done
    is_source_gone: bool = False  # what was passed over may be there later


_POLL_S = 0.5  # at most between two looks at what others hold; while looks take no 50 ms, a tenth of the time goes into them
_QUICKEST_POLL_S = 0.05
_LOOK_S = 0.5  # between two looks at whether the job in hand was withdrawn


@dataclass(frozen=True)
class _InHand:
    """A claimed job on its way through the three steps."""

    claim: Claim
    session: Session
    fingerprint: str
    prepared: Future[Any]


class Worker:
    """Runs jobs until nothing is left, a limit is reached or a signal comes."""

    def __init__(
        self,
        workspace: Workspace,
        settings: Settings,
        limits: Limits,
        report: Callable[[Finished], None],
        objects: PayloadStore | None = None,
    ) -> None:
        """Args: objects: where payloads of kinds that allow it go, instead of the workspace."""
        self.workspace = workspace
        self.objects = objects
        self.settings = settings
        self.limits = limits
        self.report = report
        self.claimant = Claimant(workspace)
        self.stop = Stop(self.claimant.leave)
        self.frontier = Frontier(workspace, self.claimant, limits.kinds, limits.only, limits.block)
        self.watchdog = Watchdog(limits.job_timeout_s, settings.ram_bytes, self._end)
        self.summary = Summary()
        self.observing = Observing(workspace, settings)
        self._begun = time.monotonic()
        self._taken = 0
        self._longest_s = 0.0
        self._sessions: dict[tuple[str, str], Session] = {}
        self._refusal: HeadstartError | SourceGoneError | None = None
        self._in_hand: Job | None = None
        self._is_kept = False  # what the job in hand has done so far
        self._looked = 0.0
        self._withdrawn: dict[str, list[str]] = {}

    def run(self) -> Summary:
        """Works. Raises, and blames no job: TryLaterError if the disk is full or gone; HeadstartError or SourceGoneError if
        nothing could be done because models or data cannot be opened. Where other jobs could be done, that is one of the
        summary's problems."""
        try:
            with (
                self.watchdog,
                self.stop,
                self.claimant,
                contextlib.closing(self),
                ThreadPoolExecutor(1, "prepare") as preparing,
                ThreadPoolExecutor(1, "commit") as committing,
            ):
                try:
                    self._loop(preparing, committing)
                finally:
                    self.watchdog.watch_leaving()
        except (ExplainedError, OSError):
            self.workspace.require()  # where a mount is gone, whatever else is said is misleading
            raise
        if self._refusal is not None and not self.summary.jobs:
            raise self._refusal
        self.summary.seconds = time.monotonic() - self._begun
        self.summary.problems = [*self.frontier.problems, *self.frontier.unusable.values()]
        self.summary.is_source_gone = isinstance(self._refusal, SourceGoneError)
        self.summary.notes += self.observing.problems
        self.summary.exit_code = self.stop.exit_code
        return self.summary

    def close(self) -> None:
        self._close_sessions()
        self.observing.close()

    def _loop(self, preparing: ThreadPoolExecutor, committing: ThreadPoolExecutor) -> None:
        committed = _nothing_to_commit()
        current = self._take(preparing, wait=True)
        while current is not None and not self.stop.is_asked:
            if isinstance(current.session, SuspectSession):
                self._close_sessions()  # it runs alone: its child may need the memory, and nothing here may end it
                following = None
            else:
                following = self._take(preparing, wait=False)
            result = self._compute(current)
            committed.result()
            if result is not None:
                committed = committing.submit(self._commit, current, result)
            self._close_sessions(but=following)
            if following is None:
                committed.result()  # so that this worker never waits for a job that it holds itself
                following = self._take(preparing, wait=True)
            elif self.stop.is_asked:
                following = None  # its claim goes back when the worker leaves, which is now
            current = following
        committed.result()
        if not self.stop.is_asked:
            self.summary.notes += self.observing.ended()

    def _take(self, preparing: ThreadPoolExecutor, wait: bool) -> _InHand | None:
        while (claim := self._next_claim(wait)) is not None:
            try:
                session = self._suspect_session(claim) if claim.deaths >= DEATHS else self._session(claim.job)
            except (HeadstartError, SourceGoneError) as error:
                self._refuse(claim, error)
                continue
            self._taken += 1
            prepared = preparing.submit(session.prepare, claim.job)
            return _InHand(claim, session, self.frontier.fingerprint(claim.job), prepared)
        return None

    def _session(self, job: Job) -> Session:
        key = (job.folder, job.source)
        if key not in self._sessions:
            with missing_packages_explained():
                self._sessions[key] = load_kind(job.kind).open_session(self.workspace, job, self.settings)
        return self._sessions[key]

    def _suspect_session(self, claim: Claim) -> Session:
        item_s = self.limits.job_timeout_s or ITEM_S
        job_s = self.watchdog.limit_s(claim.job.folder)
        return SuspectSession(self.workspace, self.claimant, claim, self.settings, item_s, job_s)

    def _next_claim(self, wait: bool) -> Claim | None:
        claim = None if self._is_over() else self.frontier.next_claim()
        while claim is None and wait and not self._is_over():
            begun = time.monotonic()
            self.frontier.restart()
            claim = self.frontier.next_claim()
            if claim is not None:
                break
            if self.frontier.busy:  # whoever holds the last jobs may die
                self.stop.wait(min(_POLL_S, max(_QUICKEST_POLL_S, 10 * (time.monotonic() - begun))))
                continue
            self.summary.is_drained = True
            if self.limits.loop_s is None:
                break
            self.stop.wait(self.limits.loop_s)
            if isinstance(self._refusal, SourceGoneError):
                self.frontier.readmit()
                self._refusal = None
        return claim

    def _is_over(self) -> bool:
        if self.stop.is_asked or (self.limits.max_jobs is not None and self._taken >= self.limits.max_jobs):
            return True
        if self.limits.only is not None and not self._taken:
            return False  # whoever asked for these jobs would else wait for ever where starting up takes as long as the limit
        return self.limits.seconds is not None and time.monotonic() - self._begun + self._longest_s > self.limits.seconds

    def _compute(self, hand: _InHand) -> Result | None:
        self._in_hand, self._looked = hand.claim.job, 0.0  # its first sign of life looks, too
        self._is_kept = getattr(hand.session, "KEEPS_PROGRESS", False)  # see kinds.Resumable
        begun = time.monotonic()  # not when it was taken: it was prepared while another job computed
        try:
            with (
                environment_faults(f"cannot do {hand.claim.job.job_id}"),
                missing_packages_explained(),
                self.watchdog.watching(hand.claim),
            ):
                result = hand.session.compute(hand.prepared.result(), self._check)
        except InterruptedWork as interruption:
            self.claimant.release(hand.claim)
            if isinstance(interruption, WithdrawnWork):
                self._note_withdrawn(str(interruption), hand.claim.job)
            return None
        except (HeadstartError, SourceGoneError) as error:
            self._taken -= 1  # else jobs that cannot be done would use up --max-jobs, and a loop never reach the others
            self._refuse(hand.claim, error)
            return None
        except TryLaterError:
            raise  # leaving gives every claim back
        except ItemHung as hung:
            self._end(hand.claim, f"{hand.claim.job.job_id}: {hung}")
            raise
        except Exception as error:
            self.workspace.require()
            if is_shortage(error):
                raise as_shortage(f"cannot do {hand.claim.job.job_id}") from error
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            self.claimant.fail(hand.claim, reason)
            self.summary.failed_jobs += 1
            self.report(Finished(hand.claim.job, 0, 0, 0.0, error=reason))
            return None
        seconds = time.monotonic() - begun
        self._longest_s = max(self._longest_s, seconds)
        if not isinstance(hand.session, SuspectSession):
            self.watchdog.finished(hand.claim.job.folder, seconds)
        return with_usage(result, seconds, self.claimant.owner.worker)

    def _refuse(self, claim: Claim, error: HeadstartError | SourceGoneError) -> None:
        """The encoder or the data is to blame, and not this job."""
        self.workspace.require()
        self.claimant.release(claim)
        self.frontier.refuse(claim.job, str(error))
        if self._refusal is None or isinstance(error, SourceGoneError):  # what may be there later decides how this worker ends
            self._refusal = error

    def _check(self) -> None:
        self.watchdog.sign_of_life()
        self.stop.check()
        now = time.monotonic()
        if self.limits.seconds is not None and now - self._begun > self.limits.seconds and (self.summary.jobs or self._is_kept):
            raise TimeIsUp
        if now - self._looked > _LOOK_S and self._in_hand is not None:
            self._looked = now
            withdrawal = self.frontier.watch.now().of(self._in_hand)
            if withdrawal is not None:
                raise WithdrawnWork(f"{withdrawal.why} was {withdrawal.state}")

    def _end(self, at_fault: Claim | None, reason: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"{reason}; this worker ends itself\n".encode())
        if at_fault is not None:
            self.claimant.leave(at_fault)
        os._exit(TIMED_OUT)

    def _commit(self, hand: _InHand, result: Result) -> None:
        withdrawal = self.frontier.watch.now().of(hand.claim.job)
        if withdrawal is not None and withdrawal.state == REMOVED:  # its files are about to go; nothing may come after them
            self.claimant.release(hand.claim)
            self._note_withdrawn(f"{withdrawal.why} was {REMOVED}", hand.claim.job)
            return
        objects = self.objects
        if objects is not None and not getattr(load_kind(hand.claim.job.kind), "PAYLOADS_IN_OBJECTS", False):
            objects = None
        is_mine = commit(self.workspace, hand.claim.job, hand.fingerprint, result, objects)
        self.claimant.release(hand.claim)
        failed = len(result.failed)
        if is_mine:
            self.summary.jobs += 1
            self.summary.items += result.items
            self.summary.failed_items += failed
        note = "" if self.stop.is_asked else self.observing.finished(hand.claim.job)
        self.report(Finished(hand.claim.job, result.items, failed, result.facts["seconds"], is_mine, note=note))

    def _note_withdrawn(self, what: str, job: Job) -> None:
        """One line for all jobs in hand that went for one reason."""
        self._withdrawn.setdefault(what, []).append(job.job_id)
        self.summary.withdrawn = [
            f"{reason}; {', '.join(jobs)} {'is' if len(jobs) == 1 else 'are'} given back"
            for reason, jobs in list(self._withdrawn.items())
        ]

    def _close_sessions(self, but: _InHand | None = None) -> None:
        # At most one model stays in memory: what the next job does not need goes before that job begins.
        for key, session in list(self._sessions.items()):
            if but is None or session is not but.session:
                session.close()
                del self._sessions[key]


def _nothing_to_commit() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future


def with_usage(result: Result, seconds: float, worker: str | None = None) -> Result:
    """The same result, with what it took, when it ended and who made it among its facts, which enter no identity."""
    who = {} if worker is None else {"worker": worker}
    when = {"seconds": round(seconds, 3), "ended_at": round(time.time(), 3)}
    # In suspect mode the peak is told by the child.
    return replace(result, facts={"peak_rss_bytes": peak_rss_bytes(), **result.facts, **when, **who})


def run_job(workspace: Workspace, job_id: str, settings: Settings | None = None) -> Marker:
    """Does one job, wherever it runs: verifies, works if needed, commits. It needs no claim and no other worker harms it.

    Raises: HeadstartError if the queue has no such job; what the job itself raises, unchanged.
    """
    job = next((job for job in Reader(workspace, known_kinds()) if job.job_id == job_id), None)
    if job is None:
        raise HeadstartError(f"{workspace.queue} has no {job_id}. See what it has: headstart status")
    kind = load_kind(job.kind)
    fingerprint = kind.fingerprint(workspace, job.folder)
    with contextlib.suppress(NotDone):
        return read_marker(workspace, job, fingerprint)
    begun = time.monotonic()
    with contextlib.closing(kind.open_session(workspace, job, settings or Settings())) as session:
        result = session.compute(session.prepare(job), lambda: None)
    commit(workspace, job, fingerprint, with_usage(result, time.monotonic() - begun))
    return read_marker(workspace, job, fingerprint)
