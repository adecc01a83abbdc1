"""Sufficient statistics: one pass over the rows, after which every linear baseline, standardization and fold is algebra.

Sums are kept about a fixed point near the mean, so that blocks can be multiplied in float32: only what is left of the rows'
spread is rounded, to about 1e-6 of it, and blocks are added up in float64.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError

from .feature_source import FeatureSource, as_float32
from .targets import Targets

_Array = NDArray[np.float64]
_FEW = 256  # rows of one float32 sum or narrow product: those add row after row, and round each time
_DEAD = 1e-12  # a channel whose variance is below this part of the largest says nothing


@dataclass(frozen=True)
class Statistics:
    """All that linear methods need to know of a set of rows, float64.

    Attributes:
        count: rows.
        shift: (d,) point that features are counted from: u = x - shift.
        sums: (d,) sum of u.
        gram: (d, d) sum of u u^T.
        target_sums: (k,) sum of targets; for one-hot targets the number of rows of each class.
        products: (d, k) sum of u y^T; for one-hot targets the sum of u in each class.
        target_squares: (k,) sum of y^2.
    """

    count: int
    shift: _Array
    sums: _Array
    gram: _Array
    target_sums: _Array
    products: _Array
    target_squares: _Array

    def __add__(self, other: "Statistics") -> "Statistics":
        """Of both sets of rows."""
        return self._with(other, 1)

    def __sub__(self, other: "Statistics") -> "Statistics":
        """Of these rows without those of `other`, which must be among them."""
        return self._with(other, -1)

    def about(self, shift: _Array) -> "Statistics":
        """The same rows, counted from another point."""
        moved = self.shift - shift
        outer = np.outer(moved, self.sums)
        return Statistics(
            count=self.count,
            shift=shift,
            sums=self.sums + self.count * moved,
            gram=self.gram + outer + outer.T + self.count * np.outer(moved, moved),
            target_sums=self.target_sums,
            products=self.products + np.outer(moved, self.target_sums),
            target_squares=self.target_squares,
        )

    def _with(self, other: "Statistics", sign: int) -> "Statistics":
        if not np.array_equal(self.shift, other.shift):
            other = other.about(self.shift)
        return Statistics(
            count=self.count + sign * other.count,
            shift=self.shift,
            sums=self.sums + sign * other.sums,
            gram=self.gram + sign * other.gram,
            target_sums=self.target_sums + sign * other.target_sums,
            products=self.products + sign * other.products,
            target_squares=self.target_squares + sign * other.target_squares,
        )


@dataclass(frozen=True)
class Standardization:
    """(x - mean) / scale has mean 0 and variance 1 on the rows it was made from; both (d,) float64.

    `scale` is 1 for a channel that never changes: it becomes 0 everywhere.
    """

    mean: _Array
    scale: _Array


def standardization_of(statistics: Statistics) -> Standardization:
    """Exactly of these rows, so of the training split if it is given that. Raises: HeadstartError if there are no rows."""
    return _standardization(statistics.count, statistics.shift, statistics.sums, np.diagonal(statistics.gram))


def dead_channels(statistics: Statistics) -> int:
    """Channels that never change on these rows; standardized, they are 0 everywhere."""
    variance = np.diagonal(statistics.gram) / statistics.count - np.square(statistics.sums / statistics.count)
    return int((variance <= _DEAD * variance.max()).sum())


def standardization_from(source: FeatureSource, positions: NDArray[np.int64]) -> Standardization:
    """The same without a Gram matrix, which is a thousand times the work. Raises as `standardization_of`."""
    shift = _near_mean(source, positions)
    shift32 = shift.astype(np.float32)
    sums, squares = np.zeros(source.embed_dim), np.zeros(source.embed_dim)
    memory = np.empty((_FEW, source.embed_dim), np.float32)
    for _, half in source.blocks(positions, _FEW):
        rows = as_float32(half, memory)
        rows -= shift32
        sums += rows.sum(axis=0)
        squares += np.square(rows, out=rows).sum(axis=0)
    return _standardization(len(positions), shift, sums, squares)


def gather_statistics(
    source: FeatureSource, targets: Targets, cells: Mapping[str, NDArray[np.int64]], shift: _Array | None = None
) -> dict[str, Statistics]:
    """Statistics of each cell (a split, a fold) in one pass.

    Args:
        cells: positions by name; rows without a target do not count.
        shift: (d,) point near the mean; taken from the first rows if None.
    """
    known = targets.is_known
    chosen = {name: positions[known[positions]] for name, positions in cells.items()}
    if shift is None:
        shift = _near_mean(source, next((positions for positions in chosen.values() if len(positions)), np.empty(0, np.int64)))
    return {name: _of_rows(source, targets, positions, shift) for name, positions in chosen.items()}


def merged(statistics: Sequence[Statistics]) -> Statistics:
    """Of all rows of all of them; at least one."""
    return reduce(Statistics.__add__, statistics)


def _standardization(count: int, shift: _Array, sums: _Array, squares: _Array) -> Standardization:
    if count < 1:
        raise HeadstartError("the training split has no rows with features and a target. Work off more jobs: headstart work")
    offset = sums / count
    variance = np.maximum(squares / count - offset**2, 0)
    is_dead = variance <= _DEAD * variance.max()
    return Standardization(shift + offset, np.sqrt(np.where(is_dead, 1.0, variance)))


def _near_mean(source: FeatureSource, positions: NDArray[np.int64]) -> _Array:
    if not len(positions):
        return np.zeros(source.embed_dim)
    mean: _Array = source.take(positions[:1024]).astype(np.float64).mean(axis=0)
    # As float32, because float32 rows are counted from it: a constant channel then gives exactly 0.
    return mean.astype(np.float32).astype(np.float64)


def _of_rows(source: FeatureSource, targets: Targets, positions: NDArray[np.int64], shift: _Array) -> Statistics:
    d, k = source.embed_dim, targets.outputs
    sums, gram = np.zeros(d), np.zeros((d, d))
    target_sums, products, squares = np.zeros(k), np.zeros((d, k)), np.zeros(k)
    shift32 = shift.astype(np.float32)
    for block, half in source.blocks(positions):
        rows = as_float32(half)
        rows -= shift32
        values = targets.dense(block)
        gram += rows.T @ rows  # numpy sees the transpose and computes one triangle only
        for start in range(0, len(rows), _FEW):
            few = rows[start : start + _FEW]
            sums += few.sum(axis=0, dtype=np.float64)
            products += few.T @ values[start : start + _FEW]
        target_sums += values.sum(axis=0, dtype=np.float64)
        squares += np.square(values, dtype=np.float64).sum(axis=0)
    return Statistics(len(positions), shift, sums, gram, target_sums, products, squares)
