"""Kills trainings with SIGKILL and compares every byte and every database row with an uninterrupted one.

    python -m benchmarks.head_kills [--points] [--random 200] [--seed 0]

`--points` kills one training at each named point (before and after every file operation, every batch of database rows, every
chunk), each in a workspace of its own; `--random` kills at random times, several times in a row in each of several workspaces,
until so many kills hit a living process. A state is kept after every chunk, as many lanes run at once as there are cores,
libraries are imported once, for all that is killed, and no job becomes a suspect, which would train in an interpreter of its own.
Prints JSON; exits with 1 if a byte differs.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from headstart.pipeline.workspace import Workspace, open_workspace
from tests.jobs.killed_head import (
    begin_child,
    count_events,
    extracted,
    in_a_child,
    outcome_of,
    prepare,
    run_and_kill,
    train_to_the_end,
    was_killed,
)


def fresh(folder: Path, name: str) -> Workspace:
    shutil.copytree(folder / "plain", folder / name)
    return open_workspace(folder / name)


def expected_outcome(folder: Path) -> tuple[int, dict[str, str], float]:
    """The events of an uninterrupted training, what it leaves, and how many seconds it takes."""
    workspace = fresh(folder, "whole")
    begun = time.monotonic()
    in_a_child(lambda: count_events(workspace))
    return int((workspace.root / "events").read_text()), outcome_of(workspace), time.monotonic() - begun


def killed_at(folder: Path, expected: dict[str, str], event: int) -> tuple[int, bool]:
    """Whether `event` killed, and whether what came out afterwards is the same."""
    workspace = fresh(folder, f"killed {event}")
    died = in_a_child(lambda: run_and_kill(workspace, event))
    in_a_child(lambda: train_to_the_end(workspace))
    is_same = outcome_of(workspace) == expected
    shutil.rmtree(workspace.root)
    return died, is_same


def survives(workspace: Workspace, seconds: float) -> bool:
    """Trains in a child that is killed after so long; whether it had ended by then."""
    child = begin_child(lambda: train_to_the_end(workspace))
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)  # harmless to one that has ended: until it is waited for, its number is its own
    return not was_killed(child)


def storm(folder: Path, expected: dict[str, str], alone_s: float, seed: int, kills: int) -> tuple[int, int, int]:
    """Kills that hit, trainings that were finished, and how many of these differ."""
    draw, hits, finished, differing = random.Random(seed), 0, 0, 0
    while hits < kills:
        workspace = fresh(folder, f"random {seed} {finished}")
        while hits < kills and not survives(workspace, draw.uniform(0, alone_s)):
            hits += 1
        in_a_child(lambda root=workspace: train_to_the_end(root))
        finished += 1
        differing += outcome_of(workspace) != expected
        shutil.rmtree(workspace.root)
    return hits, finished, differing


def quiet() -> None:
    """What trainings say of their epochs goes nowhere; what fails is raised."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", action="store_true")
    parser.add_argument("--random", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    lanes = os.cpu_count() or 1
    report: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        extracted(folder / "plain")
        prepare()
        events, expected, alone_s = expected_outcome(folder)
        # Lanes are forked from this process while it has no thread, and so are the trainings from theirs.
        with multiprocessing.get_context("fork").Pool(lanes, quiet) as pool:
            if arguments.points:
                found = pool.map(partial(killed_at, folder, expected), range(1, events + 1), chunksize=1)
                report["at every point"] = {
                    "points": events,
                    "killed": sum(died for died, _ in found),
                    "differing": [event for event, (_, is_same) in enumerate(found, 1) if not is_same],
                }
            if arguments.random:
                shares = [
                    (arguments.seed + lane, arguments.random // lanes + (lane < arguments.random % lanes))
                    for lane in range(lanes)
                ]
                hits, finished, differing = map(
                    sum, zip(*pool.starmap(partial(storm, folder, expected, alone_s), shares), strict=True)
                )
                report["at random times"] = {"killed": hits, "trainings": finished, "differing": differing}
    print(json.dumps({**report, "uninterrupted_s": round(alone_s, 1), "load": os.getloadavg()[0]}, indent=1))
    return 1 if any(part["differing"] for part in report.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
