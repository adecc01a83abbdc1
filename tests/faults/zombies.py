"""Fault campaign 4: a process stops before a call to the file system, is taken for dead, others finish its work, then it wakes.

    python -m tests.faults.zombies [--count 600] [--seed 0]

A stopped process is alive, so it is taken for dead where the engine does so: it seems to run on another host and its
heartbeat has stood still for longer than the lease, or somebody runs its jobs without asking for a claim (`run_job`). What it
does after it woke must not change one byte of what was committed or queued.
"""

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headstart.pipeline import liveness
from headstart.pipeline.files import FileSystem
from headstart.pipeline.worker import run_job
from headstart.pipeline.workspace import Workspace

from .fakes import enqueue, expected_squares, new_workspace, scratch
from .invariants import Ledger, age, check_drained, payloads_of, queue_rows
from .kinds import tiny
from .processes import Forked, fork, repair, settle, work
from .report import Report, main, report_of

ITEMS = 15
_CALLS = 250  # more than any of these processes makes; one that ends before it stops is no zombie and not counted


@dataclass(frozen=True)
class Variant:
    """How a zombie comes about.

    Attributes:
        elsewhere: on another host, beyond its lease; otherwise others need no claim.
        dialect: what the zombie's device makes of the numbers; others give other bytes than it does.
        swept: `verify --repair` runs before it wakes, and removes what it left.
        links: whether the file system has hard links.
        repairs: the zombie is a `verify --repair` itself, over a torn job.
    """

    elsewhere: bool = True
    dialect: str = ""
    swept: bool = False
    links: bool = True
    repairs: bool = False


VARIANTS = {
    "expired lease": Variant(),
    "expired lease, other bytes": Variant(dialect=" zombie"),
    "expired lease, other bytes, swept": Variant(dialect=" zombie", swept=True),
    "no claim, other bytes": Variant(elsewhere=False, dialect=" zombie"),
    "expired lease, no hard links": Variant(links=False),
    "a repair": Variant(repairs=True),
}


def run(count: int, seed: int) -> Report:
    """Schedules until `count` processes were stopped, overtaken and woken."""
    begun = time.monotonic()
    chance = random.Random(seed)
    violations: list[str] = []
    stopped: Counter[str] = Counter()
    labels: set[str] = set()
    schedules = [(name, at) for name in VARIANTS for at in range(1, _CALLS)]
    chance.shuffle(schedules)
    ended_before: dict[str, int] = {}
    with scratch() as base:
        for number, (name, at) in enumerate(schedules * 10):
            if stopped.total() >= count or len(violations) >= 20:
                break
            if at >= ended_before.get(name, _CALLS):
                continue
            label, broken = _schedule(base / str(number), VARIANTS[name], at)
            violations += [f"{violation} ({name}, stopped before call {at}: {label})" for violation in broken]
            if label:
                stopped[name] += 1
                labels.add(label)
            else:
                ended_before[name] = at
    notes = f"{len(labels)} sorts of call; " + ", ".join(f"{name}: {stopped[name]}" for name in VARIANTS)
    return report_of("zombies", stopped.total(), violations, time.monotonic() - begun, notes)


def _schedule(base: Path, variant: Variant, at: int) -> tuple[str, list[str]]:
    """The call before which the process was stopped, empty if it ended before, and what was violated."""
    base.mkdir()
    log = base / "log"
    workspace = new_workspace(base / "workspace", FileSystem(hard_links=variant.links, fsync=True))
    enqueue(workspace, ITEMS)
    if variant.repairs:
        _tear(workspace, log)
    zombie = fork(_zombie(workspace, variant), workspace.root, log, at, signal.SIGSTOP, "the zombie")
    if not zombie.wait():
        return "", ["wedged: the zombie neither stopped nor ended"]
    if zombie.status is not None:
        return "", [violation for violation in [zombie.violation()] if violation]
    ledger = Ledger(workspace)
    ledger.look()
    violations = _overtake(workspace, variant, log) + ledger.look()
    before = _committed(workspace)
    expected = payloads_of(workspace)
    violations += _wake(zombie, variant)
    violations += ledger.look()
    # Without hard links two markers that pass the check at the same moment are both valid, and the later stays.
    if variant.links and _committed(workspace) != before:
        violations.append("wrong: the zombie changed what others had committed")
    age(workspace.root)
    violations += settle(workspace, log) + ledger.look() + check_drained(workspace, expected)
    both = [expected_squares(ITEMS), {job: _in_dialect(data, variant.dialect) for job, data in expected_squares(ITEMS).items()}]
    if any(data not in [one[job] for one in both] for job, data in expected.items()):
        violations.append("wrong: bytes that no worker computed")
    return zombie.fault, violations


def _zombie(workspace: Workspace, variant: Variant) -> Callable[[], None]:
    def task() -> None:
        if variant.elsewhere:
            liveness.this_machine = lambda: "another host/1"
        tiny.dialect = variant.dialect
        (repair if variant.repairs else work)(workspace)()

    return task


def _tear(workspace: Workspace, log: Path) -> None:
    """A drained workspace in which one payload has flipped bits and one marker is torn."""
    fork(work(workspace), workspace.root, log).wait()
    first, second = sorted(workspace.root.glob("features/tiny/done/*/*"))[:2]
    payload = next(iter(workspace.root.glob(f"features/tiny/shards/*/{first.stem}.*")))
    payload.write_bytes(bytes(byte ^ 1 for byte in payload.read_bytes()))
    second.write_bytes(second.read_bytes()[:40])


def _overtake(workspace: Workspace, variant: Variant, log: Path) -> list[str]:
    """Others do what is left while the zombie is stopped."""
    if variant.elsewhere:
        age(workspace.root)
    others: list[tuple[str, Callable[[], None]]] = [("a worker", work(workspace))]
    if not variant.elsewhere:
        job_ids = [row["job_id"] for row in queue_rows(workspace)]
        others = [("run_job", lambda: [run_job(workspace, job_id) for job_id in job_ids] and None)]
    if variant.swept or variant.repairs:
        others.append(("a repair", repair(workspace)))
    violations = []
    for name, task in others:
        child = fork(task, workspace.root, log, name=f"{name} beside a zombie")
        if not child.wait():
            violations.append(f"wedged: {name} did not end beside a zombie")
        violations += filter(None, [child.violation()])
    return violations


def _wake(zombie: Forked, variant: Variant) -> list[str]:
    os.kill(zombie.pid, signal.SIGCONT)
    if not zombie.wait():
        return ["wedged: the zombie never ended after it woke"]
    # A worker whose files were swept may say so and leave; it was the one that broke its lease.
    return [] if variant.swept or variant.repairs else [violation for violation in [zombie.violation()] if violation]


def _committed(workspace: Workspace) -> dict[str, bytes]:
    files = [workspace.queue, *workspace.root.glob("features/tiny/done/*/*.done")]
    return {str(path): path.read_bytes() for path in files}


def _in_dialect(data: bytes, dialect: str) -> bytes:
    return data.replace(b"\n", dialect.encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(run, 600))
