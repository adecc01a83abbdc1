"""Campaign 3: a power cut after each call of a small run, with any part of what was not synced lost or torn.

    python -m tests.faults.power_cuts --count 12000

What follows is a boot and the same commands again, later than any lease.
"""

import multiprocessing
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from headstart.pipeline import workspace as workspace_module
from headstart.pipeline.files import FileSystem
from headstart.pipeline.workspace import open_workspace
from tests.faults import small_run

from .disk import State
from .fakes import scratch
from .invariants import age
from .recording import Operation, Recorder
from .report import Report, main, report_of
from .resuming import violations
from .states import choices, digest, materialize, replay, snapshot
from .trials import in_parallel

FULL = 12_000
KILLS = 100
HASTE = 0.3  # how often any state is taken instead of the most telling one left


@dataclass(frozen=True)
class Scenario:
    """A recorded run.

    Attributes:
        root: the folder it was recorded in.
        before: what was there and sure when it began.
        operations: what it did.
        jobs: how many an uninterrupted run commits.
        is_damaged: `before` is, so that only `verify --deep` is promised to find all of it.
    """

    name: str
    root: Path
    before: State
    operations: list[Operation]
    jobs: int = small_run.FEW
    is_damaged: bool = False


@dataclass(frozen=True)
class Cut:
    """One state that a power cut leaves behind.

    Attributes:
        calls: operations before the cut.
        promised: what had been promised by then.
        rank: 0 for the most telling states, 2 for random ones.
    """

    scenario: Scenario
    calls: int
    state: State
    promised: frozenset[str]
    rank: int


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
    yield Scenario("whole run", folder, {}, whole)
    with scratch() as folder, mock.patch.object(workspace_module, "probe", return_value=FileSystem(hard_links=False)):
        yield Scenario("without hard links", folder, {}, record(small_run.run, folder))
    with scratch() as folder:
        finished = _finished(folder)
        yield Scenario("redone", folder, finished, record(small_run.run_again, folder), small_run.JOBS)
    with scratch() as folder:
        _finished(folder)
        small_run.damage(open_workspace(folder / "w"))
        before = snapshot(folder)
        yield Scenario("mended", folder, before, record(small_run.mend, folder), small_run.JOBS, is_damaged=True)
    for kill_after in _delicate(whole)[:kills]:
        with scratch() as folder:
            operations = record(small_run.run, folder, kill_after) + record(small_run.run, folder)
        yield Scenario("killed and resumed", folder, {}, operations)


def _delicate(operations: list[Operation]) -> list[int]:
    """When a kill leaves a new name whose folder is not synced yet, rarest first."""
    order = ("rename", "mkdir", "link")
    numbers = [number for number, operation in enumerate(operations, start=1) if operation.call in order]
    return sorted(numbers, key=lambda number: order.index(operations[number - 1].call))


def _finished(folder: Path) -> State:
    small_run.work(small_run.enqueue(folder / "w", small_run.JOBS))
    return snapshot(folder)


def cuts(scenario: Scenario, draw: random.Random, count: int) -> dict[bytes, Cut]:
    """Distinct states after a power cut somewhere in a scenario: the telling ones and about `count` random ones.

    Where two moments leave the same files behind, the later one counts: more had been promised by then.
    """
    distinct: dict[bytes, Cut] = {}
    promised: set[str] = set()
    each = count // len(scenario.operations) + 1
    for number, disk in replay(str(scenario.root), scenario.operations, scenario.before):
        is_promise = number > 0 and scenario.operations[number - 1].call == "promise"
        if is_promise:
            promised.add(scenario.operations[number - 1].path)
        for rank, kept in choices(disk, draw, each):
            state = disk.state(kept)
            key = digest(state)
            before = distinct[key].rank if key in distinct else 2
            distinct[key] = Cut(scenario, number, state, frozenset(promised), min(before, rank if is_promise else 2))
    return distinct


def chosen_from(cuts: list[Cut], draw: random.Random, count: int) -> list[Cut]:
    """`count` cuts, equally of all recorded runs as far as they have so many, and telling ones before random ones."""
    draw.shuffle(cuts)
    ranked: dict[Path, list[Cut]] = defaultdict(list)
    for cut in sorted(cuts, key=lambda cut: (cut.rank, -len(cut.promised))):
        ranked[cut.scenario.root].append(cut)
    chosen: list[Cut] = []
    while len(chosen) < count and any(ranked.values()):
        for some in ranked.values():
            place = draw.randrange(len(some)) if some and draw.random() < HASTE else 0
            chosen += [some.pop(place)] if some else []
    return chosen[:count]


def check(cut: Cut) -> list[str]:
    """Resumes after one power cut, in a folder of its own."""
    with scratch() as folder:
        materialize(cut.state, folder)
        age(folder)
        return violations(folder / "w", cut.scenario.jobs, cut.promised, cut.scenario.is_damaged)


def run(count: int, seed: int) -> Report:
    """Cuts the power in up to `count` distinct ways."""
    begun = time.monotonic()
    draw = random.Random(seed)
    recorded = list(scenarios(min(KILLS, count // 20)))
    distinct: dict[bytes, Cut] = {}
    for scenario in recorded:
        distinct = cuts(scenario, draw, count // len(recorded)) | distinct
    chosen = chosen_from(list(distinct.values()), draw, count)
    broken = in_parallel(check, chosen)
    calls = sum(len(scenario.operations) for scenario in recorded)
    told = [f"{violation} ({cut.scenario.name}, cut after call {cut.calls})" for cut, violation in broken]
    notes = f"distinct states from {len(recorded)} recorded runs of {calls:,} calls"
    return report_of("power cuts", len(chosen), told, time.monotonic() - begun, notes)


if __name__ == "__main__":
    sys.exit(main(run, FULL))
