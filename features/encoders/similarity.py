"""How alike two sets of features are: what precisions, graphs and ways of decoding are judged by."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """(n,) cosine between row i of `a` (n, d) and row i of `b`, in float64.

    1 where both rows are zero: they are the same. NaN where only one is, or a value is not finite, so no limit is reached.
    """
    left, right = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1)
    with np.errstate(invalid="ignore"):
        return np.where((norms[0] == 0) & (norms[1] == 0), 1.0, (left * right).sum(1) / (norms[0] * norms[1]))


_PENALTY = 0.03  # of the mean squared length of a centred row


def right_without_itself(features: NDArray[Any], classes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) whether ridge regression on one-hot classes, fitted on all other rows, classifies row i rightly.

    Args:
        features: (n, d); n is at most some hundreds, for the Gram matrix is (n, n).
        classes: (n,) numbers from 0.

    Fitted once: of a linear smoother with diagonal h, row i's residual without itself is its residual / (1 - h_i).
    Hastie, Tibshirani & Friedman 2009, eq. 7.64.
    """
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    gram = centred @ centred.T
    count = len(gram)
    smoother = np.linalg.solve(gram + _PENALTY * max(gram.trace() / count, 1e-30) * np.eye(count), gram).T + 1 / count
    wanted = np.eye(int(classes.max()) + 1)[classes]
    others = wanted - (wanted - smoother @ wanted) / np.maximum(1 - smoother.diagonal(), 1e-9)[:, None]
    return np.asarray(others.argmax(1) == classes)
