"""How often 95 % intervals hold the truth: exact sums of the binomial for proportions, simulations for everything else.

python -m benchmarks.coverage [--simulations 2000] [--only NAME] [--write]

Proportions (accuracy, top-k accuracy): every n and p of the grid below, each outcome weighed by its probability. The other
metrics: samples are drawn from a population whose value is known, all samples of a cell at once. Of each cell the first ones are
judged by the shipped code, too, and must have the same intervals. Classes: 5 of equal frequency, right with probability p, else
any other; confidences spread about p. Numbers: a bivariate normal distribution of correlation p. Pairs: two heads, both right
with probability p, that agree more often than by chance. Groups: sites of 10 images whose accuracies vary about p (beta
distribution); n counts sites. The calibration error has no interval: with resampled bins, 95 % held the truth in 0 to 85 % of
samples. `--write` puts the table into RESULTS.md. Ten minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import functools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.evaluation import intervals
from headstart.experiments.evaluation.intervals import RESAMPLES, Interval, Sample, wilson_interval
from headstart.experiments.evaluation.metrics import (
    class_intervals,
    pearson_interval,
    r2_interval,
    spearman_interval,
)

SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
EXACT_COUNTS = (10, 20, 30, 50, 100, 200, 300, 500, 1000, 2000, 5000, 10_000)
COUNTS = (10, 20, 30, 50, 100, 200, 300, 500, 1000)
CLASSES, SITE = 5, 10
COMPARED = 2  # samples of a cell that the shipped code judges, too
_AT_ONCE = 8_000_000  # numbers of a block
_Array = NDArray[np.float64]
Cells = dict[tuple[float, int], float]
Judge = Callable[[Sample], Interval]
Held = tuple[str, NDArray[np.bool_]]


def exact(count: int, share: float) -> float:
    """Coverage of Wilson's interval."""
    from scipy.stats import binom

    bounds = np.array([wilson_interval(right, count) for right in range(count + 1)], float)
    holds = (bounds[:, 0] <= share) & (share <= bounds[:, 1])
    return float(binom.pmf(np.arange(count + 1), count, share)[holds].sum())


def bca(rows: _Array, statistic: Callable[[_Array], _Array], otherwise: Callable[[int], Interval]) -> _Array:
    """(s, 2) intervals of s samples at once, as `Sample.bca` has them one by one; `otherwise` of one that has none there.

    Args: rows: (s, n, m), what each of n rows adds to m sums; statistic: (..., m) to (...).
    """
    size = max(1, _AT_ONCE // (RESAMPLES * rows.shape[2]), _AT_ONCE // (4 * rows.shape[1] * rows.shape[2] * RESAMPLES))
    return np.concatenate(
        [
            _bca(rows[start : start + size], statistic, lambda i, start=start: otherwise(start + i))
            for start in range(0, len(rows), size)
        ]
    )


def _bca(rows: _Array, statistic: Callable[[_Array], _Array], otherwise: Callable[[int], Interval]) -> _Array:
    from scipy.special import ndtr, ndtri

    samples, count, columns = rows.shape
    totals = rows.sum(axis=1)
    values = statistic(totals)
    weights = intervals._weights(count, 0).astype(np.float64)
    wide = np.ascontiguousarray(rows.transpose(1, 0, 2)).reshape(count, samples * columns)
    resampled = statistic((weights @ wide).reshape(RESAMPLES, samples, columns))
    without = statistic(totals[:, None] - rows)
    is_plain = np.isfinite(values) & np.isfinite(resampled).all(axis=0) & np.isfinite(without).all(axis=1)
    is_plain &= np.ptp(resampled, axis=0) > 1e-12 * np.maximum(1e-300, np.abs(values))
    below = ((resampled < values).sum(axis=0) + 0.5 * (resampled == values).sum(axis=0)) / RESAMPLES
    bias = ndtri(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    pull = without.mean(axis=1, keepdims=True) - without
    spread = (pull**2).sum(axis=1)
    skew = np.divide((pull**3).sum(axis=1), 6 * spread**1.5, out=np.zeros(samples), where=spread > 0)
    resampled.sort(axis=0)
    found = np.empty((samples, 2))
    for side, tail in enumerate(intervals._TAILS):
        shifted = bias + ndtri(tail)
        place = ndtr(bias + shifted / np.maximum(1 - skew * shifted, 0.1)) * (RESAMPLES - 1)
        first = np.minimum(place.astype(np.int64), RESAMPLES - 2)
        low, high = (np.take_along_axis(resampled, (first + more)[None], axis=0)[0] for more in (0, 1))
        found[:, side] = low + (place - first) * (high - low)
    for number in np.flatnonzero(~is_plain).tolist():
        found[number] = [np.nan if bound is None else bound for bound in otherwise(number)]
    return found


def checked(found: _Array, shipped: Callable[[int], Interval]) -> _Array:
    """The same, once the first are those of the shipped code."""
    wanted = np.array([[np.nan if bound is None else bound for bound in shipped(i)] for i in range(COMPARED)])
    np.testing.assert_allclose(found[:COMPARED], wanted, rtol=1e-7, atol=1e-9)
    return found


def holds(found: _Array, truth: float) -> NDArray[np.bool_]:
    """An interval that does not exist holds nothing."""
    return np.asarray((found[:, 0] <= truth) & (truth <= found[:, 1]))


def _answers(random: np.random.Generator, shape: tuple[int, ...], share: float) -> tuple[NDArray[np.int64], _Array, _Array]:
    """Codes, what is said, and confidence in that."""
    codes = random.integers(0, CLASSES, shape)
    said = np.where(random.random(shape) < share, codes, (codes + random.integers(1, CLASSES, shape)) % CLASSES)
    return codes, said, 0.5 + 0.49 * random.beta(10 * share, 10 * (1 - share), shape)


@functools.cache
def true_loss(share: float) -> float:
    """Log-loss of the population."""
    codes, said, confidence = _answers(np.random.default_rng(0), (2_000_000,), share)
    return float(-np.log(np.where(codes == said, confidence, (1 - confidence) / (CLASSES - 1))).mean())


def _mean(sums: _Array) -> _Array:
    return np.asarray(sums[..., 0] / sums[..., 1])


def means(values: _Array, truth: float) -> NDArray[np.bool_]:
    """Whether intervals of the mean of (s, n) numbers hold."""
    offsets = values.mean(axis=1, keepdims=True)
    rows = np.stack([values - offsets, np.ones_like(values)], axis=2)
    found = bca(
        rows, _mean, lambda i: [None if b is None else b - float(offsets[i, 0]) for b in Sample(values.shape[1]).mean(values[i])]
    )
    return holds(checked(found + offsets, lambda i: Sample(values.shape[1]).mean(values[i])), truth)


def classes(random: np.random.Generator, samples: int, count: int, share: float) -> Iterator[Held]:
    """Balanced accuracy, macro F1 and log-loss."""
    codes, said, confidence = _answers(random, (samples, count), share)
    is_right = codes == said
    rows = np.zeros((samples, count, 3, CLASSES))
    one, two = np.ogrid[:samples, :count]
    rows[one, two, 0, codes], rows[one, two, 1, said], rows[one, two, 2, codes] = 1, 1, is_right
    flat = rows.reshape(samples, count, 3 * CLASSES)

    def balanced(sums: _Array) -> _Array:
        true, _, right = np.split(sums, 3, axis=-1)
        return np.asarray((right / np.maximum(true, 1)).sum(axis=-1) / np.maximum((true > 0).sum(axis=-1), 1))

    def macro_f1(sums: _Array) -> _Array:
        true, claimed, right = np.split(sums, 3, axis=-1)
        parts = (2 * right / np.maximum(true + claimed, 1)).sum(axis=-1)
        return np.asarray(parts / np.maximum((true + claimed > 0).sum(axis=-1), 1))

    for place, (name, statistic) in enumerate({"balanced accuracy": balanced, "macro F1": macro_f1}.items()):

        def shipped(i: int, place: int = place) -> Interval:
            return class_intervals(Sample(count), codes[i], said[i], CLASSES)[place]

        yield name, holds(checked(bca(flat, statistic, shipped), shipped), share)
    wrong = np.where(is_right, confidence, (1 - confidence) / (CLASSES - 1))
    yield "log-loss", means(-np.log(wrong), true_loss(share))


def numbers(random: np.random.Generator, samples: int, count: int, share: float) -> Iterator[Held]:
    """Correlations and errors of numbers whose correlation with the truth is `share`."""
    from scipy.stats import rankdata

    wanted = random.standard_normal((samples, count))
    predicted = share * wanted + np.sqrt(1 - share**2) * random.standard_normal((samples, count))
    x, y = ((values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True) for values in (predicted, wanted))

    def pearson(sums: _Array) -> _Array:
        number, a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            norm = np.sqrt(np.maximum(number * aa - a * a, 0) * np.maximum(number * bb - b * b, 0))
            return np.asarray((number * ab - a * b) / norm)

    def correlated(i: int) -> Interval:
        return pearson_interval(Sample(count), predicted[i], wanted[i])

    rows = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=2)
    yield "Pearson", holds(checked(bca(rows, pearson, correlated), correlated), share)
    ranked = [spearman_interval(Sample(count), rankdata(predicted[i]), rankdata(wanted[i])) for i in range(samples)]
    yield "Spearman", holds(np.array(ranked, float), float(6 / np.pi * np.arcsin(share / 2)))
    yield "MSE", means((predicted - wanted) ** 2, 2 - 2 * share)
    yield "MAE", means(np.abs(predicted - wanted), float(np.sqrt(2 - 2 * share) * np.sqrt(2 / np.pi)))

    def r2(sums: _Array) -> _Array:
        number, total, squares, errors = np.moveaxis(sums, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(1 - errors / (squares - total**2 / number))

    def explained(i: int) -> Interval:
        return r2_interval(Sample(count), predicted[i], wanted[i])

    error = (predicted - wanted) / wanted.std(axis=1, keepdims=True)
    rows = np.stack([np.ones_like(y), y, y * y, error**2], axis=2)
    yield "R2", holds(checked(bca(rows, r2, explained), explained), 2 * share - 1)


def pairs(random: np.random.Generator, samples: int, count: int, share: float) -> Iterator[Held]:
    """The difference of two heads that agree on half of the images, and are equally good."""
    one, two = random.random((2, samples, count)) < share
    two = np.where(random.random((samples, count)) < 0.5, one, two)
    yield "paired difference", holds(np.array([Sample(count).paired(*pair) for pair in zip(one, two, strict=True)], float), 0.0)


def groups(random: np.random.Generator, samples: int, count: int, share: float) -> Iterator[Held]:
    """Accuracy on images of `count` sites."""
    chances = np.repeat(random.beta(8 * share, 8 * (1 - share), (samples, count)), SITE, axis=1)
    is_right = random.random(chances.shape) < chances
    names = np.repeat(np.arange(count).astype(str), SITE)
    offsets = is_right.mean(axis=1, keepdims=True)
    sites = (is_right - offsets).reshape(samples, count, SITE).sum(axis=2)

    def shipped(i: int) -> Interval:
        return Sample(len(names), names).proportion(is_right[i])

    rows = np.stack([sites, np.full(sites.shape, float(SITE))], axis=2)
    found = bca(rows, _mean, lambda i: [None if bound is None else bound - float(offsets[i, 0]) for bound in shipped(i)])
    # The order in which sites are drawn differs from that of the shipped code, which sorts their names.
    yield "accuracy by groups", holds(found + offsets, share)


KINDS = (classes, numbers, pairs, groups)


def simulated(kind: Callable[..., Iterator[Held]], simulations: int) -> dict[str, Cells]:
    """Coverage by metric, p and n."""
    found: dict[str, Cells] = {}
    for count in COUNTS:
        for share in SHARES:
            random = np.random.default_rng([count, int(1000 * share)])
            for name, held in kind(random, simulations, count, share):
                found.setdefault(name, {})[share, count] = float(held.mean())
        least = ", ".join(
            f"{name} {100 * min(v for (_, n), v in cells.items() if n == count):.1f}" for name, cells in found.items()
        )
        print(f"  n = {count:,}, least of all p: {least}", flush=True)
    return found


def line(name: str, cells: Cells, counts: tuple[int, ...]) -> str:
    """A row of the table: of each n the least of all p."""
    from_20 = [value for (_, count), value in cells.items() if count >= 20]
    least = [min(cells[share, count] for share in SHARES) if (SHARES[0], count) in cells else None for count in counts]
    from_here = [
        n for n in sorted({count for _, count in cells}) if all(v >= 0.9 for (_, count), v in cells.items() if count >= n)
    ]
    numbers = " | ".join("" if value is None else f"{100 * value:.1f}" for value in least)
    since = f"{from_here[0]:,}" if from_here else "none"
    return f"| {name} | {numbers} | {100 * min(from_20):.1f} | {100 * float(np.mean(from_20)):.1f} | {since} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--only", choices=[kind.__name__ for kind in KINDS], help="these metrics alone")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    options = parser.parse_args()
    begun = time.perf_counter()
    head = " | ".join(f"{count:,}" for count in EXACT_COUNTS)
    lines = [f"| least of all p at n = | {head} | least from 20 | mean from 20 | 90 in every cell from |"]
    lines.append("|---" * (len(EXACT_COUNTS) + 4) + "|")
    cells = {(share, count): exact(count, share) for share in SHARES for count in EXACT_COUNTS}
    lines.append(line("proportions (accuracy, top-k), exact", cells, EXACT_COUNTS))
    for kind in KINDS:
        if options.only in (None, kind.__name__):
            lines += [line(name, found, EXACT_COUNTS) for name, found in simulated(kind, options.simulations).items()]
    print("\n".join(lines))
    print(f"\n{time.perf_counter() - begun:.0f} s")
    if options.write:
        write(lines, options.simulations)


def write(lines: list[str], simulations: int) -> None:
    """Puts the table into RESULTS.md, where the last one was, else at the end."""
    path = Path(__file__).with_name("RESULTS.md")
    shares = ", ".join(map(str, SHARES))
    title = "## Coverage of 95 % intervals (`benchmarks/coverage.py`)"
    about = f"Percent, p of {shares}; proportions by exact sums, the others of {simulations:,} simulations a cell."
    text, section = path.read_text(encoding="utf-8"), "\n".join([title, "", about, "", *lines, ""])
    pattern: Any = re.compile(re.escape(title) + r"\n.*?(?=\n## |\Z)", re.DOTALL)
    path.write_text(pattern.sub(lambda _: section, text) if title in text else f"{text.rstrip()}\n\n{section}", encoding="utf-8")


if __name__ == "__main__":
    main()
