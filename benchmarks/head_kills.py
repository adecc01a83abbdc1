"""Kills trainings with SIGKILL and compares every byte and every database row with an uninterrupted one.

    python -m benchmarks.head_kills [--points] [--random 200] [--seed 0]

`--points` kills one training at each named point (before and after every file operation, every batch of database rows, every
chunk), each in a workspace of its own; `--random` kills at random times through the command line, several times in a row in each
of several workspaces, until so many kills hit a living process. As many at once as there are cores. Prints JSON; exits with 1 if
a byte differs.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headstart.pipeline.workspace import open_workspace
from tests.jobs.killed_head import extracted, outcome_of

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
WORDS = (
    "--hidden",
    "24",
    "--dropout",
    "0.3",
    "--noise",
    "0.2",
    "--seeds",
    "2",
    "--epochs",
    "150",
    "--batch-size",
    "32",
    "--name",
    "killed",
)


def with_points(root: Path, events: list[int]) -> tuple[int, int, dict[str, str]]:
    command = [sys.executable, "-m", "tests.jobs.killed_head", str(root), *map(str, events)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    deaths, count, outcome = json.loads(done.stdout)
    return deaths, count, outcome


def at_every_point(folder: Path, plain: Path) -> dict[str, object]:
    shutil.copytree(plain, folder / "whole")
    _, events, expected = with_points(folder / "whole", [])

    def killed_at(event: int) -> tuple[int, bool]:
        root = folder / f"killed {event}"
        shutil.copytree(plain, root)
        died, _, outcome = with_points(root, [event])
        shutil.rmtree(root)
        return died, outcome == expected

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(killed_at, range(1, events + 1)))
    differing = [event for event, (_, is_same) in enumerate(found, 1) if not is_same]
    return {"points": events, "killed_at": sum(died for died, _ in found), "differing": differing}


def started(root: Path) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "cli.py"), "train-head", *WORDS, "-w", str(root)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def at_random_times(folder: Path, plain: Path, kills: int, seed: int) -> dict[str, object]:
    shutil.copytree(plain, folder / "uninterrupted")
    begun = time.monotonic()
    started(folder / "uninterrupted").wait()
    alone_s = time.monotonic() - begun
    expected = outcome_of(open_workspace(folder / "uninterrupted"))
    lanes = os.cpu_count() or 1

    def storm(lane: int) -> tuple[int, int, int]:
        mine = kills // lanes + (lane < kills % lanes)
        draw, hits, finished, differing = random.Random(seed + lane), 0, 0, 0
        while hits < mine:
            root = folder / f"random {lane} {finished}"
            shutil.copytree(plain, root)
            is_alive = True
            while is_alive and hits < mine:
                training = started(root)
                time.sleep(draw.uniform(0.1, alone_s * 0.9))
                is_alive = training.poll() is None
                training.kill()
                training.wait()
                hits += is_alive
            started(root).wait()
            finished += 1
            differing += outcome_of(open_workspace(root)) != expected
        return hits, finished, differing

    with ThreadPoolExecutor(lanes) as pool:
        hits, finished, differing = (sum(parts) for parts in zip(*pool.map(storm, range(lanes)), strict=True))
    return {"kills": hits, "trainings_finished": finished, "differing": differing, "uninterrupted_s": round(alone_s, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", action="store_true")
    parser.add_argument("--random", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    report: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        extracted(folder / "plain")
        if arguments.points:
            report["at every point"] = at_every_point(folder, folder / "plain")
        if arguments.random:
            report["at random times"] = at_random_times(folder, folder / "plain", arguments.random, arguments.seed)
    print(json.dumps({**report, "load": os.getloadavg()[0]}, indent=1))
    return 1 if any(part["differing"] for part in report.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
