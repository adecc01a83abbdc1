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
