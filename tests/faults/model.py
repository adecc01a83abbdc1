"""The model that campaign 5 compares the engine with, and a world in which it decides who is alive, and on which boot."""

import contextlib
import io
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from headstart.commands.running.verify import command as verify_command
from headstart.pipeline import liveness, next_job, status, summaries, worker
from headstart.pipeline.claims import Claim, Claimant
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import Result, commit
from headstart.pipeline.retry import retry
from headstart.pipeline.worker import Limits, Worker

from .fakes import enqueue, new_workspace
from .invariants import age, check_drained, queue_rows
from .kinds import tiny


class _Forgetful(summaries.Look):
    def remembered(self, fingerprints):
        return None


_FIRST_PID = 10**9  # beyond any real one
_FAILURES = 3


class Violation(Exception):
    """A difference between engine and model, in the words of `invariants`."""


@dataclass(frozen=True)
class Hand:
    """A living worker and the one job it holds."""

    claimant: Claimant
    claim: Claim


class Model(RuleBasedStateMachine):
    """The engine and its model: rows of the queue, what is done, what has silently flipped bits, who failed how often."""

    base: Path
    seen: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.base))
        self.workspace = new_workspace(self.folder / "workspace")
        self.items = 0
        self.done: set[Job] = set()
        self.flipped: set[Job] = set()
        self.failures: Counter[Job] = Counter()
        self.hands: list[Hand] = []
        self.boots = 0
        self.alive: set[int] = set()
        self.pid = _FIRST_PID
        start_of = liveness._start_of
        self.world = contextlib.ExitStack()
        for target, name, value in (
            (liveness, "_start_of", lambda pid: start_of(pid) if pid < _FIRST_PID else (1.0 if pid in self.alive else None)),
            (liveness, "this_machine", lambda: f"boot {self.boots}"),
            (status, "Look", _Forgetful),  # so damage is seen at once
            (next_job, "_LISTING_S", 0.0),  # a worker's steps here take no second
            (worker, "_POLL_S", 0.01),
            (worker, "DEATHS", 10**9),  # no Python children for jobs whose workers died
        ):
            self.world.enter_context(mock.patch.object(target, name, value, create=name == "DEATHS"))
        self.seen["runs"] += 1

    def hire(self) -> Claimant:
        """A new worker, alive until the model says otherwise."""
        self.pid += 1
        claimant = Claimant(self.workspace)
        claimant.owner = replace(claimant.owner, pid=self.pid, started=1.0, machine=f"boot {self.boots}")
        self.alive.add(self.pid)
        claimant.__enter__()
        return claimant

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            for hand in self.hands:
                self.die(hand)
            self.world.close()
            shutil.rmtree(self.folder)

    def drain(self) -> None:
        for hand in self.hands:
            self.die(hand)
        self.hands.clear()
        self.fill()
        retry(self.workspace, None)
        summary = Worker(self.workspace, Settings(), Limits(seconds=20.0), lambda finished: None).run()
        self.require(summary.is_drained, "wedged: a fresh worker did not drain the queue")
        age(self.workspace.root)
        self.mend()
        jobs = self.rows()
        expected = {(job.folder, job.start, job.stop): tiny.squares(job.start, job.stop) for job in jobs}
        for violation in check_drained(self.workspace, expected):
            raise Violation(violation)

    def fill(self) -> None:
        if not self.items:
            return
        enqueue(self.workspace, self.items)
        held = sorted(item for job in self.rows() for item in range(job.start, job.stop))
        lost = set(range(self.items)) - set(held)
        self.require(not lost, f"lost: items {sorted(lost)} are in no job")
        self.require(len(held) == len(set(held)), "duplicated: an item is in two jobs")
        self.done = {job for job in self.done if self.workspace.marker(job).exists()}

    def commit(self, job: Job) -> None:
        payload = tiny.squares(job.start, job.stop)
        count = job.stop - job.start
        commit(self.workspace, job, tiny.FINGERPRINT, Result(payload, ".txt", {}, count, count, facts={"seconds": 0.0}))
        self.done.add(job)
        self.flipped.discard(job)  # whoever finds its own payload with other bytes writes it anew

    def mend(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            verify_command.main(["--deep", "--repair", "-w", str(self.workspace.root)], standalone_mode=False)

    def take(self, data: st.DataObject) -> Hand:
        return self.hands.pop(data.draw(st.integers(0, len(self.hands) - 1)))

    def leave(self, claimant: Claimant) -> None:
        claimant.__exit__(None, None, None)
        self.alive.discard(claimant.owner.pid)

    def die(self, hand: Hand) -> None:
        hand.claimant._stopped.set()  # only its thread; files stay as a death leaves them
        self.alive.discard(hand.claimant.owner.pid)

    def rows(self) -> set[Job]:
        rows = [row for row in queue_rows(self.workspace) if len(row) == 6]
        return {Job(r["job_id"], r["kind"], r["folder"], r["source"], int(r["start"]), int(r["stop"])) for r in rows}

    def held(self) -> set[Job]:
        return {hand.claim.job for hand in self.hands}

    def quarantined(self) -> set[Job]:
        return {job for job, count in self.failures.items() if count >= _FAILURES}

    def pending(self) -> set[Job]:
        return self.rows() - self.done - self.quarantined()

    def sound(self) -> set[Job]:
        return {job for job in self.done - self.flipped if job in self.rows() and not self.failures[job]}

    def require(self, holds: bool, violation: str) -> None:
        if not holds:
            raise Violation(violation)
