"""Principal axes of the training rows: along them ridge and LDA are one division a weight, and the logistic loss is nearly so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.feature_source import FeatureSource
from headstart.experiments.data.statistics import Statistics, standardization_of

from .blas import one_thread
from .closed_form import NEVER, LinearHead, SingularError, center

_Array = NDArray[np.float64]
_FLAT = 1e-10  # part of the largest variance below which rows do not differ along an axis
_FEW = 0.7  # rows a channel: of no more, the products of rows with each other are the smaller problem


@dataclass(frozen=True)
class Axes:
    """Standardized features along the principal axes of the training rows.

    Attributes:
        mean, scale: (d,) of the raw channels.
        vectors: (d, r), an axis a column, of all along which rows differ; variances: (r,) along them.
        products: (k, r) mean of target times standardized feature.
        priors, shares: (k,) of the classes; a prior is never 0.
    """

    mean: _Array
    scale: _Array
    vectors: _Array
    variances: _Array
    products: _Array
    priors: _Array
    shares: _Array

    def start(self, penalty: float) -> _Array:
        """(k, r + 1): Newton's first step from the priors, with the curvature that classes of equal size have."""
        k = len(self.priors)
        curvature = (self.priors * (1 - self.priors) * k / max(1, k - 1))[:, None] * self.variances
        return np.concatenate([self.products / (curvature + penalty), np.log(self.priors)[:, None]], axis=1)

    def ridge(self, penalty: float) -> LinearHead:
        """As `fit_ridge_path`: along these axes each weight has an equation of its own."""
        weights = (self.products / (self.variances + penalty)) @ self.vectors.T / self.scale
        return LinearHead(weights, self.shares - weights @ self.mean)

    def lda(self, statistics: Statistics, shrinkage: float = 1e-3) -> LinearHead:
        """As `fit_lda` of the statistics that these axes are of: a diagonal, less a matrix of as low a rank as there are classes.

        Raises: SingularError if no class has rows that differ.
        """
        counts, rows = statistics.target_sums, statistics.count
        means = self.products.T / np.maximum(counts, 1) * rows
        degrees = max(1.0, rows - float((counts > 0).sum()))
        spread = (rows * float(self.variances.sum()) - float((counts * means**2).sum())) / degrees / len(self.mean)
        if not shrinkage * spread > _FLAT * self.variances.max():
            raise SingularError("no class has images that differ, so none has a spread to go by. Use more training images")
        diagonal = (1 - shrinkage) * rows / degrees * self.variances + shrinkage * spread
        between = means * np.sqrt(counts * (1 - shrinkage) / degrees)
        alone = means / diagonal[:, None]
        inner = np.eye(len(counts)) - between.T @ (between / diagonal[:, None])
        weights = (alone + between / diagonal[:, None] @ np.linalg.solve(inner, between.T @ alone)).T
        prior = np.log(np.maximum(counts, 1) / rows)
        offset = np.where(counts > 0, prior - 0.5 * (means.T * weights).sum(axis=1), NEVER)
        raw = weights @ self.vectors.T / self.scale
        return LinearHead(raw, offset - raw @ self.mean)

    def point(self, head: LinearHead) -> _Array:
        """(k, r + 1) of a head on raw features."""
        bias = head.bias + head.weight @ self.mean
        return np.concatenate([head.weight * self.scale @ self.vectors, bias[:, None]], axis=1)

    def raw(self, points: _Array) -> _Array:
        """(p, k, d + 1) weights and biases on raw features less their mean, of points (p, k, r + 1)."""
        return np.concatenate([points[..., :-1] @ self.vectors.T / self.scale, points[..., -1:]], axis=-1)


def axes_of(source: FeatureSource, positions: NDArray[np.int64], statistics: Statistics) -> Axes:
    """Of the rows at `positions`, which have classes and which `statistics` are of; the same bits with any number of cores."""
    with one_thread():
        return _axes_of(source, positions, statistics)


def _axes_of(source: FeatureSource, positions: NDArray[np.int64], statistics: Statistics) -> Axes:
    standard, offset = standardization_of(statistics), statistics.sums / statistics.count
    products = (statistics.products - np.outer(offset, statistics.target_sums)).T / statistics.count / standard.scale
    if len(positions) <= _FEW * len(offset):  # the axes of few rows lie in what these span
        rows = (source.take(np.sort(positions)).astype(np.float64) - standard.mean) / standard.scale
        values, turned = np.linalg.eigh(rows @ rows.T / len(rows))
        lasts = values > _FLAT * values[-1]
        values = values[lasts]
        vectors = rows.T @ (turned[:, lasts] / np.sqrt(len(rows) * values))
    else:
        # numpy's: to import scipy.linalg takes as long as the axes of 1,280 channels.
        values, vectors = np.linalg.eigh(center(statistics).gram / statistics.count)
    shares = statistics.target_sums / statistics.count
    priors = np.maximum(statistics.target_sums, 0.5) / statistics.count
    variances = np.maximum(values, 0)
    return Axes(standard.mean, standard.scale, vectors, variances, products @ vectors, priors, shares)
