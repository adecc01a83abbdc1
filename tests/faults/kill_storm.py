"""Fault campaign 1: workers, enqueuers and repairs are killed before every call to the file system and at random moments.

    python -m tests.faults.kill_storm [--count 10000] [--seed 0]

Each round is a workspace of its own. Its first worker is alone and dies before the next of all calls that an uninterrupted run
makes; then up to four processes at once live and die until the work is done. After each death the files are judged.
"""

import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from headstart.pipeline.files import FileSystem
from headstart.pipeline.workspace import Workspace

from .fakes import enqueue, new_workspace, scratch
from .invariants import Expected, Ledger, check_drained, payloads_of, torn_files
from .processes import Forked, done_twice, fork, repair, settle, work
from .report import Report, main, report_of

ITEMS = 40
FEW = 15
_SOON = 60  # calls: most of a worker's first job
_LATEST_S = 0.02
_ROUND_S = 60.0


@dataclass
class Tally:
    kills: int = 0
    forks: int = 0
    before: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


def run(count: int, seed: int) -> Report:
    """Storms until `count` living processes were killed."""
    begun = time.monotonic()
    tally = Tally()
    chance = random.Random(seed)
    number = 0
    with scratch() as base:
        expected, calls = _uninterrupted(base / "alone")
        while tally.kills < count and len(tally.violations) < 20:
            _Round(base / str(number), chance, 1 + number % calls, calls, tally).run(expected)
            number += 1
    covered = f"each of {calls} calls" if number >= calls else f"{number} of {calls} calls"
    notes = (
        f"{tally.forks:,} processes in {number:,} workspaces; {covered} of a first worker; "
        f"{len(tally.before)} sorts of call, {tally.kills - sum(tally.before.values()):,} kills at random moments"
    )
    return report_of("kill storm", tally.kills, tally.violations, time.monotonic() - begun, notes)


def _uninterrupted(base: Path) -> tuple[Expected, int]:
    """What one worker commits, and how many calls it makes."""
    base.mkdir()
    workspace = new_workspace(base / "workspace")
    enqueue(workspace, FEW)
    enqueue(workspace, ITEMS)
    calls = 0
    # The number of calls is found by asking for ever later deaths: threads make it differ a little from run to run.
    while True:
        calls += 25
        trial = new_workspace(base / f"trial{calls}")
        enqueue(trial, ITEMS)
        child = fork(work(trial), trial.root, base / "log", at=calls)
        child.wait()
        if not child.was_killed:
            break
    violations = settle(workspace, base / "log")
    assert not violations, violations
    return payloads_of(workspace), calls


class _Round:
    """One workspace from its first death to its last."""

    def __init__(self, base: Path, chance: random.Random, first: int, calls: int, tally: Tally) -> None:
        base.mkdir()
        self.chance = chance
        self.first = first
        self.calls = calls
        self.tally = tally
        self.log = base / "log"
        links = chance.random() < 0.8
        self.workspace: Workspace = new_workspace(base / "workspace", FileSystem(hard_links=links, fsync=True))
        self.ledger = Ledger(self.workspace)
        self.killed: set[int] = set()
        self.at_once = chance.choice((1, 2, 3, 4))
        self.deaths = chance.choice((1, 10, 20, 30))

    def run(self, expected: Expected) -> None:
        enqueue(self.workspace, FEW)
        self._bury(self._start(work(self.workspace, self._block()), self.first))
        end = time.monotonic() + _ROUND_S
        living: dict[Forked, float] = {}
        while len(self.killed) < self.deaths and not self._is_done():
            if time.monotonic() > end:
                self.tally.violations.append("wedged: a round did not end")
                break
            while len(living) < self.at_once:
                living |= self._next()
            time.sleep(0.0002)
            for child, moment in list(living.items()):
                if time.monotonic() > moment and child.status is None:
                    os.kill(child.pid, signal.SIGKILL)
                if child.poll():
                    del living[child]
                    self._judge(child)
        for child in living:
            os.kill(child.pid, signal.SIGKILL)
            self._bury(child)
        self._finish(expected)

    def _next(self) -> dict[Forked, float]:
        what = self.chance.random()
        task = work(self.workspace, self._block())
        if what < 0.12:
            task = repair(self.workspace)
        elif what < 0.3:
            task = self._enqueue
        if self.chance.random() < 0.25:
            return {self._start(task, 0): time.monotonic() + self.chance.uniform(0, _LATEST_S)}
        at = self.chance.randint(1, _SOON if self.chance.random() < 0.7 else self.calls)
        return {self._start(task, at): time.monotonic() + _ROUND_S}

    def _block(self) -> int:
        return self.chance.choice((1, 3, 64))  # workers of one round differ in it

    def _start(self, task, at: int) -> Forked:
        self.tally.forks += 1
        return fork(task, self.workspace.root, self.log, at)

    def _enqueue(self) -> None:
        enqueue(self.workspace, ITEMS)

    def _is_done(self) -> bool:
        return len(list(self.workspace.root.glob("features/tiny/done/*/*.done"))) * 5 == ITEMS

    def _bury(self, child: Forked) -> None:
        if not child.wait():
            self.tally.violations.append("wedged: a worker that was to die ran on for ever")
        self._judge(child)

    def _judge(self, child: Forked) -> None:
        if child.was_killed:
            self.tally.kills += 1
            self.killed.add(child.pid)
            if child.fault:
                self.tally.before[child.fault] += 1
        self.tally.violations += filter(None, [child.violation()])
        self.tally.violations += self.ledger.look()
        self.tally.violations += torn_files(self.workspace)

    def _finish(self, expected: Expected) -> None:
        enqueue(self.workspace, ITEMS)
        self.tally.violations += settle(
            self.workspace, self.log, workers=self.at_once, block=self._block()
        )  # those who live must exclude each other
        self.tally.violations += self.ledger.look()
        self.tally.violations += check_drained(self.workspace, expected)
        self.tally.violations += done_twice(self.log, self.killed)


if __name__ == "__main__":
    sys.exit(main(run, 10_000))
