"""Probabilities of labels by three views of the features, weighed by a fourth: better than each where there are enough images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .neighbours import Neighbours

LEAST_ROWS, MOST_CLASSES = 1000, 50  # fewer rows cannot weigh the views; more classes make too many weights
NEIGHBOURS = 30
_AT_ONCE = 10_240  # rows of a kernel matrix
VIEW_DIRECTIONS = 256  # of the features, that views see: a fifth of the time
_RIDGE = 1.0
_SCORE_SCALE = 8.0  # kernel scores span about one, logarithms of probabilities about eight
_Floats = NDArray[np.float32]


def neighbour_votes(near: Neighbours, codes: NDArray[np.int64], groups: NDArray[np.str_], classes: int) -> _Floats:
    """(m, classes) logarithm of one more than how many neighbours bear each label; those of an image's own group do not vote."""
    votes = np.zeros((len(codes), classes), np.float32)
    every = np.arange(len(codes))
    for rank in range(near.place.shape[1]):
        other = near.place[:, rank]
        votes[every, codes[other]] += (groups[other] != groups) | (groups == "")
    return np.asarray(np.log1p(votes), np.float32)


def kernel_scores(
    rows: _Floats,
    codes: NDArray[np.int64],
    groups: NDArray[np.str_],
    classes: int,
    check: Callable[[], None],
) -> _Floats:
    """(m, classes) of kernel ridge regression on one-hot labels, each row as if it and its group had not been there.

    A Gaussian kernel whose width is the median distance. Of more than 10,240 rows each learns from its share of them alone.

    Args:
        rows: (m, p), what distances are of; codes: (m,) their labels; groups: (m,) text, '' for none.
    """
    scores = np.empty((len(rows), classes), np.float32)
    shares = -(-len(rows) // _AT_ONCE)
    share_of = np.random.Generator(np.random.Philox(0)).permutation(len(rows)) % shares
    for share in range(shares):
        places = np.flatnonzero(share_of == share)
        scores[places] = _scores(rows[places], codes[places], groups[places], classes, check)
    return scores * _SCORE_SCALE


def _scores(
    rows: _Floats, codes: NDArray[np.int64], groups: NDArray[np.str_], classes: int, check: Callable[[], None]
) -> _Floats:
    from scipy.linalg import cholesky, lapack

    squares = (rows**2).sum(axis=1)
    kernel = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)
    width = float(np.median(kernel[:: max(1, len(rows) // 500)]))
    np.exp(kernel * (-0.5 / width if width > 0 else 0.0), out=kernel)
    kernel[np.diag_indices_from(kernel)] += _RIDGE
    targets = np.eye(classes, dtype=np.float32)[codes] - np.float32(1 / classes)
    check()
    inverse, _ = lapack.spotri(cholesky(kernel, lower=True, overwrite_a=True, check_finite=False), lower=1, overwrite_c=1)
    inverse = np.tril(inverse)
    solved = inverse @ targets + inverse.T @ targets - np.diag(inverse)[:, None] * targets
    check()
    # What a fit without some rows leaves over at these rows follows from the inverse: Cook & Weisberg 1982, section 2.2.
    left = solved / np.diag(inverse)[:, None]
    for name in np.unique(groups[groups != ""]):
        mine = np.flatnonzero(groups == name)
        block = inverse[np.ix_(mine, mine)]
        left[mine] = np.linalg.solve(block + np.tril(block, -1).T, solved[mine])
    return np.asarray(targets - left, np.float32)
