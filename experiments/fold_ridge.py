"""A path of ridge heads on most of the rows, from what was computed for all rows, without a factorization of its own.

The Gram matrix of four fifths of the rows is nearly four fifths of the whole: conjugate gradients that begin from there need a
handful of steps, and all penalties and classes share them.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .closed_form import Centered, LinearHead, center, fit_ridge_path, inverse_by_factor, raw_head
from .statistics import Statistics

_Array = NDArray[np.float64]
# Nearly solves for right sides (d, c), a row's share of them; also given the column of each among all penalties and outputs.
# In float32: it only points the way, the error is measured in float64.
Toward = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]
_MOST_STEPS = 12  # of which each costs a tenth of an eigendecomposition
_ENOUGH = 1e-4  # of the error in the norm that ridge minimizes, relative to the answer


def toward_by_eigenvectors(centered: Centered, spectrum: tuple[_Array, _Array], penalties: Sequence[float]) -> Toward:
    """Args: spectrum: eigenvalues (d,) and eigenvectors (d, d) of the Gram matrix in `centered`."""
    vectors = spectrum[1].astype(np.float32)
    shift = np.repeat(penalties, centered.products.shape[1])
    curvature = (np.maximum(spectrum[0], 0)[:, None] / centered.count + shift).astype(np.float32)
    return lambda right, columns: vectors @ ((vectors.T @ right) / curvature[:, columns])


def toward_by_factors(centered: Centered, factors: Sequence[_Array]) -> Toward:
    """Args: factors: `ridge_factor` of each penalty."""
    # One product with the inverse is several times faster than a forward and a backward substitution.
    inverses = [(inverse_by_factor(factor) * centered.count).astype(np.float32) for factor in factors]
    outputs = centered.products.shape[1]

    def toward(right: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        result = np.empty_like(right)
        for number, inverse in enumerate(inverses):
            mine = columns // outputs == number
            result[:, mine] = inverse @ right[:, mine]
        return result

    return toward


def fit_fold_path(rest: Statistics, penalties: Sequence[float], toward: Toward) -> list[LinearHead]:
    """`fit_ridge_path` to about four digits, more than a score of some thousand rows has.

    Args:
        rest: of some of the rows.
        penalties: above 0.
        toward: made of all rows.
    """
    centered = center(rest)
    outputs = centered.products.shape[1]
    shift = np.repeat(np.asarray(penalties) * centered.count, outputs)
    wanted = np.tile(centered.products, (1, len(penalties)))
    every = np.arange(len(shift))

    def solved(right: _Array, columns: NDArray[np.int64]) -> _Array:
        return np.asarray(toward((right / centered.count).astype(np.float32), columns), np.float64)

    def product(found: _Array, columns: NDArray[np.int64]) -> _Array:
        return np.asarray(centered.gram @ found + shift[columns] * found)

    found = solved(wanted, every)
    error = wanted - product(found, every)
    enough = _ENOUGH**2 * (wanted * found).sum(axis=0)
    direction = solved(error, every)
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
        step = solved(error, columns)
        before, size = size, (error * step).sum(axis=0)
        direction = step + size / before * direction
    return fit_ridge_path(rest, penalties)
