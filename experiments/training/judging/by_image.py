"""Metrics of numbers where an image has many rows: intervals draw images, never rows, which are no independent witnesses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .metrics import Metric, from_sums

_Array = NDArray[np.float64]


def number_metrics(
    predicted: NDArray[np.floating],
    wanted: NDArray[np.floating],
    images: NDArray[np.integer],
    suffix: str = "",
) -> Iterator[Metric]:
    """Of numbers (n,) of rows of images (n,): pearson, spearman, mae, r2 and within_image_pearson, each ending in `suffix`.

    The last is the mean over images with three different answers and predictions or more of the correlation within the image.
    """
    said, true = predicted.astype(np.float64), wanted.astype(np.float64)
    _, unit = np.unique(images, return_inverse=True)
    yield from_sums(f"pearson{suffix}", _moments(said, true, unit), _correlation)
    yield from_sums(f"spearman{suffix}", _moments(_ranks(said), _ranks(true), unit), _correlation)
    gaps = _summed(np.stack([np.abs(said - true), np.ones_like(said)], 1), unit)
    yield from_sums(f"mae{suffix}", gaps, lambda sums: sums[..., 0] / sums[..., 1], better="lower")
    yield from_sums(f"r2{suffix}", _moments(said, true, unit), _explained)
    within = np.array(list(_within(said, true, unit)))
    if len(within):
        rows = np.stack([within, np.ones_like(within)], 1)
        yield from_sums(f"within_image_pearson{suffix}", rows, lambda sums: sums[..., 0] / sums[..., 1])


def pearson_metric(
    name: str,
    predicted: NDArray[np.floating],
    wanted: NDArray[np.floating],
    images: NDArray[np.integer],
    is_judge: bool = False,
) -> Metric:
    """The correlation alone, with its interval over images; `is_judge`: validation is judged by it."""
    _, unit = np.unique(images, return_inverse=True)
    return from_sums(
        name, _moments(predicted.astype(np.float64), wanted.astype(np.float64), unit), _correlation, judged_by=is_judge
    )


def _moments(said: _Array, true: _Array, unit: NDArray[np.int64]) -> _Array:
    """(images, 7) sums of 1, x, y, xx, yy, xy and (said - true)^2, x and y counted from the means: sums then lose no digit."""
    x, y = _centred(said), _centred(true)
    return _summed(np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, (said - true) ** 2], 1), unit)


def _centred(values: _Array) -> _Array:
    """Exactly 0 where all are alike: what is left by rounding would else correlate with anything."""
    return np.asarray(values - (values[0] if np.ptp(values) == 0 else values.mean()))


def _summed(rows: _Array, unit: NDArray[np.int64]) -> _Array:
    sums = np.zeros((unit.max() + 1, rows.shape[1]))
    np.add.at(sums, unit, rows)
    return sums


def _correlation(sums: _Array) -> _Array:
    n, x, y, xx, yy, xy = (sums[..., place] for place in range(6))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y)))


def _explained(sums: _Array) -> _Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - sums[..., 6] / (sums[..., 4] - sums[..., 2] ** 2 / sums[..., 0]))


def _ranks(values: _Array) -> _Array:
    """From 0 to 1; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    return np.asarray(middle[inverse] / max(1, len(values) - 1))


def _within(said: _Array, true: _Array, unit: NDArray[np.int64]) -> Iterator[float]:
    order = np.argsort(unit, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(unit))[:-1]):
        x, y = _centred(said[rows]), _centred(true[rows])
        if len(rows) >= 3 and x.any() and y.any():
            yield float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))
