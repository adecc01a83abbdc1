"""What a simple head would have scored on the features that were there after so many images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.statistics import Statistics, gather_statistics
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.evaluation.anytime.score import PENALTY
from headstart.experiments.linear.baselines import inputs_of
from headstart.experiments.linear.closed_form import fit_ridge_path, scores_of

from .standings import share_interval

_POINTS = 8
_FEWEST = 20


@dataclass(frozen=True)
class AnytimePoint:
    """Attributes:
    images: of all splits that were there.
    judged: validation images among them; accuracy with its 95 % interval is of these.
    """

    images: int
    judged: int
    accuracy: float
    low: float
    high: float


def anytime_curve(data: TrainingData, arrival: NDArray[np.float64], points: int = _POINTS) -> list[AnytimePoint]:
    """Ridge on the training images that had arrived, on the validation images that had; for classes only.

    Args:
        arrival: (n,) when each row of the source got its features; any unit.

    Returns: from few images to all, about evenly spaced by their logarithm; [] where there is too little.
    """
    used = np.concatenate([data.train, data.val])
    if data.targets.task != "classification" or len(used) < 2 * _FEWEST:
        return []
    order = used[np.argsort(arrival[used], kind="stable")]
    is_train = np.zeros(len(arrival), np.bool_)
    is_train[data.train] = True
    begin = max(_FEWEST, len(order) // 200)
    sizes = np.unique(np.geomspace(begin, len(order), points).round().astype(np.int64))
    source, done, curve = inputs_of(data), 0, []
    known: Statistics | None = None
    for size in sizes.tolist():
        fresh = order[done:size]
        done = size
        trained = np.sort(fresh[is_train[fresh]])  # in the order of the disk, which is many times faster
        if len(trained):
            fresh_statistics = gather_statistics(source, data.targets, {"train": trained})["train"]
            known = fresh_statistics if known is None else known + fresh_statistics
        val = order[:size][~is_train[order[:size]]]
        if len(val) < _FEWEST or known is None or known.count < _FEWEST:
            continue
        [head] = fit_ridge_path(known, (PENALTY,))
        [scores] = scores_of(source, np.sort(val), [head])
        right = int((scores.argmax(axis=1) == data.targets.codes[np.sort(val)]).sum())
        low, high = share_interval(right, len(val))
        curve.append(AnytimePoint(size, len(val), right / len(val), low, high))
    return curve
