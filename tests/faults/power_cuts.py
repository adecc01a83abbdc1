"""Campaign 3: a power cut after each call of a small run, with any part of what was not synced lost or torn, then the same commands again."""

import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from headstart.pipeline import workspace as workspace_module
from headstart.pipeline.files import FileSystem
from headstart.pipeline.workspace import open_workspace

from . import small_run
from .disk import State, choices, digest, let_an_hour_pass, materialize, replay
from .recording import Operation, Recorder
from .report import Report
from .resuming import Violation, in_parallel, scratch, snapshot, violations


@dataclass(frozen=True)
class Scenario:
    """A recorded run.

    Attributes:
        root: the folder it was recorded in.
        before: what was there and sure when it began.
        operations: what it did.
        payloads: what an uninterrupted run commits, by name.
        mends: damage is part of it, which only `verify --deep` is promised to find.
    """

    name: str
    root: Path
    before: State
    operations: list[Operation]
    payloads: dict[str, bytes]
    mends: bool = False


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
    operations = receiving.recv()
    process.join()
    return operations


def scenarios(kills: int) -> Iterator[Scenario]:
    """Runs to cut: whole, without hard links, after a kill at `kills` places, retried, damaged."""
    with scratch() as folder:
        whole = record(small_run.run, folder)
        finished, payloads = snapshot(folder), small_run.payloads(folder / "w")
    yield Scenario("whole run", folder, {}, whole, payloads)
    with scratch() as folder, mock.patch.object(workspace_module, "probe", lambda _: FileSystem(hard_links=False)):
        yield Scenario("without hard links", folder, {}, record(small_run.run, folder), payloads)
    for place in range(kills):
        kill_after = (2 * place + 1) * len(whole) // (2 * kills)
        with scratch() as folder:
            operations = record(small_run.run, folder, kill_after) + record(small_run.run, folder)
        yield Scenario(f"killed after call {kill_after}", folder, {}, operations, payloads)
    with scratch() as folder:
        small_run.run_with_a_bad_item(folder / "w")
        before, others = snapshot(folder), small_run.payloads(folder / "w")
        yield Scenario("retried", folder, before, record(small_run.run_again, folder), others)
    with scratch() as folder:
        materialize(finished, folder)
        small_run.damage(open_workspace(folder / "w"))
        before = snapshot(folder)
        yield Scenario("mended", folder, before, record(small_run.mend, folder), payloads, mends=True)


def cuts(scenario: Scenario, draw: random.Random, count: int) -> dict[bytes, Cut]:
    """Distinct states after a power cut somewhere in a scenario, about `count` beside the systematic ones.

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


def check(cut: Cut) -> list[Violation]:
    """Resumes after one power cut, in a folder of its own."""
    with scratch() as folder:
        materialize(cut.state, folder)
        let_an_hour_pass(folder)
        return violations(folder / "w", cut.promised, cut.scenario.payloads, cut.scenario.mends)


def run(count: int = 12_000, seed: int = 0, kills: int = 8) -> Report:
    """Cuts the power in about `count` distinct ways."""
    begun = time.monotonic()
    draw = random.Random(seed)
    recorded = list(scenarios(kills))
    distinct: dict[bytes, Cut] = {}
    for scenario in recorded:
        distinct |= cuts(scenario, draw, count // len(recorded))
    print(len(distinct), [len(s.operations) for s in recorded], time.monotonic()-begun)
    chosen = draw.sample(list(distinct.values()), min(count, len(distinct)))
    found = in_parallel(check, chosen)
    return Report.of("power cuts", len(chosen), found, time.monotonic() - begun)
