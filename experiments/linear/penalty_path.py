"""Linear baselines along a path of penalties, and which of them validation chooses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.feature_source import FeatureSource
from headstart.experiments.data.statistics import Statistics
from headstart.experiments.data.targets import Targets
from headstart.experiments.training.state.kept_parts import Parts

from .axes import Axes
from .closed_form import LinearHead, fit_ridge_path, scores_of
from .logistic import logistic_rows

PENALTIES = tuple(float(penalty) for penalty in np.geomspace(1e-5, 10, 12))


@dataclass(frozen=True)
class ScoredPath:
    """Heads, one a penalty, and their scores (p,) on validation: accuracy, or R2 averaged over the targets."""

    penalties: tuple[float, ...]
    heads: tuple[LinearHead, ...]
    scores: NDArray[np.float64]

    @property
    def best(self) -> int:
        """Position of the penalty with the best score; of equals, the largest."""
        return best_of(self.scores, self.penalties)


def ridge_path(
    source: FeatureSource,
    targets: Targets,
    statistics: Statistics,
    val: NDArray[np.int64],
    penalties: Sequence[float] = PENALTIES,
    axes: Axes | None = None,
) -> ScoredPath:
    """`fit_ridge_path` on the training rows that `statistics` are of, by their axes if these are known, scored on `val`."""
    heads = fit_ridge_path(statistics, penalties) if axes is None else [axes.ridge(penalty) for penalty in penalties]
    return scored_path(source, targets, val, penalties, heads)


def best_logistic(
    source: FeatureSource,
    targets: Targets,
    train: NDArray[np.int64],
    statistics: Statistics,
    val: NDArray[np.int64],
    check: Callable[[], None] = lambda: None,
    parts: Parts | None = None,
    report: Callable[[str], None] = lambda text: None,
    axes: Axes | None = None,
) -> tuple[float, LinearHead]:
    """The penalty of a row that `val` likes best, and its head.

    PENALTIES are 3.5 times apart: two more are fitted, half way to the neighbours of the best, and a parabola through the
    scores of these five says which. A score on few rows is mostly luck, and five say more than one
    (`benchmarks/chosen_heads.py`: 0.1 points where there are many rows, nothing lost where there are few).
    """
    with logistic_rows(source, targets, train, statistics, axes) as rows:
        heads = rows.path(PENALTIES, check=check, parts=parts, report=report)
        path = scored_path(source, targets, val, PENALTIES, heads)
        best = path.best
        if not 0 < best < len(PENALTIES) - 1:
            return path.penalties[best], path.heads[best]
        between = tuple(float(np.sqrt(PENALTIES[best] * PENALTIES[neighbour])) for neighbour in (best - 1, best + 1))
        report("logistic regression: trying 2 more strengths of regularization near the best")
        heads = rows.path(between, check=check, parts=parts, begin_at=path.heads[best], name="logistic_heads_near")
    nearer = scored_path(source, targets, val, between, heads)
    order = [(path, best - 1), (nearer, 0), (path, best), (nearer, 1), (path, best + 1)]
    penalties, scores = [of.penalties[at] for of, at in order], np.array([of.scores[at] for of, at in order])
    chosen, place = order[best_of(np.round(parabola_through(scores), 9), penalties)]
    return chosen.penalties[place], chosen.heads[place]


def parabola_through(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(5,) values, at the same five equally distant places, of the parabola that is nearest to `scores` (5,).

    Savitzky & Golay, "Smoothing and differentiation of data by simplified least squares procedures", 1964.
    """
    middle = scores @ (-3, 12, 17, 12, -3) / 35
    slope = scores @ (-2, -1, 0, 1, 2) / 10
    bend = scores @ (2, -1, -2, -1, 2) / 14
    place = np.arange(-2, 3)
    return np.asarray(middle + slope * place + bend * place**2)


def scored_path(
    source: FeatureSource,
    targets: Targets,
    positions: NDArray[np.int64],
    penalties: Sequence[float],
    heads: Sequence[LinearHead],
) -> ScoredPath:
    """Heads with their scores on `positions`, all in one pass; rows without a target do not count."""
    positions = positions[targets.is_known[positions]]
    predictions = scores_of(source, positions, heads)
    if targets.task == "classification":
        scores = [float((each.argmax(axis=1) == targets.codes[positions]).mean()) for each in predictions]
    else:
        wanted = targets.dense(positions).astype(np.float64)
        spread = np.maximum(wanted.var(axis=0), np.finfo(float).tiny)
        scores = [float(1 - (np.square(each - wanted).mean(axis=0) / spread).mean()) for each in predictions]
    return ScoredPath(tuple(penalties), tuple(heads), np.array(scores))


def best_of(scores: NDArray[np.float64], penalties: Sequence[float]) -> int:
    """Position of the best of `scores` (p,); of equals, that of the largest penalty."""
    return max(range(len(scores)), key=lambda i: (scores[i], penalties[i]))
