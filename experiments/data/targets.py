"""What heads are to say about each row: a class, or numbers. Refuses what no head can learn, in one line."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural

NO_CLASS = -1


LARGEST_NUMBER = 1e100  # of a number: its square is still one


@dataclass(frozen=True)
class Units:
    """What numbers are counted in: their mean and spread on the training rows, (k,) float64. In these units an offset or a scale
    of the table changes nothing."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64], train: NDArray[np.int64]) -> "Units":
        """Args: values: (n, k), NaN for none; train: rows that count."""
        rows = values[train][np.isfinite(values[train]).all(axis=1)]
        if not len(rows):
            return cls(np.zeros(values.shape[1]), np.ones(values.shape[1]))
        first = rows[0]  # sums of what is left lose no digit to an offset
        mean = first + (rows - first).mean(axis=0)
        spread = (rows - mean).std(axis=0)
        return cls(mean, np.where(spread > 0, spread, 1.0))

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        return ((values - self.mean) / self.scale).astype(np.float32)

    def undo(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return np.asarray(values.astype(np.float64) * self.scale + self.mean)

    @property
    def fits_float32(self) -> bool:
        """Whether numbers in float32 keep six digits of the spread."""
        return bool((np.abs(self.mean) <= 16 * self.scale).all() and (self.scale < 1e30).all() and (self.scale > 1e-30).all())

    def as_json(self) -> dict[str, list[float]]:
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any] | None) -> "Units | None":
        return None if facts is None else cls(*(np.array(facts[key], np.float64) for key in ("mean", "scale")))


MORE_TO_COME = "So far: work off more jobs, then try again: headstart work"


@dataclass(frozen=True)
class Targets:
    """Targets of all n rows of a source, k outputs a head.

    Attributes:
        task: 'classification' or 'regression'.
        names: classes, or target columns; k of them.
        codes: (n,) int64 class of each row, NO_CLASS where there is none; empty for regression.
        values: (n, k) float32, NaN where there is none; (n, 0) for classification.
        units: of the values; None: as they are in the table.
    """

    task: str
    names: tuple[str, ...]
    codes: NDArray[np.int64]
    values: NDArray[np.float32]
    units: Units | None = None

    def in_table(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """(n, k) as the table has them."""
        return values.astype(np.float64) if self.units is None else self.units.undo(values)

    def about_mean(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """(n, k) in the table's scale, about the mean: what errors and correlations are taken of, whatever the offset."""
        return np.asarray(values.astype(np.float64) * (1.0 if self.units is None else self.units.scale))

    @property
    def outputs(self) -> int:
        return len(self.names)

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """(n,) bool: rows that have a target."""
        return self.codes != NO_CLASS if self.task == "classification" else np.asarray(np.isfinite(self.values).all(axis=1))

    def dense(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(positions), k): one-hot, or the values."""
        if self.task == "regression":
            return self.values[positions]
        return np.asarray(np.eye(self.outputs, dtype=np.float32)[self.codes[positions]])


def class_targets(
    labels: Sequence[str] | NDArray[np.str_],
    train: NDArray[np.int64],
    others: Sequence[NDArray[np.int64]] = (),
    are_said: bool = False,
    is_partial: bool = False,
) -> Targets:
    """Classes are those of the training rows, sorted.

    Args:
        labels: n texts, '' for none.
        train: positions to train on; `others` are positions to judge on.
        are_said: the labels are classes whatever they look like: folders of classes.
        is_partial: more images are to come, so that a class which training lacks is no mistake: its images are left out.

    Raises: HeadstartError if training has fewer than two classes, or the others a class that training lacks.
    """
    values = np.asarray(labels, dtype=np.str_)
    names, counts = np.unique(values[train], return_counts=True)
    counts, names = counts[names != ""], names[names != ""]
    if len(names) < 2:
        only = f"one class, {str(names[0])!r}" if len(names) else "no labels"
        remedy = MORE_TO_COME if is_partial else "Label more images, or use --task regression"
        raise HeadstartError(f"the training split has {only}; a classifier needs two. {remedy}")
    lone = [str(name) for name, count in zip(names, counts, strict=True) if count < 2]
    if len(lone) == len(names) and not (are_said or is_partial):
        raise HeadstartError(
            f"each of the {len(names)} classes has one training image: '{lone[0]}' looks like a name, not a class. "
            "Choose another label column, or use --task regression"
        )
    for positions in others:
        unknown = sorted(set(values[positions].tolist()) - set(names.tolist()) - {""})
        if unknown and not is_partial:
            rows = int(np.isin(values[positions], unknown).sum())
            raise HeadstartError(
                f"{plural(rows, 'image')} to judge on {'has a class' if rows == 1 else 'have classes'} that "
                f"the training split lacks: {', '.join(map(repr, unknown[:3]))}. "
                "Move some of them to training, or remove them"
            )
    places = np.searchsorted(names, values).clip(max=len(names) - 1)
    codes = np.where(names[places] == values, places, NO_CLASS).astype(np.int64)
    return Targets("classification", tuple(map(str, names)), codes, np.empty((len(values), 0), np.float32))


def value_targets(
    names: Sequence[str],
    columns: Sequence[Sequence[str] | NDArray[np.float64]],
    train: NDArray[np.int64],
    is_centered: bool = False,
    named: Callable[[int], str] = lambda row: f"row {row}",
    is_partial: bool = False,
) -> Targets:
    """Numbers to predict, one column a name; '' and NaN mean: none.

    Args:
        is_centered: values are in units of the training rows.
        named: what a row is called in a message.
        is_partial: more images are to come.

    Raises: HeadstartError naming column and row if a value is no number, or if a column is the same on all training rows.
    """
    values = np.stack([_numbers(name, column, named) for name, column in zip(names, columns, strict=True)], axis=1)
    for name, numbers in zip(names, values.T, strict=True):
        known = numbers[train][np.isfinite(numbers[train])]
        if len(known) < 2 or np.ptp(known) == 0:
            only = f"the value {known[0]:g} on all {len(known)} rows" if len(known) else "no number at all"
            remedy = MORE_TO_COME if is_partial else "Choose another --target"
            raise HeadstartError(f"target '{name}' has {only} of the training split; there is nothing to learn. {remedy}")
    units = Units.of(values, train) if is_centered else None
    if units is None:
        _refuse_beyond_float32(names, values, named)
    halved = values.astype(np.float32) if units is None else units.apply(values)
    return Targets("regression", tuple(names), np.empty(0, np.int64), halved, units)


def _refuse_beyond_float32(names: Sequence[str], values: NDArray[np.float64], named: Callable[[int], str]) -> None:
    for name, numbers in zip(names, values.T, strict=True):
        too_large = np.flatnonzero(np.abs(numbers) > np.finfo(np.float32).max)
        if len(too_large):
            row = int(too_large[0])
            raise HeadstartError(
                f"target '{name}' of {named(row)} is {numbers[row]:g}, more than float32 holds. Divide the column"
            )


def _numbers(name: str, column: Sequence[str] | NDArray[np.float64], named: Callable[[int], str]) -> NDArray[np.float64]:
    numbers = np.empty(len(column))
    for row, value in enumerate(column):
        try:
            numbers[row] = np.nan if value == "" else float(value)
        except ValueError:
            raise HeadstartError(
                f"target '{name}' of {named(row)} is {value!r}, expected a number. Fix it, or use --task classification"
            ) from None
        if abs(numbers[row]) > LARGEST_NUMBER:
            raise HeadstartError(
                f"target '{name}' of {named(row)} is {value!r}, expected a finite number. Fix it, or leave it empty"
                if np.isinf(numbers[row])
                else f"target '{name}' of {named(row)} is {value!r}, expected at most {LARGEST_NUMBER:g}. Divide the column"
            )
    return numbers
