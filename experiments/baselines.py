"""What every experiment is measured against: ridge, LDA and nearest mean, fitted in one pass over the training rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batches import TrainingData
from .closed_form import LinearHead, fit_lda, fit_nearest_mean, fit_ridge_path, scores_of
from .half import as_float32
from .source import FeatureSource
from .statistics import Statistics, gather

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class Baseline:
    """A head that needed no training.

    Attributes:
        name: ridge, lda, nearest-mean or mean.
        settings: what was chosen on validation.
        head: on features and auxiliary columns.
    """

    name: str
    settings: dict[str, Any]
    head: LinearHead


@dataclass(frozen=True)
class WithColumns:
    """A source whose rows are followed by auxiliary values (n, a), as float32."""

    source: FeatureSource
    auxiliary: NDArray[np.float32]

    @property
    def digest(self) -> str:
        return self.source.digest

    @property
    def embed_dim(self) -> int:
        return self.source.embed_dim + int(self.auxiliary.shape[1])

    def __len__(self) -> int:
        return len(self.source)

    def take(self, positions: NDArray[np.int64], out: NDArray[Any] | None = None) -> NDArray[Any]:
        rows = np.concatenate([as_float32(self.source.take(positions)), self.auxiliary[positions]], axis=1)
        if out is None:
            return rows
        out[:] = rows
        return out

    def blocks(self, positions: NDArray[np.int64], size: int = 2048) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        for found, half in self.source.blocks(positions, size):
            yield found, np.concatenate([as_float32(half), self.auxiliary[found]], axis=1)


def inputs_of(data: TrainingData) -> FeatureSource:
    """What a head sees of each row."""
    return data.source if data.auxiliary is None else WithColumns(data.source, data.auxiliary)


def fit_baselines(data: TrainingData) -> tuple[list[Baseline], Statistics]:
    """Baselines of the training rows, ridge with the penalty that validation likes best; and the statistics they are from."""
    source = inputs_of(data)
    statistics = gather(source, data.targets, {"train": data.train})["train"]
    path = fit_ridge_path(statistics, PENALTIES)
    scores = scores_of(source, data.val, path)
    goodness = [_goodness(data, found) for found in scores]
    best = max(range(len(path)), key=lambda i: (goodness[i], PENALTIES[i]))
    found = [Baseline("ridge", {"l2": PENALTIES[best]}, path[best])]
    if data.targets.task == "regression":
        mean = statistics.target_sums / statistics.count
        return [*found, Baseline("mean", {}, LinearHead(np.zeros((len(mean), source.embed_dim)), mean))], statistics
    lda, nearest = fit_lda(statistics), fit_nearest_mean(statistics)
    return [*found, Baseline("lda", {"shrinkage": 1e-3}, lda), Baseline("nearest-mean", {}, nearest)], statistics


def _goodness(data: TrainingData, scores: NDArray[np.float32]) -> float:
    if data.targets.task == "classification":
        return float((scores.argmax(axis=1) == data.targets.codes[data.val]).mean())
    return -float(np.square(scores - data.targets.values[data.val], dtype=np.float64).mean())
