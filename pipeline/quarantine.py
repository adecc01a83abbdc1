"""What the names in a claims folder tell of each job: how often it was tried, and how that ended.

`job_000042.g1`, `.g2`, ... are claims; `.g1.failed` is an attempt that ended with an error, `.g3.item17` an item that attempt 3
saw end a process, `.g3.retry` forgives all that happened up to attempt 3.
"""

import contextlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import paths
from .files import environment_faults

MAX_FAILURES = 3  # then a job is in quarantine
DEATHS = 2  # of workers that had it in hand; then a job is a suspect
_FIRST_PAUSE_S, _PAUSE_GROWTH = 0.25, 4.0

_NAME = re.compile(r"(job_\d{6,12})\.g(\d{1,9})(\.failed|\.retry|\.item(\d{1,15}))?")
_MOST_GENERATIONS = 999_000_000  # a name beyond is none of ours: after it there would soon be no number left


@dataclass(frozen=True)
class History:
    """What the claims of one job tell.

    Attributes:
        generation: newest claim, 0 if there is none.
        ended: whether that attempt ended by itself with an error.
        failures: attempts that ended with an error since the last `retry`.
        open: claims since the last `retry` that nothing tells the end of: their workers died, or the newest is at work.
        killers: items that ended a process since the last `retry`, with the attempt that saw it.
        last: the newest attempt that anything tells of.
    """

    generation: int = 0
    ended: bool = False
    failures: int = 0
    open: tuple[int, ...] = ()
    killers: tuple[tuple[int, int], ...] = ()
    last: int = 0

    @property
    def is_quarantined(self) -> bool:
        return self.failures >= MAX_FAILURES

    def pause_s(self, job_id: str) -> float:
        """How long to leave a job alone after an attempt that failed: longer each time, and no two jobs equally long."""
        if not self.ended:
            return 0.0  # its worker died, which says nothing of when the next would fare better
        jitter = 0.5 + zlib.crc32(f"{job_id}.g{self.generation}".encode()) / 2**32
        return _FIRST_PAUSE_S * _PAUSE_GROWTH ** max(0, self.failures - 1) * jitter


NO_HISTORY = History()


def read_histories(folder: Path) -> dict[str, History]:
    """History by job id of one claims folder, from its names alone."""
    by_job: dict[str, list[tuple[int, str, int]]] = {}
    for name in names_in(folder):
        match = _NAME.fullmatch(name)
        if match is not None and int(match[2]) <= _MOST_GENERATIONS:
            kind = (match[3] or "").rstrip("0123456789")
            by_job.setdefault(match[1], []).append((int(match[2]), kind, int(match[4] or 0)))
    return {job_id: _history(records) for job_id, records in by_job.items()}


def _history(records: list[tuple[int, str, int]]) -> History:
    claims = {generation for generation, kind, _ in records if not kind}
    failed = {generation for generation, kind, _ in records if kind == ".failed"}
    forgiven = max((generation for generation, kind, _ in records if kind == ".retry"), default=0)
    newest = max(claims | failed, default=0)
    return History(
        generation=newest,
        ended=newest in failed,
        failures=sum(generation > forgiven for generation in failed),
        open=tuple(sorted(generation for generation in claims - failed if generation > forgiven)),
        killers=tuple(
            sorted((item, generation) for generation, kind, item in records if kind == ".item" and generation > forgiven)
        ),
        last=max(generation for generation, _, _ in records),
    )


def names_in(folder: Path) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError), environment_faults(f"cannot list {folder}"):
        yield from paths.names(folder)


def is_claim(name: str) -> bool:
    """Whether a name in a claims folder is a claim, not the record of a failed or forgiven attempt."""
    match = _NAME.fullmatch(name)
    return match is not None and match[3] is None
