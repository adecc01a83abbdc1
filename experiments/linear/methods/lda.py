"""Linear discriminant analysis, for classes; none where no class has images that differ."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from headstart.experiments.linear.method import Baseline, FittingData

TITLE = "linear discriminant analysis: classes as clouds of one shape"
SIMPLICITY = 40
PLACE = 50
_SHRINKAGE = 1e-3


def fit(fitting: FittingData) -> Iterator[Baseline]:
    from headstart.experiments.linear.closed_form import SingularError, fit_lda

    if fitting.data.targets.task != "classification":
        return
    statistics, axes = fitting.statistics, fitting.axes
    with contextlib.suppress(SingularError):  # classes of one image each have no spread to go by
        head = fit_lda(statistics, _SHRINKAGE) if axes is None else axes.lda(statistics, _SHRINKAGE)
        yield Baseline("lda", {"shrinkage": _SHRINKAGE}, head)
