"""Cross-validation in which images of one group never stand on both sides, by subtracting a fold's statistics from the whole."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError

from .closed_form import (
    LinearHead,
    by_eigenvectors,
    by_factor,
    center,
    fit_ridge_path,
    raw_head,
    ridge_factor,
    scores_of,
    squared_errors,
    wants_eigenvectors,
)
from .fold_ridge import fit_fold_path, toward_by_eigenvectors, toward_by_factors
from .paths import best_of
from .source import FeatureSource
from .statistics import Statistics, gather, merged
from .targets import Targets

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


def group_folds(groups: Sequence[str] | NDArray[np.str_], folds: int, seed: int = 0) -> NDArray[np.int64]:
    """(n,) fold of each row: rows of a group together, folds as equal in size as groups allow; '' is a group of its own row.

    Raises: HeadstartError if there are fewer groups than folds.
    """
    names = np.asarray(groups, dtype=np.str_)
    lone = np.flatnonzero(names == "")
    unique, inverse, counts = np.unique(names[names != ""], return_inverse=True, return_counts=True)
    if len(unique) + len(lone) < folds or folds < 2:
        raise HeadstartError(
            f"{len(unique) + len(lone)} groups cannot make {folds} folds of 2 or more. Use fewer folds, or more groups"
        )
    draw = [hashlib.blake2b(f"{seed} {name}".encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in unique]
    sizes = np.zeros(folds, np.int64)
    fold_of = np.empty(len(unique), np.int64)
    for number in sorted(range(len(unique)), key=lambda i: (-counts[i], draw[i])):  # large ones first, while there is room
        fold_of[number] = int(sizes.argmin())
        sizes[fold_of[number]] += counts[number]
    result = np.empty(len(names), np.int64)
    result[names != ""] = fold_of[inverse]
    shuffled = np.random.default_rng(seed).permutation(lone)
    wanted = _filled(sizes, len(lone))
    result[shuffled] = np.repeat(np.arange(folds), wanted)
    return result


def _filled(sizes: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """How many of `rows` each fold gets so that all become as equal as can be: water runs to the lowest places."""
    low, high = 0, int(sizes.max()) + rows + 1
    while high - low > 1:
        level = (low + high) // 2
        low, high = (level, high) if np.maximum(0, level - sizes).sum() <= rows else (low, level)
    added = np.maximum(0, low - sizes)
    added[np.flatnonzero(sizes + added == low)[: rows - int(added.sum())]] += 1
    return added


def cross_validate_ridge(
    source: FeatureSource,
    targets: Targets,
    positions: NDArray[np.int64],
    fold_of: NDArray[np.int64],
    penalties: Sequence[float],
    check: Callable[[], None] = lambda: None,
) -> CrossValidated:
    """Ridge for every fold and penalty; the Gram matrix of each row is computed once.

    Args:
        positions: rows to learn from; `fold_of` (len(positions),) their folds from 0.
        check: called before each fold is looked at; may raise to leave.
    """
    from threadpoolctl import threadpool_limits

    known = targets.is_known[positions]
    positions, fold_of = positions[known], fold_of[known]
    members = [positions[fold_of == fold] for fold in range(int(fold_of.max()) + 1)]
    cells = gather(source, targets, {str(fold): rows for fold, rows in enumerate(members)})
    whole = merged(list(cells.values()))
    all_heads, fit = _path_and_folds(whole, penalties)

    def judged(fold: int) -> list[float]:
        held_out, rows = cells[str(fold)], members[fold]
        heads = fit(whole - held_out)
        if targets.task == "regression":
            return [_r2(head, held_out, whole) for head in heads]
        found = scores_of(source, rows, heads)
        return [float((each.argmax(axis=1) == targets.codes[rows]).mean()) for each in found]

    scores = np.empty((len(members), len(penalties)))
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(_FOLDS_AT_ONCE, "fold") as pool:
        for fold, found in enumerate(pool.map(judged, range(len(members)))):
            check()
            scores[fold] = found
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
        toward = toward_by_eigenvectors(centered, spectrum, penalties)
    else:
        factors = [ridge_factor(centered, penalty) for penalty in penalties]
        weights = [by_factor(factor, centered.products) for factor in factors]
        toward = toward_by_factors(centered, factors)
    heads = [raw_head(centered, weight, centered.target_means) for weight in weights]
    return heads, lambda rest: fit_fold_path(rest, penalties, toward)


def _r2(head: LinearHead, held_out: Statistics, whole: Statistics) -> float:
    # Against the spread of all rows: that of a small fold may be 0, and its score would then decide everything.
    spread = (whole.target_squares - whole.target_sums**2 / whole.count) / whole.count
    error = squared_errors(head, held_out) / held_out.count
    return float(1 - (error / np.maximum(spread, np.finfo(float).tiny)).mean())
