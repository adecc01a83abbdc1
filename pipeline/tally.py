"""Counts of jobs by state and of their items by outcome."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from .doors.records import LARGEST
from .job import Job
from .markers import DoneCounts


@dataclass
class Tally:
    """Counts of jobs by state and of items by outcome; `payload_bytes` and `seconds` are of done jobs.

    The peaks are the largest that a worker noted in a marker; that of the GPU is 0 where none was used.
    """

    jobs: int = 0
    done: int = 0
    running: int = 0
    pending: int = 0
    quarantined: int = 0
    unreadable: int = 0
    items: int = 0
    items_done: int = 0
    items_failed: int = 0
    payload_bytes: int = 0
    seconds: float = 0.0
    peak_rss_bytes: int = 0
    peak_vram_bytes: int = 0

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> "Tally":
        """So many jobs and items, of which nothing is known yet."""
        return cls(jobs=len(jobs), items=sum(job.stop - job.start for job in jobs))

    def add(self, other: "Tally") -> None:
        for part in fields(self):
            mine, others = getattr(self, part.name), getattr(other, part.name)
            setattr(self, part.name, max(mine, others) if part.name.startswith("peak") else mine + others)

    def add_done(self, counts: DoneCounts) -> None:
        """One more job is done; it is among `jobs` and `items` already."""
        facts = counts.facts
        self.done += 1
        self.items_done += counts.ok
        self.items_failed += counts.items - counts.ok
        self.payload_bytes += counts.payload_bytes
        self.seconds += _number(facts.get("seconds"))
        self.peak_rss_bytes = max(self.peak_rss_bytes, int(_number(facts.get("peak_rss_bytes"))))
        # The driver's figure is of the whole process, but in containers it may not know it; the allocator's is less.
        vram = _number(facts.get("vram_process_bytes")) or _number(facts.get("peak_vram_reserved_bytes"))
        self.peak_vram_bytes = max(self.peak_vram_bytes, int(vram))

    def seconds_left(self, workers: int) -> float | None:
        """What running and pending jobs will take so many workers, by those that are done; None if none is, or none is left."""
        left = self.running + self.pending
        return left * self.seconds / self.done / max(1, workers) if left and self.done else None


def _number(value: Any) -> float:
    """0 for anything else: facts are whatever the kind noted, and decide nothing."""
    # NaN is not in between; an integer of 400 digits is compared, not converted. A union of types would be made each time.
    return float(value) if isinstance(value, (int, float)) and 0 <= value <= LARGEST else 0.0
