"""Kills several workers at random over a real extraction, then trainings over its features; compares every byte.

    python -m benchmarks.real_kills DATA --weights FILE [--encoder mobilenetv2_100] [--kills 50] [--train-kills 50]

The reference is one uninterrupted worker and one uninterrupted `train-head --ablation`. Prints JSON; exits with 1 if a byte
differs, an image is missing or a file is left over.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.kills import ROOT, cli, committed, digests, leftovers, start_worker

TRAIN = ("train-head", "--ablation", "--name", "killed")  # the name that `outcome_of` looks for


def start_training(root: Path) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "cli.py"), *TRAIN, "-w", str(root)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def storm(
    starts: list[Callable[[], subprocess.Popen]], kills: int, longest_s: Callable[[int], float], chance: random.Random
) -> int:
    """Keeps one process of each start alive until `kills` living ones were killed; returns how many were.

    Args:
        longest_s: how long the next may live, from the kills so far; 0 ends the storm, since nothing is left to do.
    """
    hits = 0
    living: dict[int, tuple[subprocess.Popen, float]] = {}
    while hits < kills and longest_s(hits) > 0:
        for lane, start in enumerate(starts):
            if lane not in living:
                living[lane] = (start(), time.monotonic() + chance.uniform(0, longest_s(hits)))
        time.sleep(0.01)
        for lane, (process, end) in list(living.items()):
            if process.poll() is not None:
                del living[lane]
            elif time.monotonic() > end and hits < kills:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                hits += 1
                del living[lane]
    for process, _ in living.values():
        process.kill()
        process.communicate()
    return hits


def extraction(alone: Path, killed: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Both workspaces extracted, the second under fire; what differs."""
    begun = time.monotonic()
    cli("work", "-w", alone)
    alone_s = time.monotonic() - begun
    jobs = committed(alone)
    chance = random.Random(arguments.seed)

    def longest_s(hits: int) -> float:
        left = jobs - committed(killed)
        # Short lives while the work is ahead of the kills, so that the kills fall over the whole run.
        ahead = committed(killed) / jobs > hits / arguments.kills
        return 0 if not left else alone_s / 30 if ahead else alone_s / 3

    hits = storm([lambda: start_worker(killed)] * arguments.workers, arguments.kills, longest_s, chance)
    cli("work", "-w", killed)
    before = len(leftovers(killed))
    verified = cli("verify", "--deep", "--repair", "-w", killed, check=False)
    return {
        "jobs": jobs,
        "uninterrupted_s": round(alone_s, 1),
        "workers": arguments.workers,
        "kills": hits,
        "is_byte_identical": digests(killed) == digests(alone),
        "leftovers_before_repair": before,
        "leftovers_after_repair": leftovers(killed),
        "verify": verified.stdout.strip().splitlines(),
    }


def training(alone: Path, killed: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """The same ablation in both, in the second killed again and again beside a worker that may finish it."""
    from headstart.pipeline.workspace import open_workspace
    from tests.jobs.killed_head import outcome_of

    begun = time.monotonic()
    cli(*TRAIN, "-w", alone)
    alone_s = time.monotonic() - begun
    done = killed / "experiments/exp_0001_killed/done"
    starts: list[Callable[[], subprocess.Popen]] = [lambda: start_training(killed), lambda: start_worker(killed)]
    hits = storm(
        starts,
        arguments.train_kills,
        lambda hits: 0 if list(done.glob("*/*.done")) else alone_s * (0.3 + 0.7 * hits / arguments.train_kills),
        random.Random(arguments.seed),
    )
    cli(*TRAIN, "-w", killed)
    expected, found = (outcome_of(open_workspace(root)) for root in (alone, killed))
    return {
        "uninterrupted_s": round(alone_s, 1),
        "kills": hits,
        "files_and_tables": len(expected),
        "is_byte_identical": found == expected,
        "differing": sorted(name for name in expected if expected[name] != found.get(name)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default="embedded")
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--train-kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    encoder = ["--weights", arguments.weights] + (["--encoder", arguments.encoder] if arguments.encoder else [])
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = Path(folder) / "alone", Path(folder) / "killed"
        for root in (alone, killed):
            cli("enqueue", arguments.data, *encoder, "-w", root)
        report = {"extraction": extraction(alone, killed, arguments)}
        if arguments.train_kills:
            report["training"] = training(alone, killed, arguments)
    print(json.dumps(report, indent=1))
    is_clean = not report["extraction"]["leftovers_after_repair"]
    return 0 if is_clean and all(part["is_byte_identical"] for part in report.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
