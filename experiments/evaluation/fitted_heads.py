"""Baselines as heads like any other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.config import HeadConfig
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.heads.trained_head import TrainedHead
from headstart.experiments.linear.method import Baseline

from .metrics import log_losses, probabilities_of

_INVERSE_TEMPERATURES = (1e-3, 1e4)
_GOLDEN = (5**0.5 - 1) / 2


def as_head(baseline: Baseline, data: TrainingData, val_scores: NDArray[np.float32]) -> TrainedHead:
    """The baseline as a head; the same answers, and of classes probabilities.

    Args: val_scores: (len(data.val), k) of the baseline on validation: by them probabilities are scaled where its scores are no
        log-odds (temperature scaling: Guo et al., ICML 2017).
    """
    factor, targets = 1.0, data.targets
    if targets.task == "classification" and not baseline.has_log_odds:
        factor = _inverse_temperature(val_scores, targets.codes[data.val])
    layer = (
        (factor * baseline.head.weight).astype(np.float32),
        (factor * baseline.head.bias).astype(np.float32),
    )
    fitted = {"method": baseline.name, **baseline.settings}
    return TrainedHead(
        HeadConfig(name=baseline.name), targets.task, targets.names, (layer,), fitted, data.auxiliary_units, targets.units
    )


def _inverse_temperature(scores: NDArray[np.float32], codes: NDArray[np.int64]) -> float:
    spread = float(np.abs(scores).max())
    if not len(codes) or not np.isfinite(spread) or spread == 0:
        return 1.0
    # The true class is nearly, not wholly, certain (Platt 1999): else perfect answers on few images would be boasted of.
    share = 1 / (len(codes) + 2)

    def loss(log_factor: float) -> float:
        probabilities = probabilities_of(np.exp(log_factor) * scores.astype(np.float64), "softmax")
        others = -np.log(np.clip(probabilities, 1e-300, 1)).mean(axis=1)
        return float(((1 - share) * log_losses(probabilities, codes) + share * others).mean())

    low, high = np.log(_INVERSE_TEMPERATURES)
    return float(np.exp(_lowest(loss, float(low), float(high))))


def _lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley is lowest, to a thousandth. Kiefer, "Sequential minimax search for a maximum", 1953.

    scipy.optimize would do it, too, and takes a quarter of a second to import.
    """
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > 1e-3:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2
