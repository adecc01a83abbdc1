"""What the names in a claims folder tell of each job: how often it was tried, and how that ended.

`job_000042.g1`, `.g2`, ... are claims; `.g1.failed` is an attempt that ended with an error, `.g1.retry` forgives up to it.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .files import environment_faults

MAX_FAILURES = 3

_NAME = re.compile(r"(job_\d+)\.g(\d+)(\.failed|\.retry)?")


@dataclass(frozen=True)
class History:
    """What the claims of one job tell.

    Attributes:
        generation: newest claim, 0 if there is none.
        ended: whether that attempt ended by itself with an error.
        failures: attempts that ended with an error since the last `retry`.
    """

    generation: int = 0
    ended: bool = False
    failures: int = 0

    @property
    def is_quarantined(self) -> bool:
        return self.failures >= MAX_FAILURES


NO_HISTORY = History()


def read_histories(folder: Path) -> dict[str, History]:
    """History by job id of one claims folder, from its names alone."""
    claims: dict[str, set[int]] = {}
    failed: dict[str, set[int]] = {}
    forgiven: dict[str, int] = {}
    for name in names_in(folder):
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        job_id, generation = match[1], int(match[2])
        if match[3] == ".failed":
            failed.setdefault(job_id, set()).add(generation)
        elif match[3] == ".retry":
            forgiven[job_id] = max(generation, forgiven.get(job_id, 0))
        else:
            claims.setdefault(job_id, set()).add(generation)
    histories = {}
    for job_id in claims.keys() | failed.keys():
        newest = max(claims.get(job_id, set()) | failed.get(job_id, set()))
        failures = sum(generation > forgiven.get(job_id, 0) for generation in failed.get(job_id, ()))
        histories[job_id] = History(newest, newest in failed.get(job_id, ()), failures)
    return histories


def names_in(folder: Path) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError), environment_faults(f"cannot list {folder}"), os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name


def is_claim(name: str) -> bool:
    """Whether a name in a claims folder is a claim, not the record of a failed or forgiven attempt."""
    match = _NAME.fullmatch(name)
    return match is not None and match[3] is None
