"""Claims: who works on a job now, and how often it was tried. They only save work; safety never depends on them.

A claim is `job_000042.g1`, then `.g2`, ...: a hard link to its worker's file, so that taking it is one system call, it says
who took it, and one touch of the worker's file is the heartbeat of all its claims. The generation is lock, attempt counter and
fencing token in one; nobody ever removes somebody else's claim, so there is no race for a steal. Beside it may stand
what is known of how attempts ended: see `history`.

A worker may also claim many jobs at once that nobody ever tried: see `blocks`. Whoever takes a single job and whoever takes
a block first make their claim seen, then look for the other's; who sees one yields. So no two of them hold a job, and at worst
both leave it for later. A block whose worker died is never taken as a block again: one of its jobs may be why.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from . import paths
from .blocks import Span, read_spans
from .doors import reading, records
from .errors import HeadstartError
from .files import environment_faults, hard_link
from .job import Job
from .liveness import Owner, current_owner, is_alive, is_of_this_boot
from .quarantine import History, names_in, read_histories
from .workspace import BLOCKS, Workspace

LEASE_S = 120.0
_LONGEST_LEASE_S = 600.0  # whatever a claim says: nobody waits longer for a worker that gives no sign of life
BEAT_S = 15.0
_YIELDING_LOOKS, _YIELDING_S = 50, 0.01


class Block:
    """Jobs of one group that one claim holds for this worker: some wait, some are in hand.

    Attributes:
        waiting: jobs that nobody has begun.
        is_begun: one of them was handed out.
        is_whole: False once it was taken apart: then the jobs in hand have claims of their own.
    """

    def __init__(self, path: Path, jobs: Sequence[Job]) -> None:
        self.path = path
        self.waiting = deque(jobs)
        self.in_hand: dict[str, Path] = {}
        self.is_begun = False
        self.is_whole = True
        self.taken_at = time.monotonic()
        self.lock = threading.Lock()  # jobs come back from the thread that commits


@dataclass(frozen=True)
class Claim:
    """A job in this worker's hands.

    Attributes:
        path: of the claim; of a job of a block, where its claim would be.
        block: whose job it is; None for a job that was claimed alone.
        deaths: workers that died with this job in hand, as far as that may tell something of the job.
        killers: items that an earlier attempt saw end a process, and how.
    """

    job: Job
    path: Path
    deaths: int = 0
    killers: Mapping[int, str] = field(default_factory=dict)
    block: Block | None = None


def forgive(workspace: Workspace, job: Job, history: History) -> None:
    """Gives a job new attempts; what happened before stays on record."""
    workspace.files.publish(_path(workspace, job, history.last, ".retry"), b"")


def deaths_of(workspace: Workspace, job: Job, history: History) -> int:
    """Workers of this boot that died with `job` in hand: not those of which the machine's own end may have been the cause."""
    owners = []
    for generation in history.open:
        with contextlib.suppress(FileNotFoundError):  # given back in this moment
            owners.append(read_owner(_path(workspace, job, generation)))
    return sum(owner is not None and is_of_this_boot(owner) and not is_alive(owner) for owner in owners)


def failures_of(workspace: Workspace, job: Job) -> list[str]:
    """Why the attempts of a job ended, oldest first."""
    failed = paths.matching(workspace.claims(job), f"{job.job_id}.g*.failed")
    return [_reason(path) for path in sorted(failed, key=lambda path: (len(path.name), path.name))]


def _reason(path: Path) -> str:
    try:
        return reading.read(path, reading.SMALL_BYTES).decode("utf-8", "replace").strip()
    except (reading.UnreadableError, paths.LinkError) as error:
        return str(error)


def _line(reason: str) -> bytes:
    return (reason + "\n").encode("utf-8", "replace")


def _path(workspace: Workspace, job: Job, generation: int, suffix: str = "") -> Path:
    return workspace.claim(job, f"{job.job_id}.g{generation}{suffix}")


class Claimant:
    """One worker as the others see it: its file, its heartbeat and the claims it takes. Use it as a context manager."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.owner = current_owner(LEASE_S)
        self._file = workspace.workers / f"{self.owner.worker}.json"
        self._held: set[Path] = set()
        self._workers = paths.Held(workspace.workers)
        self._group: tuple[str, str, paths.Held] | None = None  # whose claims were looked at last
        self._stopped = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self.workspace.make_folder(self._file.parent)
        self._bytes = records.encode(self.owner.as_json(), indent=None)
        self.workspace.files.publish(self._file, self._bytes)
        self._heart.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        self.leave()

    def leave(self, kept: Claim | None = None) -> None:
        """Gives every job back and is gone: also the last act of a worker that has to leave at once.

        Args:
            kept: stays claimed by a worker that is gone: it is why.
        """
        if kept is not None and kept.block is not None and kept.block.is_whole:
            with contextlib.suppress(OSError, HeadstartError):
                self._create(kept.path)  # it is why, and its neighbours in the block are not
        for path in [*self._held, self._file]:
            if kept is None or path != kept.path:
                with contextlib.suppress(OSError, HeadstartError):
                    paths.remove(path)
        self._held.clear()

    def acquire(self, job: Job, history: History) -> Claim | None:
        """Takes `job`, unless somebody alive has it or was faster, or `history` is out of date."""
        if history.is_quarantined:
            return None
        try:
            if history.generation and not history.ended and self.is_held(job, history.generation):
                return None
        except FileNotFoundError:
            # Given back since `history` was read. Taking the next generation now would leave this one free for another
            # worker, and both would hold the job.
            return None
        path = _path(self.workspace, job, history.generation + 1)
        with contextlib.suppress(FileExistsError):
            try:
                self._create(path, self._claims(job))
            except FileNotFoundError:
                self.workspace.make_folder(path.parent)
                self._create(path)
            self._held.add(path)
            if self.is_in_block(job):
                self._give_back(path)
                return None
            killers = {
                item: _reason(_path(self.workspace, job, generation, f".item{item}")) for item, generation in history.killers
            }
            return Claim(job, path, deaths_of(self.workspace, job, history), killers)
        return None

    def is_in_block(self, job: Job) -> bool:
        """Whether a block of a worker that is alive, as far as can be known from here, has this job."""
        if not self._claims(job).may_have(BLOCKS):
            return False
        folder = self.workspace.blocks(job)
        for span in read_spans(folder):
            if span.covers(job.number):
                with contextlib.suppress(FileNotFoundError):  # given back in this moment
                    if self._is_owned(folder / span.name):
                        return True
        return False

    def acquire_block(self, jobs: Sequence[Job]) -> Block | None:
        """Takes jobs of one group that were never tried, in ascending order: those that nobody else has, has tried or has done.

        None if nothing is left of them, or somebody took just these.
        """
        span = Span(jobs[0].number, jobs[-1].number)
        folder = self.workspace.blocks(jobs[0])
        path = folder / span.name
        try:
            try:
                self._create(path)
            except FileNotFoundError:
                self.workspace.make_folder(folder)
                self._create(path)
        except FileExistsError:
            return None
        self._held.add(path)
        # Claims first, markers last: who did a job and let go of it before the look at claims has left its marker by then.
        others = [other for other in read_spans(folder) if other != span]
        tried = read_histories(folder.parent)
        done = set(names_in(self.workspace.marker(jobs[0]).parent))
        mine = [
            job
            for job in jobs
            if job.job_id not in tried
            and f"{job.job_id}.done" not in done
            and not any(other.covers(job.number) for other in others)
        ]
        if not mine:
            self._give_back(path)
            return None
        return Block(path, mine)

    def next_of(self, block: Block) -> Claim | None:
        """The next job of a block, now in hand; None if none waits."""
        with block.lock:
            if not block.waiting:
                return None
            block.is_begun = True
            job = block.waiting.popleft()
            path = block.in_hand[job.job_id] = _path(self.workspace, job, 1)
        return Claim(job, path, block=block)

    def take_apart(self, block: Block) -> list[Job]:
        """Gives back what waits in a block, and returns it. What is in hand stays claimed, job by job."""
        with block.lock:
            rest = list(block.waiting)
            block.waiting.clear()
            if block.is_whole:
                for path in block.in_hand.values():
                    if self._create_patiently(path):
                        self._held.add(path)
                block.is_whole = False
                self._give_back(block.path)
        return rest

    def _create_patiently(self, path: Path) -> bool:
        """Claims a job that is in hand. Who just took it sees the block and yields; of one that died in this moment it stays."""
        for _ in range(_YIELDING_LOOKS):
            with contextlib.suppress(FileExistsError):
                self._create(path)
                return True
            time.sleep(_YIELDING_S)
        return False

    def mark_dead(self, claim: Claim, item: int, reason: str) -> None:
        """Records that an item ended a process while a living worker watched, so that no later attempt tries it again."""
        self.workspace.files.publish(claim.path.with_name(f"{claim.path.name}.item{item}"), _line(reason))

    def is_too_soon(self, job: Job, history: History) -> bool:
        """Whether `job` failed so short a time ago that it should be left alone for now, by the file system's clock."""
        pause_s = history.pause_s(job.job_id)
        if not pause_s:
            return False
        with contextlib.suppress(FileNotFoundError):
            failed = paths.stat(_path(self.workspace, job, history.generation, ".failed")).st_mtime
            return 0 <= self._file_system_now() - failed < pause_s  # a clock that was set back makes nobody wait
        return False

    def release(self, claim: Claim) -> None:
        """Lets go of a job that is done or given back; the attempt leaves no trace."""
        if not self._is_left_to_block(claim) and (claim.block is None or claim.path in self._held):
            self._give_back(claim.path)

    def fail(self, claim: Claim, reason: str) -> None:
        """Records an attempt that ended with an error."""
        self.workspace.files.publish(claim.path.with_name(claim.path.name + ".failed"), _line(reason))
        if not self._is_left_to_block(claim):
            self._held.discard(claim.path)

    def _is_left_to_block(self, claim: Claim) -> bool:
        """Whether the job was claimed by its block alone; the block itself goes with its last job."""
        block = claim.block
        if block is None:
            return False
        with block.lock:
            block.in_hand.pop(claim.job.job_id, None)
            if not block.is_whole:
                return False
            if not block.waiting and not block.in_hand:
                block.is_whole = False
                self._give_back(block.path)
            return True

    def _give_back(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            paths.remove(path)
        self._held.discard(path)

    def is_held(self, job: Job, generation: int) -> bool:
        """Whether the owner of a claim is alive, as far as can be known from here. Raises: FileNotFoundError."""
        return self._is_owned(_path(self.workspace, job, generation))

    def _is_owned(self, path: Path) -> bool:
        owner = read_owner(path)
        alive = is_alive(owner) if owner is not None else None
        return self._is_within_lease(path, owner) if alive is None else alive

    def _is_within_lease(self, path: Path, owner: Owner | None) -> bool:
        beat = paths.stat(path).st_mtime
        if owner is not None:  # without hard links the heartbeat is in the worker's own file
            with contextlib.suppress(FileNotFoundError):
                beat = max(beat, paths.stat(self.workspace.workers / f"{owner.worker}.json").st_mtime)
        return abs(self._file_system_now() - beat) < (owner.lease_s if owner is not None else LEASE_S)

    def _file_system_now(self) -> float:
        # Clocks of hosts differ; the server stamps both heartbeats with its own.
        self._touch()
        return paths.stat(self._file).st_mtime

    def _claims(self, job: Job) -> paths.Held:
        """The folder of the claims of a job's group."""
        group = self._group
        if group is None or group[0] != job.folder or group[1] != job.group:
            group = self._group = job.folder, job.group, paths.Held(self.workspace.claims(job))
        return group[2]

    def _create(self, path: Path, folder: paths.Held | None = None) -> None:
        """Args: folder: that of the claim, where it is held open."""
        with environment_faults(f"cannot claim {path.name}"):
            if self.workspace.files.hard_links:
                try:
                    hard_link(self._file, path, None if folder is None else (self._workers, folder))
                    return
                except FileNotFoundError:
                    if paths.exists(self._file):
                        raise  # the folder is missing
                    self.workspace.require()
                    raise HeadstartError(f"{self._file} was removed while this worker ran; start it again") from None
            descriptor = paths.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                try:
                    os.write(descriptor, self._bytes)
                finally:
                    os.close(descriptor)  # first: Windows removes no file that is open
            except OSError:
                with contextlib.suppress(OSError):
                    paths.remove(path)  # it names nobody: others would wait for its lease
                raise

    def _touch(self) -> None:
        with environment_faults("cannot reach the workspace"):
            paths.touch(self._file)

    def _beat(self) -> None:
        while not self._stopped.wait(BEAT_S):
            with contextlib.suppress(Exception):  # a mount that is gone for a moment must not end the worker
                self._touch()


def read_owner(path: Path) -> Owner | None:
    """Who wrote a claim or worker file; None if it does not parse. Raises: FileNotFoundError."""
    try:
        facts = records.read_record(path, None, limit=reading.SMALL_BYTES)
        return Owner(
            worker=facts.text("worker", "[^/\\\\\\x00]{1,200}"),
            host=facts.text("host", longest=300),
            machine=facts.text("machine", longest=300),
            pid=facts.integer("pid", most=2**31),
            started=facts.number("started", least=0),
            lease_s=min(facts.number("lease_s", least=0), _LONGEST_LEASE_S),
        )
    except (records.DamagedError, paths.LinkError):
        return None


def live_workers(workspace: Workspace) -> list[Owner]:
    """Workers that seem to be alive."""
    owners = (_seeming_owner(workspace.workers / name) for name in sorted(names_in(workspace.workers)))
    return [owner for owner in owners if owner is not None]


def seems_held(workspace: Workspace, job: Job, history: History) -> bool:
    """Whether somebody seems to work on a job: for people to read, no worker decides by it."""
    if not history.generation or history.ended:
        return False
    return _seeming_owner(_path(workspace, job, history.generation)) is not None


def seemingly_claimed(workspace: Workspace, job: Job, spans: Sequence[Span]) -> list[Span]:
    """Those of a group's blocks whose worker seems to be alive: for people to read."""
    return [span for span in spans if _seeming_owner(workspace.blocks(job) / span.name) is not None]


def _seeming_owner(path: Path) -> Owner | None:
    try:
        owner = read_owner(path)
        if owner is None:
            return None
        alive = is_alive(owner)
        # Another machine's heartbeat is read by this machine's clock: good enough to look at.
        return owner if alive or (alive is None and time.time() - paths.stat(path).st_mtime < owner.lease_s) else None
    except FileNotFoundError:
        return None
