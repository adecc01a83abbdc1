"""Gradient-boosted trees of scikit-learn as plain arrays: what they say needs neither scikit-learn nor a pickle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_DEPTH = 10
_ROWS_AT_ONCE = 1 << 14  # as float32 they stay in the cache of a core


@dataclass(frozen=True)
class TreeOptions:
    """Of scikit-learn's HistGradientBoostingRegressor, by its names."""

    max_iter: int = 400
    learning_rate: float = 0.04
    max_leaf_nodes: int = 16
    min_samples_leaf: int = 10
    l2_regularization: float = 1.0
    max_features: float = 0.3
    max_bins: int = 64

    @property
    def nodes(self) -> int:
        """The most that a tree has."""
        return 2 * self.max_leaf_nodes - 1


@dataclass(frozen=True)
class Forest:
    """T trees of N nodes each, node 0 first; what is not needed is a leaf of 0.

    A row goes to `left` if its number in column `feature` is at most `threshold`, else to `right`; a leaf leads to itself.
    What the forest says is `start` and the `value` of the leaf of each tree.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: NDArray[np.float32]
    start: float


def fit_trees(
    rows: NDArray[np.float32],
    target: NDArray[np.float32],
    options: TreeOptions,
    seed: int,
    columns: Sequence[int] | NDArray[np.int64] | None = None,
) -> Forest:
    """Trees that say `target` (n,) of `rows` (n, m), least squares; the same for the same rows, options and seed.

    By one thread: several wait for each other at every node, for minutes where others compute as well.

    Args: columns: of `rows` that they may look at; None: all.

    Friedman, "Greedy function approximation: a gradient boosting machine", Annals of Statistics 2001; binned as in LightGBM.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    chosen = np.arange(rows.shape[1]) if columns is None else np.asarray(columns)
    model = HistGradientBoostingRegressor(
        max_iter=options.max_iter,
        learning_rate=options.learning_rate,
        max_leaf_nodes=options.max_leaf_nodes,
        min_samples_leaf=options.min_samples_leaf,
        l2_regularization=options.l2_regularization,
        max_features=options.max_features,
        max_bins=options.max_bins,
        max_depth=MAX_DEPTH,
        early_stopping=False,
        random_state=seed,
    )
    with threadpool_limits(1):
        model.fit(rows[:, chosen], target)
    # scikit-learn has no public way to what its trees are made of; a test compares with what it predicts itself.
    trees = [tree.nodes for [tree] in model._predictors]
    forest = _empty(options)
    for number, nodes in enumerate(trees):
        inner = np.flatnonzero(nodes["is_leaf"] == 0)
        leaves = np.flatnonzero(nodes["is_leaf"])
        forest.feature[number, inner] = chosen[nodes["feature_idx"][inner]]
        forest.threshold[number, inner] = _rounded_down(nodes["num_threshold"][inner])
        forest.left[number, inner], forest.right[number, inner] = nodes["left"][inner], nodes["right"][inner]
        forest.value[number, leaves] = nodes["value"][leaves]
    start = float(np.ravel(model._baseline_prediction)[0])
    return Forest(forest.feature, forest.threshold, forest.left, forest.right, forest.value, start)


def said_beside(forest: Forest, known: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) what the forest says of `rows` (n, p), before each of which the same numbers `known` (m,) stand.

    A node that asks for one of these is answered once; one that asks for a column of `rows` costs two operations on all of them,
    however deep it lies. Leaves are added up as float64.
    """
    total = np.full(len(rows), forest.start, np.float64)
    arrays = (forest.feature, forest.threshold, forest.left, forest.right, forest.value)
    numbers: list[float] = known.tolist()
    trees = list(zip(*(one.tolist() for one in arrays), strict=True))
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        columns = np.ascontiguousarray(rows[first : first + _ROWS_AT_ONCE].T)
        part = total[first : first + _ROWS_AT_ONCE]
        for tree in trees:
            part += _said_by_tree(tree, numbers, columns)
    return total.astype(np.float32)


def _said_by_tree(tree: tuple[list[Any], ...], known: list[float], columns: NDArray[np.float32]) -> NDArray[Any] | float:
    """Of rows whose last columns are `columns` (p, n): one number where all of them come to the same leaf."""
    feature, threshold, left, right, value = tree

    def said(node: int, depth: int) -> NDArray[Any] | float:
        for level in range(depth, MAX_DEPTH):  # a file may hold a tree that leads in a circle
            if left[node] == node:
                break
            beside = feature[node] - len(known)
            if beside >= 0:
                goes_left = columns[beside] <= np.float32(threshold[node])
                return np.where(goes_left, said(left[node], level + 1), said(right[node], level + 1))
            node = left[node] if known[feature[node]] <= threshold[node] else right[node]
        return float(value[node])

    return said(0, 0)


def screened(features: NDArray[np.float32], values: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """The `count` columns of `features` (n, d) most correlated with `values` (n,), ascending; all where there are no more.

    Of thousands of columns trees need many minutes and gain nothing. Fan & Lv, "Sure independence screening", JRSS B 2008.
    """
    gaps = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    wanted = values.astype(np.float64) - values.mean(dtype=np.float64)
    spread = np.sqrt((gaps**2).sum(0))
    scores = np.abs(wanted @ gaps) / np.where(spread > 0, spread, np.inf)
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def _empty(options: TreeOptions) -> Forest:
    shape = options.max_iter, options.nodes
    themselves = np.tile(np.arange(options.nodes), (options.max_iter, 1))
    return Forest(
        np.zeros(shape, np.int64),
        np.full(shape, np.inf, np.float32),
        themselves.copy(),
        themselves.copy(),
        np.zeros(shape, np.float32),
        0.0,
    )


def _rounded_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is no larger: rows are float32, so each goes where it went."""
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)
