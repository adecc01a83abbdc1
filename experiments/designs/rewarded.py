"""Designs of which those count for more that a critic gives higher scores: to go on from a training towards better layouts.

Peters & Schaal, "Reinforcement learning by reward-weighted regression for operational space control", ICML 2007. Only real
designs are learnt from, so no picture that merely deceives the critic is.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.experiments.training.data.batch import Batch, Facts
from headstart.experiments.training.data.keys import Key
from headstart.experiments.training.data.sets import DataSet, Rows

from .blocks import as_input
from .critic_network import CriticNetwork
from .description import SCORES
from .judgement import judgement_of

GRAMMAR = "grammar"  # the mean of all scores
_AT_ONCE = 128


class RewardedDesigns:
    """A split with one more column: reward (b,) float32, what a row counts for, one in the mean."""

    is_ready = True

    def __init__(self, rows: DataSet, scores: NDArray[np.float64], sharpness: float) -> None:
        """Args: scores: (n,) from 0 to 1. sharpness: a score higher by 0.1 counts exp(sharpness / 10) times as much."""
        self._rows = rows
        weights = np.exp(sharpness * (scores - scores.max()))
        self._reward = (weights / weights.mean()).astype(np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self._rows.digest.encode() + self._reward.tobytes()).hexdigest()

    def batch(self, rows: Rows, key: Key | None) -> Batch:
        batch = self._rows.batch(rows, key)
        return Batch({**batch.columns, "reward": torch.from_numpy(self._reward[rows])})


def scores_by(critic: CriticNetwork, about: Facts, rows: DataSet, wanted: str) -> NDArray[np.float64]:
    """(n,) what the critic says of each design. Args: wanted: 'grammar' or one of the scores."""
    parts = []
    with torch.inference_mode():
        for begin in range(0, len(rows), _AT_ONCE):
            batch = rows.batch(np.arange(begin, min(begin + _AT_ONCE, len(rows))), None)
            parts.append(score_of(critic, as_input(batch.image), about, wanted).double().numpy())
    # To six digits: what is behind them depends on the machine, and decides what the training is.
    return np.concatenate(parts).round(6)


def score_of(critic: CriticNetwork, image: torch.Tensor, about: Facts, wanted: str) -> torch.Tensor:
    """(b,) of images (b, 3, s, s) from -1 to 1."""
    scores = judgement_of(critic(image), about).scores
    return scores.mean(1) if wanted == GRAMMAR else scores[:, SCORES.index(wanted)]
