"""Campaign 3: a power cut after each call of a small run, with any part of what was not synced lost or torn.

    python -m tests.faults.power_cuts --count 12000

What follows is a boot and the same commands again, later than any lease.
"""

import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from headstart.pipeline import workspace as workspace_module
from headstart.pipeline.files import FileSystem
from headstart.pipeline.workspace import open_workspace

from . import small_run
from .disk import State, choices, digest, materialize, replay, snapshot
from .fakes import scratch
from .invariants import age
from .recording import Operation, Recorder
from .report import Report, main, report_of
from .resuming import violations
from .trials import in_parallel

FULL = 12_000
KILLS = 24


@dataclass(frozen=True)
class Scenario:
    """A recorded run.

    Attributes:
        root: the folder it was recorded in.
        before: what was there and sure when it began.
        operations: what it did.
        is_damaged: `before` is, so that only `verify --deep` is promised to find all of it.
    """

    name: str
    root: Path
    before: State
    operations: list[Operation]
    is_damaged: bool = False


@dataclass(frozen=True)
class Cut:
    """One state that a power cut leaves behind after `calls` operations, and what had been promised by then."""

    scenario: Scenario
    calls: int
    state: State
    promised: frozenset[str]


def record(run: Callable[[Path, small_run.Promise], None], folder: Path, kill_after: int | None = None) -> list[Operation]:
    """The operations of `run` on `folder / 'w'`, in a process that is then dead; with `kill_after` it dies after so many."""
    receiving, sending = multiprocessing.Pipe(duplex=False)

    def body() -> None:
        def after(operations: list[Operation]) -> None:
            if len(operations) == kill_after:
                sending.send(operations)
                os._exit(0)

        recorder = Recorder(folder, after)
        with recorder.active():
            run(folder / "w", recorder.promise)
        sending.send(recorder.operations)

    process = multiprocessing.get_context("fork").Process(target=body)
    process.start()
    sending.close()
    operations: list[Operation] = receiving.recv()
    process.join()
    return operations


def scenarios(kills: int) -> Iterator[Scenario]:
    """Runs to cut: whole, without hard links, redone, damaged and mended, and one that goes on after each of `kills` kills."""
    with scratch() as folder:
        whole = record(small_run.run, folder)
        finished = snapshot(folder)
    yield Scenario("whole run", folder, {}, whole)
    with scratch() as folder, mock.patch.object(workspace_module, "probe", return_value=FileSystem(hard_links=False)):
        yield Scenario("without hard links", folder, {}, record(small_run.run, folder))
    with scratch() as folder:
        materialize(finished, folder)
        yield Scenario("redone", folder, finished, record(small_run.run_again, folder))
    with scratch() as folder:
        materialize(finished, folder)
        small_run.damage(open_workspace(folder / "w"))
        before = snapshot(folder)
        yield Scenario("mended", folder, before, record(small_run.mend, folder), is_damaged=True)
    for place in range(kills):
        kill_after = (2 * place + 1) * len(whole) // (2 * kills)
        with scratch() as folder:
            operations = record(small_run.run, folder, kill_after) + record(small_run.run, folder)
        yield Scenario(f"killed after call {kill_after}", folder, {}, operations)


def cuts(scenario: Scenario, draw: random.Random, count: int) -> dict[bytes, Cut]:
    """Distinct states after a power cut somewhere in a scenario: the telling ones and about `count` random ones.

    Where two moments leave the same files behind, the later one counts: more had been promised by then.
    """
    found: dict[bytes, Cut] = {}
    promised: set[str] = set()
    each = count // len(scenario.operations) + 1
    for number, disk in replay(str(scenario.root), scenario.operations, scenario.before):
        if number and scenario.operations[number - 1].call == "promise":
            promised.add(scenario.operations[number - 1].path)
        for kept in choices(disk, draw, each):
            state = disk.state(kept)
            found[digest(state)] = Cut(scenario, number, state, frozenset(promised))
    return found


def check(cut: Cut) -> list[str]:
    """Resumes after one power cut, in a folder of its own."""
    with scratch() as folder:
        materialize(cut.state, folder)
        age(folder)
        return violations(folder / "w", small_run.JOBS, cut.promised, cut.scenario.is_damaged)


def run(count: int, seed: int, kills: int = KILLS) -> Report:
    """Cuts the power in up to `count` distinct ways."""
    begun = time.monotonic()
    draw = random.Random(seed)
    recorded = list(scenarios(kills))
    distinct: dict[bytes, Cut] = {}
    for scenario in recorded:
        distinct = cuts(scenario, draw, count // len(recorded)) | distinct
    chosen = draw.sample(list(distinct.values()), min(count, len(distinct)))
    found = in_parallel(check, chosen)
    calls = sum(len(scenario.operations) for scenario in recorded)
    told = [f"{violation} ({cut.scenario.name}, cut after call {cut.calls})" for cut, violation in found]
    notes = f"distinct states from {len(recorded)} recorded runs of {calls:,} calls"
    return report_of("power cuts", len(chosen), told, time.monotonic() - begun, notes)


if __name__ == "__main__":
    sys.exit(main(run, FULL))
