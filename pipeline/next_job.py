"""Which job comes next: the queue minus what the files say is done, claimed or quarantined."""

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from . import paths
from .blocks import Span, read_spans
from .claims import Block, Claim, Claimant
from .errors import ExplainedError, HeadstartError
from .files import environment_faults
from .job import JOBS_PER_GROUP, Job
from .kinds import Fingerprints, ItemCounts, known_kinds
from .markers import GroupMarkers, NotDone, read_marker
from .quarantine import NO_HISTORY, History, read_histories
from .queue import Reader, stretches
from .retire import Watch
from .summaries import Look, finished_spans
from .tally import Tally
from .workspace import Workspace

_LISTING_S = 1.0
_BLOCK_S = 5.0  # of work a block is to hold
_KEPT_S = 10.0  # then what nobody has begun of it goes back: jobs were slower than those before
_FIRST_BLOCK, _KNOWN_JOBS = 8, 4
_MANY_GROUPS = 16
_LEFT_GROUPS = 4  # that a worker walked on from before they were finished, and looks at again
_SUMMARIZING_S, _SUMMARIZING_SHARE = 5.0, 0.02  # of a worker's time, beside what it takes to see that nothing is left


@dataclass(frozen=True)
class Listing:
    """Names in one group's folders at one moment. Old listings cost a wasted try, never a wrong result."""

    done: frozenset[str]
    histories: dict[str, History]
    taken_at: float
    blocks: tuple[Span, ...] = ()

    def is_in_block(self, job: Job) -> bool:
        """Whether a block claim has the job, of a living worker or a dead one."""
        return any(span.covers(job.number) for span in self.blocks)


class Pass(Enum):
    FRESH = "never tried"
    TRIED = "tried before: last, so that a job that kills its worker holds up nobody"
    MARKED = "marked as done, or passed over: verified before anybody says that nothing is left"


class Frontier:
    """Hands out claims, one after the other, until nothing is left that could be claimed now.

    Attributes:
        problems: what is wrong with the queue, one line each.
        busy: jobs that somebody else held when last seen, or that failed a moment ago.
        unusable: folders, sources or jobs that cannot be worked on, and why; they hold up nobody else.
        watch: which jobs were withdrawn.

    Args:
        block: claim up to so many jobs at once, as many as take about five seconds. More than one also makes workers begin
            at different places of the queue, where each sees blocks that nobody else reaches for.
    """

    def __init__(
        self,
        workspace: Workspace,
        claimant: Claimant,
        kinds: frozenset[str] | None,
        only: frozenset[str] | None,
        block: int = 1,
    ) -> None:
        self.workspace = workspace
        self.claimant = claimant
        self.kinds = kinds
        self.only = only
        self.problems: list[str] = []
        self.busy: set[str] = set()
        self.unusable: dict[str, str] = {}
        self._fingerprints = Fingerprints(workspace)
        self._refused: set[tuple[str, str]] = set()
        self._listings: dict[tuple[str, str], Listing] = {}
        self._verified: set[str] = set()
        self._markers: tuple[str, str, paths.Held] | None = None  # of the group that was looked at last
        self.watch = Watch(workspace)
        self._most = block
        self._block: Block | None = None
        self._looked_at: deque[tuple[Job, History, Pass]] = deque()  # taken from the stream too early
        self._paces: deque[float] = deque(maxlen=16)
        self._begun, self._summarizing_s = time.monotonic(), 0.0
        self._left: deque[list[Job]] = deque(maxlen=_LEFT_GROUPS)
        self._stream = self._candidates(turned=block > 1)

    def next_claim(self) -> Claim | None:
        """A job nobody has finished and nobody alive holds, now held by this worker; None if there is none at present."""
        self._paces.append(time.monotonic())
        while (claim := self._next_of_block()) is None and (candidate := self._next_candidate()) is not None:
            job, history, wanted = candidate
            if self.watch.now().of(job):  # since this pass over the queue began
                continue
            if wanted is Pass.FRESH and (size := self._block_size()) > 1:
                jobs = [job, *self._followers(job, size - 1)]
                self._block = self.claimant.acquire_block(jobs)
                mine = self._block.waiting if self._block is not None else ()
                self.busy.update(job.job_id for job in jobs if job not in mine)
                continue
            if self._listing(job).is_in_block(job) and self.claimant.is_in_block(job):
                self.busy.add(job.job_id)
                continue
            claim = None if self.claimant.is_too_soon(job, history) else self.claimant.acquire(job, history)
            if claim is None:
                self.busy.add(job.job_id)
            elif self._is_done(job):  # finished between the look and the claim
                self.claimant.release(claim)
            else:
                return claim
        return claim

    def _next_of_block(self) -> Claim | None:
        block = self._block
        if block is None:
            return None
        if block.is_begun and time.monotonic() - block.taken_at > _KEPT_S:
            self._looked_at.extendleft((job, NO_HISTORY, Pass.FRESH) for job in reversed(self.claimant.take_apart(block)))
            self._block = None
            return None
        while (claim := self.claimant.next_of(block)) is not None:
            if not self.watch.now().of(claim.job) and not self._is_refused(claim.job):
                return claim
            self.claimant.release(claim)
        self._block = None
        return None

    def _next_candidate(self) -> tuple[Job, History, Pass] | None:
        return self._looked_at.popleft() if self._looked_at else next(self._stream, None)

    def _followers(self, first: Job, count: int) -> Iterator[Job]:
        """Up to so many jobs that come next and may be in one block with `first`."""
        last = first
        for _ in range(count):
            candidate = self._next_candidate()
            if candidate is None:
                return
            job, _, wanted = candidate
            if wanted is not Pass.FRESH or job[1:4] != first[1:4] or job.group != first.group or job.number < last.number:
                self._looked_at.appendleft(candidate)
                return
            yield job
            last = job

    def _block_size(self) -> int:
        """As many as take about five seconds, by how fast jobs were asked for; the first of a worker are a few."""
        if len(self._paces) <= _KNOWN_JOBS:
            return min(self._most, _FIRST_BLOCK)
        pace_s = (self._paces[-1] - self._paces[0]) / (len(self._paces) - 1)
        return min(self._most, max(1, int(_BLOCK_S / max(pace_s, 1e-6))))

    def restart(self) -> None:
        """Looks at the whole queue again: others may have died, or enqueued more."""
        self._listings.clear()
        self.busy.clear()
        self._looked_at.clear()
        self._stream = self._candidates()

    def refuse(self, job: Job, reason: str) -> None:
        """From now on no job of this folder and source is handed out: what they share cannot be opened or used."""
        self._refused.add((job.folder, job.source))
        self.unusable[f"{job.folder} {job.source}"] = reason

    def readmit(self) -> None:
        """Hands out jobs of all folders and sources again: those that were gone may be there now."""
        self._refused.clear()
        self.unusable.clear()

    def fingerprint(self, job: Job) -> str:
        return self._fingerprints.of(job)

    def _candidates(self, turned: bool = False) -> Iterator[tuple[Job, History, Pass]]:
        """Args: turned: begin somewhere in the queue, and come to what is before it at its end."""
        begin = self._somewhere() if turned else 0
        finished = finished_spans(self.workspace, self._fingerprints)
        passes: list[tuple[Pass, bool | None]] = [(Pass.TRIED, None), (Pass.MARKED, None)]
        for wanted, is_before in [(Pass.FRESH, False), *([(Pass.FRESH, True)] if begin else []), *passes]:
            # Summaries decide where to look first, and never that a job is done: the last pass passes over nothing.
            passed_over: list[Span] = [] if wanted is Pass.MARKED else finished
            # Read anew for each pass rather than kept: a million jobs are half a gigabyte of objects.
            reader = Reader(self.workspace, known_kinds(), ItemCounts(self.workspace).of, passed_over=passed_over)
            for jobs in stretches(reader):
                mine = [job for job in jobs if not begin or is_before is None or (job.number < begin) is is_before]
                mine = [job for job in mine if self._is_asked_for(job)]
                if wanted is Pass.MARKED:
                    self._verify(jobs, mine)
                for job in mine:
                    if self._is_refused(job) or not self._is_usable(job):
                        continue
                    listing = self._listing(job)
                    history = listing.histories.get(job.job_id, NO_HISTORY)
                    belongs_to = self._pass_of(job, listing, history)
                    if history.is_quarantined or belongs_to is None:
                        continue
                    if belongs_to is wanted:
                        if wanted is not Pass.MARKED or not self._is_done(job):
                            yield job, history, wanted
                    elif wanted is Pass.MARKED and finished:
                        yield job, history, belongs_to  # it was passed over, and should not have been
                if mine and wanted is not Pass.MARKED:
                    self._summarize(jobs)
            if not passed_over:
                self.problems = reader.problems

    def _is_asked_for(self, job: Job) -> bool:
        return (self.kinds is None or job.kind in self.kinds) and (self.only is None or job.job_id in self.only)

    def _verify(self, jobs: list[Job], mine: list[Job]) -> None:
        """Reads the markers in a stretch that this worker has not seen yet; where all of them count, they become a summary.

        Args: mine: those that this worker was asked for.
        """
        if not mine or self._is_refused(mine[0]) or not self._is_usable(mine[0]):
            return
        look, done = Look(self.workspace, jobs), self._listing(mine[0]).done
        markers = GroupMarkers(self.workspace, mine[0], self.fingerprint(mine[0]))
        tally = Tally.of(jobs)
        for job in mine:
            if job.job_id in done and job.job_id not in self._verified:
                with contextlib.suppress(NotDone, HeadstartError):  # of these `_is_done` says more
                    tally.add_done(markers.counts(job))
                    self._verified.add(job.job_id)
        look.keep(self._fingerprints, tally)

    def _summarize(self, jobs: list[Job]) -> None:
        """Makes summaries of stretches that the walk leaves behind, as far as they are finished, in a small part of the time."""
        if jobs not in self._left:
            self._left.append(jobs)
        for left in list(self._left):
            begun = time.monotonic()
            if self._summarizing_s > _SUMMARIZING_S + _SUMMARIZING_SHARE * (begun - self._begun):
                return
            if self._is_summarized(left):
                self._left.remove(left)
            self._summarizing_s += time.monotonic() - begun

    def _is_summarized(self, jobs: list[Job]) -> bool:
        """Whether a stretch has a summary, now if not before; True also where it cannot get one."""
        try:
            look = Look(self.workspace, jobs)
            if not look.is_worth_it or look.remembered(self._fingerprints) is not None:
                return True
            if not look.is_settled:
                return False
            done = read_listing(self.workspace, jobs[0]).done
            if any(job.job_id not in done for job in jobs):
                return False
            markers, tally = GroupMarkers(self.workspace, jobs[0], self.fingerprint(jobs[0])), Tally.of(jobs)
            for job in jobs:
                tally.add_done(markers.counts(job))
            look.keep(self._fingerprints, tally)
        except (NotDone, ExplainedError, OSError):  # whoever comes to that job says more, be it of the disk
            pass
        return True

    def _is_refused(self, job: Job) -> bool:
        return job.folder in self.unusable or (job.folder, job.source) in self._refused

    def _somewhere(self) -> int:
        """A job's number, as likely one as another, without reading the whole queue: rows are about as long as its first."""
        import random  # here: without blocks nobody waits for it

        for job in Reader(self.workspace, known_kinds()):
            rows = paths.stat(self.workspace.queue).st_size // (len(",".join(map(str, job))) + 1)
            # At the beginning of a group where there are many: groups that are wholly done cost `status` nothing any more.
            unit = JOBS_PER_GROUP if rows > _MANY_GROUPS * JOBS_PER_GROUP else self._most
            return random.randrange(rows + 1) // unit * unit  # noqa: S311 - where to begin is no secret
        return 0

    def _pass_of(self, job: Job, listing: Listing, history: History) -> Pass | None:
        if job.job_id in listing.done:
            if job.job_id in self._verified:
                return None
            return Pass.MARKED
        return Pass.TRIED if history.generation or listing.is_in_block(job) else Pass.FRESH

    def _is_usable(self, job: Job) -> bool:
        try:
            self.fingerprint(job)
            return True
        except HeadstartError as error:
            self.workspace.require()
            self.unusable[job.folder] = str(error)
            return False

    def _is_done(self, job: Job) -> bool:
        markers = self._markers
        if markers is None or markers[0] != job.folder or markers[1] != job.group:
            markers = self._markers = job.folder, job.group, paths.Held(self.workspace.marker(job).parent)
        if not markers[2].may_have(f"{job.job_id}.done"):
            return False
        try:
            read_marker(self.workspace, job, self.fingerprint(job))
        except NotDone:
            return False
        except HeadstartError as error:  # a newer version committed it: not ours to redo
            self.unusable[job.job_id] = str(error)
        self._verified.add(job.job_id)
        return True

    def _listing(self, job: Job) -> Listing:
        key = (job.folder, job.group)
        listing = self._listings.get(key)
        if listing is None or time.monotonic() - listing.taken_at > _LISTING_S:
            if listing is None:
                self._listings.clear()  # the walk goes on in another group; only one listing is ever kept
            listing = self._listings[key] = read_listing(self.workspace, job)
        return listing


def read_listing(workspace: Workspace, job: Job) -> Listing:
    """Names of the group that `job` is in."""
    try:
        with environment_faults(f"cannot list {workspace.marker(job).parent}"):
            names = paths.names(workspace.marker(job).parent)
    except FileNotFoundError:
        names = []
    done = frozenset(name.removesuffix(".done") for name in names if name.endswith(".done"))
    return Listing(done, read_histories(workspace.claims(job)), time.monotonic(), read_spans(workspace.blocks(job)))
