"""What `headstart launch` does: keeps so many workers running elsewhere until the queue is drained.

It decides nothing about jobs: it counts what the files say is left, and asks the executor for the workers that are missing. Its
own state is one record a workspace and executor, so that whoever kills it goes on with the same command, from any machine.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from . import paths
from .doors import locks, records
from .errors import ExplainedError, HeadstartError, TryLaterError
from .executor import Executor, Launch, executor_of, known_executors
from .kinds import known_kinds
from .status import Status, read_status
from .stop import Stop
from .text import plural
from .workspace import Workspace

FORMAT = 1
ACTIVE, ENDED, STOPPED = "active", "ended", "stopped"
_LOCK_S = 60.0
_LONGEST_POLL_S = 60.0
_IN_VAIN = 5  # times in a row that workers were missing although none of them had done a job
_FIRST_PAUSE_S = 1.0
_LEAVING_S = 10.0  # workers that find the queue drained leave by themselves; then they are asked to
_MEND = "Delete that one file, then launch again"


@dataclass(frozen=True)
class Asked:
    """What a user says of a launch; None means: as it was, or as usual for a new one."""

    workers: int | None = None
    gpus_per_worker: int | None = None
    time_limit_s: float | None = None
    work: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Course:
    """Where a launch stands.

    Attributes:
        workers: that run or wait for their place.
        jobs, done, quarantined, left: of the kinds that its workers are for.
        note: what is worth a line beside the counts, '' for nothing.
    """

    workers: int
    jobs: int
    done: int
    quarantined: int
    left: int
    note: str = ""


@dataclass(frozen=True)
class Followed:
    """How following a launch ended.

    Attributes:
        state: ENDED: the queue was drained; STOPPED: by `stop`; ACTIVE: this process was asked to leave, the workers go on.
        started: workers that this process asked for.
        course: as of the last look.
        exit_code: of the signal that ended it, else 0.
    """

    launch: Launch
    state: str
    started: int
    course: Course
    exit_code: int = 0


def begin(workspace: Workspace, on: str, asked: Asked) -> Launch:
    """The launch on this executor that is under way, as it is asked for now, or a new one; on record when this returns.

    Raises: HeadstartError if the executor cannot be used here, or the record is damaged or newer.
    """
    if on not in known_executors():
        raise HeadstartError(f"unknown executor {on!r}; there are {', '.join(known_executors())}")
    workspace.make_folder(workspace.launch_folder(on))
    with _locked(workspace, on):
        launch, state = _read(workspace, on) or (None, ENDED)
        if launch is None or state != ACTIVE:
            launch = Launch(f"headstart-{os.urandom(4).hex()}", on, 1)
        given = {key: value for key, value in vars(asked).items() if value is not None}
        launch = Launch(**{**vars(launch), **given})
        executor = executor_of(workspace, launch)
        _kinds_of(launch.work)  # a kind that there is not is said here
        _write(workspace, launch, ACTIVE)
        workspace.files.replace(workspace.launch_script(on), executor.script.encode())
    return launch


def follow(
    workspace: Workspace, on: str, report: Callable[[Course], None] = lambda course: None, detach: bool = False
) -> Followed:
    """Keeps the launch's workers running until nothing is left, it is stopped, or this process is asked to leave.

    Args:
        report: called when what it is told has changed.
        detach: ask once for what is missing, then return.

    Raises: HeadstartError if workers end again and again and no job is done.
    """
    return _Following(workspace, on, report).run(detach)


def stop(workspace: Workspace, on: str | None = None) -> dict[str, int]:
    """Ends the workers of all launches, or of that on one executor; how many are left of each, by executor.

    Raises: HeadstartError if nothing was ever launched; TryLaterError if an executor gives no answer or workers are left.
    """
    names = [name for name in known_executors() if on in (None, name) and paths.exists(workspace.launch_record(name))]
    left: dict[str, int] = {}
    failures: list[ExplainedError] = []
    for name in names:
        try:
            left[name] = _stop(workspace, name)
        except ExplainedError as failure:  # a cluster that is gone keeps no worker of another one running
            failures.append(failure)
    if failures:
        raise failures[0]
    if not left:
        raise HeadstartError("nothing was launched here. Launch workers: headstart launch --on local")
    if any(left.values()):
        many = ", ".join(f"{count} on {name}" for name, count in left.items() if count)
        raise TryLaterError(f"workers are still there: {many}. Nothing starts any more; run the same command again")
    return left


def _stop(workspace: Workspace, on: str) -> int:
    with _locked(workspace, on):  # from here on nobody starts another
        known = _read(workspace, on)
        if known is None:
            return 0
        launch, state = known
        if state == ACTIVE:
            _write(workspace, launch, STOPPED)
    # Also of one that ended: of a worker that a controller brought back, say.
    return executor_of(workspace, launch).stop()


class _Following:
    """One process that follows a launch."""

    def __init__(self, workspace: Workspace, on: str, report: Callable[[Course], None]) -> None:
        self.workspace = workspace
        self.on = on
        self.report = report
        self.started = 0
        self._reported: Course | None = None
        self._progress = -1
        self._in_vain = 0
        self._not_before = 0.0
        self._drained_at: float | None = None

    def run(self, detach: bool) -> Followed:
        with Stop(lambda: None) as asked:
            while True:
                begun = time.monotonic()
                launch, state, course, executor = self._look()
                if state != ACTIVE or detach or asked.is_asked:
                    return Followed(launch, state, self.started, course, asked.exit_code)
                took = time.monotonic() - begun
                asked.wait(min(_LONGEST_POLL_S, max(executor.poll_s, 10 * took)))

    def _look(self) -> tuple[Launch, str, Course, Executor]:
        status = read_status(self.workspace)
        with _locked(self.workspace, self.on):
            known = _read(self.workspace, self.on)
            if known is None:
                raise HeadstartError(f"{self.workspace.launch_record(self.on)} is gone. Launch again")
            launch, state = known
            executor = executor_of(self.workspace, launch)
            workers, note = 0, ""
            try:
                workers = executor.running()
                course = _course(status, launch, workers)
                if state == ACTIVE:
                    state, note, workers = self._keep_up(launch, executor, course)
            except TryLaterError as silent:
                note = f"{self.on} gives no answer; it is asked again ({silent})"
            course = _course(status, launch, workers, note)
        if course != self._reported:
            self._reported = course
            self.report(course)
        return launch, state, course, executor

    def _keep_up(self, launch: Launch, executor: Executor, course: Course) -> tuple[str, str, int]:
        """The launch's state, a note, and how many workers there are, after what is missing was asked for."""
        if course.done + course.quarantined > self._progress:
            self._progress, self._in_vain = course.done + course.quarantined, 0
        if not course.left:
            return self._end(launch, executor, course)
        self._drained_at = None
        missing = min(launch.workers, course.left) - course.workers
        if missing <= 0 or time.monotonic() < self._not_before:
            return ACTIVE, "", course.workers
        self._in_vain += self.started > 0
        if self._in_vain == _IN_VAIN:
            raise HeadstartError(
                f"workers on {self.on} ended {_IN_VAIN} times in a row and no job was done. See why in "
                f"{self.workspace.launch_folder(self.on)}/*.log, then launch again"
            )
        self._not_before = time.monotonic() + _FIRST_PAUSE_S * 2 ** max(0, self._in_vain - 1)
        replaced = self.started > 0
        executor.start(missing)
        self.started += missing
        return (
            ACTIVE,
            f"{plural(missing, 'worker')} {'took the place of those that ended' if replaced else 'started'}",
            (course.workers + missing),
        )

    def _end(self, launch: Launch, executor: Executor, course: Course) -> tuple[str, str, int]:
        now = time.monotonic()
        self._drained_at = self._drained_at or now
        if course.workers and now - self._drained_at < _LEAVING_S:
            return ACTIVE, "", course.workers
        left = executor.stop() if course.workers else 0
        if left:
            return ACTIVE, f"{plural(left, 'worker')} did not leave", left
        _write(self.workspace, launch, ENDED)
        return ENDED, "", 0


def _course(status: Status, launch: Launch, workers: int, note: str = "") -> Course:
    kinds = _kinds_of(launch.work)
    tallies = [tally for (kind, _), tally in status.folders.items() if kinds is None or kind in kinds]
    return Course(
        workers,
        sum(tally.jobs for tally in tallies),
        sum(tally.done for tally in tallies),
        sum(tally.quarantined for tally in tallies),
        sum(tally.pending + tally.running for tally in tallies),
        note,
    )


def _kinds_of(work: tuple[str, ...]) -> frozenset[str] | None:
    """What `--jobs` among the arguments of `work` names; None for all kinds."""
    named: str | None = None
    for word, following in pairwise((*work, "")):
        if word == "--jobs":
            named = following
        elif word.startswith("--jobs="):
            named = word.removeprefix("--jobs=")
    if named is None:
        return None
    kinds = frozenset(named.split(","))
    if unknown := kinds - known_kinds():
        raise HeadstartError(f"unknown kind of job {min(unknown)!r}; there are {', '.join(sorted(known_kinds()))}")
    return kinds


@contextlib.contextmanager
def _locked(workspace: Workspace, on: str) -> Iterator[None]:
    path = workspace.launch_folder(on) / "launch.lock"
    with locks.held_or_later(path, _LOCK_S, f"another launch on {on} is asking for workers"):
        yield


def _write(workspace: Workspace, launch: Launch, state: str) -> None:
    facts = {"format": FORMAT, **asdict(launch), "work": list(launch.work), "state": state}
    workspace.files.replace(workspace.launch_record(launch.on), records.seal(facts))


def _read(workspace: Workspace, on: str) -> tuple[Launch, str] | None:
    path: Path = workspace.launch_record(on)
    try:
        facts = records.read_record(path, FORMAT, _MEND)
    except FileNotFoundError:
        return None
    state = facts.text("state", f"{ACTIVE}|{ENDED}|{STOPPED}")
    if facts.text("on") != on:
        facts.refuse("on", facts["on"])
    launch = Launch(
        name=facts.text("name", "headstart-[0-9a-f]{8}"),
        on=on,
        workers=facts.integer("workers", least=1, most=1_000_000),
        gpus_per_worker=facts.integer("gpus_per_worker", most=1000),
        time_limit_s=facts.number("time_limit_s", least=1, most=1e9),
        work=tuple(facts.texts("work")),
    )
    # Whoever wrote the record may be somebody else: workers are for this workspace and no other.
    if any(word.startswith(("-w", "--workspace")) for word in launch.work):
        facts.refuse("work", facts["work"])
    return launch, state
