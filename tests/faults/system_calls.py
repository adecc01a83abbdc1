"""Campaign 2: a kill or an error in every system call of a small run that touches the workspace, then the same commands again.

    python -m tests.faults.system_calls

Needs strace (`apt-get install strace`) and the right to trace.
"""

import contextlib
import io
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headstart.pipeline.workspace import open_workspace
from tests.faults import small_run

from .command_line import Step, command, enqueue, in_one_thread
from .disk import State
from .fakes import scratch
from .invariants import age
from .report import Report, main, report_of
from .resuming import violations
from .states import materialize, snapshot
from .traced import Call, Ended, calls_on, trace, why_not
from .trials import MISSED, in_parallel

EVERY = 1_000_000
FULL = ("ENOSPC", "EDQUOT")
BROKEN = ("EIO", "ESTALE")
NO_LINKS = ("ENOSYS", "EPERM")
_CHANGES = {"write", "pwrite64", "fsync", "fdatasync", "mkdir", "link", "rename", "ftruncate", "unlink", "utimensat"}
_CHANGES |= {"mkdirat", "linkat", "renameat", "renameat2", "unlinkat"}
_HARMLESS = {"lseek", "ioctl", "fcntl"}  # these ask the kernel about a descriptor and reach no disk
_WRITTEN = re.compile(r"\.tmp-|jobs_queue\.csv|\.g\d+>")


@dataclass(frozen=True)
class Scenario:
    """Commands that are interrupted, and what was there before.

    Attributes:
        steps: what follows one that failed is left out.
        jobs: how many an uninterrupted run commits.
    """

    name: str
    before: State
    steps: tuple[Step, ...]
    jobs: int
    is_damaged: bool = False
    hard_links: bool = True


@dataclass(frozen=True)
class Fault:
    """What happens in one call: `KILL`, or the name of an error."""

    scenario: Scenario
    call: Call
    what: str

    @property
    def injected(self) -> tuple[str, str, int]:
        return self.call.name, "signal=KILL" if self.what == "KILL" else f"error={self.what}", self.call.number


REPAIR = command("verify", "--deep", "--repair")
RUN = (enqueue(1), command("work"), enqueue(2), command("work"), REPAIR)
MEND = (REPAIR, command("work"), command("status"))


def scenarios() -> Iterator[Scenario]:
    """A whole run with hard links and without, and the repair of a damaged workspace."""
    yield Scenario("whole run", {}, RUN, 2)
    yield Scenario("without hard links", {}, RUN, 2, hard_links=False)
    with scratch() as folder:
        small_run.work(small_run.enqueue(folder / "w", small_run.JOBS))
        small_run.damage(open_workspace(folder / "w"))
        yield Scenario("mended", snapshot(folder), MEND, small_run.JOBS, is_damaged=True)


def traced_run(scenario: Scenario, folder: Path, fault: tuple[str, str, int] | None) -> Ended:
    root = folder / "disk"
    root.mkdir()
    materialize(scenario.before, root)
    ended = trace(lambda: in_one_thread(scenario.steps, root / "w", scenario.hard_links), fault, folder / "errors")
    assert ended is not None
    return ended


def faults(scenario: Scenario) -> list[Fault]:
    """Every fault that could meet a run: a kill at each call, and each error that such a call can give."""
    with scratch() as folder, contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        materialize(scenario.before, folder)
        in_one_thread(
            scenario.steps, folder / "w", scenario.hard_links
        )  # what is imported late is imported now, and in none of the runs that count
    with scratch() as folder:
        recorded = calls_on(folder / "disk", traced_run(scenario, folder, None).lines)
        calls = [call for call in recorded if call.name not in _HARMLESS]
    return [Fault(scenario, call, what) for call in calls for what in _faults_of(scenario, call)]


def _faults_of(scenario: Scenario, call: Call) -> tuple[str, ...]:
    if call.name in _CHANGES or "O_CREAT" in call.text:
        return ("KILL", *FULL, *BROKEN, *(NO_LINKS if call.name in ("link", "linkat") else ()))
    if not scenario.hard_links:
        return ()  # nothing that is not in the whole run as well
    # A close gives the error of a write that the kernel put off, so only where there was one can the disk be full.
    late = FULL if call.name == "close" and _WRITTEN.search(call.text) else ()
    kills = () if scenario.is_damaged else ("KILL",)
    return (*kills, *late, BROKEN[call.number % 2])


def check(fault: Fault) -> list[str]:
    """Injects one fault and resumes, in a folder of its own."""
    scenario = fault.scenario
    for _ in range(3):  # now and then a run makes a call more before the one that was meant
        with scratch() as folder:
            ended = traced_run(scenario, folder, fault.injected)
            if "/disk" in ended.hit:
                return [*_misbehaviour(fault, ended), *_after(scenario, folder, ended)]
    return [MISSED]


def _after(scenario: Scenario, folder: Path, ended: Ended) -> list[str]:
    if not scenario.hard_links:
        age(folder)  # a claim torn in the moment of its birth names nobody and holds for a lease
    told = frozenset(re.findall(r"^(job_\d+)  \d+ images", ended.errors, re.MULTILINE))
    return violations(folder / "disk" / "w", scenario.jobs, told, scenario.is_damaged)


def _misbehaviour(fault: Fault, ended: Ended) -> Iterator[str]:
    """What is wrong with how the process ended: it must be dead, or have said what happened in one line."""
    if fault.what == "KILL":
        return
    allowed = (0, 1, 75) if fault.what in NO_LINKS else (0, 75)
    if ended.status not in allowed:
        yield f"wrong: exit code {ended.status}, expected one of {allowed}: {ended.errors[-300:]!r}"
    if "Traceback" in ended.errors or (ended.status and ended.errors.count("error: ") != 1):
        yield f"wrong: not one line: {ended.errors[-300:]!r}"


def run(count: int, seed: int) -> Report:
    """Injects every fault there is, or `count` of them drawn at random."""
    begun = time.monotonic()
    reason = why_not()
    if reason is not None:
        return report_of("system calls", 0, [], time.monotonic() - begun, f"**not run: {reason}**")
    every = [fault for scenario in scenarios() for fault in faults(scenario)]
    chosen = random.Random(seed).sample(every, min(count, len(every)))
    broken = in_parallel(check, chosen)
    missed = sum(violation == MISSED for _, violation in broken)
    told = [
        f"{violation} ({fault.scenario.name}, {fault.what} at {fault.call.name} {fault.call.number})"
        for fault, violation in broken
        if violation != MISSED
    ]
    by_sort = Counter(fault.what for fault in chosen)
    notes = ", ".join(f"{name} {number:,}" for name, number in by_sort.most_common())
    notes += f"; {missed} met another call than in the recorded run and do not count" if missed else ""
    return report_of("system calls", len(chosen) - missed, told, time.monotonic() - begun, notes)


if __name__ == "__main__":
    sys.exit(main(run, EVERY))
