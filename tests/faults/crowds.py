"""Campaign 7: many undisturbed workers start at once on one queue; no job is done twice.

python -m tests.faults.crowds [--count 40] [--seed 0]
"""

import random
import sys
import time

from .fakes import JOB_SIZE, enqueue, expected_squares, new_workspace, scratch
from .invariants import check_drained
from .processes import done_twice, settle
from .report import Report, main, report_of

JOBS = 60
LARGEST = 16


def run(count: int, seed: int) -> Report:
    """`count` crowds of 4 to 16 workers."""
    begun = time.monotonic()
    draw = random.Random(seed)
    violations: list[str] = []
    workers = 0
    with scratch() as base:
        for number in range(count):
            folder = base / str(number)
            folder.mkdir()
            workspace, log, crowd = new_workspace(folder / "w"), folder / "log", draw.randint(4, LARGEST)
            enqueue(workspace, JOBS * JOB_SIZE)
            violations += settle(workspace, log, crowd, block=draw.choice((1, 5, 64)))
            violations += done_twice(log, set())
            violations += check_drained(workspace, expected_squares(JOBS * JOB_SIZE))
            workers += crowd
            if violations:
                break
    return report_of("crowds", workers, violations, time.monotonic() - begun, f"workers, in {count} crowds on {JOBS} jobs each")


if __name__ == "__main__":
    sys.exit(main(run, 40))
