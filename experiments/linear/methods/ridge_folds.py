"""Ridge regression whose penalty is chosen by cross-validation on the training rows, where folds are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from headstart.experiments.linear.method import Baseline, FittingData

NAMES = r"ridge-\d+-fold"
TITLE = "ridge regression, its penalty chosen by folds"
SIMPLICITY = 60
PLACE = 20


def fit(fitting: FittingData) -> Iterator[Baseline]:
    from headstart.experiments.linear.cross_validation import cross_validate_ridge
    from headstart.experiments.linear.penalty_path import PENALTIES

    if fitting.fold_of is None:
        return
    data = fitting.data
    path = cross_validate_ridge(
        fitting.source, data.targets, data.train, fitting.fold_of, PENALTIES, fitting.check, fitting.parts
    )
    scores = path.scores[:, path.best]
    facts = {
        "folds": len(scores),
        "metric": "accuracy" if data.targets.task == "classification" else "r2",
        "mean": float(scores.mean()),
        "spread": float(scores.std(ddof=1)),
        "scores": scores.tolist(),
    }
    settings = {"l2": path.penalties[path.best], "cross_validation": facts}
    yield Baseline(f"ridge-{len(scores)}-fold", settings, path.heads[path.best])
