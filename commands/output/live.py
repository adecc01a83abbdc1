"""What `headstart watch` shows: the answer so far, the rate, workers, failures. Drawn with rich, so no command starts with it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from headstart.experiments.evaluation.anytime.record import Score, read_scores
from headstart.pipeline.markers import newest_facts
from headstart.pipeline.status import Status, read_status
from headstart.pipeline.tally import Tally
from headstart.pipeline.text import plural, printable, rough_size_words, span

if TYPE_CHECKING:
    from headstart.pipeline.workspace import Workspace

_WINDOW_S = 30.0  # that a rate is of
_BARS = "▁▂▃▄▅▆▇█"
_LONGEST = 60


@dataclass(frozen=True)
class Snapshot:
    """Where everything stands at one moment.

    Attributes:
        at: on the monotonic clock.
        facts: by folder, what the newest marker says: device, batch, budget.
        scores: by folder and data set, the anytime scores, oldest first.
        memory: resident bytes of each live worker of this machine, by name.
    """

    at: float
    status: Status
    facts: Mapping[str, Mapping[str, Any]]
    scores: Mapping[tuple[str, str], list[Score]]
    memory: Mapping[str, int]

    @property
    def is_over(self) -> bool:
        return not self.status.remaining and not self.status.workers


def take_snapshot(workspace: Workspace) -> Snapshot:
    """Reads the workspace and changes nothing there. Raises as `read_status`."""
    import psutil

    status = read_status(workspace)
    folders = [folder for kind, folder in status.folders if kind == "extract"]
    memory = {}
    for owner in status.workers:
        try:
            memory[owner.worker] = int(psutil.Process(owner.pid).memory_info().rss)
        except psutil.Error:  # of another machine, or gone in this moment
            continue
    scores = {(folder, dataset): points for folder in folders for dataset, points in read_scores(workspace.root / folder).items()}
    return Snapshot(time.monotonic(), status, {f: newest_facts(workspace, f) for f in folders}, scores, memory)


@dataclass
class Rates:
    """Jobs and images a second over the last half minute, by folder; looks that are older are forgotten."""

    looks: deque[tuple[float, dict[str, tuple[int, int]]]] = field(default_factory=deque)

    def add(self, snapshot: Snapshot) -> None:
        counts = {folder: (tally.done, tally.items_done) for (_, folder), tally in snapshot.status.folders.items()}
        self.looks.append((snapshot.at, counts))
        while len(self.looks) > 2 and snapshot.at - self.looks[0][0] > _WINDOW_S:
            self.looks.popleft()

    def of(self, folder: str) -> tuple[float, float] | None:
        """Jobs and images a second; None while there is one look only, or nothing came."""
        (first, before), (last, after) = self.looks[0], self.looks[-1]
        jobs, images = (new - old for new, old in zip(after.get(folder, (0, 0)), before.get(folder, (0, 0)), strict=True))
        return (jobs / (last - first), images / (last - first)) if jobs > 0 and last > first else None


def draw_snapshot(root: str, snapshot: Snapshot, rates: Rates) -> RenderableType:
    """For a terminal of any width; every text from data is escaped."""
    parts: list[RenderableType] = [Text(f"workspace {_short(root, 200)}", style="dim")]
    if snapshot.scores:
        parts += [Text(), _scores(snapshot)]
    for (kind, folder), tally in snapshot.status.folders.items():
        parts += [Text(), *_folder(kind, folder, tally, snapshot, rates)]
    if not snapshot.status.folders:
        parts += [Text(), Text("The queue is empty. Fill it: headstart enqueue DATA")]
    parts += [Text(), _workers(snapshot)]
    failures = _failures(snapshot)
    if failures:
        parts += [Text(), *failures]
    return Group(*parts)


def _scores(snapshot: Snapshot) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for (_, dataset), points in snapshot.scores.items():
        last = points[-1]
        number = Text(f"{last.accuracy * 100:.1f} %", style="bold blue")
        number.append(f"  {last.low * 100:.1f} to {last.high * 100:.1f}", style="not bold default")
        course = f"{_course([point.accuracy for point in points])}  from {points[0].accuracy * 100:.0f} %" if points[1:] else ""
        of = f"ridge on {last.judged:,} validation images, of {last.images:,} so far, {last.classes_words}"
        table.add_row(Text("score", style="dim"), number, Text(course))
        table.add_row(Text(), Text(of, style="dim"), Text(_short(dataset), style="dim"))
    return table


def _course(values: list[float]) -> str:
    """One block a value, at most 24, from the smallest to the largest of them."""
    step = max(1, -(-len(values) // 24))
    shown = values[::-step][::-1]
    low, high = min(shown), max(shown)
    return "".join(_BARS[round((value - low) / ((high - low) or 1.0) * (len(_BARS) - 1))] for value in shown)


def _folder(kind: str, folder: str, tally: Tally, snapshot: Snapshot, rates: Rates) -> list[RenderableType]:
    rate = rates.of(folder)
    left = tally.running + tally.pending
    seconds = left / rate[0] if rate and left else tally.seconds_left(len(snapshot.status.workers)) if left else None
    words = [f"{tally.done:,} of {plural(tally.jobs, 'job')}"]
    if kind == "extract":
        words.append(f"{tally.items_done:,} images")
        if rate:
            words.append(f"{rate[1]:,.0f} images/s")
    if seconds is not None:
        words.append(f"{span(seconds)} left" if rate or snapshot.status.workers else f"{span(seconds)} left, nobody at work")
    bar = ProgressBar(total=max(1, tally.jobs), completed=tally.done, width=30)
    line = Table.grid(padding=(0, 2))
    line.add_row(bar, Text("  ".join(words)))
    shown: list[RenderableType] = [Text(f"{kind}  {_short(folder.rpartition('/')[2])}", style="bold"), line]
    return shown


def _workers(snapshot: Snapshot) -> RenderableType:
    if not snapshot.status.workers:
        return Text("nobody is at work: headstart work" if snapshot.status.remaining else "nobody is at work")
    budget = next((facts.get("ram_budget_bytes") for facts in snapshot.facts.values() if facts.get("ram_budget_bytes")), None)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2), header_style="dim")
    table.add_column("worker", overflow="fold")
    table.add_column("memory", justify="right")
    table.add_column("budget", justify="right")
    for owner in snapshot.status.workers:
        held = snapshot.memory.get(owner.worker)
        is_over = held is not None and isinstance(budget, int) and held > budget
        memory = (
            "on another machine" if held is None else rough_size_words(held, "MB") + (", above the budget" if is_over else "")
        )
        of = rough_size_words(budget, "MB") if isinstance(budget, int) else "none"
        table.add_row(Text(_short(owner.worker)), Text(memory, style="bold red" if is_over else ""), Text(of))
    return table


def _failures(snapshot: Snapshot) -> list[RenderableType]:
    lines: list[RenderableType] = []
    tallies = list(snapshot.status.folders.values())
    images, jobs = sum(tally.items_failed for tally in tallies), sum(tally.quarantined for tally in tallies)
    if images or jobs:
        parts = [plural(images, "image")] * bool(images) + [f"{plural(jobs, 'job')} quarantined"] * bool(jobs)
        lines.append(Text(f"failed: {', '.join(parts)} (which, and why: headstart status --failed)", style="yellow"))
    lines += [Text(f"warning: {_short(problem, 200)}", style="yellow") for problem in snapshot.status.problems]
    lines += [Text(f"{_short(why)} is {state}: {plural(count, 'job')}") for state, why, count in snapshot.status.withdrawn]
    return lines


def _short(text: str, longest: int = _LONGEST) -> str:
    shown = printable(text)
    return shown if len(shown) <= longest else f"{shown[: longest - 9]}…{shown[-8:]}"
