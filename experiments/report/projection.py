"""Maps of the features: two numbers an image, near to each other where features are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.feature_source import FeatureSource, as_float32

COMPONENTS = 50  # that t-SNE sees of the features
_FEWEST = 12  # different images below which t-SNE has nothing to arrange
_PERPLEXITY = 30.0
_BLOCK = 4096
# scikit-learn's own way first pulls clusters apart for 250 steps. Beginning from PCA without that keeps more of the neighbours
# after 250 than that after 400: of CIFAR-10's features 26 % instead of 22, of digits 51 instead of 50.
_STEPS = 250
_EXAGGERATION = 1.0


@dataclass(frozen=True)
class Map:
    """Attributes:
    positions: (m,) of rows; points: (m, 2) float32 in 0 to 1, the aspect kept.
    explained: part of the variance that PCA's two axes have; None for t-SNE.
    """

    name: str
    positions: NDArray[np.int64]
    points: NDArray[np.float32]
    explained: float | None = None


def principal_components(source: FeatureSource, positions: NDArray[np.int64]) -> tuple[NDArray[np.float32], float]:
    """(len(positions), up to COMPONENTS) coordinates on the axes of most variance, and the part of it that the first two have."""
    size = source.embed_dim
    total, products, count = np.zeros(size), np.zeros((size, size)), len(positions)
    shift = as_float32(source.take(positions[: min(count, 256)])).mean(axis=0)
    for start in range(0, count, _BLOCK):
        rows = as_float32(source.take(positions[start : start + _BLOCK])) - shift
        total += rows.sum(axis=0, dtype=np.float64)
        products += rows.T @ rows
    mean = total / count
    variances, axes = np.linalg.eigh(products / count - np.outer(mean, mean))
    order = np.argsort(-variances)[:COMPONENTS]
    variances = np.maximum(variances, 0.0)
    axes = axes[:, order]
    # An axis has no direction of its own: the largest weight points up, so that the same features give the same picture.
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    result = np.empty((count, axes.shape[1]), np.float32)
    for start in range(0, count, _BLOCK):
        result[start : start + _BLOCK] = (as_float32(source.take(positions[start : start + _BLOCK])) - shift - mean) @ axes
    whole = float(variances.sum())
    return result, float(variances[order[:2]].sum() / whole) if whole > 0 else 1.0


def maps_of(source: FeatureSource, positions: NDArray[np.int64], sample: NDArray[np.int64], seed: int = 0) -> list[Map]:
    """PCA of `positions`, and t-SNE of `sample`, which is part of them, first where there is one. Equal input, equal maps."""
    components, explained = principal_components(source, positions)
    maps = [Map("PCA", positions, fitted(components[:, :2]), explained)]
    rows = components[np.searchsorted(positions, sample)]
    # Equal rows would start at one place with a spread of 0, of which scikit-learn makes NaN, and its tree then crashes.
    if rows.shape[1] < 2 or len(np.unique(rows, axis=0)) < _FEWEST:
        return maps
    # Its threads would wait for each other by counting, which takes four times as long where others work beside it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from sklearn.manifold import TSNE

    points = TSNE(
        2,
        perplexity=min(_PERPLEXITY, (len(sample) - 1) / 3),
        early_exaggeration=_EXAGGERATION,
        angle=0.7,
        init="pca",
        random_state=seed,
        max_iter=_STEPS,
    ).fit_transform(rows)
    return [Map("t-SNE", sample, fitted(_lying(points))), *maps]


def _lying(points: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Turned so that it is widest from left to right, as a screen is: t-SNE has no direction of its own."""
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(2)])
    return np.asarray(centred @ axes)


def fitted(points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Moved and scaled into 0 to 1, both axes by the same factor and centred."""
    if points.shape[1] < 2:
        points = np.concatenate([points, np.zeros((len(points), 2 - points.shape[1]))], axis=1)
    low, high = points.min(axis=0), points.max(axis=0)
    spread = float((high - low).max()) or 1.0
    return np.asarray((points - (low + high) / 2) / spread + 0.5, np.float32)
