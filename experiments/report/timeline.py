"""The jobs that made an encoder's features: when, by which worker, how long, with how much memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.features.store.load import finished_markers
from headstart.pipeline import paths
from headstart.pipeline.markers import Marker
from headstart.pipeline.workspace import Workspace


@dataclass(frozen=True)
class JobSpan:
    """Attributes:
    worker: 0, 1, ... in the order in which they came; ended_s: since the first job began.
    failed: images without features.
    """

    job_id: str
    worker: int
    ended_s: float
    seconds: float
    images: int
    failed: int
    memory_bytes: int


@dataclass(frozen=True)
class Timeline:
    """Attributes:
    jobs: in the order in which they ended.
    workers: how many there were; restarts: those that began after another had ended, where no gap shows more than a wait.
    budget_bytes: of memory, None if none was set.
    busy_s: time in which some worker computed, pauses left out.
    """

    jobs: tuple[JobSpan, ...]
    workers: int
    budget_bytes: int | None
    busy_s: float

    @property
    def images(self) -> int:
        return sum(job.images for job in self.jobs)

    @property
    def span_s(self) -> float:
        return self.jobs[-1].ended_s if self.jobs else 0.0


def timeline_of(workspace: Workspace, encoder_folder: Path) -> Timeline:
    """Of every finished job of that encoder; who did one, only where its marker says so."""
    markers = list(finished_markers(workspace, encoder_folder))
    ends = [_number(marker.facts, "ended_at") or paths.stat(workspace.marker(marker.job)).st_mtime for marker in markers]
    order = sorted(range(len(markers)), key=lambda i: (ends[i], markers[i].job.number))
    begin = min((ends[i] - _number(markers[i].facts, "seconds") for i in order), default=0.0)
    workers: dict[str, int] = {}
    jobs = []
    for i in order:
        facts = markers[i].facts
        jobs.append(
            JobSpan(
                job_id=markers[i].job.job_id,
                worker=workers.setdefault(str(facts.get("worker", "")), len(workers)),
                ended_s=ends[i] - begin,
                seconds=_number(facts, "seconds"),
                images=markers[i].items,
                failed=markers[i].items - markers[i].ok,
                memory_bytes=int(_number(facts, "peak_rss_bytes")),
            )
        )
    return Timeline(tuple(jobs), len(workers), _budget(markers), _busy(jobs))


def _budget(markers: Sequence[Marker]) -> int | None:
    budgets = [int(budget) for marker in markers if (budget := _number(marker.facts, "ram_budget_bytes"))]
    return budgets[-1] if budgets else None


def _busy(jobs: Sequence[JobSpan]) -> float:
    total, until = 0.0, float("-inf")
    for begin, end in sorted((job.ended_s - job.seconds, job.ended_s) for job in jobs):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def _number(facts: dict[str, Any], name: str) -> float:
    value = facts.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
