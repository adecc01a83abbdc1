"""Which images are nearest to each image, by the cosine of their features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.feature_source import FeatureSource, as_float32

NEAREST = 10
_DIRECTIONS = 128  # of the features' variance that cosines are taken in: ten times as fast as all, the same neighbours
_BLOCK = 1024


@dataclass(frozen=True)
class Neighbours:
    """Attributes:
    place: (m, k) int64, places among the m rows asked for, the nearest first.
    cosine: (m, k) float32 of the centred features.
    """

    place: NDArray[np.int64]
    cosine: NDArray[np.float32]


def nearest_images(
    source: FeatureSource,
    positions: NDArray[np.int64],
    count: int = NEAREST,
    check: Callable[[], None] = lambda: None,
) -> Neighbours:
    """The `count` nearest others of each row, fewer where there are no more rows.

    Args:
        positions: (m,) ascending, m >= 2.
        check: called before each block; may raise to leave.
    """
    rows = principal_rows(source, positions, _DIRECTIONS, check)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.asarray(rows / np.where(lengths > 0, lengths, 1.0), np.float32)
    count = min(count, len(rows) - 1)
    place, cosine = np.empty((len(rows), count), np.int64), np.empty((len(rows), count), np.float32)
    for start in range(0, len(rows), _BLOCK):
        check()
        stop = min(start + _BLOCK, len(rows))
        cosines = rows[start:stop] @ rows.T
        cosines[np.arange(stop - start), np.arange(start, stop)] = -np.inf
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        mine = np.take_along_axis(cosines, nearest, axis=1)
        # Of equal cosines the earlier row comes first, so that the same features have the same neighbours.
        order = np.lexsort((nearest, -mine), axis=1)
        place[start:stop] = np.take_along_axis(nearest, order, axis=1)
        cosine[start:stop] = np.take_along_axis(mine, order, axis=1)
    return Neighbours(place, cosine)


def principal_rows(
    source: FeatureSource, positions: NDArray[np.int64], most: int, check: Callable[[], None] = lambda: None
) -> NDArray[np.float32]:
    """(m, p) centred, in the p <= `most` directions in which the rows differ most."""
    sums, moments = np.zeros(source.embed_dim), np.zeros((source.embed_dim, source.embed_dim))
    for _, half in source.blocks(positions, 2 * _BLOCK):
        check()
        block = as_float32(half)
        sums += block.sum(axis=0, dtype=np.float64)
        moments += block.T @ block
    mean = sums / len(positions)
    kept = np.eye(source.embed_dim, dtype=np.float32)
    if source.embed_dim > most:
        covariance = moments / len(positions) - np.outer(mean, mean)
        kept = np.asarray(np.linalg.eigh(covariance)[1][:, -most:], np.float32)
    shift = np.asarray(mean, np.float32) @ kept
    blocks = [as_float32(half) @ kept - shift for _, half in source.blocks(positions, 2 * _BLOCK)]
    return np.asarray(np.concatenate(blocks), np.float32)
