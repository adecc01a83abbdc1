"""A path of ridge heads on most of the rows, from the eigenvectors of all rows, without an eigendecomposition of its own.

The Gram matrix of four fifths of the rows is nearly four fifths of the whole: conjugate gradients that begin from there need a
handful of steps, and all penalties and classes share them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .closed_form import LinearHead, center, fit_ridge_path, raw_head
from .statistics import Statistics

_Array = NDArray[np.float64]
_MOST_STEPS = 12  # of which each costs a tenth of an eigendecomposition
_ENOUGH = 1e-4  # of the error in the norm that ridge minimizes, relative to the answer


def fit_fold_path(rest: Statistics, penalties: Sequence[float], spectrum: tuple[_Array, _Array], rows: int) -> list[LinearHead]:
    """`fit_ridge_path` to about four digits, more than a score of some thousand rows has.

    Args:
        rest: of some of the rows.
        penalties: above 0.
        spectrum: eigenvalues (d,) and eigenvectors (d, d) of the standardized Gram matrix of all `rows`.
    """
    centered = center(rest)
    outputs = centered.products.shape[1]
    shift = np.repeat(np.asarray(penalties) * centered.count, outputs)
    wanted = np.tile(centered.products, (1, len(penalties)))
    vectors = spectrum[1].astype(np.float32)  # they only point the way: the error is measured in float64
    curvature = (np.maximum(spectrum[0], 0)[:, None] * (centered.count / rows) + shift).astype(np.float32)

    every = np.arange(len(shift))

    def toward(right: _Array, columns: NDArray[np.int64]) -> _Array:
        return np.asarray(vectors @ ((vectors.T @ right.astype(np.float32)) / curvature[:, columns]), np.float64)

    def product(found: _Array, columns: NDArray[np.int64]) -> _Array:
        return np.asarray(centered.gram @ found + shift[columns] * found)

    found = toward(wanted, every)
    error = wanted - product(found, every)
    enough = _ENOUGH**2 * (wanted * found).sum(axis=0)
    direction = toward(error, every)
    size = (error * direction).sum(axis=0)
    columns = every
    for _ in range(_MOST_STEPS):
        left = size > enough[columns]
        if not left.any():
            weights = np.split(found, len(penalties), axis=1)
            return [raw_head(centered, weight, centered.target_means) for weight in weights]
        columns, size, error, direction = columns[left], size[left], error[:, left], direction[:, left]
        moved = product(direction, columns)
        length = size / (direction * moved).sum(axis=0)
        found[:, columns] += length * direction
        error = error - length * moved
        step = toward(error, columns)
        before, size = size, (error * step).sum(axis=0)
        direction = step + size / before * direction
    return fit_ridge_path(rest, penalties)
