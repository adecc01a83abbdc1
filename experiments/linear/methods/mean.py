"""The mean of the training rows, for numbers: what a head has to beat that looks at nothing."""

from __future__ import annotations

from collections.abc import Iterator

from headstart.experiments.linear.method import Baseline, FittingData

TITLE = "the mean of all training images"
SIMPLICITY = 10
PLACE = 40


def fit(fitting: FittingData) -> Iterator[Baseline]:
    import numpy as np

    from headstart.experiments.linear.closed_form import LinearHead

    if fitting.data.targets.task == "regression":
        mean = fitting.statistics.target_sums / fitting.statistics.count
        yield Baseline("mean", {}, LinearHead(np.zeros((len(mean), fitting.source.embed_dim)), mean))
