"""Ridge regression on one-hot classes or numbers; validation chooses the penalty."""

from __future__ import annotations

from collections.abc import Iterator

from headstart.experiments.linear.method import Baseline, FittingData

TITLE = "ridge regression: least squares with small weights"
SIMPLICITY = 30
PLACE = 10
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


def fit(fitting: FittingData) -> Iterator[Baseline]:
    from headstart.experiments.linear.penalty_path import ridge_path

    data = fitting.data
    path = ridge_path(fitting.source, data.targets, fitting.statistics, data.val, _PENALTIES, fitting.axes)
    yield Baseline("ridge", {"l2": path.penalties[path.best]}, path.heads[path.best])
