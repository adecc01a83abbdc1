"""How often 95 % intervals hold the truth: exact sums of the binomial for proportions, simulations for everything else.

python -m benchmarks.coverage [--simulations 2000] [--exact-only] [--kind classes]

Proportions (accuracy, top-k accuracy): every n and p of the grid below, each outcome weighed by its probability. The other
metrics: samples are drawn from a population whose value is known, and the shipped code judges them. Classes: 5 of equal
frequency, right with probability p, else any other; the log-loss is that of confidences that spread about p. Numbers: a
bivariate normal distribution of correlation p. Pairs: two heads, both right with probability p, that agree more often than by
chance. Groups: sites of 10 images whose accuracies vary about p (beta distribution). Half an hour on one core.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.evaluation.intervals import Interval, Sample, wilson_interval
from headstart.experiments.evaluation.metrics import class_intervals, compare_classifiers, log_losses, pearson_interval

EXACT_COUNTS = (10, 20, 30, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
EXACT_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
COUNTS, SHARES = (10, 20, 50, 100, 300, 1000), (0.5, 0.8, 0.9, 0.95, 0.99)
CLASSES, SITE = 5, 10
Made = dict[str, tuple[Interval, float]]  # of a metric: its interval, and what is true
_Array = NDArray[np.float64]


def exact(count: int, share: float) -> float:
    """Coverage of Wilson's interval."""
    from scipy.stats import binom

    bounds = np.array([wilson_interval(right, count) for right in range(count + 1)], float)
    holds = (bounds[:, 0] <= share) & (share <= bounds[:, 1])
    return float(binom.pmf(np.arange(count + 1), count, share)[holds].sum())


def _answers(random: np.random.Generator, count: int, share: float) -> tuple[NDArray[np.int64], _Array]:
    codes = random.integers(0, CLASSES, count)
    is_right = random.random(count) < share
    said = np.where(is_right, codes, (codes + random.integers(1, CLASSES, count)) % CLASSES)
    confidence = 0.5 + 0.49 * random.beta(10 * share, 10 * (1 - share), count)
    probabilities = np.repeat((1 - confidence)[:, None] / (CLASSES - 1), CLASSES, axis=1)
    probabilities[np.arange(count), said] = confidence
    return codes, probabilities


def classes(share: float) -> Callable[[np.random.Generator, int], Made]:
    """Judges answers that are right with probability `share`."""
    codes, probabilities = _answers(np.random.default_rng(0), 2_000_000, share)
    loss = float(-np.log(probabilities[np.arange(len(codes)), codes]).mean())

    def made(random: np.random.Generator, count: int) -> Made:
        codes, probabilities = _answers(random, count, share)
        said, sample = probabilities.argmax(axis=1), Sample(count)
        balanced, macro_f1 = class_intervals(sample, codes, said, CLASSES)
        log_loss = sample.mean(log_losses(probabilities, codes))
        return {"balanced_accuracy": (balanced, share), "macro_f1": (macro_f1, share), "log_loss": (log_loss, loss)}

    return made


def numbers(share: float) -> Callable[[np.random.Generator, int], Made]:
    """Judges numbers whose correlation with the truth is `share`."""
    from scipy.stats import rankdata

    spread = np.sqrt(1 - share**2)
    truth = {
        "pearson": share,
        "spearman": float(6 / np.pi * np.arcsin(share / 2)),
        "mse": 2 - 2 * share,
        "mae": float(np.sqrt(2 - 2 * share) * np.sqrt(2 / np.pi)),
    }

    def made(random: np.random.Generator, count: int) -> Made:
        wanted, sample = random.standard_normal(count), Sample(count)
        predicted = share * wanted + spread * random.standard_normal(count)
        found = {
            "pearson": pearson_interval(sample, predicted, wanted),
            "spearman": pearson_interval(sample, rankdata(predicted), rankdata(wanted)),
            "mse": sample.mean((predicted - wanted) ** 2),
            "mae": sample.mean(np.abs(predicted - wanted)),
        }
        return {name: (interval, truth[name]) for name, interval in found.items()}

    return made


def pairs(share: float) -> Callable[[np.random.Generator, int], Made]:
    """Compares heads that agree on half of the images."""

    def made(random: np.random.Generator, count: int) -> Made:
        one, two = random.random((2, count)) < share
        two = np.where(random.random(count) < 0.5, one, two)
        codes = np.zeros(count, np.int64)
        return {"difference": (compare_classifiers((~one).astype(int), (~two).astype(int), codes)["interval"], 0.0)}

    return made


def groups(share: float) -> Callable[[np.random.Generator, int], Made]:
    """Judges images of sites; `count` is that of the sites."""

    def made(random: np.random.Generator, count: int) -> Made:
        chances = np.repeat(random.beta(8 * share, 8 * (1 - share), count), SITE)
        is_right = random.random(len(chances)) < chances
        names = np.repeat(np.arange(count).astype(str), SITE)
        return {"accuracy of groups": (Sample(len(names), names).proportion(is_right), share)}

    return made


KINDS = {"classes": classes, "numbers": numbers, "pairs": pairs, "groups": groups}


def simulated(kind: str, simulations: int) -> Iterator[tuple[str, float, int, float]]:
    """Metric, p, n, coverage. An interval that does not exist holds nothing."""
    for share in SHARES:
        made = KINDS[kind](share)
        for count in COUNTS:
            random = np.random.default_rng([count, int(1000 * share)])
            held: dict[str, int] = {}
            for _ in range(simulations):
                for name, ((low, high), truth) in made(random, count).items():
                    is_held = low is not None and high is not None and low <= truth <= high
                    held[name] = held.get(name, 0) + is_held
            for name, number in held.items():
                yield name, share, count, number / simulations


def table(name: str, cells: dict[tuple[float, int], float]) -> None:
    """Prints coverage in percent, p down, n across."""
    shares, counts = (sorted(set(axis)) for axis in zip(*cells, strict=True))
    print(f"\n{name}\n{'p':>5}" + "".join(f"{count:>8,}" for count in counts))
    for share in shares:
        print(f"{share:>5}" + "".join(f"{100 * cells[share, count]:>8.1f}" for count in counts))
    from_20 = [value for (_, count), value in cells.items() if count >= 20]
    print(f"from n = 20: at least {100 * min(from_20):.1f}, {100 * float(np.mean(from_20)):.1f} on average")
    holds = [count for count in counts if all(value >= 0.9 for (_, n), value in cells.items() if n >= count)]
    print(f"at least 90 in every cell from n = {holds[0]:,} on" if holds else "below 90 somewhere at every n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--exact-only", action="store_true")
    parser.add_argument("--kind", choices=KINDS, help="only these metrics")
    options = parser.parse_args()
    begun = time.perf_counter()
    if options.kind is None:
        cells = {(share, count): exact(count, share) for share in EXACT_SHARES for count in EXACT_COUNTS}
        table("proportions (accuracy, top-k): Wilson, exact", cells)
    for kind in () if options.exact_only else (options.kind,) if options.kind else KINDS:
        found: dict[str, dict[tuple[float, int], float]] = {}
        for name, share, count, value in simulated(kind, options.simulations):
            found.setdefault(name, {})[share, count] = value
        for name, cells in found.items():
            table(f"{name}, {options.simulations:,} simulations a cell", cells)
    print(f"\n{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
