"""What every experiment is measured against: ridge, LDA and nearest mean, fitted in one pass over the training rows.

Two more on demand: logistic regression, and ridge whose penalty is chosen by cross-validation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.config import USUAL_BASELINES, BaselineOptions
from headstart.experiments.data.feature_source import FeatureSource, as_float32
from headstart.experiments.data.statistics import Statistics, gather_statistics
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.training.state.kept_parts import Parts

from .axes import axes_of
from .closed_form import LinearHead, SingularError, fit_lda, fit_nearest_mean
from .cross_validation import cross_validate_ridge
from .penalty_path import PENALTIES, logistic_path, ridge_path

RIDGE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class Baseline:
    """A head that needed no training.

    Attributes:
        name: ridge, ridge-<folds>-fold, logistic, lda, nearest-mean or mean.
        settings: what was chosen on validation, or by folds: with `cross_validation`, how those scored.
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
        for block, half in self.source.blocks(positions, size):
            yield block, np.concatenate([as_float32(half), self.auxiliary[block]], axis=1)


def inputs_of(data: TrainingData) -> FeatureSource:
    """What a head sees of each row."""
    return data.source if data.auxiliary is None else WithColumns(data.source, data.auxiliary)


def fit_baselines(
    data: TrainingData,
    wanted: BaselineOptions = USUAL_BASELINES,
    fold_of: NDArray[np.int64] | None = None,
    check: Callable[[], None] = lambda: None,
    parts: Parts | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> tuple[list[Baseline], Statistics]:
    """Baselines of the training rows, penalties as validation likes them best; and the statistics they are from.

    Args:
        fold_of: (len(data.train),) fold of each training row; given, the penalty of one more ridge is chosen by them.
        check: called between passes over the rows; may raise to leave.
        parts: keeps what took long; report: told what is fitted.

    Raises: HeadstartError if logistic regression is wanted of numbers.
    """
    source, targets = inputs_of(data), data.targets
    statistics = gather_statistics(source, targets, {"train": data.train})["train"]
    axes = axes_of(source, data.train, statistics) if wanted.logistic and targets.task == "classification" else None
    exact = axes if axes is not None and axes.is_exact else None
    path = ridge_path(source, targets, statistics, data.val, RIDGE_PENALTIES, exact)
    baselines = [Baseline("ridge", {"l2": path.penalties[path.best]}, path.heads[path.best])]
    if fold_of is not None:
        baselines.append(_cross_validated(data, fold_of, check, parts))
    if wanted.logistic:
        path = logistic_path(
            source, targets, data.train, statistics, data.val, check=check, parts=parts, report=report, axes=axes
        )
        baselines.append(Baseline("logistic", {"l2": path.penalties[path.best]}, path.heads[path.best]))
    if targets.task == "regression":
        mean = statistics.target_sums / statistics.count
        return [*baselines, Baseline("mean", {}, LinearHead(np.zeros((len(mean), source.embed_dim)), mean))], statistics
    with contextlib.suppress(SingularError):  # classes of one image each have no spread to go by
        lda = fit_lda(statistics) if exact is None else exact.lda(statistics)
        baselines.append(Baseline("lda", {"shrinkage": 1e-3}, lda))
    return [*baselines, Baseline("nearest-mean", {}, fit_nearest_mean(statistics))], statistics


def _cross_validated(data: TrainingData, fold_of: NDArray[np.int64], check: Callable[[], None], parts: Parts | None) -> Baseline:
    path = cross_validate_ridge(inputs_of(data), data.targets, data.train, fold_of, PENALTIES, check, parts)
    scores = path.scores[:, path.best]
    facts = {
        "folds": len(scores),
        "metric": "accuracy" if data.targets.task == "classification" else "r2",
        "mean": float(scores.mean()),
        "spread": float(scores.std(ddof=1)),
        "scores": scores.tolist(),
    }
    settings = {"l2": path.penalties[path.best], "cross_validation": facts}
    return Baseline(f"ridge-{len(scores)}-fold", settings, path.heads[path.best])
