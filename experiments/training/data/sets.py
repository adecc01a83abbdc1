"""Data sets for training: what a row is depends on its number and a key, on nothing else."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.training.schedule import permuted, row_order
from headstart.pipeline.errors import HeadstartError, InterruptedWork, TryLaterError
from headstart.pipeline.text import plural, reason_of, verb

from .batch import Batch, Facts, collate
from .keys import Key

Rows = NDArray[np.int64]


class DataSet(Protocol):
    """Rows to train on or to be judged on."""

    def __len__(self) -> int: ...

    @property
    def digest(self) -> str:
        """Of everything that decides the rows: other digests are other trainings."""

    def batch(self, rows: Rows, key: Key | None) -> Batch:
        """These rows. A pure function: augmentation draws from `key`, which is that of the epoch; None: nothing is drawn."""


@runtime_checkable
class Ordered(Protocol):
    """A data set whose batches are no slices of a shuffle: by length, by group, all patches of an image."""

    def batches(self, key: Key | None, size: int) -> Sequence[Rows]:
        """The rows of each batch of an epoch. As many batches for every key; None: in the order of judging."""


class Arrays:
    """Columns in memory: `Arrays(image=..., label=...)`; a row is the i-th entry of each. Nothing is drawn."""

    is_ready = True  # to read ahead in another process would cost more than to read

    def __init__(self, **columns: Any) -> None:
        self.columns = {name: np.asarray(column) for name, column in columns.items()}
        self.columns = {name: _single(column) for name, column in self.columns.items()}
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) != 1:
            raise HeadstartError(f"columns of different lengths: {lengths}. Give each one entry a row")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def digest(self) -> str:
        sha256 = hashlib.sha256()
        for name, column in sorted(self.columns.items()):
            sha256.update(f"{name}\0{column.dtype.str}\0{column.shape}\0".encode())
            sha256.update(np.ascontiguousarray(column).data)
        return sha256.hexdigest()

    def batch(self, rows: Rows, key: Key | None) -> Batch:
        import torch

        return Batch({name: torch.from_numpy(column[rows]) for name, column in self.columns.items()})

    def column(self, name: str) -> NDArray[Any]:
        return self.columns[name]


def _single(column: NDArray[Any]) -> NDArray[Any]:
    return column.astype(np.float32) if column.dtype == np.float64 else column


@dataclass(frozen=True)
class Items:
    """Rows that are made one by one, such as images from files. One that cannot be made is left out of its batch and counted.

    Attributes:
        count: of rows.
        make: from a row's number and its key to named arrays. The key is None where nothing may be drawn. Code that draws
            without a key (torchvision, timm) does so inside `with key.seeding():`.
        digest: see DataSet.
    """

    count: int
    make: Callable[[int, Key | None], Mapping[str, Any]]
    digest: str

    def __len__(self) -> int:
        return self.count

    def batch(self, rows: Rows, key: Key | None) -> Batch:
        items, broken = [], {}
        for row in rows.tolist():
            try:
                items.append(self.make(row, None if key is None else key.of(row)))
            except (TryLaterError, InterruptedWork, MemoryError):
                raise
            except Exception as error:
                broken[row] = f"{type(error).__name__}: {reason_of(error)}"
        return collate(items, broken)


@dataclass(frozen=True)
class Subset:
    """Some rows of a data set, as one of their own."""

    whole: DataSet
    rows: Rows

    @property
    def is_ready(self) -> bool:
        return getattr(self.whole, "is_ready", False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.whole.digest}\0".encode() + self.rows.tobytes()).hexdigest()

    def batch(self, rows: Rows, key: Key | None) -> Batch:
        return self.whole.batch(self.rows[rows], key)

    def column(self, name: str) -> Any:
        return self.whole.column(name)[self.rows]  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Splits:
    """What a recipe learns from and is judged on.

    Attributes:
        train, val, test: test may be None; it is read once, at the end.
        about: whatever the model must know of the data (classes, channels, an alphabet), ready for JSON. It is kept with the
            weights, so that a trained model is built again without its data.
        notes: what a reader of the numbers should know, one line each.
        settled: options that `data` decided, by name: with these it gives the same rows later, whatever was added meanwhile.
        contents: what the data holds, one line each, for whoever asks before hours are spent: `train --dry-run`.
    """

    train: DataSet
    val: DataSet
    test: DataSet | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settled: Mapping[str, Any] = field(default_factory=dict)
    contents: tuple[str, ...] = ()

    def named(self) -> dict[str, DataSet]:
        parts = {"train": self.train, "val": self.val}
        return parts if self.test is None else {**parts, "test": self.test}

    @property
    def facts(self) -> Facts:
        return Facts(self.about)

    @property
    def digest(self) -> str:
        """sha256 (hex) of all rows and facts."""
        import json

        sha256 = hashlib.sha256(json.dumps(dict(self.about), sort_keys=True).encode())
        for name, part in self.named().items():
            sha256.update(f"\0{name}\0{len(part)}\0{part.digest}".encode())
        return sha256.hexdigest()


def split(
    whole: DataSet,
    *,
    val: float,
    test: float = 0.0,
    stratify: str | None = None,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
) -> Splits:
    """The rows drawn into train, val and test, the same for the same seed.

    Args:
        val, test: parts from 0 to 1.
        stratify: a column of which each split gets an even share of every value.

    Raises: HeadstartError if a split would be empty.
    """
    count = len(whole)
    order = permuted(np.arange(count, dtype=np.uint64), count, Key((seed, "split")).number).astype(np.int64)
    if stratify is not None:
        # Dealt out value by value, so that any run of rows has an even share of each.
        values = np.asarray(whole.column(stratify))[order]  # type: ignore[attr-defined]
        ranks = np.empty(count)
        for value in np.unique(values):
            places = np.flatnonzero(values == value)
            ranks[places] = (np.arange(len(places)) + 0.5) / len(places)
        order = order[np.argsort(ranks, kind="stable")]
    sizes = [round(test * count), round(val * count)]
    bounds = [0, sizes[0], sizes[0] + sizes[1], count]
    parts = [Subset(whole, np.sort(order[start:stop])) for start, stop in itertools.pairwise(bounds)]
    if not len(parts[1]) or not len(parts[2]) or (test and not len(parts[0])):
        raise HeadstartError(
            f"{plural(count, 'row')} {verb(count, 'are')} "
            f"too few for a part of {val:g} to validate and {test:g} to test on. Take more rows"
        )
    return Splits(parts[2], parts[1], parts[0] if test else None, about or {})


class Order:
    """Which rows each step of a training takes: a function of the step, whatever happened before it.

    The rows of an epoch are cut into batches whose sizes differ by one row at most, so that none is a leftover of a few.

    Attributes:
        steps_per_epoch: optimizer steps.
    """

    def __init__(self, rows: DataSet, size: int, key: Key) -> None:
        """Args: size: rows a step, batch size times accumulation."""
        self._set, self._size, self._key = rows, size, key
        self._epoch = -1
        self._batches: Sequence[Rows] = ()
        self._is_ordered = isinstance(rows, Ordered)
        self.steps_per_epoch = len(self._batches_of(0)) if self._is_ordered else -(-len(rows) // size)

    def rows(self, step: int) -> Rows:
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._is_ordered:
            return np.asarray(self._batches_of(epoch)[place], np.int64)
        start, stop = (len(self._set) * number // self.steps_per_epoch for number in (place, place + 1))
        seed = self._key.number
        return row_order(len(self._set), start, stop, seed, epoch)

    def epoch_key(self, step: int) -> Key:
        """What augmentation of that step's rows draws from."""
        return self._key.of("items", step // self.steps_per_epoch)

    def _batches_of(self, epoch: int) -> Sequence[Rows]:
        if self._epoch != epoch:
            assert isinstance(self._set, Ordered)
            batches = self._set.batches(self._key.of("batches", epoch), self._size)
            if self._batches and len(batches) != len(self._batches):
                raise HeadstartError(
                    f"the data set makes {len(batches)} batches of epoch {epoch} and made {len(self._batches)} before. "
                    "batches(key, size) must give as many for every key"
                )
            self._epoch, self._batches = epoch, batches
        return self._batches


def batches_in_order(rows: DataSet, size: int) -> list[Rows]:
    """How a data set is judged: all rows once, nothing drawn."""
    if isinstance(rows, Ordered):
        return [np.asarray(batch, np.int64) for batch in rows.batches(None, size)]
    return [np.arange(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
