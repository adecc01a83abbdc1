"""What heads are to say about each row: a class, or numbers. Refuses what no head can learn, in one line."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError

NO_CLASS = -1


@dataclass(frozen=True)
class Targets:
    """Targets of all n rows of a source, k outputs a head.

    Attributes:
        task: 'classification' or 'regression'.
        names: classes, or target columns; k of them.
        codes: (n,) int64 class of each row, NO_CLASS where there is none; empty for regression.
        values: (n, k) float32, NaN where there is none; (n, 0) for classification.
    """

    task: str
    names: tuple[str, ...]
    codes: NDArray[np.int64]
    values: NDArray[np.float32]

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
    labels: Sequence[str] | NDArray[np.str_], train: NDArray[np.int64], others: Sequence[NDArray[np.int64]] = ()
) -> Targets:
    """Classes are those of the training rows, sorted.

    Args:
        labels: n texts, '' for none.
        train: positions to train on; `others` are positions to judge on.

    Raises: HeadstartError if training has fewer than two classes, or the others a class that training lacks.
    """
    values = np.asarray(labels, dtype=np.str_)
    names, counts = np.unique(values[train], return_counts=True)
    counts, names = counts[names != ""], names[names != ""]
    if len(names) < 2:
        only = f"one class, {str(names[0])!r}" if len(names) else "no labels"
        raise HeadstartError(
            f"the training split has {only}; a classifier needs two. Label more images, or use --task regression"
        )
    lone = [str(name) for name, count in zip(names, counts, strict=True) if count < 2]
    if len(lone) == len(names):
        raise HeadstartError(
            f"each of the {len(names)} classes has one training image: '{lone[0]}' looks like a name, not a class. "
            "Choose another label column, or use --task regression"
        )
    for positions in others:
        unknown = sorted(set(values[positions].tolist()) - set(names.tolist()) - {""})
        if unknown:
            rows = int(np.isin(values[positions], unknown).sum())
            raise HeadstartError(
                f"{rows} images to judge on have classes that the training split lacks: {', '.join(map(repr, unknown[:3]))}. "
                "Move some of them to training, or remove them"
            )
    places = np.searchsorted(names, values).clip(max=len(names) - 1)
    codes = np.where(names[places] == values, places, NO_CLASS).astype(np.int64)
    return Targets("classification", tuple(map(str, names)), codes, np.empty((len(values), 0), np.float32))


def value_targets(
    names: Sequence[str], columns: Sequence[Sequence[str] | NDArray[np.float64]], train: NDArray[np.int64]
) -> Targets:
    """Numbers to predict, one column a name; '' and NaN mean: none.

    Raises: HeadstartError naming column and row if a value is no number, or if a column is the same on all training rows.
    """
    values = np.stack([_numbers(name, column) for name, column in zip(names, columns, strict=True)], axis=1)
    for name, numbers in zip(names, values.T, strict=True):
        known = numbers[train][np.isfinite(numbers[train])]
        if len(known) < 2 or np.ptp(known) == 0:
            only = f"the value {known[0]:g} on all {len(known)} rows" if len(known) else "no number at all"
            raise HeadstartError(
                f"target '{name}' has {only} of the training split; there is nothing to learn. Choose another --target"
            )
    return Targets("regression", tuple(names), np.empty(0, np.int64), values.astype(np.float32))


def _numbers(name: str, column: Sequence[str] | NDArray[np.float64]) -> NDArray[np.float64]:
    numbers = np.empty(len(column))
    for row, value in enumerate(column):
        try:
            numbers[row] = np.nan if value == "" else float(value)
        except ValueError:
            raise HeadstartError(
                f"target '{name}' of row {row} is {value!r}, expected a number. Fix it, or use --task classification"
            ) from None
        if np.isinf(numbers[row]):
            raise HeadstartError(
                f"target '{name}' of row {row} is {value!r}, expected a finite number. Fix it, or leave it empty"
            )
    return numbers
