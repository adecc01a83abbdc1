"""What a trained head answers, in numpy alone: the few matrix products of a prediction do not pay for importing torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError

from .evaluation import probabilities_of
from .heads import TrainedHead


def answers(head: TrainedHead, rows: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities of classes, or predicted numbers: (b, k) of raw features (b, d).

    Computed in float64, so that an answer does not depend on its batch; from `TrainedHead.scores` it differs by float32's rounding.
    Raises: HeadstartError if the head takes rows of another length.
    """
    expected = head.layers[0][0].shape[1]
    if rows.shape[1] != expected:
        raise HeadstartError(f"the head takes rows of {expected} numbers, got {rows.shape[1]}. Was it trained on this encoder?")
    values = rows.astype(np.float64)
    for number, (weight, bias) in enumerate(head.layers):
        if number:
            values = _activated(values, head.config.activation)
        values = values @ weight.T.astype(np.float64) + bias
    output = head.config.output_for(head.task)
    if head.task == "classification":
        return probabilities_of(values, output)
    return 1 / (1 + np.exp(-values)) if output == "sigmoid" else values


def _activated(values: NDArray[np.float64], activation: str) -> NDArray[np.float64]:
    if activation == "relu":
        return np.maximum(values, 0)
    from scipy.special import ndtr

    return np.asarray(values * ndtr(values))  # GELU
