"""Cross-validated ridge: each fold's statistics are subtracted from the whole, and its path is solved from that of all rows.

The Gram matrix of four fifths of the rows is nearly four fifths of the whole: conjugate gradients that begin from there need a
handful of steps, and all penalties and classes share them.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.feature_source import FeatureSource
from headstart.experiments.data.statistics import Statistics, gather_statistics, merged
from headstart.experiments.data.targets import Targets
from headstart.experiments.training.state.kept_parts import NoParts, Parts

from .closed_form import (
    Centered,
    LinearHead,
    by_eigenvectors,
    by_factor,
    center,
    fit_ridge_path,
    inverse_by_factor,
    raw_head,
    ridge_factor,
    scores_of,
    squared_errors,
    wants_eigenvectors,
)
from .penalty_path import best_of

_FOLDS_AT_ONCE = 2  # each holds two matrices as large as the Gram matrix


@dataclass(frozen=True)
class CrossValidated:
    """Scores (folds, penalties): accuracy, or R2 relative to the spread of all rows, averaged over targets; and the heads of all
    rows, one a penalty."""

    penalties: tuple[float, ...]
    scores: NDArray[np.float64]
    heads: tuple[LinearHead, ...]

    @property
    def best(self) -> int:
        """Position of the penalty with the best mean score; of equals, the largest."""
        return best_of(self.scores.mean(axis=0), self.penalties)


def cross_validate_ridge(
    source: FeatureSource,
    targets: Targets,
    positions: NDArray[np.int64],
    fold_of: NDArray[np.int64],
    penalties: Sequence[float],
    check: Callable[[], None] = lambda: None,
    parts: Parts | None = None,
) -> CrossValidated:
    """Ridge for every fold and penalty; the Gram matrix of each row is computed once.

    Args:
        positions: rows to learn from; `fold_of` (len(positions),) their folds from 0.
        check: called before each fold is looked at; may raise to leave.
        parts: keeps the scores of each fold, and gives back what an earlier call kept.
    """
    from threadpoolctl import threadpool_limits

    known = targets.is_known[positions]
    positions, fold_of = positions[known], fold_of[known]
    members = [positions[fold_of == fold] for fold in range(int(fold_of.max()) + 1)]
    cells = gather_statistics(source, targets, {str(fold): rows for fold, rows in enumerate(members)})
    whole = merged(list(cells.values()))
    all_heads, fit = _path_and_folds(whole, penalties)

    kept = parts or NoParts()

    def scores_of_fold(fold: int) -> NDArray[np.float64]:
        known_scores = kept.load(f"fold_{fold}")
        if known_scores is None:
            known_scores = np.array(computed(fold))
            kept.keep(f"fold_{fold}", known_scores)
        return known_scores

    def computed(fold: int) -> list[float]:
        held_out, rows = cells[str(fold)], members[fold]
        heads = fit(whole - held_out)
        if targets.task == "regression":
            return [_r2(head, held_out, whole) for head in heads]
        predictions = scores_of(source, rows, heads)
        return [float((each.argmax(axis=1) == targets.codes[rows]).mean()) for each in predictions]

    scores = np.empty((len(members), len(penalties)))
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(_FOLDS_AT_ONCE, "fold") as pool:
        for fold, fold_scores in enumerate(pool.map(scores_of_fold, range(len(members)))):
            check()
            scores[fold] = fold_scores
    return CrossValidated(tuple(penalties), scores, tuple(all_heads))


def _path_and_folds(
    whole: Statistics, penalties: Sequence[float]
) -> tuple[list[LinearHead], Callable[[Statistics], list[LinearHead]]]:
    """The path of all rows, and how to find those of most of them."""
    if min(penalties) == 0:
        return fit_ridge_path(whole, penalties), lambda rest: fit_ridge_path(rest, penalties)
    centered = center(whole)
    if wants_eigenvectors(penalties):
        spectrum = np.linalg.eigh(centered.gram)
        weights = by_eigenvectors(centered, spectrum, penalties)
        precondition = preconditioner_by_eigenvectors(centered, spectrum, penalties)
    else:
        factors = [ridge_factor(centered, penalty) for penalty in penalties]
        weights = [by_factor(factor, centered.products) for factor in factors]
        precondition = preconditioner_by_factors(centered, factors)
    heads = [raw_head(centered, weight, centered.target_means) for weight in weights]
    return heads, lambda rest: fit_fold_path(rest, penalties, precondition)


def _r2(head: LinearHead, held_out: Statistics, whole: Statistics) -> float:
    # Against the spread of all rows: that of a small fold may be 0, and its score would then decide everything.
    spread = (whole.target_squares - whole.target_sums**2 / whole.count) / whole.count
    error = squared_errors(head, held_out) / held_out.count
    return float(1 - (error / np.maximum(spread, np.finfo(float).tiny)).mean())


_Array = NDArray[np.float64]
# Nearly solves for right sides (d, c), a row's share of them; also given the column of each among all penalties and outputs.
# In float32: it only points the way, the error is measured in float64.
Preconditioner = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]
_MOST_STEPS = 12  # of which each costs a tenth of an eigendecomposition
_ENOUGH = 1e-4  # of the error in the norm that ridge minimizes, relative to the answer


def preconditioner_by_eigenvectors(
    centered: Centered, spectrum: tuple[_Array, _Array], penalties: Sequence[float]
) -> Preconditioner:
    """Args: spectrum: eigenvalues (d,) and eigenvectors (d, d) of the Gram matrix in `centered`."""
    vectors = spectrum[1].astype(np.float32)
    shift = np.repeat(penalties, centered.products.shape[1])
    curvature = (np.maximum(spectrum[0], 0)[:, None] / centered.count + shift).astype(np.float32)
    return lambda right, columns: vectors @ ((vectors.T @ right) / curvature[:, columns])


def preconditioner_by_factors(centered: Centered, factors: Sequence[_Array]) -> Preconditioner:
    """Args: factors: `ridge_factor` of each penalty."""
    # One product with the inverse is several times faster than a forward and a backward substitution.
    inverses = [(inverse_by_factor(factor) * centered.count).astype(np.float32) for factor in factors]
    outputs = centered.products.shape[1]

    def precondition(right: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        result = np.empty_like(right)
        for number, inverse in enumerate(inverses):
            mine = columns // outputs == number
            result[:, mine] = inverse @ right[:, mine]
        return result

    return precondition


def fit_fold_path(rest: Statistics, penalties: Sequence[float], precondition: Preconditioner) -> list[LinearHead]:
    """`fit_ridge_path` to about four digits, more than a score of some thousand rows has.

    Args:
        rest: of some of the rows.
        penalties: above 0.
        precondition: made of all rows.
    """
    centered = center(rest)
    outputs = centered.products.shape[1]
    shift = np.repeat(np.asarray(penalties) * centered.count, outputs)
    wanted = np.tile(centered.products, (1, len(penalties)))
    every = np.arange(len(shift))

    def solved(right: _Array, columns: NDArray[np.int64]) -> _Array:
        return np.asarray(precondition((right / centered.count).astype(np.float32), columns), np.float64)

    def product(weights: _Array, columns: NDArray[np.int64]) -> _Array:
        return np.asarray(centered.gram @ weights + shift[columns] * weights)

    solution = solved(wanted, every)
    error = wanted - product(solution, every)
    enough = _ENOUGH**2 * (wanted * solution).sum(axis=0)
    direction = solved(error, every)
    size = (error * direction).sum(axis=0)
    columns = every
    for _ in range(_MOST_STEPS):
        left = size > enough[columns]
        if not left.any():
            weights = np.split(solution, len(penalties), axis=1)
            return [raw_head(centered, weight, centered.target_means) for weight in weights]
        columns, size, error, direction = columns[left], size[left], error[:, left], direction[:, left]
        moved = product(direction, columns)
        length = size / (direction * moved).sum(axis=0)
        solution[:, columns] += length * direction
        error = error - length * moved
        step = solved(error, columns)
        before, size = size, (error * step).sum(axis=0)
        direction = step + size / before * direction
    return fit_ridge_path(rest, penalties)
