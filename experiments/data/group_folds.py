"""Folds in which rows of one group never stand on both sides. A function of names alone, so that no version moves a row."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural


def group_folds(groups: Sequence[str] | NDArray[np.str_], folds: int, seed: int = 0) -> NDArray[np.int64]:
    """(n,) fold of each row: rows of a group together, folds as equal in size as groups allow; '' is a group of its own row.

    Raises: HeadstartError if there are fewer groups than folds.
    """
    names = np.asarray(groups, dtype=np.str_)
    lone = np.flatnonzero(names == "")
    unique, inverse, counts = np.unique(names[names != ""], return_inverse=True, return_counts=True)
    if len(unique) + len(lone) < folds or folds < 2:
        raise HeadstartError(
            f"{plural(len(unique) + len(lone), 'group')} cannot make {folds} folds of 2 or more. Use fewer folds, or more groups"
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
