"""The confusion matrix of validation as a picture, every few evaluations: what every tracker shows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from headstart.experiments.training.loop import Loop

CONFUSION = "Validation/ConfusionMatrix"
_CELL = 12  # pixels
_EVERY = 5  # evaluations between two pictures


def confusion_due(loop: Loop) -> NDArray[np.uint8] | None:
    """That of the newest evaluation, if it is one that is drawn: a grey cell of 12 pixels a pair, a row a true class.

    Returns: (k * 12, k * 12); black: all rows of the class.
    """
    matrix = loop.tables.get("confusion_matrix")
    if matrix is None or len(loop.progress.history) % _EVERY:
        return None
    counts = np.array(matrix)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return (255 * (1 - np.kron(shares, np.ones((_CELL, _CELL))))).astype(np.uint8)
