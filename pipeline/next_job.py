"""Which job comes next: the queue minus what the files say is done, claimed or quarantined."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from . import paths
from .claims import Claim, Claimant
from .errors import HeadstartError
from .files import environment_faults
from .history import NO_HISTORY, History, read_histories
from .job import Job
from .kinds import Fingerprints, ItemCounts, known_kinds
from .markers import NotDone, read_marker
from .queue import Reader
from .retire import Watch
from .workspace import Workspace

_LISTING_S = 1.0


@dataclass(frozen=True)
class Listing:
    """Names in one group's folders at one moment. Old listings cost a wasted try, never a wrong result."""

    done: frozenset[str]
    histories: dict[str, History]
    taken_at: float


class Pass(Enum):
    FRESH = "never tried"
    TRIED = "tried before: last, so that a job that kills its worker holds up nobody"
    MARKED = "marked as done: verified before anybody says that nothing is left"


class Frontier:
    """Hands out claims, one after the other, until nothing is left that could be claimed now.

    Attributes:
        problems: what is wrong with the queue, one line each.
        busy: jobs that somebody else held when last seen, or that failed a moment ago.
        unusable: folders, sources or jobs that cannot be worked on, and why; they hold up nobody else.
        watch: which jobs were withdrawn.
    """

    def __init__(
        self, workspace: Workspace, claimant: Claimant, kinds: frozenset[str] | None, only: frozenset[str] | None
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
        self.watch = Watch(workspace)
        self._stream = self._candidates()

    def next_claim(self) -> Claim | None:
        """A job nobody has finished and nobody alive holds, now held by this worker; None if there is none at present."""
        for job, history in self._stream:
            if self.watch.now().of(job):  # since this pass over the queue began
                continue
            claim = None if self.claimant.is_too_soon(job, history) else self.claimant.acquire(job, history)
            if claim is None:
                self.busy.add(job.job_id)
            elif self._is_done(job):  # finished between the look and the claim
                self.claimant.release(claim)
            else:
                return claim
        return None

    def restart(self) -> None:
        """Looks at the whole queue again: others may have died, or enqueued more."""
        self._listings.clear()
        self.busy.clear()
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

    def _candidates(self) -> Iterator[tuple[Job, History]]:
        for wanted in Pass:
            # Read anew for each pass rather than kept: a million jobs are half a gigabyte of objects.
            reader = Reader(self.workspace, known_kinds(), ItemCounts(self.workspace).of)
            for job in reader:
                if (self.kinds is not None and job.kind not in self.kinds) or (
                    self.only is not None and job.job_id not in self.only
                ):
                    continue
                if job.folder in self.unusable or (job.folder, job.source) in self._refused or not self._is_usable(job):
                    continue
                listing = self._listing(job)
                history = listing.histories.get(job.job_id, NO_HISTORY)
                if history.is_quarantined or self._pass_of(job, listing, history) is not wanted:
                    continue
                if wanted is not Pass.MARKED or not self._is_done(job):
                    yield job, history
            self.problems = reader.problems

    def _pass_of(self, job: Job, listing: Listing, history: History) -> Pass | None:
        if job.job_id in listing.done:
            if job.job_id in self._verified:
                return None
            return Pass.MARKED
        return Pass.TRIED if history.generation else Pass.FRESH

    def _is_usable(self, job: Job) -> bool:
        try:
            self.fingerprint(job)
            return True
        except HeadstartError as error:
            self.workspace.require()
            self.unusable[job.folder] = str(error)
            return False

    def _is_done(self, job: Job) -> bool:
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
    return Listing(done, read_histories(workspace.claims(job)), time.monotonic())
