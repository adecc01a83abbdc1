"""The best logistic regression of a path of penalties, where it is asked for; validation chooses."""

from __future__ import annotations

from collections.abc import Iterator

from headstart.experiments.linear.method import Baseline, FittingData

TITLE = "logistic regression: like linear, but its best weights are computed, not learned in epochs"
SIMPLICITY = 50
PLACE = 30


def fit(fitting: FittingData) -> Iterator[Baseline]:
    """Raises: HeadstartError if it is asked for of numbers."""
    from headstart.experiments.linear.penalty_path import best_logistic

    if not fitting.wanted.logistic:
        return
    data = fitting.data
    penalty, head = best_logistic(
        fitting.source,
        data.targets,
        data.train,
        fitting.statistics,
        data.val,
        check=fitting.check,
        parts=fitting.parts,
        report=fitting.report,
        axes=fitting.axes,
    )
    yield Baseline("logistic", {"l2": penalty}, head, has_log_odds=True)
