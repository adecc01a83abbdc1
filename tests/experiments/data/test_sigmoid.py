import warnings

import numpy as np
import pytest
from scipy.special import expit

from headstart.experiments.data.sigmoid import sigmoid


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_that_of_scipy_and_says_nothing_of_overflow(dtype):
    values = np.array([-np.inf, -1e4, -800, -30, -1, 0, 1, 30, 800, np.inf], dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = sigmoid(values)
    assert ours.dtype == dtype
    assert np.allclose(ours, expit(values), rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)
