import numpy as np
import pytest

from headstart.features.encoders.similarity import cosines


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([3, 4], [6, 8], 1.0),
        ([1, 0], [0, 1], 0.0),
        ([1, 0], [-2, 0], -1.0),
        ([0, 0], [0, 0], 1.0),
        ([0, 0], [1, 0], np.nan),
        ([1, 0], [np.inf, 0], np.nan),
    ],
    ids=["parallel", "orthogonal", "opposite", "both zero", "one zero", "infinite"],
)
@pytest.mark.filterwarnings("error")
def test_rows_are_compared_one_by_one(a, b, expected):
    other = [2.0, 1.0]
    first, second = cosines(np.array([a, other], np.float32), np.array([b, other], np.float16))
    np.testing.assert_allclose([first, second], [expected, 1.0], atol=1e-7)


def test_large_float16_features_do_not_overflow():
    assert cosines(np.full((1, 64), 6e4, np.float16), np.full((1, 64), 6e4, np.float16)) == pytest.approx(1.0)
