"""Numbers of sets of pictures that need no network, and Fréchet's distance of what a network says of them.

Heusel et al. 2017 (arXiv 1706.08500): the distance of two normal distributions with the means and covariances of two sets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NEAR = 4  # levels of 255 in which neighbouring pixels of a flat region differ at most
_AT_ONCE = 512  # pictures that all are compared with

Images = NDArray[np.uint8]  # (n, s, s, 3)
Numbers = NDArray[np.float64]


def frechet(first: Numbers, second: Numbers) -> float:
    """|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½). Args: features (n, d) and (m, d), of two rows at least."""
    (mean, root), (other, _) = (_mean_and_root(one) for one in (first, second))
    covariance, beside = (np.cov(one, rowvar=False) for one in (first, second))
    # The eigenvalues of C1 C2 are those of C1^½ C2 C1^½, which is symmetric: rounding makes no complex numbers of them.
    crossed = np.linalg.eigvalsh(root @ beside @ root).clip(min=0)
    said = ((mean - other) ** 2).sum() + np.trace(covariance) + np.trace(beside) - 2 * np.sqrt(crossed).sum()
    return float(max(0.0, said))


def _mean_and_root(features: Numbers) -> tuple[Numbers, Numbers]:
    values, vectors = np.linalg.eigh(np.cov(features, rowvar=False))
    return features.mean(0), (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def pair_distance(images: Images, groups: NDArray[np.int64]) -> float:
    """Mean distance of two pictures of one group, over all pairs: root mean squares in levels of 255; 0 without such a pair."""
    total, pairs = 0.0, 0
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        if len(members) > 1:
            total += float(_distances(images[members], images[members]).sum())  # of a picture to itself: 0
            pairs += len(members) * (len(members) - 1)
    return total / pairs if pairs else 0.0


def flatness(images: Images) -> float:
    """The part of neighbouring pixels, across and down, all of whose channels differ by at most 4 of 255."""
    values = images.astype(np.int16)
    same = [np.abs(np.diff(values, axis=axis)).max(axis=3) <= _NEAR for axis in (1, 2)]
    return float(np.mean(np.concatenate([one.ravel() for one in same])))


def nearest_pictures(images: Images, among: Images) -> tuple[Numbers, NDArray[np.int64]]:
    """Of each picture the distance to the one of `among` that is next to it, in levels of 255, and its place there."""
    least, places = np.full(len(images), np.inf), np.zeros(len(images), np.int64)
    for begin in range(0, len(among), _AT_ONCE):
        apart = _distances(images, among[begin : begin + _AT_ONCE])
        is_nearer = apart.min(1) < least
        places[is_nearer] = begin + apart.argmin(1)[is_nearer]
        least[is_nearer] = apart.min(1)[is_nearer]
    return least, places


def _distances(first: Images, second: Images) -> Numbers:
    """(n, m) root mean squares of the differences of all pixels, exact: sums of products of whole numbers."""
    one, two = (images.reshape(len(images), -1).astype(np.float64) for images in (first, second))
    squares = (one**2).sum(1)[:, None] + (two**2).sum(1) - 2 * one @ two.T
    return np.asarray(np.sqrt(squares / one.shape[1]))
