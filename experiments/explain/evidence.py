"""What each place of an image adds to an answer of a head on averaged features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.heads.trained_head import TrainedHead

_ROOT_OF_TWO_PI = np.sqrt(2 * np.pi)


def is_exact(head: TrainedHead) -> bool:
    """Whether `evidence` adds up to the answer: of a linear head it does, of another one it is the answer's first order."""
    return len(head.layers) == 1


def evidence(head: TrainedHead, rows: NDArray[Any], maps: NDArray[Any], asked: NDArray[np.int64]) -> NDArray[np.float64]:
    """Class activation maps (n, h, w): how much each place speaks for the logit, or number, `asked[i]` of image i.

    Args:
        rows: (n, inputs) what the head takes: features and what stands behind them.
        maps: (n, d, h, w) of which the first d numbers of each row are the mean over all places.

    Of a linear head the mean over all places is the logit without its bias: Zhou et al. 2016, eq. 2. Of one with hidden layers
    it is weighted by the gradient at the mean, which for averaged maps is Grad-CAM (Selvaraju et al. 2017, eq. 1 and 2, before
    its ReLU).
    """
    gradient = _gradient(head, np.asarray(rows, np.float64), asked)[:, : maps.shape[1]]
    return np.asarray(np.einsum("nd,ndhw->nhw", gradient, np.asarray(maps, np.float64)))


def _gradient(head: TrainedHead, rows: NDArray[np.float64], asked: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, inputs) of the asked logit of each row, after the features, in the units of the features."""
    layers = [(weight.astype(np.float64), bias.astype(np.float64)) for weight, bias in head.layers]
    values, slopes = rows, []
    if head.auxiliary is not None:
        count = len(head.auxiliary.mean)
        values = np.concatenate([rows[:, :-count], (rows[:, -count:] - head.auxiliary.mean) / head.auxiliary.scale], axis=1)
    for weight, bias in layers[:-1]:
        values = values @ weight.T + bias
        values, slope = _activated(values, head.config.activation)
        slopes.append(slope)
    gradient = layers[-1][0][asked]
    for (weight, _), slope in zip(reversed(layers[:-1]), reversed(slopes), strict=True):
        gradient = (gradient * slope) @ weight
    return gradient


def _activated(values: NDArray[np.float64], activation: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The activation and its slope."""
    if activation == "relu":
        return np.maximum(values, 0), (values > 0).astype(np.float64)
    from scipy.special import ndtr

    share = ndtr(values)
    return values * share, share + values * np.exp(-(values**2) / 2) / _ROOT_OF_TWO_PI  # GELU
