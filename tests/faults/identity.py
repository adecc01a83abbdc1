"""Photos that move and change under kills, then the rules of identity, each taken away; the figures go into docs/reliability.md.

    python -m tests.faults.identity [--rule TEXT] [--count N] [--photos FOLDER]

With `--photos` the kills are tried once with drawn pictures and once with those of a folder of classes. Exits with 1 at any
violation, and if a rule can be taken away unnoticed. Tests of the manifest notice most; only what they miss is tried against
tests that extract, and only what those miss against a short campaign. A mutant whose time is over is not decided: it is tried
again alone, with more time.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .__main__ import conditions, write
from .identity_mutants import IDENTITY_MUTANTS
from .mutants import Mutant
from .mutation import NOTHING, ROOT, copy_with, heard
from .report import HEADER

_PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")
# By what notices, in the order in which they are asked: what to run.
STAGES = {
    "tests of the manifest": (*_PYTEST, "tests/features/manifest"),
    "tests of features": (*_PYTEST, "tests/features/store/test_packing.py", "tests/features/store/test_kept.py"),
    "tests that extract": (*_PYTEST, "tests/jobs/test_data_that_moves.py"),
    "kills": ("-m", "tests.faults.moved_data", "--count", "60", "--seed", "3"),
}
_LONGEST_S, _LONGEST_ALONE_S = 600.0, 2400.0
_LONGEST_KILLS_S = 4 * 3600.0  # on a machine that others use, too


@dataclass(frozen=True)
class Outcome:
    """Which stage noticed a mutant, '' for none, and in which stages the time was over, so that they say nothing."""

    mutant: Mutant
    noticed_by: str
    seconds: float
    unfinished: tuple[str, ...] = ()

    @property
    def is_decided(self) -> bool:
        return bool(self.noticed_by) or not self.unfinished

    @property
    def is_as_it_should_be(self) -> bool:
        return self.is_decided and bool(self.noticed_by) != (self.mutant is NOTHING)

    @property
    def words(self) -> str:
        return self.noticed_by or (f"not decided: {', '.join(self.unfinished)}" if self.unfinished else "")


def outcome_of(mutant: Mutant, longest_s: float = _LONGEST_S) -> Outcome:
    """Asks stage after stage until one notices; a stage may take `longest_s`."""
    begun, noticed_by, unfinished = time.monotonic(), "", list[str]()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        copy_with(mutant, tree)
        for stage, arguments in STAGES.items():
            code, _ = heard(list(arguments), tree, longest_s)
            if code is None:
                unfinished.append(stage)
            elif code != 0:
                noticed_by = stage
                break
    outcome = Outcome(mutant, noticed_by, time.monotonic() - begun, tuple(unfinished))
    print(f"{mutant.rule}: {outcome.words or 'nothing'}, {outcome.seconds:.0f} s", file=sys.stderr, flush=True)
    return outcome


def outcomes(mutants: Sequence[Mutant]) -> list[Outcome]:
    """As many at a time as there are cores; what was not decided so, once more alone and for longer."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        tried = list(pool.map(outcome_of, mutants))
    return [one if one.is_decided else outcome_of(one.mutant, _LONGEST_ALONE_S) for one in tried]


def table(tried: Sequence[Outcome]) -> str:
    rows = [f"| {outcome.mutant.rule} | {outcome.words or '·'} |" for outcome in tried]
    return "\n".join(["| rule taken away | noticed by |", "|---|---|", *rows])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1500, help="kills")
    parser.add_argument("--photos", type=Path, help="a folder of classes, for a second campaign of kills")
    parser.add_argument("--rule", help="only mutants of rules that contain this text, no kills, and nothing is written")
    asked = parser.parse_args()
    if asked.rule is not None:
        tried = outcomes([mutant for mutant in (NOTHING, *IDENTITY_MUTANTS) if asked.rule in mutant.rule])
        print(table(tried))
        return int(not all(outcome.is_as_it_should_be for outcome in tried))
    begun = time.monotonic()
    code, rows = 0, list[str]()
    for photos in ([], ["--photos", str(asked.photos)]) if asked.photos is not None else ([],):
        its_code, output = heard(["-m", "tests.faults.moved_data", "--count", str(asked.count), *photos], ROOT, _LONGEST_KILLS_S)
        print(output, flush=True)
        its_rows = [line for line in output.splitlines() if line.startswith("| moved data |")]
        code, rows = code or int(its_code != 0 or not its_rows), [*rows, *its_rows]
    tried = outcomes((NOTHING, *IDENTITY_MUTANTS))
    minutes = (time.monotonic() - begun) / 60
    figures = [f"{conditions()}; {minutes:.0f} minutes in all.", "\n".join([HEADER, *rows]), table(tried)]
    write("\n\n".join(figures), "make identity")
    print(figures[-1])
    return int(code != 0 or not all(outcome.is_as_it_should_be for outcome in tried))


if __name__ == "__main__":
    sys.exit(main())
