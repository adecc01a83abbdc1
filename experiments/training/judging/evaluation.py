"""A split on its way through a model that is being judged: batches in order, nothing drawn but by key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.keys import Key
from headstart.experiments.training.data.sets import DataSet, Splits, Subset, batches_in_order
from headstart.experiments.training.schedule import permuted

if TYPE_CHECKING:
    from headstart.experiments.training.options import RecipeOptions


@dataclass(frozen=True)
class Batches:
    """What `evaluate` iterates over, as often as it likes; the same batches each time.

    Attributes:
        rows: the data set behind it.
        split: its name.
        size: rows of a batch, which share their random numbers.
        at_once: rows that go through the model together; a batch comes in so many pieces.
        options, about: as in a step.
        check: called between batches; may raise to leave.
    """

    rows: DataSet
    split: str
    size: int
    at_once: int
    options: Any
    about: Facts
    key: Key
    device: str = "cpu"
    check: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Batch]:
        for batch, _ in self.steps():
            yield batch

    def steps(self) -> Iterator[tuple[Batch, Step]]:
        """Each batch with the random numbers that belong to it, the same in every evaluation of this split."""
        for number, rows in enumerate(batches_in_order(self.rows, self.size)):
            batch = self.rows.batch(rows, None)
            count, key = len(batch), self.key.of("judged", self.split, number)
            whole = Step(number, -1, self.options, self.about, key, self.device, count, 0, count)
            for start in range(0, count, self.at_once):
                self.check()
                stop = min(start + self.at_once, count)
                yield batch[start:stop].to(self.device), whole.part(start, stop)

    def subset(self, count: int) -> Batches:
        """So many rows of it, drawn once for all evaluations; all of them if there are no more."""
        if not 0 < count < len(self.rows):
            return self
        places = np.arange(count, dtype=np.uint64)
        rows = permuted(places, len(self.rows), self.key.of("subset").number).astype(np.int64)
        return replace(self, rows=Subset(self.rows, np.sort(rows)))


def judged_batches(
    splits: Splits,
    split: str,
    options: RecipeOptions,
    device: str,
    at_once: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> Batches:
    """A split as `evaluate` sees it. Args: at_once: None: whole batches."""
    size, key = options.batch_size, Key((options.seed, "evaluation"))
    rows = splits.named()[split]
    return Batches(rows, split, size, min(size, at_once or size), options, splits.facts, key, device, check)
