"""Baselines as heads like any other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.config import HeadConfig
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.heads.trained_head import TrainedHead
from headstart.experiments.linear.method import Baseline
from headstart.pipeline.memory import no_cycle_search

from .metrics import log_losses, probabilities_of

_INVERSE_TEMPERATURES = (1e-3, 1e4)


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
    with no_cycle_search():  # its modules stay
        from scipy.optimize import minimize_scalar

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
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-3}).x))
