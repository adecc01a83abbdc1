"""How sure a number is: 95 % intervals of what was measured on a sample of images, or of groups of images.

Proportions have Wilson's interval. Everything else is a function of sums over rows and has the BCa bootstrap: all resamples of
all columns are one product of matrices. Where images come in groups, groups are drawn, not images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.text import plural

RESAMPLES = 2000
# Images, or groups, from which intervals hold in 90 of 100 samples at least, of log-loss and ranks (benchmarks/coverage.py): of
# fewer there may be no answer yet that is surely wrong, and nothing that is drawn again shows what that costs.
HOLDS_FROM = {"log_loss": 300, "spearman": 200}
SMALL = 30  # images, or groups, below which an interval is wide, and said to be
Z_95 = 1.959963984540054  # of 97.5 %
_TAILS = (0.025, 0.975)
_MOST_UNITS = 2000  # more rows than that are dealt into so many piles, which are drawn in their place: the cost has a bound
_AT_ONCE = 4_000_000  # numbers of one block of resamples

Interval = list[float | None]
_Array = NDArray[np.float64]
_NONE: Interval = [None, None]


class Sample:
    """Rows of which some unit is drawn at random: each row, or each group of rows.

    Attributes:
        count: rows; units: what is drawn.
        is_grouped: whether groups were given.
    """

    def __init__(self, count: int, groups: NDArray[np.str_] | None = None, seed: int = 0) -> None:
        """Args: groups: (count,) text; a row with '' is a group of its own. None, or '' alone: none were given."""
        self.count, self._seed = count, seed
        self._unit_of: NDArray[np.int64] | None = None
        self.units = count
        self.is_grouped = groups is not None and bool((groups != "").any())
        if groups is not None and self.is_grouped:
            self._unit_of, self.units = units_of(groups)
        if self.units > _MOST_UNITS:
            # Piles of independent units are independent, too.
            dealt = np.random.Generator(np.random.Philox(seed)).permutation(self.units) % _MOST_UNITS
            self._unit_of = dealt if self._unit_of is None else dealt[self._unit_of]
        self._drawn = min(self.units, _MOST_UNITS)

    @property
    def words(self) -> str:
        """What is drawn, for people."""
        return plural(self.units, "group" if self.is_grouped else "image")

    def too_narrow(self, *names: str) -> dict[str, list[str]]:
        """`narrow_interval` for JSON: which of these have an interval that holds less often than it says; {} for none."""
        narrow = [name for name in names if self.units < HOLDS_FROM[name]]
        return {"narrow_interval": narrow} if narrow else {}

    def proportion(self, is_right: NDArray[np.bool_]) -> Interval:
        """Of the mean of (count,) claims: Wilson's interval, or the cluster bootstrap where there are groups."""
        if not self.is_grouped:
            return wilson_interval(int(is_right.sum()), self.count)
        interval = self.mean(is_right.astype(np.float64))
        if interval[0] is None or interval[0] == interval[1]:  # all groups alike: each of them counts once
            share = float(is_right.mean())
            return wilson_interval(round(share * self.units), self.units)
        return interval

    def paired(self, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Interval:
        """Of the difference of two proportions on the same rows, (count,) claims each.

        Bonett & Price, "Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired Data",
        JEBS 2012.
        """
        if self.is_grouped:
            interval = self.mean(first.astype(np.float64) - second)
            if interval[0] is not None:
                return interval
        one, two = ((only.sum() + 1) / (self.units + 2) for only in (first & ~second, second & ~first))
        if self.is_grouped:  # no group differs from another
            one = two = 1 / (self.units + 2)
        half = Z_95 * float(np.sqrt((one + two - (one - two) ** 2) / (self.units + 2)))
        return [max(-1.0, float(one - two) - half), min(1.0, float(one - two) + half)]

    def mean(self, values: _Array) -> Interval:
        """Of the mean of (count,) numbers."""
        offset = values.mean()
        interval = self.bca(np.stack([values - offset, np.ones(self.count)], axis=1), lambda sums: sums[..., 0] / sums[..., 1])
        return [None if bound is None else float(bound + offset) for bound in interval]

    def bca(self, rows: Any, statistic: Callable[[_Array], _Array]) -> Interval:
        """Of a function of sums over rows.

        Args:
            rows: (count, m), an array or a sparse one; centered by the caller where a sum would lose digits.
            statistic: of sums (..., m) gives (...); NaN where it does not exist.

        Returns: [None, None] if there are too few rows, or all resamples are alike: they then say nothing about the spread.

        Efron, "Better Bootstrap Confidence Intervals", JASA 1987.
        """
        return self.bca_of_each(rows, lambda sums: statistic(sums)[..., None])[0]

    def bca_of_each(self, rows: Any, statistics: Callable[[_Array], _Array]) -> list[Interval]:
        """Of several functions of the same sums, as `bca` has them one by one; `statistics` gives (..., q)."""
        sums = self._per_unit(rows)
        total = _dense(sums.sum(axis=0)).ravel()
        values = statistics(total[None])[0]
        if self._drawn < 2:
            return [list(_NONE) for _ in values]
        resampled = np.concatenate([statistics(_dense(part @ sums)) for part in _blocks(self._drawn, self._seed, len(total))])
        step = max(1, _AT_ONCE // len(total))
        without = np.concatenate(
            [statistics(total - _dense(sums[start : start + step])) for start in range(0, self._drawn, step)]
        )
        return [_bca_of(float(value), resampled[:, place], without[:, place]) for place, value in enumerate(values)]

    def _per_unit(self, rows: Any) -> Any:
        if self._unit_of is None:
            return rows
        from scipy.sparse import csr_array

        shape = (self._drawn, self.count)
        return csr_array((np.ones(self.count), (self._unit_of, np.arange(self.count))), shape=shape) @ rows


def wilson_interval(right: int, count: int) -> Interval:
    """Of a proportion, 95 %. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927."""
    share = right / count
    center, width = share + Z_95**2 / (2 * count), Z_95 * np.sqrt(share * (1 - share) / count + Z_95**2 / (4 * count**2))
    whole = 1 + Z_95**2 / count
    # At the ends the formula is exact, its rounding is not.
    low = 0.0 if right == 0 else float((center - width) / whole)
    return [low, 1.0 if right == count else float((center + width) / whole)]


def units_of(groups: NDArray[np.str_]) -> tuple[NDArray[np.int64], int]:
    """(n,) which unit each row belongs to, from 0, and how many there are. Args: groups: (n,) text, '' for a unit of its own."""
    names, unit_of = np.unique(groups, return_inverse=True)
    alone = groups == ""
    unit_of = unit_of.astype(np.int64)
    unit_of[alone] = len(names) + np.arange(int(alone.sum()))
    _, unit_of = np.unique(unit_of, return_inverse=True)
    return unit_of.astype(np.int64), int(unit_of.max()) + 1


def _bca_of(value: float, resampled: _Array, without: _Array) -> Interval:
    resampled = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or len(resampled) < RESAMPLES // 2 or np.ptp(resampled) <= 1e-12 * max(1e-300, abs(value)):
        return list(_NONE)
    return _bca(value, resampled, without[np.isfinite(without)])


def _bca(value: float, resampled: _Array, without: _Array) -> Interval:
    standard = NormalDist()  # scipy.special has it, too, and takes a sixth of a second to import
    below = (np.count_nonzero(resampled < value) + 0.5 * np.count_nonzero(resampled == value)) / len(resampled)
    bias = standard.inv_cdf(min(max(below, 1 / len(resampled)), 1 - 1 / len(resampled)))
    pull = without.mean() - without
    spread = float((pull**2).sum())
    skew = float((pull**3).sum()) / (6 * spread**1.5) if spread else 0.0
    shifted = [bias + standard.inv_cdf(tail) for tail in _TAILS]
    # Beyond its pole the formula turns around; such skew is that of a handful of rows.
    places = [standard.cdf(bias + each / max(1 - skew * each, 0.1)) for each in shifted]
    low, high = np.quantile(resampled, places)
    return [float(low), float(high)]


@functools.lru_cache(maxsize=2)
def _weights(units: int, seed: int) -> NDArray[np.int16]:
    """(RESAMPLES, units): how often each is drawn; the same for the same seed, so that heads share what is drawn."""
    random = np.random.Generator(np.random.Philox(seed))
    drawn = random.integers(0, units, (RESAMPLES, units)) + units * np.arange(RESAMPLES)[:, None]
    return np.bincount(drawn.ravel(), minlength=RESAMPLES * units).reshape(RESAMPLES, units).astype(np.int16)


def _blocks(units: int, seed: int, columns: int) -> Iterator[_Array]:
    size = max(1, _AT_ONCE // max(units, columns))
    weights = _weights(units, seed)
    for start in range(0, RESAMPLES, size):
        yield weights[start : start + size].astype(np.float64)


def _dense(matrix: Any) -> _Array:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, np.float64)
