"""What a training will learn from and take, tried on a few rows before it begins: time, memory and disk of each way to do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any, TypeVar

from headstart.pipeline.text import size_words, span

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Way:
    """One way to train.

    Attributes:
        name: of it. is_chosen: whether it is the one that the options ask for.
        steps: of the optimizer, at most; step_s: seconds of one, None if that was not tried.
        before_s: seconds of jobs before it; training_s: of steps and evaluations; as busy as the machine is now.
        memory_bytes: resident, on a GPU with memory of its own of the step alone. disk_bytes: of what is computed before.
    """

    name: str
    is_chosen: bool
    steps: int
    memory_bytes: int
    step_s: float | None = None
    before_s: float = 0.0
    training_s: float | None = None
    disk_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """What a training would learn from, and what it would take.

    Attributes:
        ways: there are to train. device: that it will run on.
        counts: rows of each split; contents, notes: as in `Splits`. Empty where the recipe plans by itself: jobs make its data.
    """

    ways: Sequence[Way]
    counts: Mapping[str, int] = field(default_factory=dict)
    contents: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    device: str = "cpu"

    def as_json(self) -> dict[str, Any]:
        data = {"counts": dict(self.counts), "contents": list(self.contents), "notes": list(self.notes)}
        return {"data": data, "ways": [way.as_json() for way in self.ways]}

    @property
    def lines(self) -> list[str]:
        """For people."""
        rows = [f"data: {rows_words(self.counts)}"] if self.counts else []
        data = [*rows, *(f"data: {one}" for one in self.contents), *(f"note: {note}" for note in self.notes)]
        return [*data, *plan_lines(self.ways, self.device)]


def rows_words(counts: Mapping[str, int]) -> str:
    """`52 train, 4 val rows`."""
    return ", ".join(f"{count:,} {split}" for split, count in counts.items()) + " rows"


def plan_lines(ways: Sequence[Way], device: str) -> list[str]:
    """For people, a line a way. Ways are tried on the CPU, which is said where the training runs elsewhere."""
    return [f"plan{'' if device == 'cpu' or way.step_s is None else ' on the CPU'}: {_line(way)}" for way in ways]


def _line(way: Way) -> str:
    parts = [f"{way.steps:,} steps"]
    if way.step_s is not None and way.training_s is not None:
        parts[0] += f" of {way.step_s:.2g} s"
        parts.append(f"{span(way.before_s)} before and {span(way.training_s)} of training")
    parts.append(f"{size_words(way.memory_bytes)} of memory")
    if way.disk_bytes:
        parts.append(f"{size_words(way.disk_bytes)} on disk")
    return f"{way.name}: {', '.join(parts)}" + (" (chosen)" if way.is_chosen and way.step_s is not None else "")


def timed(action: Callable[[], _Made]) -> tuple[float, _Made]:
    """Seconds of the second of two calls, and its result: the first one loads what both need."""
    action()
    begun = perf_counter()
    made = action()
    return perf_counter() - begun, made
