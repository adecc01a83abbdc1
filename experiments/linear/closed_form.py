"""Heads that need no training: ridge, LDA, nearest class mean, all from sufficient statistics alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.feature_source import FeatureSource, as_float32, by_blocks
from headstart.experiments.data.statistics import Statistics, standardization_of
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, verb

_Array = NDArray[np.float64]
_RANK_EPS = 1e-10
NEVER = -1e9  # the score of a class that training lacks
_BLOCK_ROWS = 256  # as float32 they stay in the cache of a core
_CHEAPER_THAN_EIGEN = 8  # so many Cholesky factorizations cost less than one eigendecomposition


class SingularError(HeadstartError):
    """No single answer exists: channels depend on each other and nothing is penalized."""


@dataclass(frozen=True)
class LinearHead:
    """scores = x weight^T + bias on raw features; weight (k, d), bias (k,), float64."""

    weight: _Array
    bias: _Array


@dataclass(frozen=True)
class Centered:
    """Statistics of standardized rows: gram (d, d) and products (d, k) about the mean, in units of `scale`."""

    count: int
    mean: _Array
    scale: _Array
    gram: _Array
    products: _Array
    target_means: _Array


def fit_ridge_path(statistics: Statistics, penalties: Sequence[float]) -> list[LinearHead]:
    """Closed-form ridge regression on one-hot or continuous targets, from sufficient statistics alone; a head for each penalty.

    Features are standardized on the rows of `statistics`; the bias is not penalized. Many penalties share one eigendecomposition;
    few are factorized one by one, which is faster.

    Args:
        statistics: of the training rows.
        penalties: per row, each >= 0.

    Returns: heads whose weights act on raw, unstandardized features.
    Raises: SingularError if a penalty is 0 and the Gram matrix is rank deficient; HeadstartError if one is negative.

    Hastie, Tibshirani & Friedman 2009, eq. 3.44.
    """
    if any(not penalty >= 0 for penalty in penalties):
        raise HeadstartError(f"a ridge penalty is {min(penalties)}, expected 0 or more")
    centered = center(statistics)
    if wants_eigenvectors(penalties):
        weights = by_eigenvectors(centered, np.linalg.eigh(centered.gram), penalties)
    else:
        weights = [by_factor(ridge_factor(centered, penalty), centered.products) for penalty in penalties]
    return [raw_head(centered, weight, centered.target_means) for weight in weights]


def fit_lda(statistics: Statistics, shrinkage: float = 1e-3) -> LinearHead:
    """Linear discriminant analysis: the Bayes rule for classes with one covariance and the priors of the training rows.

    Args:
        statistics: with one-hot targets.
        shrinkage: from 0 (the pooled covariance) to 1 (a multiple of the identity), on standardized features.

    Raises: SingularError if shrinkage is 0 and the covariance is rank deficient.
    """
    centered = center(statistics)
    counts = statistics.target_sums
    means = centered.products / np.maximum(counts, 1)
    degrees = max(1.0, centered.count - float((counts > 0).sum()))
    within = (centered.gram - (means * counts) @ means.T) / degrees
    target = np.trace(within) / len(within)
    covariance = (1 - shrinkage) * within + shrinkage * target * np.eye(len(within))
    weight = by_factor(_factor(covariance), means)
    prior = np.log(np.maximum(counts, 1) / centered.count)
    offset = np.where(counts > 0, prior - 0.5 * (means * weight).sum(axis=0), NEVER)
    return raw_head(centered, weight, offset)


def fit_nearest_mean(statistics: Statistics) -> LinearHead:
    """Says the class whose mean is nearest in standardized features; needs one-hot targets."""
    centered = center(statistics)
    counts = statistics.target_sums
    means = centered.products / np.maximum(counts, 1)
    return raw_head(centered, means, np.where(counts > 0, -0.5 * (means**2).sum(axis=0), NEVER))


def scores_of(source: FeatureSource, positions: NDArray[np.int64], heads: Sequence[LinearHead]) -> list[NDArray[np.float32]]:
    """Scores (len(positions), k) of each head, all heads in one pass over the rows."""
    weight = np.concatenate([head.weight for head in heads]).astype(np.float32)
    bias = np.concatenate([head.bias for head in heads]).astype(np.float32)
    memory = np.empty((_BLOCK_ROWS, source.embed_dim), np.float32)
    scores = by_blocks(source, positions, len(bias), lambda _, half: as_float32(half, memory) @ weight.T + bias, _BLOCK_ROWS)
    return np.split(scores, np.cumsum([len(head.bias) for head in heads])[:-1], axis=1)


def squared_errors(head: LinearHead, statistics: Statistics) -> _Array:
    """(k,) sum over rows of (score - target)^2, from statistics alone."""
    bias = head.bias + head.weight @ statistics.shift
    weight = head.weight.T
    quadratic = (
        (weight * (statistics.gram @ weight)).sum(axis=0) + 2 * bias * (statistics.sums @ weight) + statistics.count * bias**2
    )
    cross = (weight * statistics.products).sum(axis=0) + bias * statistics.target_sums
    return np.asarray(quadratic - 2 * cross + statistics.target_squares)


def center(statistics: Statistics) -> Centered:
    """Standardized on the rows that they are of."""
    standard = standardization_of(statistics)
    offset = statistics.sums / statistics.count
    gram = np.outer(statistics.sums, -offset)  # new memory of that size costs more than the arithmetic
    gram += statistics.gram
    gram /= standard.scale
    gram /= standard.scale[:, None]
    products = (statistics.products - np.outer(offset, statistics.target_sums)) / standard.scale[:, None]
    return Centered(statistics.count, standard.mean, standard.scale, gram, products, statistics.target_sums / statistics.count)


def raw_head(centered: Centered, weight: _Array, offset: _Array) -> LinearHead:
    """A head on raw features, of weights (d, k) and offsets (k,) on standardized ones."""
    raw = (weight / centered.scale[:, None]).T
    return LinearHead(raw, offset - raw @ centered.mean)


def wants_eigenvectors(penalties: Sequence[float]) -> bool:
    """Whether a path is solved by one eigendecomposition."""
    return len(penalties) > _CHEAPER_THAN_EIGEN or min(penalties) == 0


def by_eigenvectors(centered: Centered, spectrum: tuple[_Array, _Array], penalties: Sequence[float]) -> list[_Array]:
    """Ridge weights (d, k) of each penalty; `spectrum` are the eigenvalues and eigenvectors of the Gram matrix."""
    values, vectors = spectrum
    rotated = vectors.T @ centered.products
    smallest = _RANK_EPS * max(values[-1], np.finfo(float).tiny)
    if min(penalties) == 0 and values[0] <= smallest:
        raise _singular(int((values > smallest).sum()), len(values))
    values = np.maximum(values, 0)
    return [vectors @ (rotated / (values + penalty * centered.count)[:, None]) for penalty in penalties]


def ridge_factor(centered: Centered, penalty: float) -> _Array:
    """Lower Cholesky factor (d, d) of the matrix that ridge inverts. Raises: SingularError."""
    matrix = centered.gram.copy()
    matrix.flat[:: len(matrix) + 1] += penalty * centered.count
    return _factor(matrix)


def by_factor(factor: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """The solution (d, c) for right sides (d, c), in the precision of both."""
    from scipy.linalg import cho_solve

    return np.asarray(cho_solve((factor, True), right, check_finite=False))


def inverse_by_factor(factor: _Array) -> _Array:
    """The inverse (d, d) of the matrix that `factor` is the lower Cholesky factor of: half the work of solving for it."""
    from scipy.linalg.lapack import dpotri

    lower: _Array = np.tril(dpotri(factor, lower=True)[0])
    return lower + np.tril(lower, -1).T


def _factor(matrix: _Array) -> _Array:
    from scipy.linalg import LinAlgError, cho_factor

    try:
        factor: _Array = cho_factor(matrix, lower=True, check_finite=False)[0]
        if np.diagonal(factor).min() ** 2 <= _RANK_EPS * np.diagonal(matrix).max():
            raise LinAlgError
        return factor
    except LinAlgError:
        raise _singular(int(np.linalg.matrix_rank(matrix, hermitian=True)), len(matrix)) from None


def _singular(rank: int, size: int) -> SingularError:
    return SingularError(
        f"{plural(size, 'channel')} {verb(size, 'have')} "
        f"rank {rank} on the training rows, so no single answer exists without a penalty. "
        "Use a penalty above 0, or more training images"
    )
