"""What a fault campaign found, as one row of a table."""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

HEADER = (
    "| campaign | faults | lost | duplicated | wrong bytes | orphans | wedged | seconds | notes |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---|"
)
_WORDS = ("lost", "duplicated", "wrong", "orphan", "wedged")


@dataclass(frozen=True)
class Report:
    """Counts of one campaign.

    Attributes:
        faults: faults that hit: kills of a living worker, states after a power cut, schedules.
        lost, duplicated, wrong, orphans, wedged: violations by their first word; all must be 0.
        notes: what else a reader should know, with the first violations if there are any.
    """

    campaign: str
    faults: int
    lost: int
    duplicated: int
    wrong: int
    orphans: int
    wedged: int
    seconds: float
    notes: str

    @property
    def violations(self) -> int:
        return self.lost + self.duplicated + self.wrong + self.orphans + self.wedged

    def row(self) -> str:
        counts = (self.faults, self.lost, self.duplicated, self.wrong, self.orphans, self.wedged)
        return f"| {self.campaign} | {' | '.join(f'{count:,}' for count in counts)} | {self.seconds:.0f} | {self.notes} |"


def report_of(campaign: str, faults: int, violations: list[str], seconds: float, notes: str) -> Report:
    """Counts violations, each of which begins with `lost:`, `duplicated:`, `wrong:`, `orphan:` or `wedged:`."""
    words = [violation.split(":")[0] for violation in violations]
    strange = set(words) - set(_WORDS)
    if strange:
        raise ValueError(f"violations of unknown sort: {sorted(strange)}")
    told = "; ".join([notes, *sorted(set(violations))[:3]]) if violations else notes
    lost, duplicated, wrong, orphans, wedged = (words.count(word) for word in _WORDS)
    return Report(campaign, faults, lost, duplicated, wrong, orphans, wedged, seconds, told)


def main(run: Callable[[int, int], Report], count: int, write: Callable[[Report], None] | None = None) -> int:
    """Runs one campaign from the command line at its full size; exits with 1 if anything was violated.

    Args: write: what `--write` does with the figures.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    if write is not None:
        parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    report = run(arguments.count, arguments.seed)
    print(f"began {began}, seed {arguments.seed}\n{HEADER}\n{report.row()}")
    if write is not None and arguments.write:
        write(report)
    return 1 if report.violations else 0
