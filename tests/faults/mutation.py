"""Runs every campaign, short, against every mutant, each in a copy of the source tree: which campaign notices?

python -m tests.faults.mutation [RULE]
"""

import argparse
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from .mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
# Faults that suffice to notice; none of them takes longer than some seconds on a healthy tree.
SHORT = {"power_cuts": 300, "system_calls": 90, "kill_storm": 60, "zombies": 40, "state_machine": 15, "crowds": 4}
HUNG_S = 40.0
NO_TIME = "not run"
NOTHING = Mutant("(nothing is taken away)", "cli.py", "import click\n", "import click\n")


@dataclass(frozen=True)
class Outcome:
    """What each campaign said of one mutant: the first sort of violation, or an empty string."""

    mutant: Mutant
    noticed: dict[str, str]
    seconds: float

    @property
    def is_as_it_should_be(self) -> bool:
        noticed = {word for word in self.noticed.values() if word and word != NO_TIME}
        return bool(noticed) != (self.mutant is NOTHING) and (bool(noticed) or NO_TIME not in self.noticed.values())


def copy_with(mutant: Mutant, folder: Path) -> None:
    """A source tree in `folder` in which one rule is broken."""
    hidden = shutil.ignore_patterns(".*", "__pycache__", "build")
    shutil.copytree(ROOT, folder, ignore=hidden)
    path = folder / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.rule}: {mutant.file} has its text {text.count(mutant.old)} times, expected once")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def noticed_by(campaign: str, tree: Path, end: float = math.inf) -> str:
    """The first sort of violation that a campaign finds in a tree; `crashed` or `hung` if it does not get that far.

    Args:
        end: when the time is over, on the monotonic clock.
    """
    longest_s = min(HUNG_S, end - time.monotonic())
    arguments = ["-m", f"tests.faults.{campaign}", "--count", str(SHORT[campaign]), "--seed", "2"]
    code, output = heard(arguments, tree, longest_s) if longest_s > 0 else (None, "")
    if code is None:
        return "hung" if longest_s == HUNG_S else NO_TIME
    if code == 0:
        return ""
    sort = re.search(r"; (lost|duplicated|wrong|orphan|wedged):", output)
    return sort[1] if sort else "crashed"


def heard(arguments: list[str], folder: Path, longest_s: float) -> tuple[int | None, str]:
    """Exit code and output of Python in `folder`; None and what there was if it had to be ended, with all its children."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=longest_s)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return None, process.communicate()[0]


def outcome_of(mutant: Mutant, core: int, end: float) -> Outcome:
    begun = time.monotonic()
    os.sched_setaffinity(0, {core})
    with tempfile.TemporaryDirectory() as folder:
        copy_with(mutant, Path(folder) / "tree")
        noticed = {campaign: noticed_by(campaign, Path(folder) / "tree", end) for campaign in SHORT}
    outcome = Outcome(mutant, noticed, time.monotonic() - begun)
    print(f"{mutant.rule}: {noticed}, {outcome.seconds:.0f} s", file=sys.stderr, flush=True)
    return outcome


def outcomes(mutants: Sequence[Mutant], end: float) -> list[Outcome]:
    """One mutant on each core at a time."""
    cores: SimpleQueue[int] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)

    def on_a_free_core(mutant: Mutant) -> Outcome:
        core = cores.get()
        try:
            return outcome_of(mutant, core, end)
        finally:
            cores.put(core)

    with ThreadPoolExecutor(cores.qsize()) as pool:
        return list(pool.map(on_a_free_core, mutants))


def table(outcomes: Sequence[Outcome]) -> str:
    names = [campaign.replace("_", " ") for campaign in SHORT]
    lines = [f"| rule taken away | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for outcome in outcomes:
        lines.append(f"| {outcome.mutant.rule} | {' | '.join(outcome.noticed[campaign] or '·' for campaign in SHORT)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rule", default="", help="only mutants of rules that contain this text")
    parser.add_argument("--minutes", type=float, default=15)
    arguments = parser.parse_args()
    wanted = [mutant for mutant in (NOTHING, *MUTANTS) if arguments.rule in mutant.rule]
    tried = outcomes(wanted, time.monotonic() + 60 * arguments.minutes)
    print(table(tried))
    return 0 if all(outcome.is_as_it_should_be for outcome in tried) else 1


if __name__ == "__main__":
    sys.exit(main())
