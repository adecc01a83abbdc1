"""The logistic function, without the warning that numpy prints on the way to a right answer."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def sigmoid(values: NDArray[np.floating[Any]]) -> NDArray[Any]:
    """1 / (1 + e^-x), in the precision of `values`.

    scipy.special.expit is no substitute: it rounds every fiftieth number of float64 otherwise, and importing it would make a
    prediction wait for a tenth of a second.
    """
    with np.errstate(over="ignore"):  # far below 0 the exponential is inf, and 1 / inf the right answer
        return np.asarray(1 / (1 + np.exp(-values)))
